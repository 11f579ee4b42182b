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

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::fetches::{Ended, Fetched};
use crate::exchange::FetchResult;
use crate::mesh::{NodeView, Peer};
use crate::outcome::{Outcome, ProbeResult, Void};
use crate::target::{Kind, StreamId, Target};
use crate::time::Instant;

/// How long an owner may take to learn that a pod goes, unless set otherwise.
const SETTLE: Duration = Duration::from_secs(2);

/// A probe leaves at most so long after it was due: two of the longest ticks.
const SENT_BY: Duration = Duration::from_millis(100);

/// Nothing is expected of a fetch that has not ended after this time.
const PATIENCE: Duration = Duration::from_secs(1);

/// Nothing is held for longer after its list would have confirmed it.
const HOLD: Duration = Duration::from_secs(8);

/// What is held of a node is looked at so often at most: with very many it is work.
const LOOK: Duration = Duration::from_millis(100);

/// So many losses are held at once.
const MOST_HELD: usize = 16_384;

/// The nodes whose addresses are probed, and what is held of each.
#[derive(Debug)]
pub(super) struct Owners {
    all: Vec<Option<Owner>>,
    free: Vec<OwnerId>,
    by_node: HashMap<Arc<str>, OwnerId>,
    /// When what is held of a node is to be looked at again.
    checks: BTreeSet<(Instant, OwnerId)>,
    /// The agents that there are; `None` before it was first told.
    peers: Option<HashMap<Arc<str>, Listed>>,
    held: usize,
    settle: Duration,
}

/// Names a node while it is one whose addresses are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnerId(u32);

/// A node, and what its agent tells.
#[derive(Debug)]
pub(super) struct Owner {
    node: Arc<str>,
    /// Streams to it.
    streams: usize,
    /// It is the node of this agent: its view is always of now, and it is alive as we are.
    own: bool,
    /// What its agent told last.
    pub(super) view: Option<Arc<NodeView>>,
    /// Since when its agent is known to tell.
    pub(super) told_since: Option<Instant>,
    /// Its agent has said that it, or the node, goes.
    leaving: bool,
    /// When the latest probe or fetch that anything of it answered was sent.
    alive: Option<Instant>,
    /// When the latest fetch began that brought no list.
    failed: Option<Instant>,
    held: Vec<Held>,
    check: Option<Instant>,
    /// When it was last looked at what is held.
    checked: Option<Instant>,
    /// Streams that have not answered yet and of which its agent may have something to say.
    pub(super) newcomers: Vec<StreamId>,
    /// Pods whose first answer has been told or waited for in vain, and when.
    pub(super) greeted: BTreeMap<Arc<str>, Instant>,
}

/// A loss that waits for its confirmation.
#[derive(Debug)]
struct Held {
    outcome: Outcome,
    /// The silence that it belongs to has not been confirmed yet.
    urgent: bool,
}

/// An agent, as the watch of agents has it.
#[derive(Debug)]
struct Listed {
    addresses: Vec<IpAddr>,
    terminating: bool,
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

impl Default for Owners {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            free: Vec::new(),
            by_node: HashMap::new(),
            checks: BTreeSet::new(),
            peers: None,
            held: 0,
            settle: SETTLE,
        }
    }
}

impl Owners {
    pub(super) fn get(&mut self, id: OwnerId) -> Option<&mut Owner> {
        self.all.get_mut(id.0 as usize)?.as_mut()
    }

    /// When something held is to be looked at.
    pub(super) fn first(&self) -> Option<Instant> {
        self.checks.first().map(|(at, _)| *at)
    }

