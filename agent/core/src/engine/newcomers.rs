//! Streams that have not answered yet: whether their silence says anything, and how long a new pod's first answer took.
//!
//! What podsonar adds by itself may never answer at all: a pod that ignores ICMP, a node behind a filter. Its silence is
//! `unknown` until it has answered once, to us or (as its agent tells) to the agent of its own node. Who answers its
//! owner for a minute and never us is in trouble.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::owners::OwnerId;
use super::{Engine, Event};
use crate::mesh::{Answers, NodeView, Pod};
use crate::outcome::{Outcome, ProbeResult, Void};
use crate::target::{Kind, Protocol, Stream, StreamId};
use crate::time::Instant;

/// Who answers its owner and not us for so long is unreachable.
const UNREACHABLE_AFTER: Duration = Duration::from_mins(1);

/// A new pod's first answer is waited for so long.
const FIRST_REPLY: Duration = Duration::from_mins(1);

/// A pod's first answer is remembered at least so long, whether or not its agent tells of it yet.
const GREETED: Duration = Duration::from_mins(5);

/// Who was not heard for more than so many intervals was silent.
const SILENCE: u32 = 2;

/// How a stream is that has never answered us. It ends with its first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// It was silent, and as far as is known it never answered anybody.
    NeverAnswered,
    /// It has answered its owner for a minute, and us never.
    NeverReachable,
}

impl Engine {
    /// A probe that fell due was lost, or an ICMP error answered it: whether that counts, and what it was.
    pub(super) fn note_loss(&mut self, outcome: Outcome) {
        let now = self.clock.now().mono;
        let Some(state) = self.streams.get(outcome.stream) else {
            return self.settle(outcome);
        };
        let (owner, urgent) = (state.owner, !state.confirmed);
        if state.fresh.is_some_and(|since| now >= since + FIRST_REPLY) {
            state.fresh = None;
            self.greet(outcome.stream, now, None);
        }
        if !self.counts(&outcome, now) {
            let result = ProbeResult::Void(Void::Unknown);
            return self.settle(Outcome { result, ..outcome });
        }
        match owner {
            Some(owner) => self.hold(owner, urgent, outcome),
            None => self.settle(outcome),
        }
    }

    /// Whether a stream's silence says anything.
    fn counts(&mut self, outcome: &Outcome, now: Instant) -> bool {
        let Some(state) = self.streams.get(outcome.stream) else { return false };
        if !state.planned.presumed || state.heard.is_some() {
            return true;
        }
        let since = state.answers_owner;
        let unreachable =
            self.verdicts && since.is_some_and(|since| now >= since.max(state.added) + UNREACHABLE_AFTER);
        let baseline = if unreachable { Baseline::NeverReachable } else { Baseline::NeverAnswered };
        let is_news = state.baseline.replace(baseline) != Some(baseline) && !state.is_once();
        if is_news {
            self.events.push_back(Event::Baseline(outcome.stream, baseline));
        }
        since.is_some_and(|since| outcome.due >= since)
    }

    /// A stream's target answered a probe that was sent at `sent`.
    pub(super) fn note_answer(&mut self, stream: StreamId, sent: Instant) {
        let now = self.clock.now().mono;
        let Some(state) = self.streams.get(stream) else { return };
        let before = state.heard;
        let is_first = before.is_none();
        state.heard = before.max(Some(sent));
        state.confirmed = false;
        let owner = state.owner;
        let by_icmp = state.planned.stream.protocol == Protocol::Icmp;
        let silence = state.planned.interval * SILENCE;
        if is_first {
            state.baseline = None;
            let since = state.fresh.take();
            self.greet(stream, now, since);
        }
        if let Some(before) = before.filter(|before| by_icmp && sent.since(*before) > silence) {
            self.ask_ports_again(stream, before);
        }
        if let Some(owner) = owner {
            self.owner_alive(owner, sent);
        }
    }

    /// A pod has its first answer, which counts if it is one that began `since`; or it is waited for in vain.
    fn greet(&mut self, stream: StreamId, now: Instant, since: Option<Instant>) {
        let Some(state) = self.streams.get(stream) else { return };
        let (answered, owner) = (state.heard.is_some(), state.owner);
        let target = &state.planned.stream.target;
        let Some(pod) = target.pod.clone().filter(|_| target.kind == Kind::Pod) else { return };
        let Some(owner) = owner.and_then(|owner| self.owners.get(owner)) else { return };
        if owner.greeted.insert(Arc::clone(&pod.uid), now).is_some() {
            return;
        }
        match since {
            Some(since) => self.events.push_back(Event::FirstReply(stream, now.since(since))),
            None if !answered => self.events.push_back(Event::FirstReplyTimeout(stream)),
            None => {}
        }
    }

