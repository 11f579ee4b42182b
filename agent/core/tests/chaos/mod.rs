//! A driver gone mad: bytes decide what happens to the engine, in any order. The law must hold all the same.
//!
//! Shared by the property test and the fuzz target.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::engine::{
    Connect, ConnectEnd, Connected, Engine, Event, FetchId, Fetched, Identity, PlannedFetch, Poll, Secret,
    Transmit, TransmitKind,
};
use podsonar_core::exchange::FetchResult;
use podsonar_core::mesh::{Answers, Local, NodeView, Peer, Pod};
use podsonar_core::outcome::{Outcome, ProbeResult, SendError, StampSource, Unreachable, Void};
use podsonar_core::target::{Kind, Planned, PodId, Protocol, Stream, StreamId, Target};
use podsonar_core::time::{ClockReading, Instant, WallTime};
use podsonar_core::wire::answer::{Answer, Key};
use podsonar_core::wire::{Channel, payload::Payload, tcp};

const TARGETS: u8 = 6;

/// The destination of what is probed once.
const ONCE: &str = "once";

/// Lets the bytes act and panics if a probe that fell due has not exactly one result.
pub(crate) fn run(bytes: &[u8]) {
    let mut chaos = Chaos::new();
    let mut bytes = bytes.iter().copied();
    while let Some(byte) = bytes.next() {
        let argument = bytes.next().unwrap_or(0);
        chaos.act(byte, argument);
    }
    chaos.end();
}

struct Chaos {
    engine: Engine,
    now: u64,
    offset: i64,
    suspended: u64,
    drops: u64,
    sent: Vec<Transmit>,
    handshakes: Vec<Connect>,
    /// Fetches that were begun and not reported.
    fetching: Vec<FetchId>,
    /// How many fetches were begun, and how many ended.
    fetches: (u64, u64),
    lives: BTreeMap<StreamId, Life>,
}

/// What one stream lived through.
struct Life {
    planned: Planned,
    added: u64,
    removed: Option<u64>,
    due: Vec<(u64, u64, ProbeResult)>,
    numbers: Vec<u64>,
}

impl Chaos {
    fn new() -> Self {
        let now = 1_000_000_000;
        let identity = Identity {
            source: "chaos".into(),
            epoch: 9,
            key: Secret([3; 16]),
            icmp_id: 5,
            source_ports_v4: vec![40_000, 40_001],
            source_ports_v6: vec![],
            closed_port: 1,
            size: 56,
            large_interval: Some(Duration::from_millis(700)),
            max_pps: 200,
        };
        let mut chaos = Self {
            engine: Engine::new(identity, reading(now, 0, 0)),
            now,
            offset: 0,
            suspended: 0,
            drops: 0,
            sent: Vec::new(),
            handshakes: Vec::new(),
            fetching: Vec::new(),
            fetches: (0, 0),
            lives: BTreeMap::new(),
        };
        chaos.set_streams(0b11_1111, 0);
        chaos
    }

    fn act(&mut self, byte: u8, argument: u8) {
        let size = u64::from(argument);
        match byte % 20 {
            0 => self.now += size * 1_000_000,
            1 => self.now += size * 40_000_000,
            2 | 3 => self.tick(),
            4 => self.offset += (i64::from(argument) - 128) * 100_000,
            5 => self.offset += (i64::from(argument) - 128) * 1_000_000_000,
            6 => self.suspended += size * 10_000_000,
            7 => self.drops += 1,
            8 if byte / 16 % 4 == 3 => self.probe_once(argument),
            8 => self.set_streams(argument, byte / 16),
            9 | 10 => self.stamp(argument, byte / 16),
            11..=13 => self.answer(argument, byte / 16),
            14 if argument.is_multiple_of(2) => self.unreachable(argument),
            14 => self.connected(argument),
            15 => self.fetched(argument),
            16 => self.tell(argument),
            17 => self.set_fetches(argument),
            _ => self.transmit(argument),
        }
        self.collect();
    }

