//! Large echo requests: when they go out, and what is learned from them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::time::Duration;

use super::streams::StreamState;
use super::transmit::Poll;
use super::{Engine, Event};
use crate::direction::sequences::DestinationId;
use crate::flows::Flow;
use crate::hash::stable;
use crate::inflight::{Probe, Purpose, State};
use crate::mtu::{Large as End, PathMtu};
use crate::outcome::{Outcome, ProbeResult, SendError, Unreachable, Void};
use crate::target::{Kind, Planned, Protocol, StreamId};
use crate::time::{Instant, nanos};
use crate::wire::answer::Key;
use crate::wire::icmp;
use crate::wire::payload::{Payload, SizeClass};

/// Large probes of all streams together, per second: with very many targets each is asked more seldom.
const CEILING: f64 = 100.0;

/// How often the route's MTU is looked up anew.
const LOOK_UP: Duration = Duration::from_mins(1);

/// Larger packets are not tried: jumbo frames carry 9,000 bytes, and 9,216 is what switches allow.
const MAX_MTU: u32 = 9_216;

/// When the next large probe of each stream is due. An entry may be stale, as in the schedule of ordinary probes.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    heap: BinaryHeap<Reverse<(Instant, StreamId)>>,
    streams: usize,
}

impl Schedule {
    pub(super) fn first(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }
}

/// A stream's large probes.
#[derive(Debug)]
pub(super) struct Large {
    destination: DestinationId,
    due: Instant,
    looked_up: Option<Instant>,
    mtu: Option<PathMtu>,
}

impl Engine {
    /// Large probes for a new stream, where they mean anything: by ICMP, and beyond loopback.
    pub(super) fn join_large(&mut self, now: Instant, id: StreamId, plan: &Planned) -> Option<Box<Large>> {
        let interval = self.identity.large_interval?;
        let target = &plan.stream.target;
        let wanted = match target.kind {
            Kind::Agent | Kind::Name | Kind::Fixed => true,
            // Pods share their agent's path.
            Kind::Pod | Kind::Node | Kind::Control => false,
        };
        if plan.stream.protocol != Protocol::Icmp || !wanted || target.address.is_loopback() {
            return None;
        }
        let phase = stable(&[target.destination.as_bytes(), b"large"]) % nanos(interval).max(1);
        let due = now + Duration::from_nanos(phase);
        self.large.streams += 1;
        self.large.heap.push(Reverse((due, id)));
        let destination = self.sequences.join(target.address, SizeClass::Large, target.kind == Kind::Agent);
        Some(Box::new(Large { destination, due, looked_up: None, mtu: None }))
    }

    pub(super) fn leave_large(&mut self, state: &StreamState) {
        if let Some(large) = &state.large {
            self.large.streams = self.large.streams.saturating_sub(1);
            let doubts = large.mtu.as_ref().is_some_and(PathMtu::doubts);
            self.large_doubts -= u32::from(doubts);
            self.sequences.leave(state.to, SizeClass::Large, large.destination);
        }
    }

    /// The route to a stream's target carries packets of this size, in bytes; `None` if that is not known.
    pub fn handle_route_mtu(&mut self, stream: StreamId, mtu: Option<u32>) {
        let small = self.small_packet(stream);
        let Some(large) = self.streams.get(stream).and_then(|state| state.large.as_mut()) else { return };
        let before = large.mtu.as_ref().map(PathMtu::finding);
        let doubted = large.mtu.as_ref().is_some_and(PathMtu::doubts);
        match (mtu.map(|mtu| mtu.min(MAX_MTU)).filter(|mtu| *mtu > small), &mut large.mtu) {
            (Some(route), Some(known)) => known.reroute(route),
            (Some(route), unknown) => *unknown = Some(PathMtu::new(route)),
            (None, known) => *known = None,
        }
        let after = large.mtu.as_ref().map(PathMtu::finding);
        let doubts = large.mtu.as_ref().is_some_and(PathMtu::doubts);
        self.large_doubts = self.large_doubts + u32::from(doubts) - u32::from(doubted);
        if before.is_some() && before != after {
            let nothing = PathMtu::new(0).finding();
            self.events.push_back(Event::PathMtu(stream, after.unwrap_or(nothing)));
        }
    }

