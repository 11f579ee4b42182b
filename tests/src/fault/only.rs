//! [`Only`]: which packets of a link faults are for.

use crate::packet::{Body, ICMP, ICMPV6, Packet, TCP};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A choice of packets. Clones share what the choice remembers.
#[derive(Clone, Default)]
pub struct Only(Option<Predicate>);

type Predicate = Arc<dyn Fn(&Packet<'_>) -> bool + Send + Sync>;

impl Only {
    /// The packets that satisfy a condition. It is asked once for each packet, in their order.
    pub fn matching(condition: impl Fn(&Packet<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(condition)))
    }

    /// TCP packets.
    pub fn tcp() -> Self {
        Self::matching(|packet| packet.protocol == TCP)
    }

    /// ICMP and `ICMPv6` packets.
    pub fn icmp() -> Self {
        Self::matching(|packet| matches!(packet.protocol, ICMP | ICMPV6))
    }

    /// Echo replies, SYN-ACKs and resets: answers to probes.
    pub fn replies() -> Self {
        Self::matching(|packet| match packet.body {
            Body::EchoReply(_) => true,
            Body::Tcp(tcp) => tcp.is_syn_ack() || tcp.is_rst(),
            Body::EchoRequest(_) | Body::Other(_) => false,
        })
    }

    /// One packet alone: the `number`-th, from 1 on, of those that satisfy a condition.
    pub fn nth(number: u64, condition: impl Fn(&Packet<'_>) -> bool + Send + Sync + 'static) -> Self {
        let seen = AtomicU64::new(0);
        Self::matching(move |packet| condition(packet) && seen.fetch_add(1, Ordering::Relaxed) + 1 == number)
    }

    /// One TCP flow of so many, both ends' addresses and ports taken together: the first that comes, and each `every`-th
    /// new one after it. All its packets are chosen, as where one of several equal ways is dead.
    pub fn one_flow_of(every: usize) -> Self {
        let seen = Mutex::new(HashMap::new());
        Self::matching(move |packet| match packet.body {
            Body::Tcp(tcp) => {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let next = seen.len();
                let place = *seen.entry((packet.src, packet.dst, tcp.src_port, tcp.dst_port)).or_insert(next);
                place.checked_rem(every) == Some(0)
            }
            _ => false,
        })
    }

    /// The first SYN-ACK to each SYN. With [`super::Loss::All`] each is lost exactly once, and what the target's kernel
    /// sends again after a second (RFC 6298) passes.
    pub fn first_syn_acks() -> Self {
        let seen = Mutex::new(HashSet::new());
        Self::matching(move |packet| match packet.body {
            Body::Tcp(tcp) if tcp.is_syn_ack() => {
                let answered = (packet.src, packet.dst, tcp.src_port, tcp.dst_port, tcp.ack);
                seen.lock().unwrap_or_else(PoisonError::into_inner).insert(answered)
            }
            _ => false,
        })
    }

    pub(super) fn includes(&self, packet: &Packet<'_>) -> bool {
        self.0.as_ref().is_none_or(|condition| condition(packet))
    }
}

impl fmt::Debug for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Only(a condition)" } else { "Only(everything)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{flags, ipv4};

    #[test]
    fn one_packet_of_a_kind_is_chosen() {
        let only = Only::nth(2, |packet| packet.protocol == TCP);
        let (segment, echo) = (syn_ack(1), ipv4([1; 4].into(), [2; 4].into(), ICMP, &[8; 8]));
        let chosen = [&segment, &echo, &segment, &segment].map(|bytes| includes(&only, bytes));
        assert_eq!(chosen, [false, false, true, false]);
    }

    #[test]
    fn each_third_flow_is_chosen_with_all_its_packets() {
        let only = Only::one_flow_of(3);
        let chosen = [1, 2, 3, 1, 2, 4, 3, 5, 4].map(|port| includes(&only, &syn_ack_from(port, 7)));
        assert_eq!(chosen, [true, false, false, true, false, true, false, false, true]);
    }

    #[test]
    fn a_syn_ack_that_is_sent_again_is_not_the_first() {
        let only = Only::first_syn_acks();
        let chosen = [7, 7, 8, 7, 8].map(|ack| includes(&only, &syn_ack(ack)));
        assert_eq!(chosen, [true, false, true, false, false]);
    }

    fn includes(only: &Only, bytes: &[u8]) -> bool {
        only.includes(&Packet::decode(bytes).unwrap())
    }

    fn syn_ack(ack: u8) -> Vec<u8> {
        syn_ack_from(80, ack)
    }

    fn syn_ack_from(port: u8, ack: u8) -> Vec<u8> {
        let flags = flags::SYN | flags::ACK;
        let segment = [0, port, 0x9c, 0x40, 0, 0, 0, 9, 0, 0, 0, ack, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
        ipv4([10, 0, 0, 2].into(), [10, 0, 0, 1].into(), TCP, &segment)
    }
}
