//! The set of streams: what is probed, replaced as a whole, and what each stream remembers between its probes.

use std::collections::HashMap;
use std::time::Duration;

use super::{Engine, Event};
use crate::hash::NumberMap;
use crate::inflight::{Probe, State};
use crate::outcome::{Outcome, ProbeResult, Void};
use crate::schedule::Grid;
use crate::target::{Planned, Protocol, Stream, StreamId};
use crate::time::Instant;

/// After this many losses in a row a target gets fewer SYNs: its half-open entries live for a minute each.
const BACK_OFF_AFTER: u32 = 3;

/// Time between two SYNs to a target that is backed off.
const BACK_OFF_INTERVAL: Duration = Duration::from_secs(30);

/// All streams, by number and by what they are.
#[derive(Debug, Default)]
pub(super) struct Streams {
    by_id: NumberMap<u64, StreamState>,
    by_stream: HashMap<Stream, StreamId>,
    numbered: u64,
}

/// One stream between its probes.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) planned: Planned,
    pub(super) grid: Grid,
    /// When the next probe falls due; a schedule entry with another time is stale.
    pub(super) due: Instant,
    /// When the last probe fell due.
    last_due: Instant,
    /// Which source port comes next.
    pub(super) flow: usize,
    losses_in_a_row: u32,
}

impl StreamState {
    /// SYNs are held back after losses; ICMP keeps its rate.
    pub(super) fn backed_off(&self) -> bool {
        self.planned.stream.protocol == Protocol::Tcp && self.losses_in_a_row >= BACK_OFF_AFTER
    }

    /// Lets the next due time pass, and all others before `until` that follow in steps of the interval. Returns
    /// how many.
    pub(super) fn pass(&mut self, until: Instant) -> u64 {
        let count = if self.backed_off() { 1 } else { self.grid.count(self.due, until).max(1) };
        self.last_due = self.grid.advance(self.due, count - 1);
        self.due = self.next_due();
        count
    }

    /// The due time after the last one.
    fn next_due(&self) -> Instant {
        let pause = if self.backed_off() { BACK_OFF_INTERVAL } else { self.planned.interval };
        self.grid.at_or_after(self.last_due + pause)
    }
}

impl Streams {
    pub(super) fn get(&mut self, id: StreamId) -> Option<&mut StreamState> {
        self.by_id.get_mut(&id.0)
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
            .by_id
            .iter()
            .filter(|(_, state)| wanted.get(&state.planned.stream) != Some(&&state.planned))
            .map(|(id, _)| StreamId(*id))
            .collect();
        self.remove(now, gone);
        for plan in planned {
            if !self.streams.by_stream.contains_key(&plan.stream) {
                self.add(now, plan);
            }
        }
        let rate = self.streams.by_id.values().map(|state| 1.0 / state.planned.interval.as_secs_f64()).sum();
        self.pace.set_rate(rate, now);
    }

    fn add(&mut self, now: Instant, plan: &Planned) {
        let id = StreamId(self.streams.numbered);
        self.streams.numbered += 1;
        let grid = Grid::new(&self.identity.source, plan);
        let due = grid.at_or_after(now);
        let state = StreamState {
            planned: plan.clone(),
            grid,
            due,
            last_due: due,
            flow: due.as_nanos() as usize,
            losses_in_a_row: 0,
        };
        self.streams.by_stream.insert(plan.stream.clone(), id);
        self.streams.by_id.insert(id.0, state);
        self.sequences.join(plan.stream.target.address);
        self.schedule.add(due, id);
        self.events.push_back(Event::Added(id, plan.clone()));
    }

    fn remove(&mut self, now: Instant, mut gone: Vec<StreamId>) {
        gone.sort_unstable();
        for probe in self.inflight.remove_streams(|stream| gone.binary_search(&stream).is_ok()) {
            self.discard(&probe);
        }
        for id in gone {
            if let Some(mut state) = self.streams.by_id.remove(&id.0) {
                while state.due <= now {
                    let due = state.due;
                    let count = state.pass(now + Duration::from_nanos(1));
                    let result = ProbeResult::Void(Void::Discarded);
                    self.finish(Outcome { stream: id, due, result, count, sent: None });
                }
                self.sequences.leave(state.planned.stream.target.address);
                self.streams.by_stream.remove(&state.planned.stream);
            }
            self.events.push_back(Event::Removed(id));
        }
    }

    fn discard(&mut self, probe: &Probe) {
        let sent = match probe.state {
            State::Flying(flight) => Some(probe.sent(&flight, None)),
            State::Sending | State::Answered | State::Lost(_) | State::Ended => {
                self.sequences.settle(probe.to, false);
                None
            }
        };
        let result = ProbeResult::Void(Void::Discarded);
        self.finish(Outcome { stream: probe.stream, due: probe.due, result, count: 1, sent });
    }

    /// Notes that a probe of this stream was lost.
    pub(super) fn count_loss(&mut self, stream: StreamId) {
        let now = self.clock.now().mono;
        let Some(state) = self.streams.get(stream) else { return };
        state.losses_in_a_row = state.losses_in_a_row.saturating_add(1);
        // What has fallen due by now keeps its result; only what is still to come is left out.
        if state.backed_off() && state.losses_in_a_row == BACK_OFF_AFTER && state.due > now {
            let due = state.next_due();
            self.reschedule(stream, due);
        }
    }

    /// Notes that the target answered: a stream that was backed off goes back to its own rate.
    pub(super) fn count_answer(&mut self, stream: StreamId) {
        let now = self.clock.now().mono;
        if let Some(state) = self.streams.get(stream) {
            let backed_off = state.backed_off();
            state.losses_in_a_row = 0;
            let due = state.grid.at_or_after(now.max(state.last_due + state.planned.interval));
            if backed_off && due < state.due {
                self.reschedule(stream, due);
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
