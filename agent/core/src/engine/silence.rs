//! SYNs beyond the schedule that find out what a silence means, and full handshakes.

use super::{Engine, Event};
use crate::flows::Flow;
use crate::inflight::{Boost, Probe, ProbeId, Purpose, State};
use crate::inquiry::{Checked, Step, judged};
use crate::outcome::{Outcome, ProbeResult, Rtt, SendError, Unreachable, Void};
use crate::target::{Family, Protocol, StreamId};
use crate::time::Instant;
use crate::wire::answer::Key;

use std::time::Duration;

use super::transmit::Poll;

/// A target gets at most four SYNs a second. One that is asked so often already is not asked beyond it.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(334);

/// A SYN to be sent beyond the schedule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    stream: StreamId,
    boost: Boost,
    flow: u16,
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connected {
    /// Before the host's stack was asked.
    pub began: Instant,
    /// When this process learned the end.
    pub ended: Instant,
    /// The end.
    pub end: ConnectEnd,
}

/// The end of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectEnd {
    /// The target's stack completed it in time.
    Accepted,
    /// The target refused it in time: RST.
    Refused,
    /// Nothing came within the timeout.
    TimedOut,
    /// An ICMP error came.
    Unreachable(Unreachable),
    /// The host's stack did not try.
    NotSent(SendError),
    /// It ended, but this process was late to look: in time or not, nobody knows.
    Unclear,
}

impl Engine {
    /// A handshake that was handed out has ended.
    pub fn handle_connected(&mut self, id: ProbeId, connected: Connected) {
        let Some(probe) = self.inflight.get(id) else { return };
        let State::Flying(flight) = probe.state else { return };
        let probe = probe.clone();
        let rtt = Rtt::Estimated(connected.ended.since(connected.began));
        let result = match connected.end {
            ConnectEnd::Accepted => ProbeResult::Reply(rtt),
            ConnectEnd::Refused => ProbeResult::Reset(rtt),
            ConnectEnd::TimedOut => ProbeResult::Lost,
            ConnectEnd::Unreachable(reason) => ProbeResult::Unreachable(reason),
            ConnectEnd::NotSent(error) => ProbeResult::Void(Void::NotSent(error)),
            ConnectEnd::Unclear => ProbeResult::Void(Void::Unknown),
        };
        self.land(id, State::Ended);
        if matches!(connected.end, ConnectEnd::Accepted | ConnectEnd::Refused) && probe.watched {
            self.note_answer(probe.stream, flight.call.0);
        }
        let sent = !matches!(connected.end, ConnectEnd::NotSent(_));
        self.conclude(&probe, result, sent.then_some((&flight, None)));
    }

    /// A source port was replaced by another: its flow is no more.
    pub fn replace_source_port(&mut self, family: Family, old: u16, new: u16) {
        let ports = match family {
            Family::V4 => &mut self.identity.source_ports_v4,
            Family::V6 => &mut self.identity.source_ports_v6,
        };
        for port in ports.iter_mut().filter(|port| **port == old) {
            *port = new;
        }
        let mut healed = Vec::new();
        for state in self.streams.iter_mut().filter(|state| Family::of(state.to) == family) {
            if state.inquiry.as_mut().is_some_and(|inquiry| inquiry.forget_flow(old)) {
                healed.push(state.id());
            }
        }
        let healed = healed.into_iter().map(|stream| Event::Flow { stream, source_port: old, dead: false });
        self.events.extend(healed);
    }

    /// A SYN that was due has its result. The silence of a port that has answered is held until it is explained.
    pub(super) fn syn_ended(&mut self, flow: u16, outcome: Outcome) {
        match outcome.result {
            ProbeResult::Reply(_) | ProbeResult::Reset(_) => {
                let reset = matches!(outcome.result, ProbeResult::Reset(_));
                self.flow_answered(outcome.stream, flow, reset);
                self.finish(outcome);
            }
            ProbeResult::Lost => self.flow_silent(outcome.stream, flow, Some(outcome)),
            ProbeResult::Unreachable(_) => {
                self.give_up(outcome.stream);
                self.finish(outcome);
            }
            ProbeResult::Listener | ProbeResult::Void(_) => self.finish(outcome),
        }
    }

    /// The next SYN to be sent beyond the schedule.
    pub(super) fn poll_boost(&mut self, now: Instant) -> Option<Poll> {
        while let Some(Wanted { stream, boost, flow }) = self.boosts.pop_front() {
            let Some(state) = self.streams.get(stream) else { continue };
            let port = match boost {
                Boost::Flow => state.port,
                Boost::Listener => self.identity.closed_port,
            };
            let probe = Probe {
                stream,
                purpose: Purpose::Boost(boost),
                number: 0,
                due: now,
                to: state.to,
                destination: state.destination,
                key: Key::Echo(0),
                cookie: 0,
                sequence: 0,
                length: 0,
                period_ms: 0,
                watched: state.is_watched(),
                told: None,
                timeout: state.planned.timeout,
                state: State::Sending,
            };
            let flow = Flow { source_port: flow, destination_port: port };
            self.sequences.note_syn(state.destination, now, flow, true);
            self.pace.spend();
            return Some(self.hand_out(probe, Protocol::Tcp, flow));
        }
        None
    }

