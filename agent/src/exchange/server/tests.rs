use std::io::Read;

use flate2::read::GzDecoder;
use podsonar_core::config::Buckets;
use podsonar_core::time::WallTime;

use super::*;
use crate::exchange::payload::tests::golden;
use crate::metrics::state::Facts;

#[test]
fn the_list_is_told_plain_or_packed_with_the_clock_and_the_age_in_headers() {
    let mesh = mesh();
    mesh.publish(&golden());
    let (result, plain) = ask(&mesh, &[]);
    assert_eq!((result, plain.status()), (ServeResult::Ok, StatusCode::OK));
    assert_eq!(header_of(&plain, "podsonar-clock"), "100000");
    assert_eq!(header_of(&plain, "podsonar-watch-age"), "0");
    assert_eq!(header_of(&plain, "etag"), "W/\"0102030405060708-0\"");
    let plain = body(plain);
    assert_eq!(plain, payload::encode(&golden(), STARTED));
    let (_, packed) = ask(&mesh, &[("accept-encoding", "gzip, br")]);
    assert_eq!(header_of(&packed, "content-encoding"), "gzip");
    let mut unpacked = Vec::new();
    GzDecoder::new(body(packed).as_slice()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
}

#[test]
fn only_a_change_of_the_list_is_one() {
    let mesh = mesh();
    let mut view = golden();
    mesh.publish(&view);
    let (_, first) = ask(&mesh, &[]);
    let etag = header_of(&first, "etag");
    // Time and the watch's age move.
    view.asked_at = NOW.back(Duration::from_secs(1));
    view.watch_age = Some(Duration::from_secs(2));
    mesh.publish(&view);
    for tags in [etag.clone(), format!("\"x\", {etag}"), "*".into()] {
        let (result, same) = ask(&mesh, &[("if-none-match", &tags)]);
        assert_eq!((result, same.status()), (ServeResult::NotModified, StatusCode::NOT_MODIFIED));
        assert_eq!(header_of(&same, "etag"), etag);
        assert_eq!(header_of(&same, "podsonar-clock"), "100000");
        // It was 2 s a second ago.
        assert_eq!(header_of(&same, "podsonar-watch-age"), "3000");
        assert_eq!(body(same), b"");
    }
    view.leaving = true;
    view.watch_age = None;
    mesh.publish(&view);
    let (result, changed) = ask(&mesh, &[("if-none-match", &etag)]);
    assert_eq!(result, ServeResult::Ok);
    assert_eq!(header_of(&changed, "etag"), "W/\"0102030405060708-1\"");
    assert!(changed.headers().get("podsonar-watch-age").is_none());
}

#[test]
fn unknown_callers_are_told_their_address_and_nothing_else() {
    let mesh = mesh();
    mesh.publish(&golden());
    let request = Request::get("/v1/node").body(Body::empty()).unwrap();
    let (result, response) = mesh.answer("192.0.2.66".parse().unwrap(), &request);
    assert_eq!((result, response.status()), (ServeResult::Forbidden, StatusCode::FORBIDDEN));
    let text = String::from_utf8(body(response)).unwrap();
    assert!(text.starts_with("192.0.2.66 is no agent that is known here"), "{text}");
    mesh.callers.replace([("192.0.2.66".parse().unwrap(), None)]);
    assert_eq!(mesh.answer("192.0.2.66".parse().unwrap(), &request).0, ServeResult::Ok);
}

#[test]
fn each_agent_is_told_whether_it_is_probed_whatever_it_knows_already() {
    let mesh = mesh();
    mesh.publish(&golden());
    let callers: [(IpAddr, _); 3] = [
        ([10, 0, 0, 1].into(), Some(true)),
        ([10, 0, 0, 2].into(), Some(false)),
        ([10, 0, 0, 3].into(), None),
    ];
    mesh.callers.replace(callers);
    for tag in ["", "*"] {
        let request = Request::get("/v1/node").header("if-none-match", tag).body(Body::empty()).unwrap();
        let told = callers.map(|(caller, _)| {
            let (_, response) = mesh.answer(caller, &request);
            response.headers().get("podsonar-probes-you").map(|value| value.to_str().unwrap().to_owned())
        });
        assert_eq!(told, [Some("1".into()), Some("0".into()), None]);
    }
}

#[test]
fn nothing_but_the_list_is_served() {
    let mesh = mesh();
    let answer = |request: &Request<Body>| {
        let (result, response) = mesh.answer([127, 0, 0, 1].into(), request);
        (result, response.status().as_u16())
    };
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(answer(&get("/v1/node")), (ServeResult::NotReady, 503));
    mesh.publish(&golden());
    assert_eq!(answer(&get("/v1/node")), (ServeResult::Ok, 200));
    assert_eq!(answer(&get("/v1/node?x=1")), (ServeResult::Ok, 200));
    assert_eq!(answer(&get("/metrics")), (ServeResult::BadRequest, 404));
    assert_eq!(answer(&get("/v1/node/")), (ServeResult::BadRequest, 404));
    let post = Request::post("/v1/node").body(Body::empty()).unwrap();
    assert_eq!(answer(&post), (ServeResult::BadRequest, 405));
    let full = Request::get("/v1/node").body(Body::from("x")).unwrap();
    assert_eq!(answer(&full), (ServeResult::BadRequest, 413));
}

const STARTED: Instant = Instant::from_nanos(5_000_000_000);
const NOW: Instant = Instant::from_nanos(105_000_000_000);

fn mesh() -> Mesh {
    let facts = Facts {
        source: "here".into(),
        zone: String::new(),
        version: "9.9.9",
        receive_buffers: [None; 4],
        buckets: Buckets::default(),
        max_series: 4_000,
        by_zone: false,
        means: [None; 4],
    };
    let metrics = Arc::new(Metrics::new(facts, WallTime::from_nanos(0)));
    Mesh::new(Arc::default(), metrics, || NOW, STARTED)
}

fn ask(mesh: &Mesh, headers: &[(&str, &str)]) -> (ServeResult, Response) {
    let request =
        headers.iter().fold(Request::get("/v1/node"), |request, (name, value)| request.header(*name, *value));
    mesh.answer([127, 0, 0, 1].into(), &request.body(Body::empty()).unwrap())
}

fn header_of(response: &Response, name: &str) -> String {
    response.headers().get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap().into()
}

fn body(response: Response) -> Vec<u8> {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(bytes).unwrap().to_vec()
}
