//! The exchange on real sockets: agents with each other, and an agent with peers that are hostile, broken or slow.

mod peer;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use podsonar::clock;
use podsonar::exchange::accept::Rules;
use podsonar::exchange::fetch::fetch;
use podsonar::exchange::{Callers, FetchRequest, Fetched, Known, MAX_SENT, Mesh, server};
use podsonar::http::{self, Limits};
use podsonar_core::config::Listen;
use podsonar_core::exchange::{FetchResult, Refusal};
use podsonar_core::mesh::{Local, NodeView, Pod};
use podsonar_core::target::PodId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime;
use tokio::sync::watch;
use tokio::time::timeout;

use self::peer::{Hostile, Script, answer, answer_with, list, pod};
use crate::connect::{command, on_a_host};
use crate::support::Book;

/// Longer than any test needs.
const LONG: Duration = Duration::from_mins(1);
/// For what never comes.
const SHORT: Duration = Duration::from_millis(300);

/// Feeds the golden scrape.
pub(crate) fn feed(book: &Book) {
    let metrics = &book.metrics;
    metrics.expect_zone("z1");
    for result in FetchResult::ALL {
        metrics.fetch_result("z2", result);
    }
    let took = Some(Duration::from_micros(1_234));
    let fetched = Fetched {
        began: clock::now(),
        ended: clock::now(),
        took,
        result: FetchResult::Ok,
        alive: true,
        known: None,
        refused: [1, 0, 2, 3, 0, 0, 4],
    };
    metrics.fetched("z2", &fetched, true);
    metrics.fetched("z2", &Fetched { refused: [0; 7], ..fetched }, false);
}

