//! The engine: which probe goes out when, and what became of each.
//!
//! One law holds whatever the network, the clocks and the driver do: **every probe that falls due yields exactly
//! one [`Outcome`]**.
//!
//! The driver calls it once a tick, in this order:
//!
//! 1. [`Engine::handle_clock`] with a reading taken *after* the sockets were drained: a clock that was set while
//!    packets waited must be seen before their stamps are believed;
//! 2. [`Engine::handle_transmitted`], [`Engine::handle_answer`], [`Engine::handle_unreachable`] for what the
//!    drain brought, and [`Engine::handle_drain`] once for each channel; then, where other agents' echo requests are
//!    seen, [`Engine::handle_requests_drained`] and [`Engine::handle_request`];
//! 3. [`Engine::handle_deadlines`];
//! 4. [`Engine::poll_transmit`] until it is idle, with [`Engine::handle_sent`] for each probe;
//! 5. [`Engine::poll_event`] until it is empty; then it sleeps until [`Engine::next_wakeup`].

mod confirm;
mod departed;
mod fetches;
mod inbound;
mod judge;
mod large;
mod newcomers;
mod once;
mod owners;
mod questions;
mod silence;
mod streams;
#[cfg(test)]
mod testing;
mod transmit;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::direction::inbound::Inbound;
use crate::direction::sequences::Sequences;
use crate::hash::{Domain, Keyed};
use crate::inflight::{Inflight, Probe};
use crate::outcome::{Outcome, ProbeResult, Stray};
use crate::pace::Pace;
use crate::query::QueryResult;
use crate::schedule::Schedule;
use crate::target::{Family, Planned, StreamId};
use crate::time::{ClockReading, ClockWatch, Instant};
use crate::wire::answer::Key;
use crate::wire::{Channel, Reject, Transport};

pub use crate::hash::Secret;
pub use crate::inflight::{Boost, ProbeId};
pub use crate::mtu::PathMtuFinding;
pub use fetches::{FetchId, Fetched, PlannedFetch};
pub use newcomers::Baseline;
pub use questions::{PlannedQuestion, Question, QuestionId};
pub use silence::{ConnectEnd, Connected};
pub use transmit::{Connect, Poll, Transmit, TransmitKind};

use judge::Drops;
use streams::Streams;

/// What makes this agent's probes its own, and the settings that hold for all of them.
#[derive(Debug, Clone)]
pub struct Identity {
    /// This agent's node: part of every stream's phase.
    pub source: String,
    /// 64 random bits, new at each start.
    pub epoch: u64,
    /// Random key behind cookies, sequence numbers and flow labels.
    pub key: Secret,
    /// The identifier in all echo requests: one for each agent, since each costs a conntrack entry.
    pub icmp_id: u16,
    /// Reserved source ports of IPv4 SYNs: one flow each. Empty if there is no such socket.
    pub source_ports_v4: Vec<u16>,
    /// Reserved source ports of IPv6 SYNs.
    pub source_ports_v6: Vec<u16>,
    /// A port that is taken to be closed everywhere: it tells a silent application from a silent network.
    pub closed_port: u16,
    /// Payload of an echo request, in bytes.
    pub size: u16,
    /// Time between two large echo requests to a destination; `None`: none are sent.
    pub large_interval: Option<Duration>,
    /// Ceiling on all probes together, per second.
    pub max_pps: u32,
}

impl Identity {
    fn source_ports(&self, family: Family) -> &[u16] {
        match family {
            Family::V4 => &self.source_ports_v4,
            Family::V6 => &self.source_ports_v6,
        }
    }
}