    /// Clock, drains and deadlines; nothing is sent.
    fn tick(&mut self) {
        let began = self.mono();
        self.engine.handle_clock(reading(self.now, self.offset, self.suspended));
        for channel in Channel::ALL {
            self.engine.handle_drain(channel, self.drops % 5 != 4, self.drops);
        }
        self.engine.handle_deadlines(began);
    }

    /// Sends what is due; every so often the kernel refuses, or the driver forgets to tell before it asks again.
    fn transmit(&mut self, argument: u8) {
        let mut open = Vec::new();
        for round in 0..64_u8 {
            match self.engine.poll_transmit(self.mono()) {
                Poll::Transmit(transmit) => open.push(transmit),
                Poll::Connect(connect) => {
                    let call = (self.mono(), self.mono());
                    self.engine.handle_sent(connect.probe, call, Ok(()));
                    self.handshakes.push(connect);
                }
                Poll::Query(_) => unreachable!("there is no question"),
                Poll::Fetch(id) => {
                    self.fetches.0 += 1;
                    self.fetching.push(id);
                }
                Poll::RouteMtu(stream, _) => {
                    let mtu = (!argument.is_multiple_of(5)).then_some(u32::from(argument) * 40);
                    self.engine.handle_route_mtu(stream, mtu);
                }
                Poll::Settle if open.is_empty() => panic!("asked to settle nothing"),
                Poll::Settle => {}
                Poll::Idle => break,
            }
            if argument.wrapping_add(round).is_multiple_of(3) || open.len() >= 5 {
                self.settle(&mut open, argument);
            }
        }
        self.settle(&mut open, argument);
    }

    fn settle(&mut self, open: &mut Vec<Transmit>, argument: u8) {
        for transmit in open.drain(..) {
            let call = (self.mono(), self.mono() + Duration::from_micros(u64::from(argument)));
            let refused = argument % 7 == 3;
            let result = if refused { Err(SendError::QueueFull) } else { Ok(()) };
            self.engine.handle_sent(transmit.probe, call, result);
            self.engine.handle_sent(transmit.probe, call, Ok(()));
            self.sent.push(transmit);
        }
    }

    fn pick(&self, argument: u8) -> Option<Transmit> {
        let recent = self.sent.len().saturating_sub(usize::from(argument) / 4 + 1);
        self.sent.get(recent).copied()
    }

    fn stamp(&mut self, argument: u8, way: u8) {
        let Some(transmit) = self.pick(argument) else { return };
        let source = if way.is_multiple_of(2) { StampSource::Software } else { StampSource::Sched };
        let stamp = self.wall(i64::from(argument) * 1_000_000 * i64::from(way % 4) - 1_000_000);
        self.engine.handle_transmitted(key(&transmit), stamp, source);
    }

    fn answer(&mut self, argument: u8, way: u8) {
        let Some(transmit) = self.pick(argument) else { return };
        let stamp =
            (!way.is_multiple_of(3)).then(|| self.wall(i64::from(argument) * 5_000_000 * i64::from(way % 2)));
        let from: IpAddr = if way % 8 == 7 { [192, 0, 2, 1].into() } else { transmit.to };
        let answer = match transmit.kind {
            TransmitKind::Echo { payload, .. } => {
                let sequence = payload.sequence + u64::from(way % 8 == 6);
                Answer::Echo(Payload { sequence, epoch: payload.epoch + u64::from(way % 8 == 5), ..payload })
            }
            TransmitKind::Syn(syn) => Answer::Segment(tcp::Answer {
                source_port: syn.destination_port,
                destination_port: syn.source_port,
                sequence: syn.sequence ^ u32::from(way % 8 == 5),
                reset: way % 2 == 1,
            }),
        };
        self.engine.handle_answer(from, answer, stamp);
    }

    fn unreachable(&mut self, argument: u8) {
        if let Some(transmit) = self.pick(argument) {
            let reason = if argument.is_multiple_of(4) { Unreachable::TooBig } else { Unreachable::Host };
            self.engine.handle_unreachable(
                transmit.to,
                key(&transmit),
                reason,
                Some(u32::from(argument) * 9),
            );
        }
    }

