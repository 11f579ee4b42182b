//! Watches of a server that answers as it is told: by script, in plain HTTP.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::{env, fs, process};

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::discovery::api::{Access, Patience};

#[tokio::test]
async fn where_streaming_is_refused_lists_are_fetched_and_streaming_is_not_tried_again() {
    for refusal in [status(422, "Invalid"), status(400, "BadRequest"), status(500, "InternalError")] {
        let server = Server::start(vec![
            refusal,
            json(r#"{"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"uid": "a"}}]}"#),
            stream(&[&added("b", 8), &gone()], End::Hangs),
            json(r#"{"metadata": {"resourceVersion": "9"}, "items": null}"#),
            stream(&[], End::Hangs),
        ])
        .await;
        let mut watch = server.watch(PATIENT);
        let told = told(&mut watch, 9).await;
        assert_eq!(
            told,
            ["begin", "include a", "complete", "heard", "apply b", "expired", "begin", "complete", "heard"]
        );
        let asked = server.asked();
        assert!(asked[0].contains("sendInitialEvents=true"), "{asked:?}");
        assert!(!asked[1].contains("watch=") && asked[1].contains("resourceVersion=0"), "{asked:?}");
        assert!(asked[2].contains("resourceVersion=7"), "{asked:?}");
        assert!(!asked[3].contains("watch="), "{asked:?}");
    }
}

#[tokio::test]
async fn a_server_that_never_ends_a_streamed_list_is_asked_for_it_at_once() {
    let server = Server::start(vec![
        stream(&[&added("a", 1)], End::Hangs),
        json(r#"{"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"uid": "a"}}]}"#),
        stream(&[], End::Hangs),
    ])
    .await;
    let mut watch = server.watch(Patience { initial: Duration::from_millis(100), ..PATIENT });
    let expected = ["begin", "include a", "silent", "begin", "include a", "complete", "heard"];
    assert_eq!(told(&mut watch, 7).await, expected);
}

#[tokio::test]
async fn a_stream_that_is_cut_inside_of_an_object_goes_on_from_the_last_whole_one() {
    let half = added("c", 6)[..20].to_owned();
    let server = Server::start(vec![
        stream(&[&initial_end(4), &added("b", 5), &half], End::Cut),
        stream(&[&added("c", 6)], End::Hangs),
    ])
    .await;
    let mut watch = server.watch(PATIENT);
    assert_eq!(
        told(&mut watch, 6).await,
        ["begin", "complete", "apply b", "unreachable", "heard", "apply c"]
    );
    assert!(server.asked()[1].contains("resourceVersion=5"), "{:?}", server.asked());
}

#[tokio::test]
async fn a_streamed_list_that_breaks_off_begins_anew() {
    let server = Server::start(vec![
        stream(&[&added("a", 1)], End::Closed),
        stream(&[&added("b", 2), &initial_end(3)], End::Hangs),
    ])
    .await;
    let mut watch = server.watch(PATIENT);
    let expected = ["begin", "include a", "unreachable", "begin", "include b", "complete"];
    assert_eq!(told(&mut watch, 6).await, expected);
    assert_eq!(watch.health().age(clock::now()), Some(Duration::ZERO));
}

#[tokio::test]
async fn what_makes_no_sense_is_listed_again() {
    for garbage in ["<html>", r#"{"type":"ADDED","object":[]}"#, r#"{"type":"DANCED","object":{}}"#, "\u{0}"]
    {
        let server = Server::start(vec![
            stream(&[&initial_end(4), garbage], End::Hangs),
            stream(&[&initial_end(5)], End::Hangs),
        ])
        .await;
        let mut watch = server.watch(PATIENT);
        assert_eq!(
            told(&mut watch, 5).await,
            ["begin", "complete", "garbled", "begin", "complete"],
            "{garbage}"
        );
    }
}

#[tokio::test]
async fn too_old_is_listed_again_whether_it_is_an_answer_or_an_event() {
    for (first, then) in
        [(vec![initial_end(4), gone()], None), (vec![initial_end(4)], Some(status(410, "Gone")))]
    {
        let first: Vec<_> = first.iter().map(String::as_str).collect();
        let end = if then.is_some() { End::Closed } else { End::Hangs };
        let mut answers = vec![stream(&first, end)];
        answers.extend(then);
        answers.push(stream(&[&added("b", 8), &initial_end(9)], End::Hangs));
        let server = Server::start(answers).await;
        let mut watch = server.watch(PATIENT);
        let all = told(&mut watch, 6).await;
        let after: Vec<_> = all.iter().map(String::as_str).skip_while(|each| *each != "expired").collect();
        assert!(after.starts_with(&["expired", "begin", "include b"]), "{all:?}");
        assert!(server.asked().last().unwrap().contains("resourceVersion=0"), "{:?}", server.asked());
    }
}

#[tokio::test]
async fn a_silent_watch_is_begun_anew_from_where_it_was_and_is_not_broken_before_that_fails() {
    let server = Server::start(vec![
        stream(&[&initial_end(4)], End::Hangs),
        stream(&[&bookmark(6)], End::Hangs),
        stream(&[], End::Hangs),
    ])
    .await;
    let mut watch = server.watch(Patience { silence: Duration::from_millis(100), ..PATIENT });
    assert_eq!(told(&mut watch, 5).await, ["begin", "complete", "heard", "heard", "heard"]);
    let asked = server.asked();
    assert!(asked[1].contains("resourceVersion=4") && asked[2].contains("resourceVersion=6"), "{asked:?}");
}

#[tokio::test]
async fn refusals_keep_what_is_known_and_are_told_by_kind() {
    let server = Server::start(vec![
        stream(&[&initial_end(4)], End::Closed),
        status(401, "Unauthorized"),
        status(429, "TooManyRequests"),
        text(502, "<html>a proxy</html>"),
        stream(&[], End::Hangs),
    ])
    .await;
    let mut watch = server.watch(PATIENT);
    let expected = ["begin", "complete", "unreachable", "unauthorized", "busy", "server", "heard"];
    assert_eq!(told(&mut watch, 7).await, expected);
    assert!(server.asked().iter().skip(1).all(|asked| asked.contains("resourceVersion=4")));
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_the_token_is_read_again() {
    let server = Server::start(vec![]).await;
    server.listening.abort();
    let mut watch = server.watch(PATIENT);
    assert_eq!(told(&mut watch, 2).await, ["unreachable", "unreachable"]);
    assert_eq!(watch.health().age(clock::now()), None);
}

const PATIENT: Patience = Patience {
    answer: Duration::from_secs(5),
    initial: Duration::from_secs(5),
    silence: Duration::from_secs(5),
};

#[derive(Debug, Clone, Default, Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    uid: String,
    resource_version: String,
}

impl Watched for Object {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// How an answer ends.
#[derive(Clone, Copy)]
enum End {
    /// It does not.
    Hangs,
    /// In order.
    Closed,
    /// By the end of the connection, inside of a chunk.
    Cut,
}

/// One answer, as bytes, and how it ends.
type Answer = (String, End);

/// Gives its answers, one for each request.
struct Server {
    port: u16,
    folder: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    listening: JoinHandle<()>,
}

impl Server {
    async fn start(answers: Vec<Answer>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("podsonar-watch-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("token"), "token").unwrap();
        let authority = rcgen::generate_simple_self_signed(vec!["server".into()]).unwrap();
        fs::write(folder.join("ca.crt"), authority.cert.pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let listening = tokio::spawn(async move {
            let mut connections = Vec::new();
            for (bytes, end) in answers {
                let (mut connection, _) = listener.accept().await.unwrap();
                let request = read_request(&mut connection).await;
                log.lock().unwrap().push(request);
                connection.write_all(bytes.as_bytes()).await.unwrap();
                match end {
                    End::Hangs => connections.push(connection),
                    End::Closed | End::Cut => connection.shutdown().await.unwrap(),
                }
            }
            std::future::pending::<()>().await;
        });
        Self { port, folder, asked, listening }
    }

    fn watch(&self, patience: Patience) -> Watch<Object> {
        let access = Access {
            url: format!("http://127.0.0.1:{}", self.port),
            token: self.folder.join("token"),
            authority: self.folder.join("ca.crt"),
        };
        let scope = Scope {
            what: "objects",
            path: "/api/v1/objects".into(),
            fields: "spec.nodeName=a".into(),
            labels: String::new(),
        };
        Watch::new(Api::new(access, patience), scope, Random::seeded(1))
    }

    /// The first line of each request.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

async fn read_request(connection: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(connection.read_u8().await.unwrap());
    }
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("authorization: Bearer token"), "{text}");
    text.lines().next().unwrap().to_owned()
}

/// So many events, in words.
async fn told(watch: &mut Watch<Object>, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..count {
        let event = timeout(Duration::from_secs(20), watch.next()).await;
        told.push(match event.unwrap_or_else(|_| panic!("nothing after {told:?}")) {
            Event::Begin => "begin".into(),
            Event::Include(object) => format!("include {}", object.metadata.uid),
            Event::Complete => "complete".into(),
            Event::Apply(object) => format!("apply {}", object.metadata.uid),
            Event::Delete(object) => format!("delete {}", object.metadata.uid),
            Event::Heard => "heard".into(),
            Event::Broken(trouble) => trouble.kind.label().into(),
        });
    }
    told
}

fn json(body: &str) -> Answer {
    text(200, body)
}

fn text(code: u16, body: &str) -> Answer {
    let length = body.len();
    let head = format!("HTTP/1.1 {code} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    (head + body, End::Closed)
}

fn status(code: u16, reason: &str) -> Answer {
    text(
        code,
        &format!(
            r#"{{"kind":"Status","status":"Failure","code":{code},"reason":"{reason}","message":"no"}}"#
        ),
    )
}

/// Lines in chunks. A cut one ends inside of the last line's chunk.
fn stream(lines: &[&str], end: End) -> Answer {
    let mut bytes = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for (number, line) in lines.iter().enumerate() {
        if matches!(end, End::Cut) && number + 1 == lines.len() {
            bytes.extend([format!("{:x}\r\n{line}", line.len() + 500)]);
        } else {
            bytes.extend([format!("{:x}\r\n{line}\n\r\n", line.len() + 1)]);
        }
    }
    if matches!(end, End::Closed) {
        bytes += "0\r\n\r\n";
    }
    (bytes, end)
}

fn added(uid: &str, version: u64) -> String {
    format!(r#"{{"type":"ADDED","object":{{"metadata":{{"uid":"{uid}","resourceVersion":"{version}"}}}}}}"#)
}

fn bookmark(version: u64) -> String {
    format!(
        r#"{{"type":"BOOKMARK","object":{{"kind":"Pod","apiVersion":"v1","metadata":{{"resourceVersion":"{version}"}}}}}}"#
    )
}

fn initial_end(version: u64) -> String {
    let annotation = r#""annotations":{"k8s.io/initial-events-end":"true"}"#;
    bookmark(version).replace(r#""metadata":{"#, &format!(r#""metadata":{{{annotation},"#))
}

fn gone() -> String {
    r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"reason":"Expired","message":"old"}}"#.into()
}