/// What the engine has to tell, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A stream is probed from now on.
    Added(StreamId, Planned),
    /// A stream is no longer probed; all its outcomes have been told.
    Removed(StreamId),
    /// A probe that fell due has its result.
    Outcome(Outcome),
    /// An answer came that is no result.
    Stray(StreamId, Stray),
    /// A SYN that was sent to explain a silence has ended.
    Boost(Boost, Outcome),
    /// A flow, named by its source port, is black-holed from now on, or no longer.
    Flow {
        /// Whose SYNs it carries.
        stream: StreamId,
        /// The source port.
        source_port: u16,
        /// From now on, or no longer.
        dead: bool,
    },
    /// A large echo request has ended.
    Large(Outcome),
    /// A question to a name server that fell due has its result.
    Query(Arc<Question>, QueryResult),
    /// A fetch from a node that fell due has ended.
    Fetched(Arc<str>, Fetched),
    /// A stream that has never answered is seen so, until it answers.
    Baseline(StreamId, Baseline),
    /// A new pod has answered for the first time, so long after it ran with an address.
    FirstReply(StreamId, Duration),
    /// A new pod has not answered for a minute.
    FirstReplyTimeout(StreamId),
    /// What is known of the largest packet to a stream's target has changed.
    PathMtu(StreamId, PathMtuFinding),
}

/// Decides. Owns the schedule, the probes in flight and the rules; owns no clock and no socket.
#[derive(Debug)]
pub struct Engine {
    identity: Identity,
    keyed: Keyed,
    drawn: u64,
    clock: ClockWatch,
    /// When this engine began.
    started: Instant,
    drained: Instant,
    streams: Streams,
    schedule: Schedule,
    pace: Pace,
    sequences: Sequences,
    inbound: Inbound,
    inflight: Inflight,
    drops: [Drops; Channel::ALL.len()],
    /// Probes judged in a row, by channel, whose transmit stamp the kernel did not deliver.
    unstamped: [u32; Channel::ALL.len()],
    rejects: [u64; Reject::ALL.len()],
    lag: Option<Duration>,
    /// SYNs to be sent beyond the schedule.
    boosts: VecDeque<silence::Wanted>,
    questions: questions::Questions,
    fetches: fetches::Fetches,
    owners: owners::Owners,
    departed: departed::Departed,
    large: large::Schedule,
    spent: once::Spent,
    /// Streams whose last large probe is missing.
    large_doubts: u32,
    /// Whether this agent is well enough to blame flows and paths.
    verdicts: bool,
    /// Whether something on this host answers SYNs for everybody.
    intercepted: bool,
    events: VecDeque<Event>,
}

impl Engine {
    /// An engine without streams.
    pub fn new(identity: Identity, clock: ClockReading) -> Self {
        Self {
            keyed: Keyed::new(identity.key),
            drawn: 0,
            clock: ClockWatch::new(clock),
            started: clock.mono,
            drained: clock.mono,
            streams: Streams::default(),
            schedule: Schedule::default(),
            pace: Pace::new(0.0, identity.max_pps, clock.mono),
            sequences: Sequences::default(),
            inbound: Inbound::new(identity.epoch),
            inflight: Inflight::default(),
            drops: Default::default(),
            unstamped: [0; Channel::ALL.len()],
            rejects: [0; Reject::ALL.len()],
            lag: None,
            boosts: VecDeque::new(),
            questions: questions::Questions::default(),
            fetches: fetches::Fetches::default(),
            owners: owners::Owners::default(),
            departed: departed::Departed::default(),
            large: large::Schedule::default(),
            spent: once::Spent::default(),
            large_doubts: 0,
            verdicts: true,
            intercepted: false,
            events: VecDeque::new(),
            identity,
        }
    }

    /// The clocks as of this tick. Call it after the sockets were drained and before anything they brought.
    pub fn handle_clock(&mut self, reading: ClockReading) {
        self.drained = self.clock.now().mono;
        self.clock.read(reading);
        self.pace.begin_tick(reading.mono);
    }

    /// A received packet is not an answer to anything.
    pub fn handle_reject(&mut self, reject: Reject) {
        if let Some(position) = Reject::ALL.iter().position(|each| *each == reject)
            && let Some(count) = self.rejects.get_mut(position)
        {
            *count += 1;
        }
    }

    /// A sick agent blames no flow and no path: while `verdicts` is false none is newly found at fault.
    pub fn set_verdicts(&mut self, verdicts: bool) {
        self.verdicts = verdicts;
    }

