//! Which source address the kernel would take: the checksum of a TCP segment over IPv4 covers it, and is ours.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};

use podsonar_core::outcome::SendError;
use rustix::net::connect_unspec;
use socket2::{Domain, Protocol, Socket, Type};

use crate::errno::send_error;

/// Beyond this many destinations the memory is started afresh: 65,536 addresses need about 1 MB.
const LIMIT: usize = 65_536;

/// Remembers the source address for each destination.
///
/// An entry may become stale. That never makes a wrong checksum, since each segment is sent from exactly the
/// address it was computed for; when that address is gone the send fails, and the entry is forgotten.
#[derive(Debug)]
pub(crate) struct Sources {
    known: HashMap<Ipv4Addr, Ipv4Addr>,
    /// Connecting a datagram socket chooses a route and sends nothing. A raw one needs no port, and of the
    /// protocol 255 (reserved, RFC 3692) it receives nothing and so costs nobody anything.
    asking: Socket,
}

impl Sources {
    /// Opens the socket that asks for routes.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open() -> io::Result<Self> {
        let asking = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        Ok(Self { known: HashMap::new(), asking })
    }

    /// The source for packets to `destination`.
    pub(crate) fn find(&mut self, destination: Ipv4Addr) -> Result<Ipv4Addr, SendError> {
        if let Some(source) = self.known.get(&destination) {
            return Ok(*source);
        }
        let source = self.ask_kernel(destination).map_err(|error| send_error(&error))?;
        if self.known.len() >= LIMIT {
            self.known.clear();
        }
        self.known.insert(destination, source);
        Ok(source)
    }

    /// Forgets one destination, to be called when a send to it failed.
    pub(crate) fn forget(&mut self, destination: Ipv4Addr) {
        self.known.remove(&destination);
    }

    /// Forgets all, so that changed routes are seen; each destination is asked again when it is next used.
    pub(crate) fn forget_all(&mut self) {
        self.known.clear();
    }

    fn ask_kernel(&self, destination: Ipv4Addr) -> io::Result<Ipv4Addr> {
        // A socket that was connected before keeps its source address until it is disconnected.
        connect_unspec(&self.asking)?;
        self.asking.connect(&SocketAddr::from((destination, 0)).into())?;
        let local = self.asking.local_addr()?.as_socket_ipv4();
        local.as_ref().map(SocketAddrV4::ip).copied().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

/// The source address for packets to `to`, without any privilege. Connecting a datagram socket chooses a route and
/// sends nothing.
///
/// # Errors
/// The kernel's: there is no route.
pub(crate) fn source_of(to: IpAddr) -> io::Result<IpAddr> {
    // Any port will do; 9 is discard (RFC 863).
    const PORT: u16 = 9;
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let asking = UdpSocket::bind((any, 0))?;
    asking.connect((to, PORT))?;
    Ok(asking.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_bounded() {
        let mut sources = Sources::open().expect("CAP_NET_RAW is needed");
        for number in 0..LIMIT as u32 {
            sources.known.insert(Ipv4Addr::from(number), Ipv4Addr::LOCALHOST);
        }
        sources.find(Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(sources.known.len(), 1);
    }
}
