//! Full TCP handshakes, for targets where half an one is not enough: service addresses that are balanced when a
//! program connects, and hosts on which podsonar may not make its own packets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use podsonar_core::outcome::{SendError, Unreachable};
use podsonar_core::time::Instant;
use podsonar_net::handshake::{self, Progress};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time;

use crate::clock;

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server accepted it in time.
    Connected,
    /// The server answered with RST in time: reachable, nobody listens.
    Refused,
    /// No answer in time.
    Lost,
    /// An ICMP error came in time.
    Unreachable(Unreachable),
    /// This host sent nothing.
    NotSent(SendError),
    /// It ended, but this process looked too late to say whether in time.
    Unclear,
}

/// A handshake that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Just before the SYN was sent, by this process' clock.
    pub started: Instant,
    /// When this process saw the end. If it looked too late, and the kernel's own measure says that the answer was in
    /// time, then when that came.
    pub ended: Instant,
    /// How.
    pub end: End,
}

/// Connects to a server and closes at once, from a fresh port; waits for the answer for `timeout`.
///
/// To be run on a Tokio runtime with time and I/O.
pub async fn connect(to: SocketAddr, timeout: Duration) -> Ended {
    let started = clock::now();
    let over = |end| Ended { started, ended: clock::now(), end };
    let stream = match handshake::start(to) {
        Ok(stream) => stream,
        Err(error) => return over(End::NotSent(error)),
    };
    let Ok(stream) = TcpStream::from_std(stream) else { return over(End::NotSent(SendError::Other)) };
    let progress = match time::timeout(timeout, ended(&stream)).await {
        Ok(progress) => progress,
        // It may have ended while nobody let this process run.
        Err(_) => handshake::progress(&stream),
    };
    judge(progress, started, clock::now(), timeout)
}

/// Waits until the handshake is no longer pending.
pub(crate) async fn ended(stream: &TcpStream) -> Progress {
    let look = || match handshake::progress(stream) {
        Progress::Pending => Err(io::ErrorKind::WouldBlock.into()),
        over => Ok(over),
    };
    stream.async_io(Interest::WRITABLE, look).await.unwrap_or(Progress::Pending)
}

/// What it means that the handshake was this far when we looked.
///
/// Looked at in time, it means what it says. Looked at too late, a handshake that is pending was lost, one that is
/// established tells by the kernel's own measure, and of an error nobody knows when it came.
fn judge(progress: Progress, started: Instant, looked: Instant, timeout: Duration) -> Ended {
    let in_time = looked.since(started) <= timeout;
    let (end, ended) = match progress {
        Progress::Established { .. } if in_time => (End::Connected, looked),
        Progress::Established { rtt: Some(rtt) } if rtt <= timeout => (End::Connected, started + rtt),
        Progress::Pending | Progress::Established { rtt: Some(_) } => (End::Lost, looked),
        Progress::Refused if in_time => (End::Refused, looked),
        Progress::Unreachable(reason) if in_time => (End::Unreachable(reason), looked),
        Progress::Established { rtt: None } | Progress::Refused | Progress::Unreachable(_) => {
            (End::Unclear, looked)
        }
    };
    Ended { started, ended, end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_in_time_is_what_it_says_and_later_the_kernel_decides() {
        let (early, late) = (Duration::from_millis(799), Duration::from_millis(801));
        let established = |rtt| Progress::Established { rtt };
        let host = Unreachable::Host;
        for (progress, looked, end, took) in [
            (established(Some(early)), early, End::Connected, early),
            (established(None), early, End::Connected, early),
            (Progress::Refused, early, End::Refused, early),
            (Progress::Unreachable(host), early, End::Unreachable(host), early),
            (Progress::Pending, late, End::Lost, late),
            (established(Some(Duration::from_micros(300))), late, End::Connected, Duration::from_micros(300)),
            (established(Some(late)), late, End::Lost, late),
            (established(None), late, End::Unclear, late),
            (Progress::Refused, late, End::Unclear, late),
            (Progress::Unreachable(host), late, End::Unclear, late),
        ] {
            let started = Instant::from_nanos(5_000);
            let ended = judge(progress, started, started + looked, Duration::from_millis(800));
            assert_eq!(ended, Ended { started, ended: started + took, end }, "{progress:?} after {looked:?}");
        }
    }
}
