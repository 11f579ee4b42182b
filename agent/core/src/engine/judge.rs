//! The verdicts: which probe an answer belongs to, whether it came in time, and what silence means.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::transmit::{brings_back, delivery};
use super::{Engine, Event};
use crate::inflight::{Flight, Probe, ProbeId, Purpose, State};
use crate::outcome::{LateHint, Outcome, ProbeResult, Rtt, StampSource, Stray, Unreachable, Void};
use crate::target::StreamId;
use crate::time::{Instant, WallTime};
use crate::wire::answer::{Answer, Key};
use crate::wire::{Channel, Reject, tcp};

/// A SYN-ACK this late was sent again by the target, one second after the first (RFC 6298 §2.1, measured 1.03 s).
const SENT_AGAIN: (Duration, Duration) = (Duration::from_millis(950), Duration::from_millis(1_500));

/// The spans of time in which a channel's socket may have dropped an answer.
#[derive(Debug, Default)]
pub(super) struct Drops {
    total: Option<u64>,
    spans: VecDeque<(Instant, Instant)>,
}

impl Drops {
    /// Between `from` and `until` something was dropped.
    fn note(&mut self, from: Instant, until: Instant) {
        match self.spans.back_mut() {
            Some((_, end)) if *end >= from => *end = until,
            _ => self.spans.push_back((from, until)),
        }
    }

    /// Whether an answer that could have come between `from` and `until` may have been dropped.
    fn touch(&self, from: Instant, until: Instant) -> bool {
        self.spans.iter().any(|(start, end)| *start <= until && from <= *end)
    }

    /// No open probe was sent before `oldest`.
    fn forget_before(&mut self, oldest: Instant) {
        while self.spans.front().is_some_and(|(_, end)| *end < oldest) {
            self.spans.pop_front();
        }
    }
}

/// When an answer came, compared with its timeout.
enum Timing {
    InTime(Rtt),
    Late(Duration),
    /// The clocks leave both open.
    Unclear,
}

impl Engine {
    /// A packet of ours came back with its transmit stamp. The last software stamp counts, else the last
    /// scheduler stamp: tunnels stamp a packet once for each device it passes.
    pub fn handle_transmitted(&mut self, key: Key, stamp: WallTime, source: StampSource) {
        if let Some((_, probe)) = self.inflight.find(key)
            && let State::Flying(flight) = &mut probe.state
            && source <= flight.tx
        {
            flight.at = stamp;
            flight.tx = source;
        }
    }

    /// A well-formed answer came from `from`, stamped by the kernel unless `stamp` is `None`.
    pub fn handle_answer(&mut self, from: IpAddr, answer: Answer, stamp: Option<WallTime>) {
        let epoch = self.identity.epoch;
        let Some((id, probe)) = self.find_answered(answer) else {
            return self.handle_reject(Reject::Unmatched);
        };
        let right_contents = match answer {
            Answer::Echo(returned) => brings_back(epoch, &returned, probe),
            Answer::Segment(_) => true,
        };
        if from != probe.to || !right_contents {
            return self.handle_reject(Reject::Mismatched);
        }
        let (stream, state) = (probe.stream, probe.state);
        match state {
            State::Flying(flight) => self.judge_answer(id, &flight, answer, stamp),
            State::Answered => self.events.push_back(Event::Stray(stream, Stray::Duplicate)),
            State::Lost(flight) => {
                let watched = probe.watched;
                let rtt = match stamp {
                    Some(stamp) if flight.tx.is_kernel() => stamp.since(flight.at).unwrap_or_default(),
                    _ => self.clock.now().mono.since(flight.call.1),
                };
                if watched {
                    self.note_answer(stream, flight.call.0);
                }
                self.stray_late(id, stream, answer, rtt);
            }
            State::Sending => self.handle_reject(Reject::Unmatched),
            State::Ended => {}
        }
    }

    /// An ICMP error quotes a packet of ours that went to `to`. If the packet was too big, `mtu` is the largest that
    /// passes, as the error says.
    pub fn handle_unreachable(&mut self, to: IpAddr, key: Key, reason: Unreachable, mtu: Option<u32>) {
        let Some((id, probe)) = self.inflight.find(key) else {
            return self.handle_reject(Reject::Unmatched);
        };
        if probe.to != to {
            return self.handle_reject(Reject::Mismatched);
        }
        if let State::Flying(flight) = probe.state {
            let probe = probe.clone();
            self.land(id, State::Ended);
            let result = ProbeResult::Unreachable(reason);
            match probe.purpose {
                Purpose::Large => {
                    let outcome = Self::outcome(&probe, result, &flight, None);
                    self.large_refused(&probe, outcome, reason, mtu);
                }
                Purpose::Due | Purpose::Boost(_) => self.conclude(&probe, result, Some((&flight, None))),
            }
        }
    }

