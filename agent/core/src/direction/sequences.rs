//! Sequence numbers by which a receiver can count what it missed.
//!
//! A sequence belongs to one destination address and size class of this agent's epoch. It is taken only when the
//! kernel has accepted the packet, so a gap at the receiver is a loss on the network and never a refused send. Within an
//! epoch it never goes back, also when an agent is not probed for a while: its receiver would not know it again.

use std::collections::HashMap;
use std::net::IpAddr;

use super::ways::{Book, Ways};
use crate::flows::{Flow, Flows};
use crate::outcome::ProbeResult;
use crate::time::Instant;
use crate::wire::payload::{Heard, SizeClass};

/// The sequences of so many addresses are remembered after the last stream has left.
const REMEMBERED: usize = 4_096;

/// The sequences of all destinations.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    destinations: Vec<Destination>,
    by_address: HashMap<(IpAddr, SizeClass), DestinationId>,
    free: Vec<DestinationId>,
    /// The last sequences to agents to whom no stream sends now.
    left: HashMap<(IpAddr, SizeClass), u64>,
    /// The highest sequence that was ever forgotten.
    forgotten: u64,
}

/// Names a destination while a stream sends there: the sequence of a probe is found without hashing an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DestinationId(u32);

#[derive(Debug, Default)]
struct Destination {
    /// Streams that send there.
    streams: u32,
    /// How many of them send SYNs.
    syns: u32,
    /// The flow of the last SYN.
    last_syn: Flow,
    /// The flows of all SYNs of late, once several streams send some.
    flows: Option<Box<Flows>>,
    /// What is known of the way to an agent and back; `None` if no agent has this address.
    book: Option<Box<Book>>,
    /// The last sequence that the kernel accepted.
    taken: u64,
    /// Whether a packet is on its way to the kernel, so that it is not yet known whether its sequence is taken.
    unsettled: bool,
}

impl Sequences {
    /// A stream sends there from now on. An `agent` is one that may count what it receives.
    pub(crate) fn join(&mut self, to: IpAddr, class: SizeClass, agent: bool) -> DestinationId {
        let Self { destinations, by_address, free, left, forgotten } = self;
        let mut last = None;
        let id = *by_address.entry((to, class)).or_insert_with(|| {
            last = left.remove(&(to, class)).or(agent.then_some(*forgotten));
            free.pop().unwrap_or_else(|| {
                destinations.push(Destination::default());
                DestinationId((destinations.len() - 1) as u32)
            })
        });
        if let Some(destination) = self.get_mut(id) {
            destination.streams += 1;
            destination.taken = last.unwrap_or(destination.taken);
            if agent {
                destination.book.get_or_insert_default();
            }
        }
        id
    }

    /// A stream sends there no more. The last one takes the destination along.
    pub(crate) fn leave(&mut self, to: IpAddr, class: SizeClass, id: DestinationId) {
        let Some(destination) = self.get_mut(id) else { return };
        destination.streams = destination.streams.saturating_sub(1);
        if destination.streams > 0 {
            return;
        }
        let Destination { taken, book, .. } = std::mem::take(destination);
        self.by_address.remove(&(to, class));
        self.free.push(id);
        if book.is_some() {
            self.remember((to, class), taken);
        }
    }

    /// The sequence for the next packet, or `None` while the one before is unsettled.
    pub(crate) fn propose(&mut self, id: DestinationId) -> Option<u64> {
        let destination = self.get_mut(id).filter(|destination| !destination.unsettled)?;
        destination.unsettled = true;
        Some(destination.taken + 1)
    }

    /// The proposed packet was accepted by the kernel, or was not.
    pub(crate) fn settle(&mut self, id: DestinationId, accepted: bool) {
        if let Some(destination) = self.get_mut(id) {
            destination.taken += u64::from(accepted && destination.unsettled);
            destination.unsettled = false;
        }
    }

    /// A stream to this destination sends SYNs from now on, or does no longer.
    pub(crate) fn note_syns(&mut self, id: DestinationId, sends: bool) {
        if let Some(destination) = self.get_mut(id) {
            let syns = destination.syns;
            destination.syns = if sends { syns.saturating_add(1) } else { syns.saturating_sub(1) };
        }
    }

    /// The flows that SYNs to this destination use, if more than one stream sends some.
    pub(crate) fn flows(&mut self, id: DestinationId, now: Instant) -> Option<&mut Flows> {
        let destination = self.get_mut(id)?;
        if destination.syns > 1 && destination.flows.is_none() {
            // Whose SYN was the last one is not known: it may be on its way.
            destination.flows.get_or_insert_default().note(now, destination.last_syn);
        }
        destination.flows.as_deref_mut()
    }

    /// A SYN of this flow goes to the destination; `beside` the schedule, or as a stream's next one.
    pub(crate) fn note_syn(&mut self, id: DestinationId, now: Instant, flow: Flow, beside: bool) {
        let Some(destination) = self.get_mut(id) else { return };
        destination.last_syn = flow;
        if beside {
            destination.flows.get_or_insert_default();
        }
        if let Some(flows) = &mut destination.flows {
            flows.note(now, flow);
        }
    }

    /// Whether an agent is there: only agents are told who sends, and what was heard of them.
    pub(crate) fn is_agent(&self, id: DestinationId) -> bool {
        self.get(id).is_some_and(|destination| destination.book.is_some())
    }