    /// The node of this name.
    pub(super) fn of(&mut self, node: &Arc<str>) -> OwnerId {
        if let Some(id) = self.by_node.get(node) {
            return *id;
        }
        let owner = Owner {
            node: Arc::clone(node),
            streams: 0,
            own: false,
            view: None,
            told_since: None,
            leaving: false,
            alive: None,
            failed: None,
            held: Vec::new(),
            check: None,
            checked: None,
            newcomers: Vec::new(),
            greeted: BTreeMap::new(),
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            OwnerId((self.all.len() - 1) as u32)
        });
        if let Some(place) = self.all.get_mut(id.0 as usize) {
            *place = Some(owner);
        }
        self.by_node.insert(Arc::clone(node), id);
        id
    }

    /// A stream goes there from now on: the node whose agent knows whether the target is still there, if any does.
    pub(super) fn join(&mut self, target: &Target) -> Option<OwnerId> {
        let id = match target.kind {
            Kind::Agent | Kind::Pod | Kind::Node => self.of(&target.destination),
            Kind::Name => self.lister(&target.pod.as_ref()?.uid)?,
            Kind::Fixed | Kind::Control => return None,
        };
        if let Some(owner) = self.get(id) {
            owner.streams += 1;
        }
        Some(id)
    }

    /// The node whose list has this pod.
    fn lister(&self, uid: &str) -> Option<OwnerId> {
        let lists = |owner: &Owner| owner.view.as_ref().is_some_and(|view| view.pod(uid).is_some());
        let place = self.all.iter().position(|owner| owner.as_ref().is_some_and(lists))?;
        Some(OwnerId(place as u32))
    }

    /// A stream goes there no more.
    pub(super) fn leave(&mut self, id: OwnerId) {
        if let Some(owner) = self.get(id) {
            owner.streams = owner.streams.saturating_sub(1);
        }
    }

    /// Forgets the nodes that have no stream, unless they are `asked` for their list.
    pub(super) fn sweep(&mut self, asked: impl Fn(&str) -> bool) {
        for (number, place) in (0..).zip(&mut self.all) {
            if let Some(owner) =
                place.take_if(|owner| owner.streams == 0 && !owner.own && !asked(&owner.node))
            {
                self.by_node.remove(&owner.node);
                self.free.push(OwnerId(number));
                if let Some(at) = owner.check {
                    self.checks.remove(&(at, OwnerId(number)));
                }
            }
        }
    }

    /// What is held of streams that are gone.
    pub(super) fn release(&mut self, gone: impl Fn(StreamId) -> bool) -> Vec<Outcome> {
        let mut released = Vec::new();
        for owner in self.all.iter_mut().flatten() {
            released.extend(owner.held.extract_if(.., |held| gone(held.outcome.stream)));
        }
        self.held -= released.len();
        released.into_iter().map(|held| held.outcome).collect()
    }

    /// Has what is held of a node looked at by then.
    fn check_by(&mut self, id: OwnerId, at: Instant) {
        let Some(owner) = self.get(id) else { return };
        let at = owner.checked.map_or(at, |checked| at.max(checked + LOOK));
        if owner.check.is_none_or(|check| check > at) {
            let before = owner.check.replace(at);
            self.checks.extend([(at, id)]);
            before.map(|before| self.checks.remove(&(before, id)));
        }
    }

    /// Whether a node's agent has gone or is going; with an `address`, the agent that has it.
    fn departed(&self, owner: &Owner, address: Option<IpAddr>) -> bool {
        let listed = self.peers.as_ref().map(|peers| peers.get(&owner.node));
        owner.leaving
            || listed.is_some_and(|listed| {
                listed.is_none_or(|listed| {
                    listed.terminating || address.is_some_and(|address| !listed.addresses.contains(&address))
                })
            })
    }
}

impl Engine {
    /// How long an owner may take to learn that a pod goes (2 s unless set): a list asked for so long after a lost probe
    /// was sent confirms its loss.
    pub fn set_settle(&mut self, settle: Duration) {
        self.owners.settle = settle;
    }

    /// What this agent itself tells of its own node. It holds until another is handed in, so a watch that breaks, or
    /// goes on, must be told as well as pods that come and go.
    pub fn handle_view(&mut self, now: Instant, view: Arc<NodeView>) {
        let id = self.owners.of(&view.node);
        let Some(owner) = self.owners.get(id) else { return };
        owner.own = true;
        self.owner_tells(id, now, view);
    }

    /// All agents that there are beside this one, as the watch of agents has them, or those of all nodes that are probed.
    /// Hand them in before the streams that follow from them.
    pub fn handle_peers(&mut self, now: Instant, peers: &[Peer]) {
        let listed = |peer: &Peer| {
            let listed = Listed { addresses: peer.addresses.clone(), terminating: peer.terminating };
            (Arc::clone(&peer.node), listed)
        };
        self.owners.peers = Some(peers.iter().map(listed).collect());
        let waiting = (0..).zip(&self.owners.all);
        let waiting = waiting.filter(|(_, owner)| owner.as_ref().is_some_and(|owner| !owner.held.is_empty()));
        let waiting: Vec<_> = waiting.map(|(number, _)| OwnerId(number)).collect();
        for id in waiting {
            self.owners.check_by(id, now);
        }
    }

