//! A network in memory: hosts that answer, paths that delay and lose, clocks that jump, and an agent that stalls.
//!
//! The simulation is the driver: it calls the engine as `agent/src/driver.rs` does. It knows the truth about
//! every packet, so it can say whether the engine's verdict on it was right.

mod mesh;
mod scenario;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::engine::{
    Baseline, Engine, Event, FetchId, Identity, PathMtuFinding, Poll, Secret, Transmit, TransmitKind,
};
use podsonar_core::outcome::{Outcome, ProbeResult, Rtt, SendError, StampSource, Stray, Unreachable, Void};
use podsonar_core::target::{Planned, Stream, StreamId};
use podsonar_core::time::{ClockReading, Instant, WallTime};
use podsonar_core::wire::answer::{Answer, Key};
use podsonar_core::wire::payload::{Heard, Payload};
use podsonar_core::wire::{Channel, tcp};

use mesh::{Mesh, OWN};
pub(crate) use scenario::Scenario;
use scenario::{Action, Behaviour};

/// What every route carries, in bytes.
const ROUTE_MTU: u32 = 1_500;

/// The simulated world.
pub(crate) struct World {
    scenario: Scenario,
    random: Random,
    engine: Engine,
    /// True time, in nanoseconds.
    now: u64,
    /// Wall clock minus true time.
    offset: i64,
    suspended: u64,
    wire: BinaryHeap<Reverse<(u64, u64, Arrival)>>,
    arrivals: u64,
    drops: u64,
    dropping_until: u64,
    refusing_until: u64,
    stamps: Stamps,
    truth: HashMap<(StreamId, Instant), Truth>,
    mesh: Mesh,
    start: u64,
    /// What the run came to.
    pub(crate) tally: Tally,
}

/// What a scenario counts, by label.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Outcomes by result or void reason, and strays as `late`, `way_back`, `duplicate`. What fell due after the
    /// end and was never handed out is left out.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// Answered probes whose round trip was not observed.
    pub(crate) unobserved: u64,
    /// Boosts, and flows found dead and healed.
    pub(crate) verdicts: BTreeMap<&'static str, u64>,
    /// What was found out about paths' largest packets.
    pub(crate) path_mtu: BTreeMap<StreamId, PathMtuFinding>,
    /// The most fetches, and when the first loss was told, in milliseconds from the start.
    pub(crate) fetches: u64,
    pub(crate) first_lost_ms: Option<u64>,
    /// How long new pods took to answer for the first time.
    pub(crate) first_replies: Vec<Duration>,
    /// The most probes handed out in one tick.
    pub(crate) largest_tick: u64,
    /// Verdicts that contradict the truth.
    pub(crate) wrong: Vec<String>,
    /// Each stream's due times with the number of results, to check the law.
    pub(crate) due: BTreeMap<StreamId, Vec<Instant>>,
    /// Streams as they were added.
    pub(crate) streams: BTreeMap<StreamId, Planned>,
}

/// What really happened to a packet.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
struct Truth {
    sent: u64,
    answered: Option<u64>,
    dropped_here: bool,
    clock_moved: bool,
    stopped: bool,
    going: bool,
}

#[derive(Debug, Clone, Copy)]
struct Stamps {
    tx: Option<StampSource>,
    rx: bool,
}