#[tokio::test]
async fn an_agent_hears_of_its_peer_s_pods_and_then_that_nothing_changed() {
    let mesh = Agent::start("127.0.0.1:0");
    let started = clock::now().back(Duration::from_secs(90));
    let mut view = view("b", &["10.0.0.1", "10.0.0.2"]);
    view.pods[0].running_since = Some(started);
    mesh.mesh.publish(&view);
    let before = clock::now();
    let first = ask(mesh.address, None, LONG).await;
    assert_eq!((first.result, first.alive), (FetchResult::Ok, true));
    assert!(first.took.unwrap() <= first.ended.since(first.began));
    let known = first.known.unwrap();
    assert!(before <= first.began && known.view().asked_at == first.began);
    assert!(known.view().is_live());
    let addresses: Vec<_> = known.view().pods.iter().map(|pod| pod.addresses[0].to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"]);
    // Milliseconds are what the wire has, and the way there and back is not known better.
    let told = known.view().pods[0].running_since.unwrap();
    let off = told.since(started).max(started.since(told));
    assert!(off <= Duration::from_millis(2) + first.took.unwrap(), "{off:?}");

    let second = ask(mesh.address, Some(&known), LONG).await;
    assert_eq!(second.result, FetchResult::NotModified);
    let confirmed = second.known.unwrap();
    assert_eq!(confirmed.view().asked_at, second.began);
    assert_eq!(confirmed.view().pods, known.view().pods);

    view.pods.pop();
    mesh.mesh.publish(&view);
    let third = ask(mesh.address, Some(&confirmed), LONG).await;
    assert_eq!(third.result, FetchResult::Ok);
    assert_eq!(third.known.unwrap().view().pods.len(), 1);
    assert_eq!(mesh.served("ok"), "2");
    assert_eq!(mesh.served("not_modified"), "1");
}

#[tokio::test]
async fn under_other_rules_the_same_list_is_asked_for_anew() {
    let mesh = Agent::start("127.0.0.1:0");
    mesh.mesh.publish(&view("b", &["10.0.0.1", "10.9.0.2"]));
    let known = ask(mesh.address, None, LONG).await.known.unwrap();
    let rules = Rules { pod_cidrs: vec!["10.0.0.0/16".parse().unwrap()] };
    let (node, port) = ("b".into(), mesh.address.port());
    let request = FetchRequest { node, addresses: vec![mesh.address.ip()], port, timeout: LONG };
    let fetched = fetch(&request, Some(&known), &rules).await;
    assert_eq!(fetched.result, FetchResult::Ok);
    let known = fetched.known.unwrap();
    assert_eq!((known.view().pods.len(), fetched.refused[Refusal::Outside as usize]), (1, 1));
    assert_eq!(fetch(&request, Some(&known), &rules).await.result, FetchResult::NotModified);
}

#[tokio::test]
async fn an_agent_that_knows_its_pods_not_yet_refuses_and_is_alive() {
    let mesh = Agent::start("127.0.0.1:0");
    let fetched = ask(mesh.address, None, LONG).await;
    assert_eq!((fetched.result, fetched.alive), (FetchResult::Refused, true));
    assert!(fetched.took.is_some());
}

#[tokio::test]
async fn an_unknown_caller_is_told_its_address_and_the_peers_are_looked_up() {
    let mesh = Agent::start("127.0.0.1:0");
    mesh.mesh.publish(&view("b", &[]));
    let request = "GET /v1/node HTTP/1.1\r\nhost: a\r\n\r\n";
    let refused = from("127.0.0.2", mesh.address, request).await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    assert!(refused.contains("\r\n\r\n127.0.0.2 is no agent that is known here"), "{refused}");
    timeout(LONG, mesh.callers.refresh_wanted()).await.expect("a refresh");
    mesh.callers.replace([("127.0.0.2".parse().unwrap(), None)]);
    assert!(from("127.0.0.2", mesh.address, request).await.starts_with("HTTP/1.1 200"));
    assert_eq!(mesh.served("forbidden"), "1");
}

#[tokio::test]
async fn strangers_that_hold_connections_keep_no_peer_out() {
    let mesh = Agent::start("127.0.0.1:0");
    mesh.mesh.publish(&view("b", &[]));
    let mut held = Vec::new();
    // More than the server's own limit, in all.
    for number in 0..300 {
        let mut stream = connect_from(&format!("127.0.1.{}", number % 50 + 1), mesh.address).await;
        // It may be turned away already.
        let _ = stream.write_all(b"GET /v1/node HTTP/1.1\r\nx: ").await;
        held.push(stream);
    }
    assert_eq!(ask(mesh.address, None, LONG).await.result, FetchResult::Ok);
    assert_ne!(mesh.served("turned_away"), "0");
}

#[tokio::test]
async fn an_ipv4_caller_of_an_ipv6_socket_is_who_it_is() {
    let mesh = Agent::start("[::]:0");
    mesh.mesh.publish(&view("b", &[]));
    for host in ["127.0.0.1", "::1"] {
        let at = SocketAddr::new(host.parse().unwrap(), mesh.address.port());
        assert_eq!(ask(at, None, LONG).await.result, FetchResult::Ok, "{host}");
    }
    let at = SocketAddr::new([127, 0, 0, 1].into(), mesh.address.port());
    let refused = from("127.0.0.3", at, "GET /v1/node HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(refused.contains("\r\n\r\n127.0.0.3 is no agent"), "{refused}");
}

#[tokio::test]
async fn what_is_no_list_has_a_name() {
    let text = |text: &str| Script::Bytes(text.as_bytes().to_vec());
    let whole = list(&pod("a", "10.0.0.1"));
    let cut = &whole.as_bytes()[..whole.len() - 3];
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    let wrong = whole.replace("\"b\"", "\"c\"");
    let other = whole.replace("\"version\":1", "\"version\":99");
    for (what, script, result) in [
        ("nothing", text(""), FetchResult::Broken),
        ("noise", text("\u{0}\u{1}\u{2}garbage\r\n\r\n"), FetchResult::Malformed),
        ("HTTP/0.9", text("{\"version\":1}"), FetchResult::Malformed),
        ("half of the headers", text("HTTP/1.1 200 OK\r\ncontent-le"), FetchResult::Broken),
        ("half of the body", text("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"), FetchResult::Broken),
        ("no body", Script::Bytes(answer(b"")), FetchResult::Malformed),
        ("JSON cut short", Script::Bytes(answer(cut)), FetchResult::Malformed),
        ("no JSON", Script::Bytes(answer(b"<html>")), FetchResult::Malformed),
        ("no chunk", text(&format!("{chunked}zz\r\ngarbage\r\n0\r\n\r\n")), FetchResult::Malformed),
        ("a chunk cut short", text(&format!("{chunked}ff\r\n{{")), FetchResult::Broken),
        ("a negative length", text("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"), FetchResult::Malformed),
        ("a huge header", text(&huge), FetchResult::TooLarge),
        ("many headers", text(&many), FetchResult::TooLarge),
        ("another node", Script::Bytes(answer(wrong.as_bytes())), FetchResult::WrongNode),
        ("another version", Script::Bytes(answer(other.as_bytes())), FetchResult::OtherVersion),
        (
            "an unknown coding",
            Script::Bytes(answer_with("content-encoding: br\r\n", b"x")),
            FetchResult::Malformed,
        ),
        ("no gzip", Script::Bytes(answer_with("content-encoding: gzip\r\n", b"x")), FetchResult::Malformed),
        ("403", text("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"), FetchResult::Refused),
        ("500", text("HTTP/1.1 500 Oh\r\n\r\n"), FetchResult::Refused),
        ("204", text("HTTP/1.1 204 No Content\r\n\r\n"), FetchResult::Malformed),
        ("unasked 304", text("HTTP/1.1 304 Not Modified\r\n\r\n"), FetchResult::Malformed),
    ] {
        let hostile = Hostile::start(script).await;
        let fetched = ask(hostile.address, None, LONG).await;
        assert_eq!(fetched.result, result, "{what}");
        assert!(fetched.known.is_none() && fetched.alive, "{what}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_nowhere() {
    let elsewhere = Hostile::start(Script::Bytes(answer(list("").as_bytes()))).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent", "300 Choices"]
    {
        let location = format!("location: http://{}/v1/node\r\n", elsewhere.address);
        let head = format!("HTTP/1.1 {status}\r\n{location}content-length: 0\r\n\r\n");
        let hostile = Hostile::start(Script::Bytes(head.into_bytes())).await;
        let fetched = ask(hostile.address, None, LONG).await;
        assert_eq!((fetched.result, fetched.alive), (FetchResult::Redirected, true), "{status}");
        assert_eq!(hostile.connections.load(Relaxed), 1);
    }
    assert_eq!(elsewhere.connections.load(Relaxed), 0);
}

#[tokio::test]
async fn a_hundred_megabytes_are_not_read() {
    let piece = vec![b' '; 1 << 16];
    let times = 100 * (1 << 20) / piece.len() as u64;
    let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 100 << 20);
    let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
    for (head, piece) in [
        (announced, piece.clone()),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".into(), chunk),
        // Until the connection ends.
        ("HTTP/1.1 200 OK\r\n\r\n".into(), piece),
    ] {
        let hostile = Hostile::start(Script::Repeat(head.clone().into_bytes(), piece, times)).await;
        let fetched = ask(hostile.address, None, LONG).await;
        assert_eq!(fetched.result, FetchResult::TooLarge, "{head}");
        // What was read, and what lies in the buffers of two sockets.
        let sent = hostile.sent.load(Relaxed);
        assert!(sent < 64 * MAX_SENT as u64, "{sent} bytes after {head}");
    }
}

#[tokio::test]
async fn a_gzip_bomb_does_not_go_off() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..50 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < MAX_SENT);
    let hostile = Hostile::start(Script::Bytes(answer_with("content-encoding: gzip\r\n", &bomb))).await;
    assert_eq!(ask(hostile.address, None, LONG).await.result, FetchResult::TooLarge);
}

#[tokio::test]
async fn of_a_hundred_thousand_pods_a_thousand_are_used() {
    let mut pods: Vec<_> = (0..1_000)
        .map(|number| pod(&number.to_string(), &format!("10.1.{}.{}", number / 256, number % 256)))
        .collect();
    pods.resize(100_000, "{}".into());
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(list(&pods.join(",")).as_bytes()).unwrap();
    let packed = answer_with("content-encoding: gzip\r\n", &encoder.finish().unwrap());
    let hostile = Hostile::start(Script::Bytes(packed)).await;
    let fetched = ask(hostile.address, None, LONG).await;
    assert_eq!(fetched.result, FetchResult::Ok);
    assert_eq!(fetched.known.unwrap().view().pods.len(), 1_000);
    assert_eq!(fetched.refused[Refusal::TooMany as usize], 99_000);
    // With names they are more than any list.
    let pods: Vec<_> = (0..100_000).map(|number| pod(&number.to_string(), "10.0.0.1")).collect();
    let hostile = Hostile::start(Script::Bytes(answer(list(&pods.join(",")).as_bytes()))).await;
    assert_eq!(ask(hostile.address, None, LONG).await.result, FetchResult::TooLarge);
}

#[tokio::test]
async fn what_must_not_be_probed_is_refused_and_the_rest_is_used() {
    let pods = [
        pod("a", "127.0.0.1"),
        pod("b", "169.254.169.254"),
        pod("c", "::ffff:169.254.169.254"),
        pod("d", "64:ff9b::a9fe:a9fe"),
        pod("e", "2002:a9fe:a9fe::1"),
        pod("f", "fe80::1"),
        pod("g", "fd00:ec2::254"),
        pod("h", "10.0.0.8"),
        pod("h", "10.0.0.9"),
    ];
    let hostile = Hostile::start(Script::Bytes(answer(list(&pods.join(",")).as_bytes()))).await;
    let fetched = ask(hostile.address, None, LONG).await;
    let known = fetched.known.unwrap();
    assert_eq!(known.view().pods.len(), 1);
    assert_eq!(known.view().pods[0].addresses, ["10.0.0.8".parse::<IpAddr>().unwrap()]);
    assert_eq!(fetched.refused[Refusal::Forbidden as usize], 7);
    assert_eq!(fetched.refused[Refusal::Duplicate as usize], 1);
}

#[tokio::test]
async fn whoever_is_slow_costs_its_deadline_and_nobody_else_s() {
    let body = answer(list(&pod("a", "10.0.0.1")).as_bytes());
    let honest = Hostile::start(Script::Bytes(body.clone())).await;
    let stalls = |end: usize| Script::Stall(body[..end].to_vec());
    let pause = Duration::from_millis(20);
    let endless = Script::Repeat(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), u64::MAX);
    let mut slow = Vec::new();
    for script in [stalls(0), stalls(30), stalls(150), Script::Trickle(body.clone(), pause), endless] {
        slow.push(Hostile::start(script).await);
    }
    let began = clock::now();
    let asked: Vec<_> =
        (0..30).map(|number| tokio::spawn(ask(slow[number % slow.len()].address, None, SHORT))).collect();
    let quick = ask(honest.address, None, LONG).await;
    assert_eq!(quick.result, FetchResult::Ok);
    for each in asked {
        let fetched = each.await.unwrap();
        assert_eq!((fetched.result, fetched.alive), (FetchResult::Timeout, true));
        assert!(fetched.known.is_none());
    }
    // The bound is for a machine that does much else; a hanging fetch would never end.
    assert!(clock::now().since(began) < LONG);
}

