//! The probes that were handed out and may still be answered: found by what their answer brings back, and by time.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::direction::sequences::DestinationId;
use crate::hash::NumberMap;
use crate::outcome::{Sent, StampSource};
use crate::queue::Queue;
use crate::target::StreamId;
use crate::time::{Instant, Movement, WallTime};
use crate::wire::answer::Key;
use crate::wire::icmp::header_sequence;

/// How long a finished probe is remembered from its end on, so that late and duplicate answers are known for what they
/// are. A target sends its SYN-ACK again one second after the first (RFC 6298 §2).
const REMEMBER: Duration = Duration::from_millis(1_200);

/// Names one probe. A stale name finds nothing: its generation has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeId {
    slot: u32,
    generation: u32,
}

/// Why a probe was sent. Only what fell due owes a result to the metrics of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It fell due.
    Due,
    /// To explain a silence.
    Boost(Boost),
    /// To see whether large packets pass.
    Large,
}

/// What a SYN that was not due is to explain. The text form is the metric label `purpose`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Boost {
    /// Whether a flow, or the port, is silent again.
    Flow,
    /// Whether a closed port of the target answers while the asked one is silent.
    Listener,
}

impl Boost {
    /// Every purpose, in label order.
    pub const ALL: [Self; 2] = [Self::Flow, Self::Listener];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Listener => "listener",
        }
    }
}

/// A probe that was handed out.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pub(crate) stream: StreamId,
    pub(crate) purpose: Purpose,
    /// Which of the stream's due probes it is.
    pub(crate) number: u64,
    pub(crate) due: Instant,
    pub(crate) to: IpAddr,
    pub(crate) destination: DestinationId,
    pub(crate) key: Key,
    pub(crate) cookie: u64,
    /// The sequence of an echo; zero for SYN.
    pub(crate) sequence: u64,
    /// Length of an echo's payload, in bytes.
    pub(crate) length: u16,
    /// The interval as an echo's payload states it, in milliseconds.
    pub(crate) period_ms: u32,
    /// Whether its stream wants to know that it was answered.
    pub(crate) watched: bool,
    /// What an agent was told was heard of it, as a digest; others are told nothing, not even who asks.
    pub(crate) told: Option<NonZeroU32>,
    pub(crate) timeout: Duration,
    pub(crate) state: State,
}

/// Where a probe stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    /// Handed to the driver; whether the kernel takes it is not known yet.
    Sending,
    /// On its way; its result is open.
    Flying(Flight),
    /// It was answered: a further answer is a duplicate.
    Answered,
    /// It was judged lost: an answer is late.
    Lost(Flight),
    /// It ended otherwise: answers mean nothing.
    Ended,
}

/// When a probe left, by each clock that knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flight {
    /// Just before and just after the send call.
    pub(crate) call: (Instant, Instant),
    /// The best transmit stamp so far: the kernel's, or the time of the send call.
    pub(crate) at: WallTime,
    pub(crate) tx: StampSource,
    /// How far the wall clock had moved at the send.
    pub(crate) moved: Movement,
}

impl Probe {
    /// What identified it on the wire, if it is known to have left.
    pub(crate) fn sent(&self, flight: &Flight, rx: Option<StampSource>) -> Sent {
        let (sequence, source_port, destination_port) = match self.key {
            Key::Echo(_) => (u32::from(header_sequence(self.sequence)), None, None),
            Key::Connect(_) => (0, None, None),
            Key::Syn(syn) => (syn.sequence, Some(syn.source_port), Some(syn.destination_port)),
        };
        Sent {
            at: flight.at,
            tx: flight.tx,
            rx,
            cookie: self.cookie,
            sequence,
            source_port,
            destination_port,
        }
    }
}

/// All probes that are in flight or remembered.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    slots: Vec<Slot>,
    /// The probes of the slots, apart: a probe is large, and most deadlines need to know only that it has landed.
    probes: Vec<Option<Probe>>,
    /// Free slots, the longest free first: so probes that are sent together lie together.
    free: VecDeque<u32>,
    echoes: NumberMap<u64, ProbeId>,
    syns: NumberMap<u64, ProbeId>,
    deadlines: Queue<ProbeId>,
    remembered: VecDeque<(Instant, ProbeId)>,
    flying: usize,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    flying: bool,
}