    fn connected(&mut self, argument: u8) {
        let recent = self.handshakes.len().saturating_sub(usize::from(argument) / 8 + 1);
        let Some(connect) = self.handshakes.get(recent) else { return };
        let end = match argument % 16 {
            1 => ConnectEnd::Refused,
            3 => ConnectEnd::TimedOut,
            5 => ConnectEnd::Unreachable(Unreachable::Host),
            7 => ConnectEnd::NotSent(SendError::NoRoute),
            9 => ConnectEnd::Unclear,
            _ => ConnectEnd::Accepted,
        };
        let connected = Connected { began: self.mono(), ended: self.mono(), end };
        self.engine.handle_connected(connect.probe, connected);
    }

    /// One of the fetches under way ends, in any way; sometimes it has ended before.
    fn fetched(&mut self, argument: u8) {
        let recent = self.fetching.len().saturating_sub(usize::from(argument) / 32 + 1);
        let Some(id) = self.fetching.get(recent).copied() else { return };
        let node = self.engine.fetch(id).map(|planned| Arc::clone(&planned.node));
        if argument.is_multiple_of(3) {
            self.fetching.retain(|each| *each != id);
        }
        let mut results = FetchResult::ALL.into_iter().cycle().skip(usize::from(argument));
        let result = results.next().expect("it never ends");
        let view = node.map(|node| Arc::new(self.view(&node, argument)));
        self.engine.handle_fetched(id, self.mono(), Fetched { result, view });
    }

    /// The own agent's list changes, or the list of agents does.
    fn tell(&mut self, argument: u8) {
        if argument.is_multiple_of(2) {
            let view = self.view("own", argument);
            return self.engine.handle_view(self.mono(), Arc::new(view));
        }
        let peer = |number: u8| Peer {
            node: node(number).into(),
            zone: "".into(),
            uid: "".into(),
            addresses: vec![[10, 0, 0, number.max(1)].into()],
            mesh_port: 1,
            terminating: argument & 4 != 0,
        };
        let peers = [2, 4].into_iter().filter(|number| argument & (8 << number) != 0).map(peer);
        self.engine.handle_peers(self.mono(), &peers.collect::<Vec<_>>());
    }

    fn view(&self, node: &str, argument: u8) -> NodeView {
        let uids = (0..TARGETS).filter(|number| argument & (1 << number) == 0);
        let answers = if argument & 64 == 0 { Answers::Yes } else { Answers::Never };
        let pod = |number: u8| Pod {
            id: pod_id(number),
            addresses: vec![[10, 0, 0, number.max(1)].into()],
            port: None,
            running_since: Some(Instant::from_nanos(self.now.saturating_sub(u64::from(argument) << 28))),
            local: Local { icmp: answers, tcp: answers },
        };
        NodeView {
            node: node.into(),
            zone: "".into(),
            epoch: 1,
            addresses: Vec::new(),
            leaving: argument & 128 != 0,
            asked_at: Instant::from_nanos(self.now.saturating_sub(u64::from(argument % 8) << 29)),
            watch_age: (!argument.is_multiple_of(5)).then(|| Duration::from_secs(u64::from(argument % 9))),
            probes_us: None,
            pods: uids.map(pod).collect(),
        }
    }

    fn set_fetches(&mut self, argument: u8) {
        let planned = |number: u8| PlannedFetch {
            node: node(number).into(),
            addresses: vec![],
            port: u16::from(argument) & 1,
            interval: Duration::from_millis(700),
            timeout: Duration::from_millis(900),
        };
        let wanted = [2, 4].into_iter().filter(|number| argument & number != 0);
        self.engine.set_fetches(self.mono(), &wanted.map(planned).collect::<Vec<_>>());
    }