    /// While something on this host answers SYNs for everybody, none is sent: they end as `intercepted`, except those
    /// to loopback.
    pub fn set_intercepted(&mut self, intercepted: bool) {
        self.intercepted = intercepted;
    }

    /// What happened since it was last asked.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When the driver must call again at the latest, given that it is `now`: the next tick with something to
    /// send, to receive or to judge. `None`: nothing will happen by itself.
    pub fn next_wakeup(&self, now: Instant) -> Option<Instant> {
        let next_tick = now + Duration::from_nanos(1);
        let wanted = if self.inflight.flying() > 0 || !self.boosts.is_empty() {
            next_tick
        } else {
            let due = self.schedule.first().map(|(due, _)| due);
            let asked = self.questions.first(now).into_iter().chain(self.fetches.first(now));
            let others = [self.large.first(), self.owners.first(), self.spent.first()];
            due.into_iter().chain(others.into_iter().flatten()).chain(asked).min()?.max(next_tick)
        };
        Some(self.pace.tick_at_or_after(wanted))
    }

    /// The stream and due time of a probe that is still known.
    pub fn stream_of(&mut self, probe: ProbeId) -> Option<(StreamId, Instant)> {
        self.inflight.get(probe).map(|probe| (probe.stream, probe.due))
    }

    /// The clocks as last read.
    pub fn clock(&self) -> &ClockReading {
        self.clock.now()
    }

    /// How often the wall clock jumped.
    pub fn clock_jumps(&self) -> u64 {
        self.clock.jumps()
    }

    /// Probes without a result.
    pub fn in_flight(&self) -> usize {
        self.inflight.flying()
    }

    /// The source ports of a family's SYNs.
    pub fn source_ports(&self, family: Family) -> &[u16] {
        self.identity.source_ports(family)
    }

    /// Probes that the schedule asks for, per second.
    pub fn probes_per_second(&self) -> f64 {
        self.pace.rate()
    }

    /// How far behind its schedule the latest of the probes was that were handed out since this was last asked.
    pub fn take_lag(&mut self) -> Option<Duration> {
        self.lag.take()
    }

    /// Packets that answered nothing so far, in the order of [`Reject::ALL`].
    pub fn rejects(&self) -> [u64; Reject::ALL.len()] {
        self.rejects
    }

    /// Probes judged in a row on this channel whose transmit stamp the kernel did not deliver.
    pub fn unstamped(&self, channel: Channel) -> u32 {
        self.unstamped.get(channel.index()).copied().unwrap_or(0)
    }

    /// A probe that fell due has its result. A loss is not one before it is clear that its target is still there.
    fn finish(&mut self, outcome: Outcome) {
        match outcome.result {
            ProbeResult::Lost | ProbeResult::Unreachable(_) => self.note_loss(outcome),
            ProbeResult::Reply(_) | ProbeResult::Reset(_) | ProbeResult::Listener | ProbeResult::Void(_) => {
                self.settle(outcome);
            }
        }
    }

    /// Nothing can change this result any more.
    fn settle(&mut self, outcome: Outcome) {
        self.note_outcome(&outcome);
        self.note_ways(&outcome);
        self.events.push_back(Event::Outcome(outcome));
    }

    fn void(probe: &Probe, result: ProbeResult) -> Outcome {
        Outcome { stream: probe.stream, number: probe.number, due: probe.due, result, count: 1, sent: None }
    }

    /// Changes with the flow's port alone, so that a flow keeps its path (RFC 6437 §3).
    fn flow_label(&self, flow: u16) -> u32 {
        (self.keyed.number(Domain::FlowLabel, u64::from(flow)) & 0xf_ffff) as u32
    }

    /// The socket that a probe goes over, if it is one of ours.
    fn channel_of(to: IpAddr, key: Key) -> Option<Channel> {
        let protocol = match key {
            Key::Echo(_) => Transport::Icmp,
            Key::Syn(_) => Transport::Tcp,
            Key::Connect(_) => return None,
        };
        Some(Channel { protocol, family: Family::of(to) })
    }
}