    /// How many losses wait for their confirmation.
    pub fn held(&self) -> usize {
        self.owners.held
    }

    /// A node is asked at other addresses: it is another agent that will answer.
    pub(super) fn owner_replaced(&mut self, node: &str) {
        let id = self.owners.by_node.get(node).copied();
        if let Some(owner) = id.and_then(|id| self.owners.get(id)) {
            (owner.leaving, owner.failed) = (false, None);
        }
    }

    /// A node was asked for its list.
    pub(super) fn owner_fetched(&mut self, ended: &Ended, now: Instant, fetched: &Fetched) {
        let id = self.owners.of(&ended.node);
        let Some(owner) = self.owners.get(id) else { return };
        match fetched.result {
            FetchResult::Ok
            | FetchResult::NotModified
            | FetchResult::Refused
            | FetchResult::Redirected
            | FetchResult::Malformed
            | FetchResult::Broken
            | FetchResult::TooLarge
            | FetchResult::OtherVersion
            | FetchResult::Reset => owner.alive = owner.alive.max(Some(ended.begun)),
            // Of a wrong node: somebody else has the address.
            FetchResult::WrongNode
            | FetchResult::Timeout
            | FetchResult::Unreachable
            | FetchResult::NotSent => {}
        }
        if !fetched.result.is_usable() && fetched.result != FetchResult::NotSent {
            owner.failed = owner.failed.max(Some(ended.begun));
        }
        match &fetched.view {
            Some(view) if fetched.result.is_usable() && view.node == ended.node => {
                self.owner_tells(id, now, Arc::clone(view));
            }
            Some(_) | None => self.owners.check_by(id, now),
        }
    }

    fn owner_tells(&mut self, id: OwnerId, now: Instant, view: Arc<NodeView>) {
        let Some(owner) = self.owners.get(id) else { return };
        if owner.view.as_ref().is_some_and(|known| known.asked_at > view.asked_at) {
            return;
        }
        owner.leaving = view.leaving;
        owner.told_since.get_or_insert(view.asked_at);
        owner.view = Some(view);
        self.owners.check_by(id, now);
        self.meet_newcomers(id, now);
    }

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

