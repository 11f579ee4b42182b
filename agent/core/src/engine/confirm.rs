//! Confirmed loss: whether a silent address is still there is asked of its owner, the agent of its node.
//!
//! A pod that goes away is silent before anybody can know why. So a silence of an agent, a pod or a node's address is
//! held, and its owner's list is fetched:
//!
//! | what is known | what the silence was |
//! |---|---|
//! | a list asked for after the lost probe was due does not have the pod, or not with this address | `discarded` |
//! | the agent, or its node, is leaving, terminating or gone (for agents' and nodes' addresses) | `discarded` |
//! | a list asked for `settle` later has it, and the owner's watch lives | as it was: `lost` |
//! | the owner's watch is stale, or no list can be had while something of the node answers | `unknown` |
//! | no list can be had, nothing of the node answers, and its leave was announced | `discarded` |
//! | no list can be had, and nothing of the node answers | as it was: `lost` |
//!
//! An ICMP error is held alike: the node of a pod that is gone says "host unreachable" for its address.
//!
//! # Why it is in time
//! `settle` (2 s) is how long an owner may take to learn that a pod goes. A pod is deleted at `D`; its network ends at
//! `N ≥ D`, its owner's list is without it at `W`, which is 0.1 to 1 s after `D`. The first lost probe is due at
//! `t ≥ N − 0.1 s` (what is in flight at `N` is answered, or was due a tick or two ago). A list that confirms is asked
//! for at `t + 2.1 s` or later, `D + 2 s` at least, when the pod has been gone from it for a second.
//!
//! A break at `B` hits the next probe, due at `t ≤ B + interval`; it is judged at `t + 0.9 s` (timeout 0.8 s and 0.1 s
//! for what the kernel delivers late). Then:
//! - *A pod's address alone is hit*: the list is fetched at once (it may say that the pod is gone) and again at
//!   `t + 2.1 s`; it comes within milliseconds. Lost at `B + interval + 2.2 s`.
//! - *All of a node is hit*: the fetch begun at `t + 0.9 s` has no answer; after 1 s of patience nothing is expected of
//!   it, and at `t + 2.1 s` nothing of the node has answered. Lost at `B + interval + 2.2 s`; `B + interval + 3.2 s` if
//!   an older fetch was under way. The bar is 2 intervals + 3 s.
//! - *TCP alone is hit*, of a port that has answered: its silence is explained first by at most three more SYNs, 0.9 s
//!   each and a tick of 50 ms between: at `t + 3.8 s` it is held, and the list comes at once. Lost at
//!   `B + interval + 4 s`; the bar is 3 intervals + 4 s.
//!
//! While something of the node answers and no list comes, it is asked for each second until `t + 10.1 s`: a fetch that
//! lost a packet to the same bad path must not make its losses `unknown`.
//!
//! # What it costs
//! An answered probe costs the look at its stream. A loss costs some 150 bytes while it is held, 10.1 s at most; beyond 16,384
//! of them further ones are judged by what is known at once. A silence that was confirmed is not asked about early again:
//! its further losses wait for the lists of the schedule.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::owners::OwnerId;
use crate::mesh::NodeView;
use crate::outcome::{Outcome, ProbeResult, Void};
use crate::target::{Kind, Target};
use crate::time::Instant;

/// A probe leaves at most so long after it was due: two of the longest ticks.
const SENT_BY: Duration = Duration::from_millis(100);

/// Nothing is expected of a fetch that has not ended after this time.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Nothing is held for longer after its list would have confirmed it.
const HOLD: Duration = Duration::from_secs(8);

/// So many losses are held at once.
const MOST_HELD: usize = 16_384;

/// A loss that waits for its confirmation.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) outcome: Outcome,
    /// The silence that it belongs to has not been confirmed yet.
    urgent: bool,
}

/// What a held loss was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// What it looked like.
    Confirmed,
    /// Its target was going away.
    Gone,
    /// Nobody can say.
    Unclear,
}

impl Engine {
    /// A loss of an address that has an owner: whether it is one remains to be seen.
    pub(super) fn hold(&mut self, id: OwnerId, urgent: bool, outcome: Outcome) {
        let now = self.clock.now().mono;
        let held = Held { outcome, urgent };
        if self.owners.held >= MOST_HELD {
            let verdict = self.verdict(id, &held, now, true).unwrap_or(Verdict::Unclear);
            return self.confirm(verdict, outcome);
        }
        self.owners.held += 1;
        if let Some(owner) = self.owners.get(id) {
            owner.held.push(held);
        }
        self.owners.check_by(id, now);
    }

    /// Judges what is held, as far as it can be, and asks for what would tell more.
    pub(super) fn check_held(&mut self, now: Instant) {
        while let Some((at, id)) = self.owners.checks.first().copied().filter(|(at, _)| *at <= now) {
            self.owners.checks.remove(&(at, id));
            let Some(owner) = self.owners.get(id) else { continue };
            (owner.check, owner.checked) = (None, Some(now));
            let mut held = mem::take(&mut owner.held);
            held.retain(|held| {
                let verdict = self.verdict(id, held, now, false);
                if let Some(verdict) = verdict {
                    self.owners.held -= 1;
                    self.confirm(verdict, held.outcome);
                }
                verdict.is_none()
            });
            self.ask_about(id, now, &held);
            if let Some(owner) = self.owners.get(id) {
                owner.held = held;
            }
        }
    }

