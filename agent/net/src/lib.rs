//! podsonar's sockets as the driver sees them: few verbs, kernel stamps, no decisions.
//!
//! [`ProbeSockets`] carries probes, [`Ticker`] wakes the thread that owns them, [`read_clocks`] tells it the time.
//! [`handshake`] has the host's own stack connect; [`interception`] and [`icmp_errors_arrive`] find out what this host
//! and the network next to it do.

mod clock;
mod code;
mod control;
mod datagram;
mod errno;
mod errors;
mod filter;
pub mod handshake;
mod inbox;
pub mod interception;
mod mtu;
mod name;
mod outbox;
mod ports;
mod routes;
mod settings;
mod socket;
mod sockets;
mod sys;
mod ticker;

use std::io;
use std::net::IpAddr;

use podsonar_core::outcome::{SendError, StampSource};
use podsonar_core::target::Family;
use podsonar_core::time::WallTime;
use podsonar_core::wire::Channel;
use podsonar_core::wire::answer::Framing;

pub use crate::clock::{monotonic, read_clocks};
pub use crate::code::return_code_memory;
pub use crate::datagram::{Arrival, Datagram, Datagrams};
pub use crate::errors::icmp_errors_arrive;
pub use crate::mtu::route_mtu;
pub use crate::settings::{Mode, OpenError, Settings};
pub use crate::sockets::ProbeSockets;
pub use crate::sys::return_large_memory;
pub use crate::ticker::{Ticker, Waker, Woken};

/// What the driver asks of sockets. Tests give it a fake; [`ProbeSockets`] is the real one.
pub trait Sockets {
    /// Sends packets in order and appends one result for each: `Ok` only if the kernel accepted it.
    fn send(&mut self, channel: Channel, packets: &Batch, results: &mut Vec<Result<(), SendError>>);

    /// Hands over everything that waits, data first, then the error queue: so that when an answer is seen,
    /// the transmit stamp of its probe, which was queued before the packet left, is seen in the same drain.
    fn receive(&mut self, channel: Channel, each: &mut dyn FnMut(Received<'_>)) -> Drained;

    /// How many packets this channel's socket has dropped since it was opened, while its buffer may have been full
    /// (`SO_MEMINFO`, `sock_diag(7)`). To be called after each [`receive`](Self::receive).
    ///
    /// While the buffer is full that includes packets which the filter would have refused; over IPv6 it always
    /// includes packets to this host with a wrong checksum, which the kernel refuses before the filter.
    fn drops(&mut self, channel: Channel) -> u64;

    /// Hands over the echo requests of other agents that came since the last call: copies of what the kernel answers,
    /// damaged IPv4 ones included. None come where nothing listens to them.
    fn receive_requests(&mut self, _family: Family, _each: &mut dyn FnMut(EchoRequest<'_>)) -> Drained {
        Drained::Completely
    }

    /// How many of them were dropped, as [`drops`](Self::drops) counts; to be called after each
    /// [`receive_requests`](Self::receive_requests).
    fn request_drops(&mut self, _family: Family) -> u64 {
        0
    }

    /// Asks for transmit stamps from before the queueing discipline too, from the next packet on and for good.
    ///
    /// Each stamp is one more entry in the error queue, so at first only the driver's own stamp is asked for, which
    /// is also the better one. To be called when many probes of a channel got none: some devices (netkit) take
    /// none.
    fn request_sched_stamps(&mut self, _channel: Channel) {}

    /// Forgets the source addresses found for destinations; to be called about once a minute, so that packets
    /// follow changed routes.
    fn refresh_routes(&mut self) {}

    /// Replaces the `count` oldest source ports of a family's SYNs by new ones, and returns each old port with its
    /// successor. Answers to the old ports are received, and nobody else gets them, until
    /// [`retire_ports`](Self::retire_ports).
    ///
    /// # Errors
    /// The kernel's; then nothing has changed.
    fn renew_ports(&mut self, _family: Family, _count: usize) -> io::Result<Vec<(u16, u16)>> {
        Ok(Vec::new())
    }

    /// Gives back ports that were replaced: to be called when nothing that was sent from them can be answered any
    /// more, at least 2 s after the last SYN (targets send their SYN-ACK again after one).
    fn retire_ports(&mut self, _family: Family, _ports: &[u16]) {}

    /// The MTU of the route to `to` in bytes, as it was configured; `None` without a route.
    fn route_mtu(&mut self, _to: IpAddr) -> Option<u32> {
        None
    }

    /// The address from which packets to `to` leave now, if there is a route. It costs a few system calls.
    fn source_of(&mut self, _to: IpAddr) -> Option<IpAddr> {
        None
    }
}

/// Packets of one channel to be sent together, in one buffer.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    packets: Vec<Address>,
}

/// Where a packet of a [`Batch`] ends (it starts where the one before ends) and goes.
#[derive(Debug, Clone, Copy)]
struct Address {
    end: usize,
    to: IpAddr,
    flow_label: u32,
}

/// One packet of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// The destination.
    pub to: IpAddr,
    /// The flow label, used for IPv6.
    pub flow_label: u32,
    /// The transport message. The checksum may be left to the kernel or to [`Sockets::send`].
    pub bytes: &'a [u8],
}

impl Batch {
    /// Adds the packet that `encode` appends to the buffer. `flow_label` (20 bits, RFC 6437) is used for IPv6.
    pub fn push(&mut self, to: IpAddr, flow_label: u32, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.bytes);
        self.packets.push(Address { end: self.bytes.len(), to, flow_label });
    }