    /// The next large probe, or the question for its route.
    pub(super) fn poll_large(&mut self, now: Instant) -> Poll {
        while let Some(Reverse((due, stream))) = self.large.heap.peek().copied()
            && due <= now
        {
            let usual = self.usual_interval();
            let Some(state) = self.streams.get(stream) else {
                self.large.heap.pop();
                continue;
            };
            let (to, timeout, interval) = (state.to, state.planned.timeout, state.planned.interval);
            let watched = state.is_watched();
            let Some(large) = state.large.as_mut().filter(|large| large.due == due) else {
                self.large.heap.pop();
                continue;
            };
            if large.looked_up.is_none_or(|at| now.since(at) >= LOOK_UP) {
                large.looked_up = Some(now);
                return Poll::RouteMtu(stream, to);
            }
            let Some(mtu) = &large.mtu else {
                self.large.heap.pop();
                self.plan_large(stream, now + usual);
                continue;
            };
            let (destination, size) = (large.destination, mtu.size(now));
            let Some(sequence) = self.sequences.propose(destination) else { return Poll::Settle };
            self.large.heap.pop();
            // If its result never comes, the next one does.
            self.plan_large(stream, now + usual + timeout);
            let probe = Probe {
                stream,
                purpose: Purpose::Large,
                number: 0,
                due: now,
                to,
                destination,
                key: Key::Echo(0),
                cookie: 0,
                sequence,
                length: (size - headers(to)) as u16,
                period_ms: Payload::period_ms(interval),
                watched,
                told: None,
                timeout,
                state: State::Sending,
            };
            self.pace.spend();
            return self.hand_out(probe, Protocol::Icmp, Flow::default());
        }
        Poll::Idle
    }

    /// A large probe has its result.
    pub(super) fn large_ended(&mut self, probe: &Probe, outcome: Outcome) {
        let end = match outcome.result {
            ProbeResult::Reply(_) | ProbeResult::Reset(_) => End::Answered,
            ProbeResult::Lost | ProbeResult::Listener => End::Lost,
            ProbeResult::Unreachable(_) | ProbeResult::Void(_) => End::Void,
        };
        let route_changed = outcome.result == ProbeResult::Void(Void::NotSent(SendError::TooBig));
        self.learn(probe, outcome, end, route_changed);
    }

    /// An ICMP error answered a large probe.
    pub(super) fn large_refused(
        &mut self,
        probe: &Probe,
        outcome: Outcome,
        reason: Unreachable,
        mtu: Option<u32>,
    ) {
        let end = match reason {
            Unreachable::TooBig => End::TooBig(mtu.unwrap_or(0)),
            _ => End::Void,
        };
        self.learn(probe, outcome, end, false);
    }

    fn learn(&mut self, probe: &Probe, outcome: Outcome, end: End, route_changed: bool) {
        let (now, verdicts, stream) = (self.clock.now().mono, self.verdicts, probe.stream);
        let (usual, small) = (self.usual_interval(), self.small_packet(stream));
        self.events.push_back(Event::Large(outcome));
        let Some(state) = self.streams.get(stream) else { return };
        let interval = state.planned.interval;
        let Some(large) = &mut state.large else { return };
        if route_changed {
            large.looked_up = None;
        }
        let Some(mtu) = &mut large.mtu else { return };
        let (before, doubted) = (mtu.finding(), mtu.doubts());
        let size = u32::from(probe.length) + headers(probe.to);
        let soon = mtu.note_large(now, size, small, end, verdicts);
        let (after, doubts) = (mtu.finding(), mtu.doubts());
        // Small probes must have their say between two large ones.
        let next = soon.map_or(now + usual, |soon| if doubts { soon.max(now + interval) } else { soon });
        self.plan_large(stream, next);
        match (doubted, doubts) {
            (false, true) => self.large_doubts += 1,
            (true, false) => self.large_doubts -= 1,
            (true, true) | (false, false) => {}
        }
        if before != after {
            self.events.push_back(Event::PathMtu(stream, after));
        }
    }

    /// A small echo request ended: it matters while a large one is missing.
    pub(super) fn note_small(&mut self, probe: &Probe, result: ProbeResult) {
        if self.large_doubts == 0 {
            return;
        }
        let answered = match result {
            ProbeResult::Reply(_) | ProbeResult::Reset(_) => true,
            ProbeResult::Lost | ProbeResult::Unreachable(_) => false,
            ProbeResult::Listener | ProbeResult::Void(_) => return,
        };
        let large = self.streams.get(probe.stream).and_then(|state| state.large.as_mut());
        if let Some(mtu) = large.and_then(|large| large.mtu.as_mut()) {
            mtu.note_small(answered);
        }
    }

    fn plan_large(&mut self, stream: StreamId, due: Instant) {
        if let Some(large) = self.streams.get(stream).and_then(|state| state.large.as_mut()) {
            large.due = due;
            self.large.heap.push(Reverse((due, stream)));
        }
    }

    /// Time between two large probes of a stream: the setting, or more where there are very many streams.
    fn usual_interval(&self) -> Duration {
        let setting = self.identity.large_interval.unwrap_or(Duration::MAX);
        setting.max(Duration::from_secs_f64(self.large.streams as f64 / CEILING))
    }

    /// The size of an ordinary probe's packet, in bytes with its IP header.
    fn small_packet(&mut self, stream: StreamId) -> u32 {
        let length = u32::from(self.identity.size);
        self.streams.get(stream).map_or(0, |state| length + headers(state.to))
    }
}

/// Length of the IP and ICMP headers, in bytes.
fn headers(to: IpAddr) -> u32 {
    let ip = if to.is_ipv4() { 20 } else { 40 };
    ip + icmp::HEADER as u32
}
