//! Sequence numbers by which a receiver can count what it missed.
//!
//! A sequence belongs to one destination address and size class of this agent's epoch. It is taken only when the
//! kernel has accepted the packet, so a gap at the receiver is a loss on the network and never a refused send.

use std::collections::HashMap;
use std::net::IpAddr;

/// The sequences of all destinations.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    destinations: HashMap<IpAddr, Destination>,
}

#[derive(Debug, Default)]
struct Destination {
    /// Streams that send there.
    streams: usize,
    /// The last sequence that the kernel accepted.
    taken: u64,
    /// Whether a packet is on its way to the kernel, so that it is not yet known whether its sequence is taken.
    unsettled: bool,
}

impl Sequences {
    /// A stream sends there from now on.
    pub(crate) fn join(&mut self, to: IpAddr) {
        self.destinations.entry(to).or_default().streams += 1;
    }

    /// A stream sends there no more. The last one takes the destination along.
    pub(crate) fn leave(&mut self, to: IpAddr) {
        if let Some(destination) = self.destinations.get_mut(&to) {
            destination.streams -= 1;
            if destination.streams == 0 {
                self.destinations.remove(&to);
            }
        }
    }

    /// The sequence for the next packet, or `None` while the one before is unsettled.
    pub(crate) fn propose(&mut self, to: IpAddr) -> Option<u64> {
        let destination = self.destinations.entry(to).or_default();
        if destination.unsettled {
            return None;
        }
        destination.unsettled = true;
        Some(destination.taken + 1)
    }

    /// The proposed packet was accepted by the kernel, or was not.
    pub(crate) fn settle(&mut self, to: IpAddr, accepted: bool) {
        if let Some(destination) = self.destinations.get_mut(&to) {
            destination.taken += u64::from(accepted && destination.unsettled);
            destination.unsettled = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_refused_packet_takes_no_sequence() {
        let mut sequences = Sequences::default();
        sequences.join(TO);
        assert_eq!(sequences.propose(TO), Some(1));
        assert_eq!(sequences.propose(TO), None);
        sequences.settle(TO, false);
        assert_eq!(sequences.propose(TO), Some(1));
        sequences.settle(TO, true);
        assert_eq!(sequences.propose(TO), Some(2));
    }

    #[test]
    fn streams_to_one_address_share_its_sequence() {
        let mut sequences = Sequences::default();
        sequences.join(TO);
        sequences.join(TO);
        sequences.propose(TO);
        sequences.settle(TO, true);
        sequences.leave(TO);
        assert_eq!(sequences.propose(TO), Some(2));
        sequences.settle(TO, true);
        sequences.leave(TO);
        assert!(sequences.destinations.is_empty());
    }

    const TO: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
}
