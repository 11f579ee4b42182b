//! The HTTP server: `/metrics`, `/livez`, `/readyz` and a page that says what this is.
//!
//! Whoever connects may be slow, hostile or many. Each connection is bounded in header size and time, idle time,
//! time without reading, and life; there is a limit of connections and one of scrapes. A scrape renders itself
//! piece by piece as its reader takes it, so that a slow reader costs one piece of memory and no lock.

mod body;
pub(crate) mod connections;
pub(crate) mod pages;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hyper_util::service::TowerToHyperService;
use podsonar_core::config::Listen;
use podsonar_core::time::Instant;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics::state::Metrics;

pub use self::connections::Limits;

/// Scrapes in progress; further ones get 503.
pub const SCRAPES: u64 = 4;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// What the pages show.
#[derive(Debug)]
pub struct Site {
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// `CLOCK_MONOTONIC`.
    pub now: fn() -> Instant,
    /// When the agent started.
    pub started: Instant,
    /// What connections may cost.
    pub limits: Limits,
    /// Scrapes in progress; further ones get 503.
    pub scrapes: u64,
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
pub async fn serve(listener: TcpListener, site: Arc<Site>, stop: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(pages::router(Arc::clone(&site)));
    connections::serve(listener, site.limits.clone(), |_| Some(service.clone()), stop).await;
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