    /// Which targets there are, and how often they are asked.
    fn set_streams(&mut self, present: u8, speed: u8) {
        let mut planned = Vec::new();
        for number in (0..TARGETS).filter(|number| present & (1 << number) != 0) {
            // Two targets share an address, so that they share its sequence.
            let address: IpAddr = [10, 0, 0, number.max(1)].into();
            let target = Arc::new(target(number, address));
            for protocol in [Protocol::Icmp, Protocol::Tcp] {
                let stream = Stream { target: Arc::clone(&target), protocol };
                let interval = Duration::from_millis(250 << (speed % 3));
                planned.push(Planned {
                    stream,
                    interval,
                    timeout: Duration::from_millis(800),
                    presumed: number == 4,
                });
            }
        }
        self.engine.set_streams(self.mono(), &planned);
        self.collect();
    }

    /// Probes the address of a target, or of nobody else, once by each protocol.
    fn probe_once(&mut self, argument: u8) {
        let address: IpAddr = [10, 0, 0, argument % (TARGETS + 2)].into();
        let target = Target::new(Kind::Name, ONCE.into(), address, Some(80));
        let pod = (argument & 16 != 0).then(|| pod_id(argument % TARGETS));
        let target = Arc::new(Target { pod, ..target });
        let planned = [Protocol::Icmp, Protocol::Tcp, Protocol::Connect].map(|protocol| Planned {
            stream: Stream { target: Arc::clone(&target), protocol },
            interval: Duration::from_secs(5),
            timeout: Duration::from_millis(800),
            presumed: argument.is_multiple_of(5),
        });
        self.engine.probe_once(
            self.mono(),
            &node(argument % 6).into(),
            planned.get(..usize::from(argument) % 4).unwrap_or(&planned),
        );
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Added(id, planned) => {
                    let life = Life {
                        planned,
                        added: self.now,
                        removed: None,
                        due: Vec::new(),
                        numbers: Vec::new(),
                    };
                    assert!(self.lives.insert(id, life).is_none(), "a stream's number was used again");
                }
                Event::Removed(id) => {
                    let life = self.lives.get_mut(&id).expect("only what was added is removed");
                    assert!(life.removed.replace(self.now).is_none(), "removed twice");
                }
                Event::Outcome(outcome) => {
                    let life = self.lives.get_mut(&outcome.stream).expect("outcomes belong to streams");
                    assert!(life.removed.is_none(), "an outcome after its stream was removed");
                    let interval = life.planned.interval;
                    life.numbers.extend(outcome.number..outcome.number + outcome.count);
                    for step in 0..u32::try_from(outcome.count).expect("bounded by the run's length") {
                        let due = (outcome.due + interval * step).as_nanos();
                        life.due.push((due, self.now, outcome.result));
                    }
                }
                Event::Fetched(..) => self.fetches.1 += 1,
                Event::Stray(id, _)
                | Event::Baseline(id, _)
                | Event::FirstReply(id, _)
                | Event::FirstReplyTimeout(id)
                | Event::Boost(_, Outcome { stream: id, .. })
                | Event::Flow { stream: id, .. }
                | Event::Large(Outcome { stream: id, .. })
                | Event::PathMtu(id, _) => assert!(self.lives.contains_key(&id)),
                Event::Query(..) => unreachable!("there is no question"),
            }
        }
    }

    /// Removes everything and checks the law.
    fn end(mut self) {
        self.tick();
        self.collect();
        self.set_streams(0, 0);
        self.engine.end(self.mono());
        self.collect();
        assert_eq!((self.engine.in_flight(), self.engine.held()), (0, 0));
        self.end_fetches();
        let mut losses_before: HashMap<Stream, u32> = HashMap::new();
        for (id, life) in &mut self.lives {
            let interval = life.planned.interval.as_nanos() as u64;
            let removed = life.removed.expect("everything was removed");
            life.numbers.sort_unstable();
            assert!(
                life.numbers.iter().copied().eq(0..life.due.len() as u64),
                "{id}: numbers leave nothing out"
            );
            if &*life.planned.stream.target.destination == ONCE {
                assert_eq!(life.due.len(), 1, "{id}: it is due once");
                continue;
            }
            life.due.sort_by_key(|(due, _, _)| *due);
            // Back-off leaves SYNs out, for half a minute at most, but only after three losses.
            let tcp = life.planned.stream.protocol != Protocol::Icmp;
            // Who comes back soon is backed off as before.
            let mut losses = losses_before.get(&life.planned.stream).copied().unwrap_or(0);
            let mut expected = None;
            for (due, _, result) in &life.due {
                let waited = due
                    .checked_sub(expected.unwrap_or(life.added))
                    .unwrap_or_else(|| panic!("{id}: two results for {due} ({result:?})"));
                let first = expected.is_none() && waited < interval;
                // When it was added says nothing of where its grid lies.
                let on_grid = expected.is_none() || waited % interval == 0;
                let backed_off = tcp && losses >= 3 && on_grid && waited <= 31_000_000_000;
                assert!(
                    waited == 0 || first || backed_off,
                    "{id}: none for {expected:?}, next {due} ({result:?})"
                );
                expected = Some(due + interval);
                // What a held loss came to in the end says nothing of what it did to the schedule.
                losses += u32::from(matches!(
                    result,
                    ProbeResult::Lost
                        | ProbeResult::Listener
                        | ProbeResult::Unreachable(_)
                        | ProbeResult::Void(Void::Unknown | Void::Discarded)
                ));
            }
            losses_before.insert(life.planned.stream.clone(), losses);
            let missing = removed.checked_sub(expected.unwrap_or(life.added + interval));
            let backed_off = tcp && losses >= 3 && missing.is_some_and(|since| since <= 31_000_000_000);
            assert!(missing.is_none() || backed_off, "{id}: no result for {expected:?} at {removed}");
        }
    }

    /// Every fetch that was begun ends once, whether or not it is reported.
    fn end_fetches(&mut self) {
        for id in std::mem::take(&mut self.fetching) {
            self.engine.handle_fetched(id, self.mono(), Fetched::failed(FetchResult::Timeout));
        }
        self.engine.set_fetches(self.mono(), &[]);
        self.now += 10_000_000_000;
        self.tick();
        while self.engine.poll_transmit(self.mono()) != Poll::Idle {}
        self.collect();
        // Those that were left out ended without a beginning.
        assert!(self.fetches.1 >= self.fetches.0, "{:?}", self.fetches);
    }

    fn mono(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn wall(&self, after: i64) -> WallTime {
        WallTime::from_nanos(i64::try_from(self.now).expect("a short run") + self.offset + after)
    }
}

