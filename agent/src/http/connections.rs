//! Connections under limits, whatever is served on them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What connections may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections; further ones wait to be accepted.
    pub connections: usize,
    /// Time to send a request's headers, and to stay idle between two requests.
    pub headers: Duration,
    /// Time that sent bytes may stay unread.
    pub unread: Duration,
    /// A connection takes no new request after this time, and is cut when it is as old again.
    pub life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            headers: Duration::from_secs(10),
            unread: Duration::from_secs(10),
            life: Duration::from_secs(30),
        }
    }
}

/// Bytes of a request's headers; hyper answers 431 above.
pub(super) const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Header fields of a request.
pub(super) const MAX_HEADERS: usize = 64;

/// Pause after accepting failed, so that running out of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` changes, then lets open requests finish. `admit` gives each caller its service, which lives as
/// long as the connection; without one the connection is closed at once.
pub(crate) async fn serve<S>(
    listener: TcpListener,
    limits: Limits,
    admit: impl Fn(SocketAddr) -> Option<S>,
    mut stop: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept(&listener, &slots) => match accepted {
                Ok((stream, caller, slot)) => {
                    let Some(service) = admit(caller) else { continue };
                    let (stop, limits) = (stop.clone(), limits.clone());
                    connections.spawn(async move {
                        converse(stream, service, limits, stop).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, caller) = listener.accept().await?;
    Ok((stream, caller, slot))
}

/// One connection from its first byte to its end.
async fn converse<S>(stream: TcpStream, service: S, limits: Limits, mut stop: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    // The kernel cuts whoever does not read: tcp(7), TCP_USER_TIMEOUT. An error here leaves the limit of life.
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(limits.unread));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // Errors are the other side's: it left, was too slow, or spoke no HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = sleep(limits.life) => {}
        _ = stop.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.life, connection).await;
}
