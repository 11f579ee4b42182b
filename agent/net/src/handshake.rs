//! A full TCP handshake by the host's own stack, and what the kernel knows about it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use podsonar_core::outcome::{SendError, Unreachable};
use podsonar_core::target::Family;
use podsonar_core::wire::icmp;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::errno::send_error;
use crate::inbox::{Inbox, Queue};
use crate::sys;

/// How far a handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No answer yet.
    Pending,
    /// The server's SYN-ACK has come.
    Established {
        /// From SYN to SYN-ACK, as the kernel measured it (`tcpi_rtt`); unknown if the SYN was sent more than once.
        rtt: Option<Duration>,
    },
    /// The server answered with RST.
    Refused,
    /// An ICMP error came instead.
    Unreachable(Unreachable),
}

/// Sends the SYN, from a fresh port. The socket becomes writable when the handshake has ended (`connect(2)`).
///
/// Dropping it closes an established connection in order, by a FIN: the server's application reads an end, which is
/// an ordinary thing, where a reset would be an error to log. The price is ours and bounded: a port to that server in
/// TIME_WAIT for a minute. A connection that is not established yet is given up without a packet, and the kernel
/// resets it if it is answered later.
///
/// # Errors
/// Why there is no SYN: no route, no free port, no file descriptor, refused by a policy of this host. A firewall that
/// silently drops what this host sends is no error: TCP sends again.
pub fn start(to: SocketAddr) -> Result<TcpStream, SendError> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))
        .map_err(|error| no_socket(&error))?;
    // Without it an ICMP error ends the handshake with an errno that RST has too.
    let (level, name) = match Family::of(to.ip()) {
        Family::V4 => (libc::SOL_IP, libc::IP_RECVERR),
        Family::V6 => (libc::SOL_IPV6, libc::IPV6_RECVERR),
    };
    sys::set_option(socket.as_fd(), level, name, &[1]).map_err(|error| send_error(&error))?;
    match socket.connect(&to.into()) {
        Ok(()) => Ok(socket.into()),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket.into()),
        Err(error) => Err(send_error(&error)),
    }
}

/// How far a handshake has come. To be asked until it has ended: the kernel tells an error only once.
pub fn progress(stream: &impl AsFd) -> Progress {
    let socket = SockRef::from(stream);
    if let Some(reason) = icmp_error(&socket) {
        return Progress::Unreachable(reason);
    }
    match socket.take_error() {
        Ok(Some(error)) => failed(&error),
        Ok(None) => established(&socket).unwrap_or(Progress::Pending),
        Err(_) => Progress::Pending,
    }
}

/// The ICMP error in the error queue, if there is one.
fn icmp_error(socket: &Socket) -> Option<Unreachable> {
    let mut inbox = Inbox::new(1, 1);
    inbox.fill(socket, Queue::Errors).ok()?;
    inbox.arrivals().find_map(|arrival| {
        let error = arrival.control.error?;
        let family = match error.origin {
            libc::SO_EE_ORIGIN_ICMP => Family::V4,
            libc::SO_EE_ORIGIN_ICMP6 => Family::V6,
            _ => return None,
        };
        icmp::unreachable(family, error.kind, error.code)
    })
}

fn established(socket: &Socket) -> Option<Progress> {
    const SYN_SENT: u8 = 2;
    let info = sys::tcp_info(socket.as_fd()).ok()?;
    let measured = info.tcpi_total_retrans == 0 && info.tcpi_rtt > 0;
    let rtt = measured.then(|| Duration::from_micros(info.tcpi_rtt.into()));
    // A server that closes at once may have brought it beyond ESTABLISHED.
    (info.tcpi_state != SYN_SENT).then_some(Progress::Established { rtt })
}

/// Why there is no socket: file descriptors are used up, or the host does not have the IP version.
fn no_socket(error: &io::Error) -> SendError {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::EAFNOSUPPORT) => SendError::NoSocket,
        _ => send_error(error),
    }
}

/// How a handshake ended that has no entry in its error queue.
fn failed(error: &io::Error) -> Progress {
    match error.raw_os_error() {
        // A connection that was established and then reset was refused by nobody on the way: the server did it.
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => Progress::Refused,
        Some(libc::ETIMEDOUT) => Progress::Pending,
        Some(libc::ENETUNREACH) => Progress::Unreachable(Unreachable::Network),
        Some(libc::EHOSTUNREACH) => Progress::Unreachable(Unreachable::Host),
        Some(libc::EACCES) => Progress::Unreachable(Unreachable::Prohibited),
        _ => Progress::Unreachable(Unreachable::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_meaning() {
        let meaning = |errno| failed(&io::Error::from_raw_os_error(errno));
        assert_eq!(meaning(libc::ECONNREFUSED), Progress::Refused);
        assert_eq!(meaning(libc::ETIMEDOUT), Progress::Pending);
        assert_eq!(meaning(libc::EHOSTUNREACH), Progress::Unreachable(Unreachable::Host));
        assert_eq!(meaning(libc::EPROTO), Progress::Unreachable(Unreachable::Other));
        let missing = |errno| no_socket(&io::Error::from_raw_os_error(errno));
        assert_eq!(missing(libc::EMFILE), SendError::NoSocket);
        assert_eq!(missing(libc::ENOBUFS), SendError::QueueFull);
    }
}
