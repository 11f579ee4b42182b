//! What fetches of a list take, counted by a relay between a real fetch and a real server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use podsonar::exchange::accept::Rules;
use podsonar::exchange::fetch::fetch;
use podsonar::exchange::{Callers, FetchRequest, Fetched, Known, Mesh, server};
use podsonar::http;
use podsonar_core::config::Listen;
use podsonar_core::exchange::FetchResult;
use podsonar_core::mesh::NodeView;
use podsonar_core::time::Instant;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::watch;

use super::cluster::view;
use crate::support::Book;

/// What the answers say of time, so that they are always of one length.
const A_WEEK_LATER: Instant = Instant::from_nanos(7 * 24 * 3_600 * 1_000_000_000);

/// Bytes of a fetch, without the headers of IP and TCP.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    /// The request.
    pub(super) request: u64,
    /// The answer with a whole list, compressed.
    pub(super) list: u64,
    /// The answer that nothing changed.
    pub(super) unchanged: u64,
}

impl Bytes {
    /// A fetch while no pod changes, both ways.
    pub(super) fn idle(self) -> f64 {
        (self.request + self.unchanged) as f64
    }
}

/// The list of a node with so many pods.
pub(super) fn measure(pods: usize) -> Bytes {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let book = Book::new();
        let callers = Arc::new(Callers::new(Vec::new()));
        let mesh =
            Arc::new(Mesh::new(callers, Arc::clone(&book.metrics), || A_WEEK_LATER, Instant::from_nanos(0)));
        let told = NodeView { asked_at: A_WEEK_LATER, ..view(7) };
        assert_eq!(told.pods.len(), pods);
        mesh.publish(&told);
        let listener: TcpListener = http::bind(Listen::At(([127, 0, 0, 1], 0).into())).unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(server::serve(listener, mesh, server::limits(), stopped));
        let (first, _, list) = relayed(address, None).await;
        assert_eq!(first.result, FetchResult::Ok);
        let (second, request, unchanged) = relayed(address, first.known.as_ref()).await;
        assert_eq!(second.result, FetchResult::NotModified);
        Bytes { request, list, unchanged }
    })
}

/// A fetch, and the bytes that went there and came back.
async fn relayed(server: SocketAddr, known: Option<&Known>) -> (Fetched, u64, u64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = listener.local_addr().unwrap();
    let copied = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(server).await.unwrap();
        copy_bidirectional(&mut near, &mut far).await.unwrap()
    });
    let request = FetchRequest {
        node: "node-00007".into(),
        addresses: vec![relay.ip()],
        port: relay.port(),
        timeout: Duration::from_secs(10),
    };
    let fetched = fetch(&request, known, &Rules::default()).await;
    let (there, back) = copied.await.unwrap();
    (fetched, there, back)
}
