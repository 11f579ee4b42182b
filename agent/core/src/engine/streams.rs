//! The set of streams: what is probed, replaced as a whole, and what each stream remembers between its probes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::departed::Knowledge;
use super::large::Large;
use super::newcomers::Baseline;
use super::owners::OwnerId;
use super::{Engine, Event};
use crate::direction::sequences::DestinationId;
use crate::inflight::{Probe, Purpose, State};
use crate::inquiry::Inquiry;
use crate::outcome::{Outcome, ProbeResult, Void};
use crate::schedule::Grid;
use crate::target::{Kind, Planned, Protocol, Stream, StreamId, Target};
use crate::time::Instant;
use crate::wire::answer::Key;
use crate::wire::payload::SizeClass;

/// After this many losses in a row a target gets fewer SYNs: its half-open entries live for a minute each.
const BACK_OFF_AFTER: u32 = 3;

/// Time between two SYNs to a target that is backed off.
const BACK_OFF_INTERVAL: Duration = Duration::from_secs(30);

/// When a stream is due whose one probe was due already.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// All streams, by number and by what they are.
///
/// A stream's number is its place among the slots and, in the upper half, how many streams were added before it: so
/// it is found without hashing, and never named again after it is gone.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Option<StreamState>>,
    free: Vec<u32>,
    by_stream: HashMap<Stream, StreamId>,
    added: u32,
}

/// One stream between its probes.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct StreamState {
    id: StreamId,
    pub(super) planned: Planned,
    pub(super) to: IpAddr,
    pub(super) port: u16,
    pub(super) destination: DestinationId,
    pub(super) grid: Grid,
    /// When the next probe falls due; a schedule entry with another time is stale.
    pub(super) due: Instant,
    /// When the last probe fell due.
    pub(super) last_due: Instant,
    /// How many probes fell due: the number of the next one.
    pub(super) passed: u64,
    /// Whose turn among the source ports it was.
    pub(super) flow: usize,
    pub(super) losses_in_a_row: u32,
    /// The node whose agent knows whether the target is still there.
    pub(super) owner: Option<OwnerId>,
    pub(super) added: Instant,
    /// When the latest probe was sent that its target answered, if it ever answered.
    pub(super) heard: Option<Instant>,
    /// Whether the silence that lasts has been confirmed.
    pub(super) confirmed: bool,
    /// Since when the target, which has never answered, is known to answer its owner.
    pub(super) answers_owner: Option<Instant>,
    /// What was last told of a target that has never answered.
    pub(super) baseline: Option<Baseline>,
    /// Since when a new pod runs whose first answer is waited for.
    pub(super) fresh: Option<Instant>,
    /// Whether it has one probe only.
    once: bool,
    /// Whether its last SYN was answered at all, and by a listener.
    pub(super) answering: bool,
    pub(super) listening: bool,
    /// What its silence may mean, while it is open.
    pub(super) inquiry: Option<Box<Inquiry>>,
    /// The path's largest packet, if large probes go there.
    pub(super) large: Option<Box<Large>>,
}

impl StreamState {
    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    /// Whether it matters to anybody that a probe is answered, beside its result.
    pub(super) fn is_watched(&self) -> bool {
        self.owner.is_some() || self.planned.presumed
    }

    /// What it knows that outlives it.
    pub(super) fn knowledge(&self) -> Knowledge {
        Knowledge {
            heard: self.heard,
            answers_owner: self.answers_owner,
            answering: self.answering,
            listening: self.listening,
            losses_in_a_row: self.losses_in_a_row,
            last_due: self.last_due,
        }
    }

    /// Whether its probes are half-open SYNs, each of a flow of this agent's own ports.
    pub(super) fn sends_syns(&self) -> bool {
        self.planned.stream.protocol == Protocol::Tcp
    }

    /// Whether it has one probe only.
    pub(super) fn is_once(&self) -> bool {
        self.once
    }

    /// When it is due next, if it ever is again.
    pub(super) fn next(&self) -> Option<Instant> {
        (self.due < NEVER).then_some(self.due)
    }