    /// A stream is new: what its owner told already may concern it.
    pub(super) fn join_newcomers(&mut self, stream: StreamId, now: Instant) {
        let Some(state) = self.streams.get(stream).filter(|state| state.heard.is_none()) else { return };
        let presumed = state.planned.presumed;
        let is_pod = state.planned.stream.target.kind == Kind::Pod;
        let Some(owner) = state.owner.filter(|_| presumed || is_pod) else { return };
        if let Some(owner) = self.owners.get(owner) {
            owner.newcomers.push(stream);
        }
        self.meet(owner, stream, now);
    }

    /// An owner tells: what of it concerns streams that have not answered yet?
    pub(super) fn meet_newcomers(&mut self, owner: OwnerId, now: Instant) {
        let Some(of) = self.owners.get(owner) else { return };
        let mut newcomers = mem::take(&mut of.newcomers);
        newcomers.retain(|stream| self.meet(owner, *stream, now));
        let Some(of) = self.owners.get(owner) else { return };
        of.newcomers = newcomers;
        if let Some(view) = &of.view {
            of.greeted.retain(|uid, at| now.since(*at) < GREETED || view.pod(uid).is_some());
        }
    }

    /// Returns whether the stream still has not answered.
    fn meet(&mut self, owner: OwnerId, stream: StreamId, now: Instant) -> bool {
        let started = self.started;
        let Some(state) = self.streams.get(stream).filter(|state| state.heard.is_none()) else {
            return false;
        };
        let Some(owner) = self.owners.get(owner) else { return false };
        let Some(view) = &owner.view else { return true };
        let Some(pod) = pod(view, &state.planned.stream) else { return true };
        let answers = match state.planned.stream.protocol {
            Protocol::Icmp => pod.local.icmp,
            Protocol::Tcp | Protocol::Connect => pod.local.tcp,
        };
        if answers != Answers::Never {
            state.answers_owner.get_or_insert(view.asked_at);
        }
        // It is new to all three: to its owner, to us, and to us as one that we are to probe.
        let is_new = |since: &Instant| {
            *since >= started
                && owner.told_since.is_some_and(|told| told <= *since)
                && state.added.since(*since) < FIRST_REPLY
                && !owner.greeted.contains_key(&pod.id.uid)
        };
        if let Some(since) = pod.running_since.filter(is_new) {
            state.fresh = Some(since.min(now));
        }
        true
    }
}