    /// A SYN that was sent beyond the schedule has its result.
    pub(super) fn boost_ended(&mut self, probe: &Probe, boost: Boost, outcome: Outcome) {
        let (Key::Syn(syn), stream) = (probe.key, probe.stream) else { return };
        let result = outcome.result;
        self.events.push_back(Event::Boost(boost, outcome));
        let Some(state) = self.streams.get(stream) else { return };
        let Some(inquiry) = &mut state.inquiry else { return };
        match boost {
            Boost::Flow => {
                inquiry.heard();
                match result {
                    ProbeResult::Reply(_) => self.flow_answered(stream, syn.source_port, false),
                    ProbeResult::Reset(_) => self.flow_answered(stream, syn.source_port, true),
                    ProbeResult::Lost => self.flow_silent(stream, syn.source_port, None),
                    ProbeResult::Unreachable(_) => self.give_up(stream),
                    ProbeResult::Listener | ProbeResult::Void(_) => {}
                }
            }
            Boost::Listener => {
                let checked = match result {
                    ProbeResult::Reply(_) | ProbeResult::Reset(_) => Checked::Reset,
                    ProbeResult::Lost
                    | ProbeResult::Listener
                    | ProbeResult::Unreachable(_)
                    | ProbeResult::Void(Void::NotSent(_)) => Checked::Silent,
                    ProbeResult::Void(_) => Checked::Unclear,
                };
                if let Some((held, listener)) = inquiry.checked(checked) {
                    judged(held, listener).for_each(|outcome| self.finish(outcome));
                }
            }
        }
    }

    fn flow_answered(&mut self, stream: StreamId, flow: u16, reset: bool) {
        let Some(state) = self.streams.get(stream) else { return };
        (state.answering, state.listening) = (true, !reset);
        let Some(inquiry) = &mut state.inquiry else { return };
        let settled = inquiry.answered(flow);
        judged(settled.lost, false).for_each(|outcome| self.finish(outcome));
        if settled.healed {
            self.events.push_back(Event::Flow { stream, source_port: flow, dead: false });
        }
        self.inquire(stream);
    }

    /// A SYN of this flow was silent; `due` is its outcome if it owes one.
    fn flow_silent(&mut self, stream: StreamId, flow: u16, due: Option<Outcome>) {
        let verdicts = self.verdicts;
        let Some(state) = self.streams.get(stream) else { return };
        let (answering, listening) = (state.answering, state.listening);
        state.answering = false;
        if !answering && !listening && state.inquiry.is_none() {
            return due.into_iter().for_each(|outcome| self.finish(outcome));
        }
        let (held, at_once) = if listening { (due, None) } else { (None, due) };
        let inquiry = state.inquiry.get_or_insert_default();
        let dead = inquiry.silent(flow, held, answering, verdicts);
        let overfull = inquiry.overfull();
        at_once.into_iter().chain(judged(overfull, false)).for_each(|outcome| self.finish(outcome));
        if dead {
            self.events.push_back(Event::Flow { stream, source_port: flow, dead: true });
        }
        self.inquire(stream);
    }

    /// Something else explains the silence: what is held is lost.
    fn give_up(&mut self, stream: StreamId) {
        let inquiry = self.streams.get(stream).and_then(|state| state.inquiry.as_mut());
        let held = inquiry.map(|inquiry| inquiry.give_up()).unwrap_or_default();
        judged(held, false).for_each(|outcome| self.finish(outcome));
    }

    /// Asks what is to be asked next, or closes the inquiry.
    fn inquire(&mut self, stream: StreamId) {
        let Some(state) = self.streams.get(stream) else { return };
        let may_ask = state.planned.interval >= SHORTEST_INTERVAL;
        let family = Family::of(state.to);
        let Some(inquiry) = &mut state.inquiry else { return };
        if inquiry.is_over() {
            state.inquiry = None;
            return;
        }
        match inquiry.next(self.identity.source_ports(family), may_ask) {
            Step::Wait => {}
            Step::Ask(flow) => self.boosts.push_back(Wanted { stream, boost: Boost::Flow, flow }),
            Step::Check(flows) => {
                let wanted = |flow| Wanted { stream, boost: Boost::Listener, flow };
                self.boosts.extend(flows.into_iter().map(wanted));
            }
        }
    }
}