    /// Something of an owner answered a probe that was sent at `sent`.
    pub(super) fn owner_alive(&mut self, id: OwnerId, sent: Instant) {
        if let Some(owner) = self.owners.get(id) {
            owner.alive = owner.alive.max(Some(sent));
        }
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
        if matches!(target.kind, Kind::Pod | Kind::Name) {
            if let Some((view, _)) = told {
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
            (true, _, false) => (!is_asked).then_some(Verdict::Unclear),
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
mod tests {
    use super::*;
    use crate::engine::Event;
    use crate::engine::testing::{
        at, engine, events, loss, node_stream, planned_fetch, pod_stream, reading, results, set, view,
    };
    use crate::engine::{FetchId, Poll};
    use crate::outcome::Unreachable;
    use crate::target::Protocol;

    const DISCARDED: ProbeResult = ProbeResult::Void(Void::Discarded);
    const UNKNOWN: ProbeResult = ProbeResult::Void(Void::Unknown);

    #[test]
    fn a_list_asked_for_late_enough_confirms_and_one_that_lacks_the_pod_discards_at_once() {
        for (told, pods, expected) in [
            (9_000, &[1, 2][..], None),
            (9_000, &[][..], None),
            (10_500, &[1, 2], None),
            (10_500, &[2], Some(DISCARDED)),
            (12_100, &[1, 2], Some(ProbeResult::Lost)),
            (12_100, &[], Some(DISCARDED)),
        ] {
            let (mut engine, stream) = one_pod();
            lose(&mut engine, stream, 10_000);
            tell(&mut engine, view(told, pods), 12_200);
            assert_eq!(results(&mut engine).first().copied(), expected, "{told} {pods:?}");
        }
    }

    #[test]
    fn another_address_is_another_pod() {
        let (mut engine, stream) = one_pod();
        lose(&mut engine, stream, 10_000);
        let mut moved = view(10_500, &[1]);
        moved.pods[0].addresses = vec![[10, 0, 0, 99].into()];
        tell(&mut engine, moved, 10_600);
        assert_eq!(results(&mut engine), [DISCARDED]);
    }

    #[test]
    fn a_stale_watch_confirms_nothing() {
        for age in [None, Some(Duration::from_secs(6))] {
            let (mut engine, stream) = one_pod();
            lose(&mut engine, stream, 10_000);
            tell(&mut engine, NodeView { watch_age: age, ..view(12_200, &[1]) }, 12_200);
            assert_eq!(results(&mut engine), [UNKNOWN]);
        }
    }

    #[test]
    fn an_icmp_error_is_held_like_a_silence() {
        for (pods, expected) in [(&[1][..], ProbeResult::Unreachable(Unreachable::Host)), (&[], DISCARDED)] {
            let (mut engine, stream) = one_pod();
            let error =
                Outcome { result: ProbeResult::Unreachable(Unreachable::Host), ..loss(stream, 10_000) };
            engine.finish(error);
            assert!(results(&mut engine).is_empty());
            tell(&mut engine, view(12_200, pods), 12_200);
            assert_eq!(results(&mut engine), [expected]);
        }
    }

    #[test]
    fn a_node_of_which_nothing_answers_is_lost_once_a_fetch_failed_or_was_waited_for_long_enough() {
        for reported in [true, false] {
            let (mut engine, stream) = one_pod();
            lose(&mut engine, stream, 10_000);
            let fetch = begin(&mut engine, 11_000);
            if reported {
                engine.handle_fetched(fetch, at(11_500), Fetched::failed(FetchResult::Timeout));
            }
            tick(&mut engine, 12_000);
            assert!(results(&mut engine).is_empty());
            tick(&mut engine, 12_100);
            assert_eq!(results(&mut engine), [ProbeResult::Lost]);
        }
    }

    #[test]
    fn while_something_of_the_node_answers_the_list_is_asked_for_again_until_nobody_can_say() {
        let (mut engine, stream) = one_pod();
        lose(&mut engine, stream, 10_000);
        let mut begun = Vec::new();
        for millis in (10_900..20_000).step_by(50) {
            tick(&mut engine, millis);
            engine.owner_alive(engine.owners.by_node["a"], at(millis));
            while let Some(Poll::Fetch(id)) = engine.poll_fetch(at(millis)) {
                begun.push(millis);
                engine.handle_fetched(id, at(millis), Fetched::failed(FetchResult::Timeout));
            }
        }
        assert!(results(&mut engine).is_empty());
        assert!((8..=10).contains(&begun.len()), "{begun:?}");
        tick(&mut engine, 20_200);
        assert_eq!(results(&mut engine), [UNKNOWN]);
    }

    #[test]
    fn a_refusal_or_a_reset_of_the_agent_is_a_sign_of_life_and_a_wrong_node_is_none() {
        for (result, expected) in [
            (FetchResult::Refused, None),
            (FetchResult::Reset, None),
            (FetchResult::WrongNode, Some(ProbeResult::Lost)),
            (FetchResult::Unreachable, Some(ProbeResult::Lost)),
        ] {
            let (mut engine, stream) = one_pod();
            lose(&mut engine, stream, 10_000);
            let fetch = begin(&mut engine, 11_000);
            engine.handle_fetched(fetch, at(11_001), Fetched::failed(result));
            tick(&mut engine, 12_200);
            assert_eq!(results(&mut engine).first().copied(), expected, "{result:?}");
        }
    }

    #[test]
    fn who_announced_its_leave_is_discarded() {
        let leaving = NodeView { leaving: true, ..view(9_000, &[1]) };
        for kind in [Kind::Agent, Kind::Node] {
            let (mut engine, stream) = one(node_stream(kind));
            tell(&mut engine, leaving.clone(), 9_000);
            lose(&mut engine, stream, 10_000);
            tick(&mut engine, 10_900);
            assert_eq!(results(&mut engine), [DISCARDED]);
        }
        // Its pods stay: only when nothing of the node answers they have gone with it.
        let (mut engine, stream) = one_pod();
        tell(&mut engine, leaving, 9_000);
        lose(&mut engine, stream, 10_000);
        begin(&mut engine, 11_000);
        tick(&mut engine, 11_900);
        assert!(results(&mut engine).is_empty());
        tick(&mut engine, 12_200);
        assert_eq!(results(&mut engine), [DISCARDED]);
    }

    #[test]
    fn an_agent_that_is_gone_terminating_or_elsewhere_is_discarded() {
        let peer = Peer {
            node: "a".into(),
            zone: "".into(),
            uid: "".into(),
            addresses: vec![[10, 0, 1, 1].into()],
            mesh_port: 1,
            terminating: false,
        };
        let elsewhere = Peer { addresses: vec![[10, 0, 1, 2].into()], ..peer.clone() };
        for (peers, agent, node) in [
            (vec![peer.clone()], None, None),
            (vec![Peer { terminating: true, ..peer }], Some(DISCARDED), Some(DISCARDED)),
            (vec![elsewhere], Some(DISCARDED), None),
            (vec![], Some(DISCARDED), Some(DISCARDED)),
        ] {
            for (kind, expected) in [(Kind::Agent, agent), (Kind::Node, node)] {
                let (mut engine, stream) = one(node_stream(kind));
                lose(&mut engine, stream, 10_000);
                engine.handle_peers(at(10_950), &peers);
                tick(&mut engine, 11_000);
                assert_eq!(results(&mut engine).first().copied(), expected, "{kind:?} {peers:?}");
            }
        }
    }

    #[test]
    fn an_agents_list_or_a_later_answer_of_its_own_confirms_its_loss_whatever_its_watch_does() {
        let (mut engine, stream) = one(node_stream(Kind::Agent));
        lose(&mut engine, stream, 10_000);
        tell(&mut engine, NodeView { watch_age: None, ..view(12_200, &[]) }, 12_200);
        assert_eq!(results(&mut engine), [ProbeResult::Lost]);
        let (mut engine, stream) = one(node_stream(Kind::Agent));
        lose(&mut engine, stream, 10_000);
        engine.note_answer(stream, at(12_000));
        tick(&mut engine, 12_200);
        assert!(results(&mut engine).is_empty());
        engine.note_answer(stream, at(13_000));
        tick(&mut engine, 13_000);
        tick(&mut engine, 20_000);
        assert_eq!(results(&mut engine), [ProbeResult::Lost]);
    }

    #[test]
    fn our_own_list_is_always_of_now_unless_our_watch_is_broken() {
        let broken = Some(Duration::from_secs(1));
        for (age, expected) in [(Some(Duration::ZERO), ProbeResult::Lost), (broken, UNKNOWN), (None, UNKNOWN)]
        {
            let mut engine = engine();
            engine.handle_view(at(1_000), Arc::new(NodeView { watch_age: age, ..view(1_000, &[1]) }));
            let stream = set(&mut engine, 1_000, &[pod_stream(1, Protocol::Icmp)])[0];
            lose(&mut engine, stream, 10_000);
            tick(&mut engine, 12_000);
            assert!(results(&mut engine).is_empty());
            tick(&mut engine, 12_100);
            assert_eq!(results(&mut engine), [expected]);
        }
    }

    #[test]
    fn nobody_to_ask_is_nobody_to_wait_for() {
        for (alive, expected) in [(true, UNKNOWN), (false, ProbeResult::Lost)] {
            let mut engine = engine();
            let stream = set(&mut engine, 0, &[pod_stream(1, Protocol::Icmp)])[0];
            lose(&mut engine, stream, 10_000);
            if alive {
                engine.owner_alive(engine.owners.by_node["a"], at(10_500));
            }
            tick(&mut engine, 12_100);
            assert_eq!(results(&mut engine), [expected]);
        }
    }

    #[test]
    fn what_is_held_of_a_removed_stream_is_discarded() {
        let (mut engine, stream) = one_pod();
        lose(&mut engine, stream, 10_000);
        engine.set_streams(at(10_950), &[]);
        let told = events(&mut engine);
        let outcome =
            told.iter().position(|event| matches!(event, Event::Outcome(each) if each.result == DISCARDED));
        let removed = told.iter().position(|event| *event == Event::Removed(stream));
        assert!(outcome.is_some() && outcome < removed, "{told:?}");
        assert_eq!(engine.held(), 0);
    }

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let (mut engine, stream) = one_pod();
        for _ in 0..MOST_HELD {
            lose(&mut engine, stream, 10_000);
        }
        assert!(results(&mut engine).is_empty());
        lose(&mut engine, stream, 10_001);
        assert_eq!((results(&mut engine), engine.held()), (vec![ProbeResult::Lost], MOST_HELD));
    }

    #[test]
    fn a_silence_that_was_confirmed_is_not_asked_about_early_again_until_it_ends() {
        let (mut engine, stream) = one_pod();
        lose(&mut engine, stream, 10_000);
        let fetch = begin(&mut engine, 12_200);
        let fetched = Fetched { result: FetchResult::Ok, view: Some(Arc::new(view(12_200, &[1]))) };
        engine.handle_fetched(fetch, at(12_210), fetched);
        tick(&mut engine, 12_300);
        assert_eq!(results(&mut engine), [ProbeResult::Lost]);
        let before = engine.fetches.first(at(12_300));
        lose(&mut engine, stream, 12_100);
        tick(&mut engine, 13_000);
        assert_eq!(engine.fetches.first(at(13_000)), before);
        engine.note_answer(stream, at(13_500));
        lose(&mut engine, stream, 13_600);
        tick(&mut engine, 14_500);
        assert_eq!(engine.fetches.first(at(14_500)), Some(at(14_500)));
    }

    #[test]
    fn what_has_no_owner_is_lost_at_once() {
        let mut engine = engine();
        let mut planned = pod_stream(1, Protocol::Icmp);
        planned.stream.target = Arc::new(Target { kind: Kind::Fixed, ..(*planned.stream.target).clone() });
        let stream = set(&mut engine, 0, &[planned])[0];
        lose(&mut engine, stream, 10_000);
        assert_eq!(results(&mut engine), [ProbeResult::Lost]);
        assert!(engine.owners.by_node.is_empty());
    }

    #[test]
    fn nodes_that_nothing_goes_to_are_forgotten() {
        let (mut engine, _) = one_pod();
        engine.set_streams(at(2_000), &[]);
        assert_eq!(engine.owners.by_node.len(), 1, "it is still asked for its list");
        engine.set_fetches(at(2_000), &[]);
        engine.set_streams(at(2_000), &[]);
        assert!(engine.owners.by_node.is_empty());
        let stream = set(&mut engine, 3_000, &[pod_stream(1, Protocol::Icmp)])[0];
        lose(&mut engine, stream, 10_000);
        assert_eq!((engine.owners.all.len(), engine.held()), (1, 1));
    }

    fn one_pod() -> (Engine, StreamId) {
        one(pod_stream(1, Protocol::Icmp))
    }

    /// An engine with one stream, that asks its node for its list.
    fn one(planned: crate::target::Planned) -> (Engine, StreamId) {
        let mut engine = engine();
        engine.set_fetches(at(0), &[planned_fetch("a")]);
        let stream = set(&mut engine, 0, &[planned])[0];
        (engine, stream)
    }

    /// A probe is lost that was due then; it shows 0.9 s later.
    fn lose(engine: &mut Engine, stream: StreamId, due: u64) {
        engine.handle_clock(reading(due + 900));
        engine.finish(loss(stream, due));
    }

    fn tick(engine: &mut Engine, millis: u64) {
        engine.handle_clock(reading(millis));
        engine.handle_deadlines(at(millis));
    }

    fn tell(engine: &mut Engine, view: NodeView, millis: u64) {
        let ended = Ended { node: "a".into(), begun: view.asked_at, current: true };
        let fetched = Fetched { result: FetchResult::Ok, view: Some(Arc::new(view)) };
        engine.owner_fetched(&ended, at(millis), &fetched);
        tick(engine, millis);
    }

    /// The fetch that is due by then begins.
    fn begin(engine: &mut Engine, millis: u64) -> FetchId {
        tick(engine, millis);
        match engine.poll_fetch(at(millis)) {
            Some(Poll::Fetch(id)) => id,
            other => panic!("{other:?}"),
        }
    }
}