    /// Plans the next look at what is still held, and a fetch if that may tell.
    fn ask_about(&mut self, id: OwnerId, now: Instant, held: &[Held]) {
        let settle = self.owners.settle + SENT_BY;
        let Some(owner) = self.owners.get(id) else { return };
        let (node, failed) = (Arc::clone(&owner.node), owner.failed);
        let under_way = self.fetches.under_way(&node);
        let begun = self.fetches.begun(&node);
        let mut next: Option<Instant> = None;
        let mut wanted = false;
        for Held { outcome: Outcome { due, .. }, urgent } in held {
            let ready = *due + settle;
            let patient = under_way.map(|begun| begun.max(*due) + PATIENCE);
            let times = [Some(ready), patient, Some(ready + HOLD)];
            next = times.into_iter().chain([next]).flatten().filter(|at| *at > now).min();
            let from = if now >= ready { ready } else { *due };
            wanted |= *urgent && (begun.is_none_or(|begun| begun < from) || failed == begun);
        }
        if let Some(next) = next {
            self.owners.check_by(id, next);
        }
        if wanted {
            self.fetches.hasten(&node, now);
        }
    }

    /// What a held loss was, if that can be said by now; if it `must`, then by what is known.
    fn verdict(&mut self, id: OwnerId, held: &Held, now: Instant, must: bool) -> Option<Verdict> {
        let Outcome { stream, due, .. } = held.outcome;
        let state = self.streams.get(stream)?;
        let target = Arc::clone(&state.planned.stream.target);
        let answered_since = state.heard;
        let owners = &self.owners;
        let owner = owners.all.get(id.0 as usize)?.as_ref()?;
        let settled = due + owners.settle + SENT_BY;
        let told = owner.view.as_ref().map(|view| (view, if owner.own { now } else { view.asked_at }));
        let told = told.filter(|(_, at)| *at >= due);
        let confirms = told.is_some_and(|(_, at)| at >= settled);
        let is_pod = matches!(target.kind, Kind::Pod | Kind::Name);
        if is_pod {
            // Before its first list an agent knows of no pod.
            if let Some((view, _)) = told.filter(|(view, _)| view.watch_age.is_some()) {
                if !lists(view, &target) {
                    return Some(Verdict::Gone);
                }
                if confirms {
                    let live = view.is_live() && !(owner.own && has_gone_stale(view, now));
                    return Some(if live { Verdict::Confirmed } else { Verdict::Unclear });
                }
            }
        } else {
            let address = (target.kind == Kind::Agent).then_some(target.address);
            if owners.departed(owner, address) {
                return Some(Verdict::Gone);
            }
            // The list came from the agent itself; and an answer of the very address is as good.
            if confirms || answered_since.is_some_and(|heard| heard >= settled) {
                return Some(Verdict::Confirmed);
            }
        }
        if now < settled && !must {
            return None;
        }
        let is_asked = self.fetches.asks(&owner.node);
        let begun = self.fetches.under_way(&owner.node);
        let hopeless = !is_asked
            || owner.failed.is_some_and(|failed| failed >= due)
            || begun.is_some_and(|begun| now.since(begun.max(due)) >= PATIENCE);
        let overdue = must || now >= settled + HOLD;
        let alive = owner.own || owner.alive.is_some_and(|alive| alive >= due);
        match (alive, hopeless, overdue) {
            (true, _, true) => Some(Verdict::Unclear),
            // An agent may still answer for itself.
            (true, _, false) => (!is_asked && is_pod).then_some(Verdict::Unclear),
            (false, false, false) => None,
            (false, ..) if owners.departed(owner, None) => Some(Verdict::Gone),
            (false, ..) => Some(Verdict::Confirmed),
        }
    }

    fn confirm(&mut self, verdict: Verdict, outcome: Outcome) {
        let result = match verdict {
            Verdict::Confirmed => outcome.result,
            Verdict::Gone => ProbeResult::Void(Void::Discarded),
            Verdict::Unclear => ProbeResult::Void(Void::Unknown),
        };
        if verdict == Verdict::Confirmed
            && let Some(state) = self.streams.get(outcome.stream)
        {
            state.confirmed |= state.heard.is_none_or(|heard| heard < outcome.due);
        }
        self.settle(Outcome { result, ..outcome });
    }
}

/// Whether a broken watch of our own has been so for too long meanwhile.
fn has_gone_stale(view: &NodeView, now: Instant) -> bool {
    let broken = view.watch_age.filter(|age| !age.is_zero());
    broken.is_some_and(|age| age.saturating_add(now.since(view.asked_at)) > NodeView::WATCH_LIVE)
}

/// Whether a list has this pod with this address.
fn lists(view: &NodeView, target: &Target) -> bool {
    match &target.pod {
        Some(id) => view.pod(&id.uid).is_some_and(|pod| pod.addresses.contains(&target.address)),
        None => view.pods.iter().any(|pod| pod.addresses.contains(&target.address)),
    }
}

#[cfg(test)]
mod tests;
