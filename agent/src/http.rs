//! The HTTP server: `/metrics`, `/livez`, `/readyz` and a page that says what this is.
//!
//! Whoever connects may be slow, hostile or many. Each connection is bounded in header size and time, idle time,
//! time without reading, and life; there is a limit of connections and one of scrapes. A scrape renders itself
//! piece by piece as its reader takes it, so that a slow reader costs one piece of memory and no lock.

mod body;
mod pages;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use podsonar_core::config::Listen;
use podsonar_core::time::Instant;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::metrics::state::Metrics;

/// What a server allows.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections; further ones wait to be accepted.
    pub connections: usize,
    /// Scrapes in progress; further ones get 503.
    pub scrapes: u64,
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
            scrapes: 4,
            headers: Duration::from_secs(10),
            unread: Duration::from_secs(10),
            life: Duration::from_secs(30),
        }
    }
}

/// Bytes of a request's headers; hyper answers 431 above.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Header fields of a request.
const MAX_HEADERS: usize = 64;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Pause after accepting failed, so that running out of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the pages show.
#[derive(Debug)]
pub struct Site {
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// `CLOCK_MONOTONIC`.
    pub now: fn() -> Instant,
    /// When the agent started.
    pub started: Instant,
    /// What is allowed.
    pub limits: Limits,
}

/// Opens the listening socket.
///
/// # Errors
/// The address in question, and what the kernel said about it.
pub fn bind(listen: Listen) -> Result<TcpListener, (SocketAddr, io::Error)> {
    let try_at = |address| listen_at(address).map_err(|error| (address, error));
    match listen {
        Listen::At(address) => try_at(address),
        Listen::Everywhere { port } => match listen_at((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if has_no_ipv6(&error) => try_at((Ipv4Addr::UNSPECIFIED, port).into()),
            result => result.map_err(|error| ((Ipv6Addr::UNSPECIFIED, port).into(), error)),
        },
    }
}

/// Serves until `stop` changes, then lets open requests finish.
pub async fn serve(listener: TcpListener, site: Arc<Site>, mut stop: watch::Receiver<bool>) {
    let router = pages::router(Arc::clone(&site));
    let slots = Arc::new(Semaphore::new(site.limits.connections));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept(&listener, &slots) => match accepted {
                Ok((stream, slot)) => {
                    let (router, stop, limits) = (router.clone(), stop.clone(), site.limits.clone());
                    connections.spawn(async move {
                        converse(stream, router, limits, stop).await;
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
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

/// One connection from its first byte to its end.
async fn converse(stream: TcpStream, router: Router, limits: Limits, mut stop: watch::Receiver<bool>) {
    // The kernel cuts whoever does not read: tcp(7), TCP_USER_TIMEOUT. An error here leaves the limit of life.
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(limits.unread));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
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

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// IPv6 is not compiled in (`EAFNOSUPPORT`) or switched off (`EADDRNOTAVAIL`).
fn has_no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// `errno(3)`; the standard library has no name for it.
const EAFNOSUPPORT: i32 = 97;

/// The error type of responses: rendering cannot fail.
type Never = Infallible;

#[cfg(test)]
mod tests;