    /// A probe to an agent that bore this sequence, of which only the last 16 bits are known, has its result.
    pub(crate) fn note(&mut self, id: DestinationId, header_sequence: u16, result: ProbeResult) {
        let Some(destination) = self.get_mut(id) else { return };
        let Some(book) = &mut destination.book else { return };
        let ago = (destination.taken as u16).wrapping_sub(header_sequence);
        if let Some(sequence) = destination.taken.checked_sub(u64::from(ago)) {
            book.note(sequence, result);
        }
    }

    /// The agent at `from`, in its run `epoch`, says what it has heard of our probes to it.
    pub(crate) fn report(&mut self, from: IpAddr, epoch: u64, heard: Heard) {
        let Some(id) = self.by_address.get(&(from, SizeClass::Normal)).copied() else { return };
        let Some(destination) = self.get_mut(id) else { return };
        if let Some(book) = &mut destination.book {
            book.report(epoch, heard, destination.taken);
        }
    }

    /// What is known of the way to an agent's address and back.
    pub(crate) fn ways(&self, to: IpAddr) -> Option<&Ways> {
        let id = self.by_address.get(&(to, SizeClass::Normal))?;
        self.get(*id)?.book.as_deref().map(Book::ways)
    }

    /// When there is no more room, all are forgotten; who comes back goes on above them.
    fn remember(&mut self, whose: (IpAddr, SizeClass), taken: u64) {
        if self.left.len() >= REMEMBERED {
            let highest = self.left.drain().map(|(_, taken)| taken).max();
            self.forgotten = self.forgotten.max(highest.unwrap_or(0));
        }
        self.left.insert(whose, taken);
    }

    fn get(&self, id: DestinationId) -> Option<&Destination> {
        self.destinations.get(id.0 as usize)
    }

    fn get_mut(&mut self, id: DestinationId) -> Option<&mut Destination> {
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
        let id = sequences.join(TO, SizeClass::Normal, false);
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
        let id = sequences.join(TO, SizeClass::Normal, false);
        assert_eq!(sequences.join(TO, SizeClass::Normal, false), id);
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
        let id = sequences.join(TO, SizeClass::Normal, false);
        sequences.propose(id);
        sequences.leave(TO, SizeClass::Normal, id);
        let other = sequences.join(other(2), SizeClass::Normal, false);
        assert_eq!(sequences.propose(other), Some(1));
        assert_eq!(sequences.destinations.len(), 1);
    }

    #[test]
    fn an_agent_that_is_probed_again_finds_its_sequence_where_it_was() {
        let mut sequences = Sequences::default();
        let id = sequences.join(TO, SizeClass::Normal, true);
        take(&mut sequences, id, 70_000);
        sequences.leave(TO, SizeClass::Normal, id);
        let id = sequences.join(TO, SizeClass::Normal, true);
        assert_eq!(sequences.propose(id), Some(70_001));
    }

    #[test]
    fn a_forgotten_sequence_is_never_used_again() {
        let mut sequences = Sequences::default();
        let id = sequences.join(TO, SizeClass::Normal, true);
        take(&mut sequences, id, 5);
        sequences.leave(TO, SizeClass::Normal, id);
        for number in 0..=REMEMBERED as u32 {
            let to = IpAddr::V4(Ipv4Addr::from(number));
            let id = sequences.join(to, SizeClass::Normal, true);
            take(&mut sequences, id, 1);
            sequences.leave(to, SizeClass::Normal, id);
        }
        let id = sequences.join(TO, SizeClass::Normal, true);
        assert_eq!(sequences.propose(id), Some(6));
        assert!(sequences.left.len() <= REMEMBERED);
    }

    #[test]
    fn others_than_agents_are_not_remembered() {
        let mut sequences = Sequences::default();
        let id = sequences.join(TO, SizeClass::Normal, false);
        take(&mut sequences, id, 3);
        sequences.leave(TO, SizeClass::Normal, id);
        assert!(sequences.left.is_empty());
        let id = sequences.join(TO, SizeClass::Normal, false);
        assert_eq!(sequences.propose(id), Some(1));
    }

    #[test]
    fn results_find_their_sequence_by_its_last_bits() {
        let mut sequences = Sequences::default();
        let id = sequences.join(TO, SizeClass::Normal, true);
        take(&mut sequences, id, 65_534);
        sequences.report(TO, 9, Heard { highest: 65_534, count: 65_534 });
        take(&mut sequences, id, 4);
        for (header_sequence, result) in
            [(65_535, ProbeResult::Lost), (1, ANSWERED), (0, ProbeResult::Lost), (2, ANSWERED)]
        {
            sequences.note(id, header_sequence, result);
        }
        sequences.report(TO, 9, Heard { highest: 65_538, count: 65_537 });
        let ways = sequences.ways(TO).copied().unwrap();
        assert_eq!((ways.covered, ways.lost, ways.there, ways.back), (4, 2, 1, 1));
    }

    fn take(sequences: &mut Sequences, id: DestinationId, count: u64) {
        for _ in 0..count {
            sequences.propose(id);
            sequences.settle(id, true);
        }
    }

    fn other(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    const ANSWERED: ProbeResult = ProbeResult::Reply(crate::outcome::Rtt::Unmeasured);

    const TO: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
}
