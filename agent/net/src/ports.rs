//! Source ports that are ours alone.

use std::collections::VecDeque;
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
    /// The ports in use.
    numbers: Vec<u16>,
    /// Places in `numbers`, the oldest port's first.
    by_age: VecDeque<usize>,
    /// Ports that were replaced: answers to them may still come.
    replaced: Vec<u16>,
    /// Held open: closing a socket gives its port back.
    sockets: Vec<(u16, Socket)>,
}

impl ReservedPorts {
    /// Reserves `count` ports that the kernel chooses from its ephemeral range, on all addresses of the family.
    pub(crate) fn reserve(family: Family, count: u16) -> io::Result<Self> {
        let sockets: Vec<_> = (0..count).map(|_| bound(family)).collect::<io::Result<_>>()?;
        let numbers: Vec<u16> = sockets.iter().map(|(number, _)| *number).collect();
        Ok(Self { by_age: (0..numbers.len()).collect(), numbers, replaced: Vec::new(), sockets })
    }

    /// The ports in use.
    pub(crate) fn numbers(&self) -> &[u16] {
        &self.numbers
    }

    /// The ports in use, and those that were replaced and not yet retired.
    pub(crate) fn held(&self) -> Vec<u16> {
        self.numbers.iter().chain(&self.replaced).copied().collect()
    }

    /// Replaces the `count` oldest ports, and returns each with its successor. The old ones stay reserved.
    ///
    /// # Errors
    /// The kernel's; then nothing has changed.
    pub(crate) fn renew(&mut self, family: Family, count: usize) -> io::Result<Vec<(u16, u16)>> {
        let count = count.min(self.numbers.len());
        let fresh: Vec<_> = (0..count).map(|_| bound(family)).collect::<io::Result<_>>()?;
        let mut renewed = Vec::with_capacity(count);
        for (new, socket) in fresh {
            let Some(place) = self.by_age.pop_front() else { break };
            self.by_age.push_back(place);
            let Some(number) = self.numbers.get_mut(place) else { break };
            let old = std::mem::replace(number, new);
            self.replaced.push(old);
            self.sockets.push((new, socket));
            renewed.push((old, new));
        }
        Ok(renewed)
    }

    /// Takes the last renewal back.
    pub(crate) fn undo(&mut self, renewed: &[(u16, u16)]) {
        for (old, new) in renewed.iter().rev() {
            if let Some(number) = self.numbers.iter_mut().find(|number| *number == new) {
                *number = *old;
            }
            if let Some(place) = self.by_age.pop_back() {
                self.by_age.push_front(place);
            }
            self.replaced.retain(|number| number != old);
            self.sockets.retain(|(number, _)| number != new);
        }
    }

    /// Gives back those of `ports` that were replaced.
    pub(crate) fn retire(&mut self, ports: &[u16]) {
        let (gone, kept): (Vec<u16>, _) = self.replaced.drain(..).partition(|number| ports.contains(number));
        self.replaced = kept;
        self.sockets.retain(|(number, _)| !gone.contains(number));
    }
}

fn bound(family: Family) -> io::Result<(u16, Socket)> {
    let (domain, any) = match family {
        Family::V4 => (Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        Family::V6 => (Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&any.into())?;
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((address.port(), socket))
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
            assert!(is_reserved(port));
        }
    }

    #[test]
    fn the_oldest_are_replaced_first_and_stay_reserved_until_they_are_retired() {
        let mut ports = ReservedPorts::reserve(Family::V4, 3).unwrap();
        let first = ports.numbers().to_vec();
        let renewed = ports.renew(Family::V4, 2).unwrap();
        assert_eq!(renewed.iter().map(|(old, _)| *old).collect::<Vec<_>>(), first[..2]);
        assert_eq!(ports.numbers(), [renewed[0].1, renewed[1].1, first[2]]);
        assert_eq!(ports.renew(Family::V4, 1).unwrap()[0].0, first[2]);
        assert_eq!(ports.held().len(), 6);
        assert!(first.iter().all(|port| is_reserved(*port)));
        ports.retire(&first[..2]);
        assert!(is_reserved(first[2]));
        assert_eq!(ports.held().len(), 4);
        ports.retire(ports.numbers().to_vec().as_slice());
        assert!(ports.numbers().iter().all(|port| is_reserved(*port)), "ports in use are not given back");
    }

    #[test]
    fn a_renewal_that_is_taken_back_leaves_no_trace() {
        let mut ports = ReservedPorts::reserve(Family::V6, 3).unwrap();
        let before = ports.numbers().to_vec();
        let renewed = ports.renew(Family::V6, 2).unwrap();
        ports.undo(&renewed);
        assert_eq!((ports.numbers(), ports.held()), (&before[..], before.clone()));
        assert_eq!(ports.renew(Family::V6, 1).unwrap()[0].0, before[0]);
    }

    #[test]
    fn no_more_ports_are_renewed_than_there_are() {
        let mut ports = ReservedPorts::reserve(Family::V4, 2).unwrap();
        assert_eq!(ports.renew(Family::V4, 10).unwrap().len(), 2);
        assert!(ReservedPorts::default().renew(Family::V4, 1).unwrap().is_empty());
    }

    fn is_reserved(port: u16) -> bool {
        let refused = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        refused.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    }
}