impl Inflight {
    /// Takes a new probe in, unless its key is in use: then the caller draws another.
    pub(crate) fn insert(&mut self, probe: &Probe) -> Option<ProbeId> {
        let (map, number) = self.index(probe.key);
        if map.contains_key(&number) {
            return None;
        }
        let slot = self.free.pop_front().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.probes.push(None);
            (self.slots.len() - 1) as u32
        });
        let key = probe.key;
        let id = ProbeId { slot, generation: self.slots.get(slot as usize)?.generation };
        *self.probes.get_mut(slot as usize)? = Some(probe.clone());
        let (map, number) = self.index(key);
        map.insert(number, id);
        Some(id)
    }

    /// The probe that this key names.
    pub(crate) fn find(&mut self, key: Key) -> Option<(ProbeId, &mut Probe)> {
        let (map, number) = self.index(key);
        let id = *map.get(&number)?;
        let probe = self.get(id)?;
        (probe.key == key).then_some((id, probe))
    }

    /// The probe of this name.
    pub(crate) fn get(&mut self, id: ProbeId) -> Option<&mut Probe> {
        self.slot(id)?;
        self.probes.get_mut(id.slot as usize)?.as_mut()
    }

    /// The kernel accepted it: from now on it has a deadline.
    pub(crate) fn launch(&mut self, id: ProbeId, flight: Flight, deadline: Instant) {
        let Some(probe) = self.get(id) else { return };
        probe.state = State::Flying(flight);
        self.set_flying(id, true);
        self.deadlines.push(deadline, id);
    }

    /// A flying probe has its result at `now`; it is remembered for a while.
    pub(crate) fn land(&mut self, id: ProbeId, state: State, now: Instant) {
        if let Some(probe) = self.get(id) {
            probe.state = state;
            self.set_flying(id, false);
            self.remembered.push_back((now + REMEMBER, id));
        }
    }

    /// Gives a flying probe more time.
    pub(crate) fn extend(&mut self, id: ProbeId, deadline: Instant) {
        self.deadlines.push(deadline, id);
    }

    /// The next flying probe whose deadline is at or before `now`. The caller sees to it that it lands, or gives it more
    /// time.
    pub(crate) fn pop_deadline(&mut self, now: Instant) -> Option<ProbeId> {
        while let Some((deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop();
            if self.slot(id).is_some_and(|slot| slot.flying) {
                return Some(id);
            }
        }
        None
    }

    /// Drops what was remembered long enough.
    pub(crate) fn forget_until(&mut self, now: Instant) {
        while let Some((until, id)) = self.remembered.front().copied()
            && until <= now
        {
            self.remembered.pop_front();
            self.remove(id);
        }
    }

    /// Drops one probe.
    pub(crate) fn remove(&mut self, id: ProbeId) -> Option<Probe> {
        self.set_flying(id, false);
        let slot = self.slot(id)?;
        slot.generation = slot.generation.wrapping_add(1);
        let probe = self.probes.get_mut(id.slot as usize)?.take()?;
        self.free.push_back(id.slot);
        let (map, number) = self.index(probe.key);
        map.remove(&number);
        Some(probe)
    }

    /// Drops all probes of streams that are gone, and returns those without a result.
    pub(crate) fn remove_streams(&mut self, gone: impl Fn(StreamId) -> bool) -> Vec<Probe> {
        let ids: Vec<ProbeId> = (0..)
            .zip(self.slots.iter().zip(&self.probes))
            .filter(|(_, (_, probe))| probe.as_ref().is_some_and(|probe| gone(probe.stream)))
            .map(|(number, (slot, _))| ProbeId { slot: number, generation: slot.generation })
            .collect();
        ids.into_iter()
            .filter_map(|id| self.remove(id))
            .filter(|probe| matches!(probe.state, State::Sending | State::Flying(_)))
            .collect()
    }

    /// How many probes have no result yet.
    pub(crate) fn flying(&self) -> usize {
        self.flying
    }

    fn slot(&mut self, id: ProbeId) -> Option<&mut Slot> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)
    }

    fn set_flying(&mut self, id: ProbeId, flying: bool) {
        let Some(slot) = self.slot(id).filter(|slot| slot.flying != flying) else { return };
        slot.flying = flying;
        if flying {
            self.flying += 1;
        } else {
            self.flying -= 1;
        }
    }

    fn index(&mut self, key: Key) -> (&mut NumberMap<u64, ProbeId>, u64) {
        match key {
            Key::Echo(cookie) | Key::Connect(cookie) => (&mut self.echoes, cookie),
            Key::Syn(syn) => (&mut self.syns, u64::from(syn.source_port) << 32 | u64::from(syn.sequence)),
        }
    }
}
