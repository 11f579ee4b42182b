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
        if !state.planned.presumed || state.answered {
            return true;
        }
        let since = state.answers_owner;
        let unreachable = since.is_some_and(|since| now >= since.max(state.added) + UNREACHABLE_AFTER);
        let baseline = if unreachable { Baseline::NeverReachable } else { Baseline::NeverAnswered };
        if state.baseline.replace(baseline) != Some(baseline) {
            self.events.push_back(Event::Baseline(outcome.stream, baseline));
        }
        since.is_some_and(|since| outcome.due >= since)
    }

    /// A stream's target answered a probe that was sent at `sent`.
    pub(super) fn note_answer(&mut self, stream: StreamId, sent: Instant) {
        let now = self.clock.now().mono;
        let Some(state) = self.streams.get(stream) else { return };
        state.heard = state.heard.max(Some(sent));
        state.confirmed = false;
        let owner = state.owner;
        if !mem::replace(&mut state.answered, true) {
            state.baseline = None;
            let since = state.fresh.take();
            self.greet(stream, now, since);
        }
        if let Some(owner) = owner {
            self.owner_alive(owner, sent);
        }
    }

    /// A pod has its first answer, which counts if it is one that began `since`; or it is waited for in vain.
    fn greet(&mut self, stream: StreamId, now: Instant, since: Option<Instant>) {
        let Some(state) = self.streams.get(stream) else { return };
        let (answered, owner) = (state.answered, state.owner);
        let Some(pod) = state.planned.stream.target.pod.clone() else { return };
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
        let Some(state) = self.streams.get(stream).filter(|state| !state.answered) else { return };
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
        let Some(state) = self.streams.get(stream).filter(|state| !state.answered) else { return false };
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