    /// How this tick's drain of a channel ended: whether both queues were emptied, and the socket's count of
    /// dropped packets. If something was dropped, silence since the drain before proves nothing.
    pub fn handle_drain(&mut self, channel: Channel, emptied: bool, dropped: u64) {
        let now = self.clock.now().mono;
        let since = self.drained;
        if let Some(drops) = self.drops.get_mut(channel.index()) {
            let moved =
                drops.total.is_some_and(|before| before != dropped) || (drops.total.is_none() && dropped > 0);
            drops.total = Some(dropped);
            if moved || !emptied {
                drops.note(since, now);
            }
        }
    }

    /// Judges the probes whose time is over. `drain_began` is the time before this tick's drain: all that arrived
    /// until then has been handed over.
    pub fn handle_deadlines(&mut self, drain_began: Instant) {
        while let Some(id) = self.inflight.pop_deadline(drain_began) {
            let Some(probe) = self.inflight.get(id) else { continue };
            if let State::Flying(flight) = probe.state {
                let (timeout, probe_key) = (probe.timeout, probe.key);
                let channel = Self::channel_of(probe.to, probe_key);
                let comparable = self.clock.moved().tolerable_since(flight.moved);
                let deadline = self.deadline(&flight, timeout, delivery(probe_key), comparable);
                if deadline > drain_began {
                    self.inflight.extend(id, deadline);
                    continue;
                }
                let dropped =
                    channel.is_some_and(|channel| self.may_have_dropped(channel, flight.call.0, deadline));
                // Whoever makes handshakes says when one is lost.
                let reported = matches!(probe_key, Key::Connect(_));
                self.judge_silence(id, &flight, comparable && !dropped && !reported);
            }
        }
        self.inflight.forget_until(drain_began);
        self.forget_spent(drain_began);
        self.look_at_inbound(self.clock.now().mono);
        let oldest = drain_began.back(Duration::from_mins(2));
        for drops in &mut self.drops {
            drops.forget_before(oldest);
        }
        self.check_held(self.clock.now().mono);
    }

    fn may_have_dropped(&self, channel: Channel, from: Instant, until: Instant) -> bool {
        self.drops.get(channel.index()).is_some_and(|drops| drops.touch(from, until))
    }

    fn find_answered(&mut self, answer: Answer) -> Option<(ProbeId, &mut Probe)> {
        match answer {
            Answer::Echo(payload) => self.inflight.find(Key::Echo(payload.cookie)),
            Answer::Segment(segment) => self.inflight.find(Key::Syn(tcp::Syn {
                source_port: segment.destination_port,
                destination_port: segment.source_port,
                sequence: segment.sequence,
            })),
        }
    }

    fn judge_answer(&mut self, id: ProbeId, flight: &Flight, answer: Answer, stamp: Option<WallTime>) {
        let Some(probe) = self.inflight.get(id) else { return };
        let probe = probe.clone();
        self.note_stamp(&probe, flight);
        if probe.watched {
            self.note_answer(probe.stream, flight.call.0);
        }
        let rx = if stamp.is_some() { StampSource::Software } else { StampSource::User };
        let (result, state) = match self.timing(flight, probe.timeout, stamp) {
            Timing::InTime(rtt) => {
                let reset = matches!(answer, Answer::Segment(segment) if segment.reset);
                let result = if reset { ProbeResult::Reset(rtt) } else { ProbeResult::Reply(rtt) };
                (result, State::Answered)
            }
            Timing::Late(rtt) => {
                self.land(id, State::Answered);
                self.conclude_late(&probe, flight);
                return self.stray_late(id, probe.stream, answer, rtt);
            }
            Timing::Unclear => (ProbeResult::Void(Void::Unknown), State::Answered),
        };
        let rx = result.rtt().map(|_| rx);
        self.land(id, state);
        self.conclude(&probe, result, Some((flight, rx)));
    }

    /// When the answer came, by the best clocks there are: an exact difference of kernel stamps, or the bounds
    /// that the drains and the send call set.
    fn timing(&self, flight: &Flight, timeout: Duration, stamp: Option<WallTime>) -> Timing {
        if !self.clock.moved().tolerable_since(flight.moved) {
            return Timing::InTime(Rtt::Unmeasured);
        }
        if let Some(stamp) = stamp
            && flight.tx.is_kernel()
            && let Some(rtt) = stamp.since(flight.at)
        {
            return if rtt <= timeout { Timing::InTime(Rtt::Observed(rtt)) } else { Timing::Late(rtt) };
        }
        let clock = self.clock.now();
        let (sent_first, sent_last) = match flight.tx {
            StampSource::Software | StampSource::Sched => {
                (clock.to_mono(flight.at), clock.to_mono(flight.at))
            }
            StampSource::User => flight.call,
        };
        let (came_first, came_last) = match stamp {
            Some(stamp) => (clock.to_mono(stamp), clock.to_mono(stamp)),
            None => (self.drained.max(sent_first), clock.mono),
        };
        let (shortest, longest) = (came_first.since(sent_last), came_last.since(sent_first));
        if longest <= timeout {
            Timing::InTime(Rtt::Estimated(came_last.since(sent_last)))
        } else if shortest > timeout {
            Timing::Late(shortest)
        } else {
            Timing::Unclear
        }
    }

