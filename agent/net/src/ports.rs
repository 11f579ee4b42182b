//! Source ports that are ours alone.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use podsonar_core::target::Family;
use socket2::{Domain, Socket, Type};

/// TCP ports held by sockets that are bound and never listen (`ip(7)`).
///
/// No other program gets them, and since no connection is behind them the kernel itself answers each SYN-ACK with
/// RST (RFC 9293 §3.10.7.1): the target's half-open connection ends and its application accepts nothing.
#[derive(Debug, Default)]
pub(crate) struct ReservedPorts {
    numbers: Vec<u16>,
    #[expect(dead_code, reason = "held open: closing a socket gives its port back")]
    sockets: Vec<Socket>,
}

impl ReservedPorts {
    /// Reserves `count` ports that the kernel chooses from its ephemeral range, on all addresses of the family.
    pub(crate) fn reserve(family: Family, count: u16) -> io::Result<Self> {
        let sockets: Vec<Socket> = (0..count).map(|_| bound(family)).collect::<io::Result<_>>()?;
        let mut numbers = Vec::with_capacity(sockets.len());
        for socket in &sockets {
            numbers.extend(socket.local_addr()?.as_socket().map(|address| address.port()));
        }
        Ok(Self { numbers, sockets })
    }

    pub(crate) fn numbers(&self) -> &[u16] {
        &self.numbers
    }
}

fn bound(family: Family) -> io::Result<Socket> {
    let (domain, any) = match family {
        Family::V4 => (Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        Family::V6 => (Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&any.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_nobody_else_can_bind_them() {
        let ports = ReservedPorts::reserve(Family::V4, 8).unwrap();
        let mut numbers = ports.numbers().to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 8);
        for port in numbers {
            let refused = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        }
    }
}