/// Targets of each kind: two that nobody confirms, an agent, a pod beside it, a pod of another node, a pod of our own.
fn target(number: u8, address: IpAddr) -> Target {
    let kind = match number {
        0 | 1 => Kind::Fixed,
        2 => Kind::Agent,
        _ => Kind::Pod,
    };
    let pod = (kind == Kind::Pod).then(|| pod_id(number));
    Target { pod, ..Target::new(kind, node(number).into(), address, Some(80)) }
}

fn node(number: u8) -> &'static str {
    match number {
        0 | 1 => "written",
        2 | 3 => "a",
        4 => "b",
        _ => "own",
    }
}

fn pod_id(number: u8) -> Arc<PodId> {
    let empty: Arc<str> = Arc::default();
    let uid = number.to_string().into();
    Arc::new(PodId { uid, namespace: Arc::clone(&empty), name: Arc::clone(&empty), workload: empty })
}

fn key(transmit: &Transmit) -> Key {
    match transmit.kind {
        TransmitKind::Echo { payload, .. } => Key::Echo(payload.cookie),
        TransmitKind::Syn(syn) => Key::Syn(syn),
    }
}

fn reading(now: u64, offset: i64, suspended: u64) -> ClockReading {
    ClockReading {
        mono: Instant::from_nanos(now),
        wall: WallTime::from_nanos(i64::try_from(now).expect("a short run") + offset),
        suspended: Duration::from_nanos(suspended),
        uncertainty: Duration::ZERO,
    }
}