    /// SYNs are held back after losses; ICMP keeps its rate.
    pub(super) fn backed_off(&self) -> bool {
        self.planned.stream.protocol != Protocol::Icmp && self.losses_in_a_row >= BACK_OFF_AFTER
    }

    /// Lets the next due time pass, and all others before `until` that follow in steps of the interval. Returns
    /// how many.
    pub(super) fn pass(&mut self, until: Instant) -> u64 {
        let count = if self.backed_off() || self.once { 1 } else { self.grid.count(self.due, until).max(1) };
        self.last_due = self.grid.advance(self.due, count - 1);
        self.passed += count;
        self.due = self.next_due();
        count
    }

    /// The due time after the last one.
    fn next_due(&self) -> Instant {
        if self.once {
            NEVER
        } else if self.backed_off() {
            self.grid.at_or_after(self.last_due + BACK_OFF_INTERVAL)
        } else {
            self.grid.advance(self.last_due, 1)
        }
    }

    /// The first due time that its own rate allows. It is never before the stream was added, which may be after the clock
    /// was read last.
    fn soonest(&self, now: Instant) -> Instant {
        self.grid.at_or_after(now.max(self.added).max(self.last_due + self.planned.interval))
    }
}

impl Streams {
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut StreamState> {
        self.slots.iter_mut().flatten()
    }

    pub(super) fn get(&mut self, id: StreamId) -> Option<&mut StreamState> {
        self.slots.get_mut(id.slot())?.as_mut().filter(|state| state.id == id)
    }

    fn iter(&self) -> impl Iterator<Item = &StreamState> {
        self.slots.iter().flatten()
    }

    /// A stream that asks the same target in the same way, again and again.
    fn kin(&self, stream: &Stream) -> Option<&StreamState> {
        let Target { address, port, pod, .. } = &*stream.target;
        self.iter().find(|state| {
            let kin = &state.planned.stream;
            let same = (kin.protocol, &kin.target.port, &kin.target.pod) == (stream.protocol, port, pod);
            !state.once && state.to == *address && same
        })
    }

    /// Those that are probed once.
    pub(super) fn once(&self) -> impl Iterator<Item = StreamId> {
        self.iter().filter(|state| state.once).map(|state| state.id)
    }

    fn next_id(&mut self) -> StreamId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.added = self.added.wrapping_add(1);
        StreamId(u64::from(self.added) << 32 | u64::from(slot))
    }

    fn insert(&mut self, state: StreamState) {
        if !state.once {
            self.by_stream.insert(state.planned.stream.clone(), state.id);
        }
        if let Some(place) = self.slots.get_mut(state.id.slot()) {
            *place = Some(state);
        }
    }

    fn remove(&mut self, id: StreamId) -> Option<StreamState> {
        self.get(id)?;
        let state = self.slots.get_mut(id.slot())?.take()?;
        if !state.once {
            self.by_stream.remove(&state.planned.stream);
        }
        self.free.push(id.slot() as u32);
        Some(state)
    }
}