/// A packet on its way back, ordered by arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Arrival {
    Answer { from: IpAddr, answer: Answer, probe: (StreamId, Instant), wall: WallTime },
    Error { to: IpAddr, key: Key, reason: Unreachable, mtu: Option<u32> },
}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Arrival {
    /// Arrivals are ordered by time and number alone.
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl World {
    /// A world at its start: ten seconds of monotonic time, some time in 2023 on the wall.
    pub(crate) fn new(mut scenario: Scenario) -> Self {
        scenario.spread();
        let (now, offset) = (10_000_000_000, 1_700_000_000_000_000_000);
        let identity = Identity {
            source: "sim".into(),
            epoch: 7,
            key: Secret([5; 16]),
            icmp_id: 77,
            source_ports_v4: (40_000..40_032).collect(),
            source_ports_v6: (41_000..41_032).collect(),
            closed_port: 1,
            size: 56,
            large_interval: scenario.large.then_some(Duration::from_secs(10)),
            max_pps: scenario.max_pps,
        };
        let mut world = Self {
            random: Random(scenario.seed),
            engine: Engine::new(identity, reading(now, offset, 0)),
            now,
            offset,
            suspended: 0,
            wire: BinaryHeap::new(),
            arrivals: 0,
            drops: 0,
            dropping_until: 0,
            refusing_until: 0,
            stamps: Stamps { tx: Some(StampSource::Software), rx: true },
            truth: HashMap::new(),
            mesh: Mesh::default(),
            start: now,
            tally: Tally::default(),
            scenario,
        };
        world.engine.set_fetches(world.mono(), &Mesh::fetches(&world.scenario.nodes));
        world.discover();
        world
    }

    /// Runs the scenario to its end, then stops probing and lets every probe find its result.
    pub(crate) fn run(&mut self) {
        let start = self.now;
        let end = start + self.scenario.seconds * 1_000_000_000;
        let mut actions: Vec<_> = self.scenario.actions();
        actions.sort_by_key(|(at, _)| Reverse(*at));
        while self.now < end {
            self.tick(true);
            let next = self.engine.next_wakeup(self.mono()).map_or(end, Instant::as_nanos).min(end);
            self.now = next.max(self.now + 1);
            while actions.last().is_some_and(|(at, _)| start + at <= self.now) {
                if let Some((at, action)) = actions.pop() {
                    self.act(start + at, action);
                }
            }
        }
        for _ in 0..100 {
            self.now += 50_000_000;
            self.tick(false);
        }
        self.engine.set_streams(self.mono(), &[]);
        self.collect();
        assert_eq!(self.engine.held(), 0);
        self.tally.fetches = self.mesh.begun;
    }

    fn act(&mut self, at: u64, action: Action) {
        match action {
            Action::ClockStep { by_ms } => {
                // Packets that arrived before the step carry the old time.
                self.stamp_arrivals(at);
                self.offset += by_ms * 1_000_000;
                self.mark_clock_moved();
            }
            Action::Suspend { for_ms } => {
                self.stamp_arrivals(at);
                self.offset += i64::try_from(for_ms * 1_000_000).unwrap();
                self.suspended += for_ms * 1_000_000;
                self.mark_clock_moved();
            }
            Action::Stall { for_ms } => self.now = self.now.max(at + for_ms * 1_000_000),
            Action::DropReplies { for_ms } => self.dropping_until = at + for_ms * 1_000_000,
            Action::RefuseSends { for_ms } => self.refusing_until = at + for_ms * 1_000_000,
            Action::Stamps { tx, rx } => self.stamps = Stamps { tx: tx.source(), rx },
            Action::Path(path) => self.scenario.path = path,
            Action::Behave { target, behaviour } => self.scenario.behave(&target, behaviour),
            Action::Remove { target } => {
                self.scenario.remove(&target);
                self.discover();
            }
            Action::Go { target } => self.scenario.change(&target, |host| {
                host.going = true;
                host.behaviour = Behaviour::Silent;
            }),
            Action::Unlist { target } => {
                self.scenario.change(&target, |host| host.unlisted = true);
                self.discover();
            }
            Action::List { target, uid } => {
                let running_since_ms = Some((at - self.start) / 1_000_000);
                self.scenario.change(&target, |host| {
                    (host.unlisted, host.uid) = (false, Some(uid.clone()));
                    (host.going, host.behaviour) = (false, Behaviour::Answer);
                    host.running_since_ms = running_since_ms;
                });
                self.discover();
            }
            Action::AnswerOwner { target } => self.scenario.change(&target, |host| host.answers_owner = true),
            Action::Node { name, to } => {
                self.scenario.nodes.insert(name, to);
                self.discover();
            }
            Action::PowerCut { name } => {
                for host in self.scenario.targets.iter_mut().filter(|host| host.is_on(&name)) {
                    host.behaviour = Behaviour::Silent;
                }
                if let Some(node) = self.scenario.nodes.get_mut(&name) {
                    node.exchange = mesh::Exchange::Blocked;
                }
            }
        }
    }

    /// One tick, in the driver's order.
    fn tick(&mut self, transmit: bool) {
        let began = self.mono();
        self.stamp_arrivals(self.now);
        let mut arrived = Vec::new();
        while let Some(Reverse((at, _, _))) = self.wire.peek()
            && *at <= self.now
        {
            if let Some(Reverse((at, _, arrival))) = self.wire.pop() {
                if at < self.dropping_until {
                    self.drops += 1;
                    if let Arrival::Answer { probe, .. } = arrival
                        && let Some(truth) = self.truth.get_mut(&probe)
                    {
                        truth.dropped_here = true;
                    }
                } else {
                    arrived.push(arrival);
                }
            }
        }
        self.engine.handle_clock(reading(self.now, self.offset, self.suspended));
        for arrival in arrived {
            match arrival {
                Arrival::Answer { from, answer, wall, .. } => {
                    self.engine.handle_answer(from, answer, self.stamps.rx.then_some(wall));
                }
                Arrival::Error { to, key, reason, mtu } => {
                    self.engine.handle_unreachable(to, key, reason, mtu);
                }
            }
        }
        for channel in Channel::ALL {
            self.engine.handle_drain(channel, true, self.drops);
        }
        let ended = self.mesh.ended(self.now);
        let news = !ended.is_empty();
        for (id, fetched) in ended {
            self.engine.handle_fetched(id, self.mono(), fetched);
        }
        if news && transmit {
            self.discover();
        }
        self.engine.handle_deadlines(began);
        if transmit {
            self.transmit();
        }
        self.collect();
    }

    /// What discovery makes of all that is known: own list, peers, streams.
    fn discover(&mut self) {
        let now = self.mono();
        let Scenario { nodes, targets, .. } = &self.scenario;
        if let Some(own) = nodes.get(OWN) {
            let view = Arc::new(mesh::view(OWN, own, targets, now));
            self.mesh.tell(Arc::clone(&view));
            self.engine.handle_view(now, view);
        }
        if !nodes.is_empty() {
            self.engine.handle_peers(now, &Mesh::peers(nodes, targets));
        }
        let planned = self.scenario.planned(&self.mesh);
        self.engine.set_streams(now, &planned);
        self.collect();
    }

    fn fetch(&mut self, id: FetchId) {
        let Some(node) = self.engine.fetch(id).map(|fetch| fetch.node.to_string()) else { return };
        let lost = self.random.chance(self.scenario.path.loss_there);
        let told = self.scenario.nodes.get(&node).filter(|_| !lost);
        let told =
            told.map(|told| (mesh::view(&node, told, &self.scenario.targets, self.mono()), told.exchange));
        self.mesh.begin(self.now, id, &node, told);
    }

    fn transmit(&mut self) {
        let mut handed_out = 0;
        loop {
            match self.engine.poll_transmit(self.mono()) {
                Poll::Transmit(transmit) => {
                    handed_out += 1;
                    self.send(&transmit);
                }
                Poll::Query(_) => unreachable!("there is no question"),
                Poll::Fetch(id) => self.fetch(id),
                Poll::RouteMtu(stream, _) => self.engine.handle_route_mtu(stream, Some(ROUTE_MTU)),
                Poll::Connect(_) => unreachable!("no stream connects"),
                Poll::Settle => unreachable!("each probe is settled at once"),
                Poll::Idle => break,
            }
        }
        self.tally.largest_tick = self.tally.largest_tick.max(handed_out);
    }

    fn send(&mut self, transmit: &Transmit) {
        let call = (self.mono(), self.mono());
        if self.now < self.refusing_until {
            return self.engine.handle_sent(transmit.probe, call, Err(SendError::Firewall));
        }
        self.engine.handle_sent(transmit.probe, call, Ok(()));
        let key = match transmit.kind {
            TransmitKind::Echo { payload, .. } => Key::Echo(payload.cookie),
            TransmitKind::Syn(syn) => Key::Syn(syn),
        };
        if let Some(source) = self.stamps.tx {
            self.engine.handle_transmitted(key, self.wall(self.now), source);
        }
        let Some(probe) = self.engine.stream_of(transmit.probe) else { return };
        let stopped = self.scenario.behaviour(transmit.to) == Behaviour::Stopped;
        let going = self.scenario.is_going(transmit.to);
        let (sent, answered) = (self.now, None);
        let truth = Truth { sent, answered, dropped_here: false, clock_moved: false, stopped, going };
        self.truth.insert(probe, truth);
        self.travel(transmit, key, probe);
    }

    /// Decides what the network and the target do with a packet.
    fn travel(&mut self, transmit: &Transmit, key: Key, probe: (StreamId, Instant)) {
        let path = self.scenario.path.clone();
        let behaviour = self.scenario.behaviour(transmit.to);
        if self.random.chance(path.loss_there) {
            return;
        }
        let size = match transmit.kind {
            TransmitKind::Echo { payload, .. } => u32::from(payload.length) + 28,
            TransmitKind::Syn(_) => 48,
        };
        if path.mtu.is_some_and(|mtu| size > mtu) {
            if path.mtu_told {
                let (reason, to) = (Unreachable::TooBig, transmit.to);
                self.arrive(self.now + 1_000, Arrival::Error { to, key, reason, mtu: path.mtu });
            }
            return;
        }
        if let TransmitKind::Syn(syn) = transmit.kind
            && path.dead_flows.contains(&syn.source_port)
        {
            return;
        }
        if behaviour == Behaviour::Reject {
            let (to, reason) = (transmit.to, Unreachable::Port);
            let arrival = Arrival::Error { to, key, reason, mtu: None };
            return self.arrive(self.now + path.delay_us * 1_000, arrival);
        }
        let answer = match (transmit.kind, behaviour) {
            (_, Behaviour::Silent) | (TransmitKind::Syn(_), Behaviour::NoTcp) => return,
            (TransmitKind::Syn(syn), Behaviour::Stopped) if syn.destination_port != 1 => return,
            (TransmitKind::Echo { payload, .. }, _) => Answer::Echo(payload),
            (TransmitKind::Syn(syn), _) => Answer::Segment(tcp::Answer {
                source_port: syn.destination_port,
                destination_port: syn.source_port,
                sequence: syn.sequence,
                reset: behaviour == Behaviour::Closed || syn.destination_port == 1,
            }),
        };
        let copies = if self.random.chance(path.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            if self.random.chance(path.loss_back) {
                if behaviour == Behaviour::SynAckAgain {
                    self.answer(1_030_000_000, transmit.to, answer, probe);
                }
                continue;
            }
            let jitter = if path.jitter_us > 0 { self.random.below(path.jitter_us * 1_000) } else { 0 };
            let slow = if self.random.chance(path.slow) { path.slow_by_ms * 1_000_000 } else { 0 };
            self.answer(path.delay_us * 1_000 + jitter + slow, transmit.to, answer, probe);
        }
        if self.random.chance(path.forge) {
            self.forge(transmit.to, answer, probe);
        }
    }

    fn answer(&mut self, after: u64, from: IpAddr, answer: Answer, probe: (StreamId, Instant)) {
        let at = self.now + after;
        if let Some(truth) = self.truth.get_mut(&probe) {
            truth.answered = Some(truth.answered.map_or(at, |earlier| earlier.min(at)));
        }
        self.arrive(at, Arrival::Answer { from, answer, probe, wall: WallTime::default() });
    }

    /// Answers that are almost right must change nothing.
    fn forge(&mut self, from: IpAddr, answer: Answer, probe: (StreamId, Instant)) {
        let other: IpAddr = [192, 0, 2, 9].into();
        let wrong = match answer {
            Answer::Echo(payload) => vec![
                (other, answer),
                (from, Answer::Echo(Payload { epoch: 1, ..payload })),
                (from, Answer::Echo(Payload { cookie: 1, ..payload })),
                (from, Answer::Echo(Payload { sequence: 0, ..payload })),
                (from, Answer::Echo(Payload { period_ms: payload.period_ms ^ 1, ..payload })),
                (from, Answer::Echo(Payload { heard: Heard { highest: 1, count: 1 }, ..payload })),
            ],
            Answer::Segment(segment) => vec![
                (other, answer),
                (from, Answer::Segment(tcp::Answer { sequence: segment.sequence ^ 1, ..segment })),
                (from, Answer::Segment(tcp::Answer { source_port: 1, ..segment })),
                (from, Answer::Segment(tcp::Answer { destination_port: 1, ..segment })),
            ],
        };
        for (from, answer) in wrong {
            self.arrive(self.now + 1_000, Arrival::Answer { from, answer, probe, wall: WallTime::default() });
        }
    }

    fn arrive(&mut self, at: u64, arrival: Arrival) {
        self.arrivals += 1;
        self.wire.push(Reverse((at, self.arrivals, arrival)));
    }

    /// Stamps what has arrived until `until` with the wall clock as it is now.
    fn stamp_arrivals(&mut self, until: u64) {
        let offset = self.offset;
        let mut all: Vec<_> = std::mem::take(&mut self.wire).into_vec();
        for Reverse((at, _, arrival)) in &mut all {
            if let Arrival::Answer { wall, .. } = arrival
                && *at <= until
                && *wall == WallTime::default()
            {
                *wall = WallTime::from_nanos(i64::try_from(*at).unwrap() + offset);
            }
        }
        self.wire = all.into();
    }

    fn mark_clock_moved(&mut self) {
        for truth in self.truth.values_mut() {
            truth.clock_moved |= truth.answered.is_none_or(|at| at + 100_000_000 > self.now);
        }
    }

    fn collect(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Added(id, planned) => {
                    self.tally.streams.insert(id, planned);
                }
                Event::Removed(_) | Event::Large(..) | Event::Query(..) | Event::Fetched(..) => {}
                Event::Baseline(_, Baseline::NeverAnswered) => self.count("never_answered"),
                Event::Baseline(_, Baseline::NeverReachable) => self.count("never_reachable"),
                Event::FirstReplyTimeout(_) => self.count("first_reply_timeout"),
                Event::FirstReply(_, took) => {
                    self.count("first_reply");
                    self.tally.first_replies.push(took);
                }
                Event::Stray(_, stray) => {
                    let label = match stray {
                        Stray::Late(hint) if hint.label() == "way_back" => "way_back",
                        Stray::Late(_) => "late",
                        Stray::Duplicate => "duplicate",
                    };
                    *self.tally.counts.entry(label).or_default() += 1;
                }
                Event::Outcome(outcome) => self.check(&outcome),
                Event::Boost(..) => *self.tally.verdicts.entry("boosts").or_default() += 1,
                Event::Flow { source_port, dead, .. } => {
                    assert!(!dead || self.scenario.path.dead_flows.contains(&source_port));
                    *self
                        .tally
                        .verdicts
                        .entry(if dead { "flow_dead" } else { "flow_healed" })
                        .or_default() += 1;
                }
                Event::PathMtu(stream, finding) => {
                    self.tally.path_mtu.insert(stream, finding);
                }
            }
        }
    }

    fn count(&mut self, verdict: &'static str) {
        *self.tally.verdicts.entry(verdict).or_default() += 1;
    }

    /// Compares a verdict with the truth.
    fn check(&mut self, outcome: &Outcome) {
        if outcome.result == ProbeResult::Lost {
            let at = (self.now - self.start) / 1_000_000;
            self.tally.first_lost_ms.get_or_insert(at);
        }
        if outcome.result != ProbeResult::Void(Void::Discarded) || outcome.sent.is_some() {
            *self.tally.counts.entry(outcome.result.label()).or_default() += outcome.count;
        }
        let planned = &self.tally.streams[&outcome.stream];
        let dues = self.tally.due.entry(outcome.stream).or_default();
        dues.extend(
            (0..outcome.count).map(|step| outcome.due + planned.interval * u32::try_from(step).unwrap()),
        );
        let Some(truth) = self.truth.remove(&(outcome.stream, outcome.due)) else { return };
        let rtt = truth.answered.map(|at| Duration::from_nanos(at - truth.sent));
        let in_time = rtt.is_some_and(|rtt| rtt <= planned.timeout);
        let right = match outcome.result {
            ProbeResult::Reply(observed) | ProbeResult::Reset(observed) => {
                self.tally.unobserved += u64::from(!matches!(observed, Rtt::Observed(_)));
                in_time
                    && match observed {
                        Rtt::Observed(observed) => Some(observed) == rtt,
                        Rtt::Estimated(_) | Rtt::Unmeasured => true,
                    }
            }
            ProbeResult::Lost => !in_time && !truth.going,
            ProbeResult::Listener => truth.stopped,
            ProbeResult::Unreachable(_) => rtt.is_none(),
            ProbeResult::Void(Void::Unknown) => {
                self.scenario.vague
                    || truth.dropped_here
                    || truth.clock_moved
                    || !self.stamps.rx
                    || self.dropping_until > 0
            }
            ProbeResult::Void(Void::Discarded) => true,
            ProbeResult::Void(Void::NotSent(_) | Void::Skipped | Void::Intercepted) => false,
        };
        if !right {
            self.tally.wrong.push(format!("{outcome:?} but {truth:?}"));
        }
    }

    fn mono(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn wall(&self, at: u64) -> WallTime {
        WallTime::from_nanos(i64::try_from(at).unwrap() + self.offset)
    }
}

impl Tally {
    /// The law: each stream's due times have one result each, without a gap. `gaps` says which steps are
    /// allowed beside the interval (back-off).
    pub(crate) fn assert_law(&self, mut gap_allowed: impl FnMut(&Stream, Duration) -> bool) {
        for (id, dues) in &self.due {
            let planned = &self.streams[id];
            let mut sorted = dues.clone();
            sorted.sort_unstable();
            for pair in sorted.windows(2) {
                let step = pair[1].since(pair[0]);
                assert!(
                    step == planned.interval
                        || (step > planned.interval && gap_allowed(&planned.stream, step)),
                    "stream {id}: due {:?} and {:?} are {step:?} apart, interval {:?}",
                    pair[0],
                    pair[1],
                    planned.interval
                );
            }
        }
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): enough chance for a test, the same everywhere.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, probability: f64) -> bool {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64 >= 1.0 - probability
    }
}

fn reading(now: u64, offset: i64, suspended: u64) -> ClockReading {
    ClockReading {
        mono: Instant::from_nanos(now),
        wall: WallTime::from_nanos(i64::try_from(now).unwrap() + offset),
        suspended: Duration::from_nanos(suspended),
        uncertainty: Duration::ZERO,
    }
}
