//! Sequence numbers by which a receiver can count what it missed.
//!
//! A sequence belongs to one destination address and size class of this agent's epoch. It is taken only when the
//! kernel has accepted the packet, so a gap at the receiver is a loss on the network and never a refused send.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::wire::payload::SizeClass;

/// The sequences of all destinations.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    destinations: Vec<Destination>,
    by_address: HashMap<(IpAddr, SizeClass), DestinationId>,
    free: Vec<DestinationId>,
}

/// Names a destination while a stream sends there: the sequence of a probe is found without hashing an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DestinationId(u32);

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
    pub(crate) fn join(&mut self, to: IpAddr, class: SizeClass) -> DestinationId {
        let Self { destinations, by_address, free } = self;
        let id = *by_address.entry((to, class)).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                destinations.push(Destination::default());
                DestinationId((destinations.len() - 1) as u32)
            })
        });
        if let Some(destination) = self.get(id) {
            destination.streams += 1;
        }
        id
    }

    /// A stream sends there no more. The last one takes the destination along.
    pub(crate) fn leave(&mut self, to: IpAddr, class: SizeClass, id: DestinationId) {
        let Some(destination) = self.get(id) else { return };
        destination.streams = destination.streams.saturating_sub(1);
        if destination.streams == 0 {
            *destination = Destination::default();
            self.by_address.remove(&(to, class));
            self.free.push(id);
        }
    }

    /// The sequence for the next packet, or `None` while the one before is unsettled.
    pub(crate) fn propose(&mut self, id: DestinationId) -> Option<u64> {
        let destination = self.get(id).filter(|destination| !destination.unsettled)?;
        destination.unsettled = true;
        Some(destination.taken + 1)
    }

    /// The proposed packet was accepted by the kernel, or was not.
    pub(crate) fn settle(&mut self, id: DestinationId, accepted: bool) {
        if let Some(destination) = self.get(id) {
            destination.taken += u64::from(accepted && destination.unsettled);
            destination.unsettled = false;
        }
    }

    fn get(&mut self, id: DestinationId) -> Option<&mut Destination> {
        self.destinations.get_mut(id.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_refused_packet_takes_no_sequence() {
        let mut sequences = Sequences::default();
        let id = sequences.join(TO, SizeClass::Normal);
        assert_eq!(sequences.propose(id), Some(1));
        assert_eq!(sequences.propose(id), None);
        sequences.settle(id, false);
        assert_eq!(sequences.propose(id), Some(1));
        sequences.settle(id, true);
        assert_eq!(sequences.propose(id), Some(2));
    }

    #[test]
    fn streams_to_one_address_share_its_sequence() {
        let mut sequences = Sequences::default();
        let id = sequences.join(TO, SizeClass::Normal);
        assert_eq!(sequences.join(TO, SizeClass::Normal), id);
        sequences.propose(id);
        sequences.settle(id, true);
        sequences.leave(TO, SizeClass::Normal, id);
        assert_eq!(sequences.propose(id), Some(2));
        sequences.settle(id, true);
        sequences.leave(TO, SizeClass::Normal, id);
        assert!(sequences.by_address.is_empty());
    }

    #[test]
    fn a_destination_that_nobody_uses_makes_room_for_another() {
        let mut sequences = Sequences::default();
        let id = sequences.join(TO, SizeClass::Normal);
        sequences.propose(id);
        sequences.leave(TO, SizeClass::Normal, id);
        let other = sequences.join(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), SizeClass::Normal);
        assert_eq!(sequences.propose(other), Some(1));
        assert_eq!(sequences.destinations.len(), 1);
    }

    const TO: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
}