impl Engine {
    /// Replaces what is probed. A stream that stays as it was keeps its schedule and everything it remembers;
    /// the probes in flight of a removed one end as `discarded`. Equal streams count once, the first wins.
    pub fn set_streams(&mut self, now: Instant, planned: &[Planned]) {
        let mut wanted: HashMap<&Stream, &Planned> = HashMap::with_capacity(planned.len());
        for plan in planned {
            wanted.entry(&plan.stream).or_insert(plan);
        }
        let gone: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|state| !state.once && wanted.get(&state.planned.stream) != Some(&&state.planned))
            .map(|state| state.id)
            .collect();
        self.remove(now, gone);
        let is_new = |plan: &&Planned| {
            !self.streams.by_stream.contains_key(&plan.stream)
                && wanted.get(&plan.stream).is_some_and(|first| std::ptr::eq(*first, *plan))
        };
        let mut added: Vec<(Instant, Grid, &Planned)> = planned
            .iter()
            .filter(is_new)
            .map(|plan| {
                let grid = Grid::new(&self.identity.source, plan);
                (grid.at_or_after(now), grid, plan)
            })
            .collect();
        // In the order in which they are due: so what one tick needs lies together in memory, here and in whatever
        // else is told of them.
        added.sort_by_key(|(due, ..)| *due);
        for (due, grid, plan) in added {
            self.add(now, plan, (grid, due));
        }
        self.owners.sweep(|node| self.fetches.asks(node));
        let scheduled = self.streams.iter().filter(|state| !state.once);
        let rate = scheduled.map(|state| 1.0 / state.planned.interval.as_secs_f64()).sum();
        self.pace.set_rate(rate, now);
    }

    fn add(&mut self, now: Instant, plan: &Planned, (grid, due): (Grid, Instant)) {
        let id = self.streams.next_id();
        let owner = self.owners.join(&plan.stream.target);
        let known = owner.and_then(|_| self.departed.recall(&plan.stream, now));
        let known = known.unwrap_or(Knowledge { last_due: due, ..Knowledge::default() });
        let large = self.join_large(now, id, plan);
        let mut state = StreamState { large, ..self.state(id, plan, (grid, due), owner, known) };
        state.added = now;
        if state.backed_off() {
            state.due = due.max(state.next_due());
        }
        self.join(state);
        self.join_newcomers(id, now);
    }

    /// Adds a stream whose only probe is due now, to a pod of this node. What another stream knows of the pod holds for
    /// it too: whether it has ever answered, and whether the silence of its port may be its application's.
    pub(super) fn add_once(&mut self, now: Instant, node: &Arc<str>, plan: &Planned) {
        let id = self.streams.next_id();
        let owner = Some(self.owners.join_node(node));
        let known = self.streams.kin(&plan.stream).map(StreamState::knowledge).unwrap_or_default();
        let known = Knowledge { losses_in_a_row: 0, last_due: now, ..known };
        let grid = Grid::at(now.as_nanos(), plan.interval);
        let state = self.state(id, plan, (grid, now), owner, known);
        self.join(StreamState { once: true, ..state });
    }

    fn join(&mut self, state: StreamState) {
        if state.sends_syns() {
            self.sequences.note_syns(state.destination, true);
        }
        let added = Event::Added(state.id, state.planned.clone());
        self.schedule.add(state.due, state.id);
        self.streams.insert(state);
        self.events.push_back(added);
    }

    /// A stream that is due then, and whose past is what is known of it.
    fn state(
        &mut self,
        id: StreamId,
        plan: &Planned,
        (grid, due): (Grid, Instant),
        owner: Option<OwnerId>,
        known: Knowledge,
    ) -> StreamState {
        let target = &plan.stream.target;
        let Knowledge { heard, answers_owner, answering, listening, losses_in_a_row, last_due } = known;
        StreamState {
            id,
            planned: plan.clone(),
            to: target.address,
            port: target.port.unwrap_or(0),
            destination: self.sequences.join(target.address, SizeClass::Normal, target.kind == Kind::Agent),
            grid,
            due,
            last_due,
            passed: 0,
            // Those that are probed once have one turn each: together they take all.
            flow: self.streams.added as usize,
            losses_in_a_row,
            owner,
            added: due,
            heard,
            confirmed: false,
            answers_owner,
            baseline: None,
            fresh: None,
            answering,
            listening,
            inquiry: None,
            large: None,
            once: false,
        }
    }

    pub(super) fn remove(&mut self, now: Instant, mut gone: Vec<StreamId>) {
        gone.sort_unstable();
        for probe in self.inflight.remove_streams(|stream| gone.binary_search(&stream).is_ok()) {
            self.discard(&probe);
        }
        for held in self.owners.release(|stream| gone.binary_search(&stream).is_ok()) {
            self.finish(Outcome { result: ProbeResult::Void(Void::Discarded), ..held });
        }
        for id in gone {
            if let Some(mut state) = self.streams.remove(id) {
                while state.due <= now {
                    let (due, number) = (state.due, state.passed);
                    let count = state.pass(now + Duration::from_nanos(1));
                    let result = ProbeResult::Void(Void::Discarded);
                    self.finish(Outcome { stream: id, number, due, result, count, sent: None });
                }
                for held in state.inquiry.iter_mut().flat_map(|inquiry| inquiry.give_up()) {
                    self.finish(Outcome { result: ProbeResult::Void(Void::Discarded), ..held });
                }
                if state.sends_syns() {
                    self.sequences.note_syns(state.destination, false);
                }
                self.sequences.leave(state.to, SizeClass::Normal, state.destination);
                self.leave_large(&state);
                if let Some(owner) = state.owner {
                    self.owners.leave(owner);
                    if !state.once {
                        self.departed.remember(&state, now);
                    }
                }
            }
            self.events.push_back(Event::Removed(id));
        }
    }

    fn discard(&mut self, probe: &Probe) {
        let sent = match probe.state {
            State::Flying(flight) => Some(probe.sent(&flight, None)),
            State::Sending | State::Answered | State::Lost(_) | State::Ended => {
                self.sequences.settle(probe.destination, false);
                None
            }
        };
        if probe.purpose == Purpose::Due {
            let result = ProbeResult::Void(Void::Discarded);
            self.finish(Outcome { sent, ..Self::void(probe, result) });
        }
    }

    /// Notes what became of a SYN that was due: after losses a target gets fewer.
    pub(super) fn count_syn(&mut self, probe: &Probe, result: ProbeResult) {
        match result {
            _ if matches!(probe.key, Key::Echo(_)) => {}
            ProbeResult::Reply(_) | ProbeResult::Reset(_) => self.count_answer(probe.stream),
            ProbeResult::Lost => self.count_loss(probe.stream),
            ProbeResult::Listener | ProbeResult::Unreachable(_) | ProbeResult::Void(_) => {}
        }
    }

    fn count_loss(&mut self, stream: StreamId) {
        let now = self.clock.now().mono;
        let Some(state) = self.streams.get(stream) else { return };
        state.losses_in_a_row = state.losses_in_a_row.saturating_add(1);
        // What has fallen due by now keeps its result; only what is still to come is left out.
        if state.backed_off() && state.losses_in_a_row == BACK_OFF_AFTER && state.due > now {
            let due = state.next_due();
            self.reschedule(stream, due);
        }
    }

    /// A stream that was backed off goes back to its own rate.
    pub(super) fn count_answer(&mut self, stream: StreamId) {
        let now = self.clock.now().mono;
        let Some(state) = self.streams.get(stream).filter(|state| state.losses_in_a_row > 0) else { return };
        let backed_off = state.backed_off();
        state.losses_in_a_row = 0;
        let due = state.soonest(now);
        if backed_off && due < state.due {
            self.reschedule(stream, due);
        }
    }

    /// The target of a stream is heard again by ICMP, after a silence since `before`. If all that is known of its port was
    /// lost in that silence, a SYN goes there as soon as its own rate allows; if that is lost too, it stays backed off.
    pub(super) fn ask_ports_again(&mut self, stream: StreamId, before: Instant) {
        let now = self.clock.now().mono;
        let Some(state) = self.streams.get(stream) else { return };
        let target = Arc::clone(&state.planned.stream.target);
        for protocol in [Protocol::Tcp, Protocol::Connect] {
            let kin = Stream { target: Arc::clone(&target), protocol };
            let Some(id) = self.streams.by_stream.get(&kin).copied() else { continue };
            let Some(state) = self.streams.get(id) else { continue };
            let due = state.soonest(now);
            if state.backed_off() && state.last_due > before && due < state.due {
                self.reschedule(id, due);
            }
        }
    }

    fn reschedule(&mut self, stream: StreamId, due: Instant) {
        if let Some(state) = self.streams.get(stream) {
            state.due = due;
            self.schedule.add(due, stream);
        }
    }
}