    /// When a probe may be judged. A packet may leave later than its send call returned (a queue on the way);
    /// its timeout starts when it left, but no queue is waited for longer than one timeout.
    fn deadline(&self, flight: &Flight, timeout: Duration, delivery: Duration, comparable: bool) -> Instant {
        let called = flight.call.1;
        let left = if comparable && flight.tx.is_kernel() {
            self.clock.now().to_mono(flight.at).clamp(called, called + timeout)
        } else {
            called
        };
        left + timeout + delivery
    }

    fn judge_silence(&mut self, id: ProbeId, flight: &Flight, proves_loss: bool) {
        let Some(probe) = self.inflight.get(id) else { return };
        let probe = probe.clone();
        self.note_stamp(&probe, flight);
        let (result, state) = if proves_loss {
            (ProbeResult::Lost, State::Lost(*flight))
        } else {
            (ProbeResult::Void(Void::Unknown), State::Ended)
        };
        self.land(id, state);
        self.conclude(&probe, result, Some((flight, None)));
    }

    /// A probe has its result: what it means depends on why it was sent. `flight` is there if it left, with the
    /// source of its answer's stamp.
    pub(super) fn conclude(
        &mut self,
        probe: &Probe,
        result: ProbeResult,
        flight: Option<(&Flight, Option<StampSource>)>,
    ) {
        let sent = flight.map(|(flight, rx)| probe.sent(flight, rx));
        let outcome = Outcome { sent, ..Self::void(probe, result) };
        match (probe.purpose, probe.key) {
            (Purpose::Due, Key::Echo(_)) => {
                self.note_small(probe, result);
                self.finish(outcome);
            }
            (Purpose::Due, Key::Connect(_)) => {
                self.count_syn(probe, result);
                self.finish(outcome);
            }
            (Purpose::Due, Key::Syn(syn)) => {
                self.count_syn(probe, result);
                self.syn_ended(syn.source_port, outcome);
            }
            (Purpose::Boost(boost), _) => self.boost_ended(probe, boost, outcome),
            (Purpose::Large, _) => self.large_ended(probe, outcome),
        }
    }

    /// The answer came after the timeout: lost, whatever else is silent, since both network and target are alive.
    fn conclude_late(&mut self, probe: &Probe, flight: &Flight) {
        match probe.purpose {
            Purpose::Due => {
                self.count_syn(probe, ProbeResult::Lost);
                self.note_small(probe, ProbeResult::Lost);
                self.settle(Self::outcome(probe, ProbeResult::Lost, flight, None));
            }
            Purpose::Boost(_) | Purpose::Large => {
                self.conclude(probe, ProbeResult::Void(Void::Unknown), Some((flight, None)));
            }
        }
    }

    fn stray_late(&mut self, id: ProbeId, stream: StreamId, answer: Answer, rtt: Duration) {
        let syn_ack = matches!(answer, Answer::Segment(segment) if !segment.reset);
        let again = (SENT_AGAIN.0..=SENT_AGAIN.1).contains(&rtt);
        let hint = if syn_ack && again { LateHint::WayBack } else { LateHint::None };
        self.events.push_back(Event::Stray(stream, Stray::Late(hint)));
        if let Some(probe) = self.inflight.get(id) {
            probe.state = State::Answered;
        }
    }

    /// A flying probe has its result now.
    pub(super) fn land(&mut self, id: ProbeId, state: State) {
        self.inflight.land(id, state, self.clock.now().mono);
    }

    fn note_stamp(&mut self, probe: &Probe, flight: &Flight) {
        let Some(channel) = Self::channel_of(probe.to, probe.key) else { return };
        if let Some(unstamped) = self.unstamped.get_mut(channel.index()) {
            *unstamped = if flight.tx.is_kernel() { 0 } else { unstamped.saturating_add(1) };
        }
    }

    fn outcome(probe: &Probe, result: ProbeResult, flight: &Flight, rx: Option<StampSource>) -> Outcome {
        let sent = Some(probe.sent(flight, rx));
        Outcome { stream: probe.stream, number: probe.number, due: probe.due, result, count: 1, sent }
    }
}