#[test]
fn no_connection_has_a_reason_and_the_other_family_is_tried() {
    on_a_host(|| {
        command("nft add table inet t");
        command("nft add chain inet t c { type filter hook input priority 0 ; }");
        command("nft add rule inet t c tcp dport 81 drop");
        command("nft add rule inet t c tcp dport 82 reject with icmpx type admin-prohibited");
        command("nft add rule inet t c ip daddr 127.0.0.1 tcp dport 19989 drop");
        run(async {
            for (port, result, alive) in [
                (80, FetchResult::Reset, true),
                (81, FetchResult::Timeout, false),
                (82, FetchResult::Unreachable, false),
            ] {
                for host in ["127.0.0.1", "::1"] {
                    let fetched = ask(SocketAddr::new(host.parse().unwrap(), port), None, SHORT).await;
                    assert_eq!(
                        (fetched.result, fetched.alive, fetched.took),
                        (result, alive, None),
                        "{host} {port}"
                    );
                }
            }
            let nowhere = ask("192.0.2.1:80".parse().unwrap(), None, SHORT).await;
            assert_eq!((nowhere.result, nowhere.alive), (FetchResult::NotSent, false));

            let body = answer_with("etag: \"1\"\r\n", list("").as_bytes());
            let peer = Hostile::start_at("[::1]:19989", Script::Bytes(body)).await;
            let both = |timeout| FetchRequest {
                node: "b".into(),
                addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
                port: peer.address.port(),
                timeout,
            };
            let fetched = fetch(&both(Duration::from_secs(2)), None, &Rules::default()).await;
            assert_eq!((fetched.result, fetched.alive), (FetchResult::Ok, true));
            // The way that led nowhere is not in it, and is not gone again.
            assert!(fetched.took.unwrap() < Duration::from_secs(1));
            let known = fetched.known.unwrap();
            let again = fetch(&both(LONG), Some(&known), &Rules::default()).await;
            assert_eq!(again.result, FetchResult::Ok);
            assert!(again.ended.since(again.began) < LONG / 2);
        });
    });
}