    /// The packets in order.
    pub fn iter(&self) -> impl Iterator<Item = Outgoing<'_>> {
        let mut start = 0;
        self.packets.iter().map(move |packet| {
            let bytes = self.bytes.get(start..packet.end).unwrap_or_default();
            start = packet.end;
            Outgoing { to: packet.to, flow_label: packet.flow_label, bytes }
        })
    }

    /// How many packets it holds.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Forgets the packets and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }
}

/// Something that a socket had for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<'a> {
    /// A packet as the kernel delivers it.
    Packet {
        /// The sender.
        from: IpAddr,
        /// Where it begins.
        framing: Framing,
        /// The bytes, cut at the largest packet we expect.
        bytes: &'a [u8],
        /// The kernel's receive stamp.
        stamp: Option<WallTime>,
    },
    /// A packet of ours came back from the error queue with its transmit stamp.
    Transmitted {
        /// The frame from the link header on.
        frame: &'a [u8],
        /// When it left.
        stamp: WallTime,
        /// Where the kernel took the stamp.
        source: StampSource,
    },
    /// An ICMP error about a packet that somebody on this host sent.
    Error {
        /// Where that packet was going.
        to: IpAddr,
        /// The start of its transport message.
        quote: &'a [u8],
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// The largest packet that the path takes, in bytes, where the error says so: ICMP "fragmentation needed"
        /// (RFC 1191 §4) and ICMPv6 "packet too big" (RFC 4443 §3.2).
        mtu: Option<u32>,
    },
}

/// An echo request that somebody sent to this host, as the kernel delivers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoRequest<'a> {
    /// The sender.
    pub from: IpAddr,
    /// Which of our addresses it was sent to; over IPv4 its header says so.
    pub to: Option<IpAddr>,
    /// Where it begins.
    pub framing: Framing,
    /// The bytes, cut at the largest packet we expect.
    pub bytes: &'a [u8],
    /// The kernel's receive stamp.
    pub stamp: Option<WallTime>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Both queues are empty.
    Completely,
    /// The bound on one drain was reached, so somebody floods us: more waits.
    Partly,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_pushed_and_forgets_it_when_cleared() {
        let to = "10.0.0.1".parse().unwrap();
        let mut batch = Batch::default();
        for _ in 0..2 {
            for (flow_label, bytes) in [(1, &b"one"[..]), (2, b""), (3, b"three")] {
                batch.push(to, flow_label, |out| out.extend_from_slice(bytes));
            }
            let expected = [(1, &b"one"[..]), (2, b""), (3, b"three")].map(|(flow_label, bytes)| Outgoing {
                to,
                flow_label,
                bytes,
            });
            assert_eq!((batch.iter().collect::<Vec<_>>(), batch.len()), (expected.to_vec(), 3));
            batch.clear();
            assert!(batch.is_empty() && batch.iter().next().is_none());
        }
    }
}
