//! The nodes whose addresses are probed, and what their agents tell: the owners of these addresses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::confirm::Held;
use super::fetches::{Ended, Fetched};
use crate::exchange::FetchResult;
use crate::mesh::{NodeView, Peer};
use crate::outcome::Outcome;
use crate::target::{Kind, StreamId, Target};
use crate::time::Instant;

/// How long an owner may take to learn that a pod goes, unless set otherwise.
const SETTLE: Duration = Duration::from_secs(2);

/// What is held of a node is looked at so often at most: with very many it is work.
const LOOK: Duration = Duration::from_millis(100);

/// The nodes whose addresses are probed, and what is held of each.
#[derive(Debug)]
pub(super) struct Owners {
    pub(super) all: Vec<Option<Owner>>,
    free: Vec<OwnerId>,
    pub(super) by_node: HashMap<Arc<str>, OwnerId>,
    /// When what is held of a node is to be looked at again.
    pub(super) checks: BTreeSet<(Instant, OwnerId)>,
    /// The agents that there are; `None` before it was first told.
    peers: Option<HashMap<Arc<str>, Listed>>,
    pub(super) held: usize,
    pub(super) settle: Duration,
}

/// Names a node while it is one whose addresses are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnerId(pub(super) u32);

/// A node, and what its agent tells.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) node: Arc<str>,
    /// Streams to it.
    streams: usize,
    /// It is the node of this agent: its view is always of now, and it is alive as we are.
    pub(super) own: bool,
    /// What its agent told last.
    pub(super) view: Option<Arc<NodeView>>,
    /// Since when its agent is known to tell.
    pub(super) told_since: Option<Instant>,
    /// Its agent has said that it, or the node, goes.
    leaving: bool,
    /// When the latest probe or fetch that anything of it answered was sent.
    pub(super) alive: Option<Instant>,
    /// When the latest fetch began that brought no list.
    pub(super) failed: Option<Instant>,
    pub(super) held: Vec<Held>,
    pub(super) check: Option<Instant>,
    /// When it was last looked at what is held.
    pub(super) checked: Option<Instant>,
    /// Streams that have not answered yet and of which its agent may have something to say.
    pub(super) newcomers: Vec<StreamId>,
    /// Pods whose first answer has been told or waited for in vain, and when.
    pub(super) greeted: BTreeMap<Arc<str>, Instant>,
}

/// An agent, as the watch of agents has it.
#[derive(Debug)]
struct Listed {
    addresses: Vec<IpAddr>,
    terminating: bool,
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

    /// What a node's agent told when it was asked then or later.
    pub(super) fn told_since(&self, node: &str, then: Instant) -> Option<&NodeView> {
        self.named(node)?.view.as_deref().filter(|view| view.asked_at >= then)
    }

    /// Whether a node's agent was asked for its list in vain, then or later.
    pub(super) fn failed_since(&self, node: &str, then: Instant) -> bool {
        self.named(node).and_then(|owner| owner.failed).is_some_and(|failed| failed >= then)
    }

    fn named(&self, node: &str) -> Option<&Owner> {
        self.all.get(self.by_node.get(node)?.0 as usize)?.as_ref()
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
        match target.kind {
            Kind::Agent | Kind::Pod | Kind::Node => Some(self.join_node(&target.destination)),
            Kind::Name | Kind::Fixed | Kind::Control => None,
        }
    }

    /// A stream goes to a pod of this node from now on, whatever its destination is called.
    pub(super) fn join_node(&mut self, node: &Arc<str>) -> OwnerId {
        let id = self.of(node);
        if let Some(owner) = self.get(id) {
            owner.streams += 1;
        }
        id
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
    pub(super) fn check_by(&mut self, id: OwnerId, at: Instant) {
        let Some(owner) = self.get(id) else { return };
        let at = owner.checked.map_or(at, |checked| at.max(checked + LOOK));
        if owner.check.is_none_or(|check| check > at) {
            let before = owner.check.replace(at);
            self.checks.extend([(at, id)]);
            before.map(|before| self.checks.remove(&(before, id)));
        }
    }

    /// Whether a node's agent has gone or is going; with an `address`, the agent that has it.
    pub(super) fn departed(&self, owner: &Owner, address: Option<IpAddr>) -> bool {
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

    /// Something of an owner answered a probe that was sent at `sent`.
    pub(super) fn owner_alive(&mut self, id: OwnerId, sent: Instant) {
        let now = self.clock.now().mono;
        let Some(owner) = self.owners.get(id) else { return };
        owner.alive = owner.alive.max(Some(sent));
        if !owner.held.is_empty() {
            self.owners.check_by(id, now);
        }
    }
}