fn run<T>(future: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Asks for node `b`, and fails if that hangs.
async fn ask(at: SocketAddr, known: Option<&Known>, patience: Duration) -> Fetched {
    let request =
        FetchRequest { node: "b".into(), addresses: vec![at.ip()], port: at.port(), timeout: patience };
    timeout(2 * LONG, fetch(&request, known, &Rules::default())).await.expect("an end")
}

async fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// The answer that somebody at this address gets.
async fn from(source: &str, to: SocketAddr, request: &str) -> String {
    let mut stream = connect_from(source, to).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer)).await.expect("an end").unwrap();
    answer
}

/// An agent's `mesh` listener.
struct Agent {
    mesh: Arc<Mesh>,
    callers: Arc<Callers>,
    address: SocketAddr,
    book: Book,
    _stop: watch::Sender<bool>,
}

impl Agent {
    fn start(address: &str) -> Self {
        let book = Book::new();
        let callers = Arc::new(Callers::new(Vec::new()));
        let started = clock::now().back(Duration::from_mins(5));
        let mesh = Arc::new(Mesh::new(Arc::clone(&callers), Arc::clone(&book.metrics), clock::now, started));
        let listener: TcpListener = http::bind(Listen::At(address.parse().unwrap())).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let limits = Limits { headers: LONG, life: LONG, ..server::limits() };
        tokio::spawn(server::serve(listener, Arc::clone(&mesh), limits, stopped));
        Self { mesh, callers, address, book, _stop: stop }
    }

    fn served(&self, result: &str) -> String {
        self.book.value(&["podsonar_exchange_served_total{", &format!("\"{result}\"")])
    }
}

fn view(node: &str, addresses: &[&str]) -> NodeView {
    let pod = |(number, address): (usize, &&str)| Pod {
        id: Arc::new(PodId {
            uid: format!("uid-{number}").into(),
            namespace: "default".into(),
            name: format!("web-{number}").into(),
            workload: "Deployment/web".into(),
        }),
        addresses: vec![address.parse().unwrap()],
        port: Some(80),
        running_since: None,
        local: Local::default(),
    };
    NodeView {
        node: node.into(),
        zone: "z1".into(),
        epoch: 7,
        addresses: vec!["192.0.2.1".parse().unwrap()],
        leaving: false,
        asked_at: clock::now(),
        watch_age: Some(Duration::ZERO),
        probes_us: None,
        pods: addresses.iter().enumerate().map(pod).collect(),
    }
}
