use std::net::Ipv4Addr;
use std::time::Duration;

use podsonar_core::config::Buckets;
use podsonar_core::target::{Kind, Protocol as Probe, Stream, Target};
use podsonar_core::time::WallTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connections::{MAX_HEADER_BYTES, MAX_HEADERS};
use super::*;
use crate::metrics::state::Facts;
use crate::metrics::state::Shown;

#[tokio::test]
async fn each_page_says_what_it_is_for() {
    let server = Server::start(limits());
    assert!(server.get("/").await.contains("<pre>podsonar "));
    assert!(server.get("/nothing").await.starts_with("HTTP/1.1 404"));
    assert!(server.ask("POST /metrics HTTP/1.1\r\nhost: a\r\n").await.starts_with("HTTP/1.1 405"));
    let metrics = server.get("/metrics").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("podsonar_build_info{source=\"here\",version=\"9.9.9\"} 1"), "{metrics}");
    let open_metrics = server.ask("GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text\r\n").await;
    assert!(open_metrics.contains("# EOF\n"), "{open_metrics}");
}

#[tokio::test]
async fn head_has_no_body() {
    let server = Server::start(limits());
    let answer = server.ask("HEAD /metrics HTTP/1.1\r\nhost: a\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(server.metrics.scrapes_in_progress.get(), 0);
}

#[tokio::test]
async fn ready_is_a_latch_and_alive_means_that_the_driver_ticked_lately() {
    let server = Server::start(limits());
    assert!(server.get("/readyz").await.starts_with("HTTP/1.1 503"));
    let answer = server.get("/livez").await;
    assert!(answer.contains("503") && answer.ends_with("has not ticked for 900 s\n"), "{answer}");
    server.metrics.heartbeat.set((NOW.as_nanos()) - 60_000_000_000);
    assert!(server.get("/livez").await.starts_with("HTTP/1.1 503"));
    server.metrics.heartbeat.set((NOW.as_nanos()) - 59_999_999_999);
    assert!(server.get("/livez").await.starts_with("HTTP/1.1 200"));
    assert!(server.get("/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn huge_headers_and_bodies_are_refused() {
    let server = Server::start(limits());
    let header = format!("GET / HTTP/1.1\r\nx: {}\r\n", "x".repeat(2 * MAX_HEADER_BYTES));
    assert!(server.ask(&header).await.starts_with("HTTP/1.1 431"));
    let fields = format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(2 * MAX_HEADERS));
    assert!(server.ask(&fields).await.starts_with("HTTP/1.1 431"));
    let body = server.ask("GET /livez HTTP/1.1\r\ncontent-length: 1000000\r\n").await;
    assert!(body.starts_with("HTTP/1.1 413"), "{body}");
    let chunked = server.ask("GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n").await;
    assert!(chunked.starts_with("HTTP/1.1 413"), "{chunked}");
}

#[tokio::test]
async fn half_open_requests_are_cut_and_others_served() {
    let server = Server::start(Limits { connections: 4, headers: SHORT, ..limits() });
    let mut half_open = Vec::new();
    for _ in 0..16 {
        let mut client = server.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        half_open.push(client);
    }
    assert!(server.get("/").await.starts_with("HTTP/1.1 200"));
    for mut client in half_open {
        // Closed or reset, but ended.
        let _ = client.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let server = Server::start(Limits { headers: SHORT, ..limits() });
    let mut client = server.connect().await;
    client.write_all(b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn scrapes_above_the_limit_are_refused_and_a_reader_that_stops_is_cut() {
    let server = Server::start_with(Limits { unread: SHORT, ..limits() }, 1);
    server.add_paths(20_000);
    let mut stopped = server.connect().await;
    stopped.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    stopped.readable().await.unwrap();
    let refused = server.get("/metrics").await;
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.ends_with("too many scrapes in progress\n"),
        "{refused}"
    );
    assert_eq!(server.metrics.scrapes_refused.get(), 1);
    // The stopped reader is still connected and reads nothing: only the kernel can end this.
    while server.metrics.scrapes_in_progress.get() > 0 {
        assert!(server.get("/livez").await.starts_with("HTTP/1.1"));
    }
    assert!(server.get("/metrics").await.starts_with("HTTP/1.1 200"));
    drop(stopped);
}

#[tokio::test]
async fn a_reader_that_trickles_is_cut_when_its_life_ends() {
    let server = Server::start(Limits { life: SHORT, ..limits() });
    server.add_paths(20_000);
    let mut client = server.connect().await;
    client.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    while server.metrics.scrapes_in_progress.get() == 0 {
        client.read_exact(&mut byte).await.unwrap();
    }
    while server.metrics.scrapes_in_progress.get() > 0 {
        assert!(server.get("/").await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn stopping_lets_a_scrape_finish_and_closes_idle_connections() {
    let server = Server::start(limits());
    server.add_paths(2_000);
    let mut idle = server.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    idle.readable().await.unwrap();
    let mut scraping = server.connect().await;
    scraping
        .write_all(b"GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text\r\n\r\n")
        .await
        .unwrap();
    scraping.readable().await.unwrap();
    server.stop.send(true).unwrap();
    let mut body = String::new();
    scraping.read_to_string(&mut body).await.unwrap();
    assert!(body.ends_with("# EOF\n\r\n0\r\n\r\n"));
    idle.read_to_end(&mut Vec::new()).await.unwrap();
    server.task.await.unwrap();
}

#[test]
fn only_a_host_without_ipv6_falls_back_to_ipv4() {
    assert!(has_no_ipv6(&io::Error::from_raw_os_error(EAFNOSUPPORT)));
    assert!(has_no_ipv6(&io::ErrorKind::AddrNotAvailable.into()));
    assert!(!has_no_ipv6(&io::ErrorKind::AddrInUse.into()));
    assert!(!has_no_ipv6(&io::ErrorKind::PermissionDenied.into()));
}

/// A limit that tests wait for.
const SHORT: Duration = Duration::from_millis(300);

/// What the server's clock says.
const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

/// A limit that no test reaches.
const LONG: Duration = Duration::from_mins(2);

fn limits() -> Limits {
    Limits { connections: 64, headers: LONG, unread: LONG, life: LONG }
}

struct Server {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    fn start(limits: Limits) -> Self {
        Self::start_with(limits, SCRAPES)
    }

    fn start_with(limits: Limits, scrapes: u64) -> Self {
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
        let listener = bind(Listen::At((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
        let address = listener.local_addr().unwrap();
        let started = NOW.back(Duration::from_mins(15));
        let site = Site { metrics: Arc::clone(&metrics), now: || NOW, started, limits, scrapes };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(listener, Arc::new(site), stopped));
        Self { address, metrics, stop, task }
    }

    fn add_paths(&self, count: u32) {
        for number in 0..count {
            let address = Ipv4Addr::from_bits(0x0a00_0000 + number).into();
            let destination = format!("{address}").into();
            let target = Arc::new(Target::new(Kind::Fixed, destination, address, None));
            let stream = Stream { target, protocol: Probe::Icmp };
            self.metrics.add_path(Arc::new(self.metrics.path(stream, Shown::All)));
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n")).await
    }

    /// Sends a request's start, ends it, and returns the whole answer.
    async fn ask(&self, start: &str) -> String {
        let exchange = async {
            let mut client = self.connect().await;
            // A server that refuses early may close before it has read everything.
            let _ = client.write_all(format!("{start}connection: close\r\n\r\n").as_bytes()).await;
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        };
        timeout(LONG, exchange).await.expect("an answer or an end")
    }
}