/// The pod of a stream, as its owner tells.
fn pod<'view>(view: &'view NodeView, stream: &Stream) -> Option<&'view Pod> {
    view.pod(&stream.target.pod.as_ref()?.uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{at, engine, events, loss, pod_stream, reading, set, view};
    use crate::mesh::Local;
    use crate::target::Planned;

    #[test]
    fn the_silence_of_what_never_answered_is_unknown_and_said_once() {
        let mut engine = engine();
        let stream = set(&mut engine, 0, &[presumed(Protocol::Icmp)])[0];
        assert_eq!(lose(&mut engine, stream, 10_000), [unknown(), baseline(stream, Baseline::NeverAnswered)]);
        assert_eq!(lose(&mut engine, stream, 11_000), [unknown()]);
        assert_eq!(engine.held(), 0);
    }

    #[test]
    fn from_its_first_answer_on_or_from_when_its_owner_hears_it_a_silence_counts() {
        let mut engine = engine();
        let planned = [presumed(Protocol::Icmp), presumed(Protocol::Tcp)];
        let streams = set(&mut engine, 0, &planned);
        engine.note_answer(streams[0], at(5_000));
        assert_eq!(lose(&mut engine, streams[0], 10_000), []);
        assert_eq!(engine.held(), 1);
        heard_by_owner(&mut engine, 10_500);
        assert_eq!(lose(&mut engine, streams[1], 10_000).first(), Some(&unknown()), "it was due before");
        assert_eq!(lose(&mut engine, streams[1], 11_000), []);
        assert_eq!(engine.held(), 2);
    }

    #[test]
    fn who_answers_its_owner_for_a_minute_and_not_us_is_unreachable_until_it_answers() {
        let mut engine = engine();
        let stream = set(&mut engine, 0, &[presumed(Protocol::Icmp)])[0];
        heard_by_owner(&mut engine, 5_000);
        let all: Vec<_> = (6..80).flat_map(|second| lose(&mut engine, stream, second * 1_000)).collect();
        let told = all.iter().filter(|event| matches!(event, Event::Baseline(..)));
        let expected =
            [baseline(stream, Baseline::NeverAnswered), baseline(stream, Baseline::NeverReachable)];
        assert!(told.eq(&expected), "{all:?}");
        engine.note_answer(stream, at(90_000));
        assert!(lose(&mut engine, stream, 91_000).iter().all(|event| !matches!(event, Event::Baseline(..))));
    }

    #[test]
    fn what_was_asked_for_counts_at_once() {
        let mut engine = engine();
        let stream = set(&mut engine, 0, &[pod_stream(1, Protocol::Icmp)])[0];
        assert_eq!(lose(&mut engine, stream, 10_000), []);
        assert_eq!(engine.held(), 1);
    }

    #[test]
    fn a_new_pods_first_answer_is_told_once_by_whatever_protocol() {
        let mut engine = engine();
        told(&mut engine, 1_000, None);
        let planned = [pod_stream(1, Protocol::Icmp), pod_stream(1, Protocol::Tcp)];
        let streams = set(&mut engine, 8_000, &planned);
        told(&mut engine, 8_000, Some(7_000));
        answer(&mut engine, streams[1], 9_500);
        answer(&mut engine, streams[0], 9_600);
        answer(&mut engine, streams[1], 9_700);
        let expected = Event::FirstReply(streams[1], Duration::from_millis(2_500));
        assert_eq!(events(&mut engine), [expected]);
    }

    #[test]
    fn a_pod_that_was_there_before_its_owner_or_we_or_our_interest_in_it_is_not_new() {
        // When its owner first told, when it ran, when it was first probed.
        for (first_told, since, added) in
            [(9_000, Some(8_000), 9_500), (1_000, None, 9_500), (0, Some(5_000), 70_000)]
        {
            let mut engine = engine();
            told(&mut engine, first_told, None);
            told(&mut engine, 9_200, since);
            let stream = set(&mut engine, added, &[pod_stream(1, Protocol::Icmp)])[0];
            answer(&mut engine, stream, added + 1_000);
            assert_eq!(events(&mut engine), []);
        }
    }

    #[test]
    fn a_pod_that_has_been_heard_before_its_owner_told_of_it_is_no_longer_new() {
        let mut engine = engine();
        told(&mut engine, 1_000, None);
        let planned = [pod_stream(1, Protocol::Icmp), pod_stream(1, Protocol::Tcp)];
        let streams = set(&mut engine, 8_000, &planned);
        answer(&mut engine, streams[0], 8_500);
        told(&mut engine, 9_000, Some(7_000));
        answer(&mut engine, streams[1], 9_500);
        assert_eq!(events(&mut engine), []);
    }

    #[test]
    fn a_first_answer_that_does_not_come_is_counted_once() {
        let mut engine = engine();
        told(&mut engine, 1_000, None);
        let planned = [presumed(Protocol::Icmp), presumed(Protocol::Tcp)];
        let streams = set(&mut engine, 8_000, &planned);
        told(&mut engine, 8_000, Some(7_000));
        let mut waited = Vec::new();
        for second in 9..100 {
            for stream in &streams {
                waited.extend(lose(&mut engine, *stream, second * 1_000));
            }
        }
        answer(&mut engine, streams[0], 120_000);
        waited.extend(events(&mut engine));
        waited.retain(|event| matches!(event, Event::FirstReply(..) | Event::FirstReplyTimeout(_)));
        assert_eq!(waited, [Event::FirstReplyTimeout(streams[0])]);
    }

    fn presumed(protocol: Protocol) -> Planned {
        Planned { presumed: true, ..pod_stream(1, protocol) }
    }

    fn unknown() -> Event {
        Event::Outcome(Outcome { result: ProbeResult::Void(Void::Unknown), ..loss(StreamId(0), 0) })
    }

    fn baseline(stream: StreamId, baseline: Baseline) -> Event {
        Event::Baseline(stream, baseline)
    }

    /// What is told of a loss, outcomes without their names and times, and these first.
    fn lose(engine: &mut Engine, stream: StreamId, due: u64) -> Vec<Event> {
        engine.handle_clock(reading(due + 900));
        engine.finish(loss(stream, due));
        let plain = |event| match event {
            Event::Outcome(outcome) => Event::Outcome(Outcome { stream: StreamId(0), due: at(0), ..outcome }),
            other => other,
        };
        let mut told: Vec<_> = events(engine).into_iter().map(plain).collect();
        told.sort_by_key(|event| !matches!(event, Event::Outcome(_)));
        told
    }

    fn answer(engine: &mut Engine, stream: StreamId, millis: u64) {
        engine.handle_clock(reading(millis));
        engine.note_answer(stream, at(millis - 1));
    }

    fn heard_by_owner(engine: &mut Engine, millis: u64) {
        let mut view = view(millis, &[1]);
        view.pods[0].local = Local { icmp: Answers::Yes, tcp: Answers::NotNow };
        engine.handle_view(at(millis), Arc::new(view));
    }

    /// The owner tells of the pod, and since when it runs.
    fn told(engine: &mut Engine, millis: u64, running_since: Option<u64>) {
        let mut view = view(millis, &[1]);
        view.pods[0].running_since = running_since.map(at);
        engine.handle_view(at(millis), Arc::new(view));
    }
}
