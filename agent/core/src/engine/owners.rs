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
//! While something of the node answers and no list comes, it is asked for each second until `t + 10 s`: a fetch that
//! lost a packet to the same bad path must not make its losses `unknown`.
//!
//! # What it costs
//! An answered probe costs the look at its stream. A loss costs 150 bytes while it is held, 10 s at most; beyond 16,384
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

/// Nothing is held for longer, from when its probe was due.
const HOLD: Duration = Duration::from_secs(10);

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
            owner.check = None;
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
        let under_way = self.fetches.under_way(&node).flatten();
        let begun = self.fetches.begun(&node);
        let mut next: Option<Instant> = None;
        let mut wanted = false;
        for Held { outcome: Outcome { due, .. }, urgent } in held {
            let ready = *due + settle;
            let patient = under_way.map(|begun| begun.max(*due) + PATIENCE);
            let times = [Some(ready), patient, Some(*due + HOLD)];
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
        let under_way = self.fetches.under_way(&owner.node);
        let waited_long = |begun: Instant| now.since(begun.max(due)) >= PATIENCE;
        let hopeless = match under_way {
            None => true,
            Some(begun) => owner.failed.is_some_and(|failed| failed >= due) || begun.is_some_and(waited_long),
        };
        let overdue = must || now >= due + HOLD;
        let alive = owner.own || owner.alive.is_some_and(|alive| alive >= due);
        match (alive, hopeless, overdue) {
            (true, _, true) => Some(Verdict::Unclear),
            (true, _, false) => under_way.is_none().then_some(Verdict::Unclear),
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
