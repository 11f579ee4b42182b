//! The pods of the own node and which of them may be probed: pure state, in which a watch's events are entered.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use podsonar_core::config::PodChoice;
use podsonar_core::mesh::{Local, Pod};
use podsonar_core::target::PodId;
use podsonar_core::time::Instant;

use super::seen::{Addresses, SeenPod};

/// The pods of a node.
#[derive(Debug, Default)]
pub struct Index {
    /// The agent's own pod, which is probed as an agent.
    own_uid: Arc<str>,
    choice: PodChoice,
    entries: BTreeMap<Arc<str>, Entry>,
    /// The next set, while a list is told.
    next: Option<BTreeMap<Arc<str>, Entry>>,
}

/// What is remembered of a pod.
#[derive(Debug, Clone)]
enum Entry {
    /// Not to be probed.
    Out {
        /// It was seen before it ran: its start will be seen, too, if the watch goes on.
        before_it_ran: bool,
    },
    /// To be probed.
    In(Eligible),
}

#[derive(Debug, Clone)]
struct Eligible {
    id: Arc<PodId>,
    addresses: Addresses,
    port: Option<u16>,
    created: u64,
    running_since: Option<Instant>,
}

impl Index {
    /// No pods yet; `own_uid` is the agent's own pod.
    pub fn new(own_uid: Arc<str>, choice: PodChoice) -> Self {
        Self { own_uid, choice, ..Self::default() }
    }

    /// Other pods may be probed than before: it holds for what is told from now on, so a list should follow.
    pub fn choose(&mut self, choice: PodChoice) {
        self.choice = choice;
    }

    /// A list begins. What was known stays until it is complete.
    pub fn begin(&mut self) {
        self.next = Some(BTreeMap::new());
    }

    /// A pod of the list. That it runs is no news: since when is known only if the watch had seen it start.
    pub fn include(&mut self, pod: &SeenPod) {
        self.list(self.entry(pod, None, false));
    }

    /// A pod of a list of all that run, which is read again and again: who was not in the one before has just begun.
    pub fn include_as_new(&mut self, pod: &SeenPod, now: Instant) {
        self.list(self.entry(pod, Some(now), true));
    }

    fn list(&mut self, (uid, entry): (Arc<str>, Entry)) {
        if let Some(next) = self.next.as_mut().filter(|_| !uid.is_empty()) {
            next.insert(uid, entry);
        }
    }

    /// The list is complete: what was not in it is gone.
    pub fn complete(&mut self) {
        if let Some(next) = self.next.take() {
            self.entries = next;
        }
    }

    /// A pod is new or has changed; `now` unless that may have been long ago.
    pub fn apply(&mut self, pod: &SeenPod, now: Option<Instant>) {
        if !pod.uid().is_empty() {
            let (uid, entry) = self.entry(pod, now, false);
            self.entries.insert(uid, entry);
        }
    }

    /// A pod is gone.
    pub fn delete(&mut self, pod: &SeenPod) {
        self.entries.remove(pod.uid());
    }

    /// What is remembered of a pod; `now` if it changed just now. Where `all` that run were known, a stranger is new.
    fn entry(&self, pod: &SeenPod, now: Option<Instant>, all: bool) -> (Arc<str>, Entry) {
        let before = self.entries.get_key_value(pod.uid());
        let uid = before.map_or_else(|| pod.uid().into(), |(uid, _)| Arc::clone(uid));
        let before = before.map(|(_, entry)| entry);
        let addresses = pod.addresses();
        let runs = pod.runs() && !addresses.is_empty();
        if !runs || !self.may_be_probed(pod) {
            return (uid, Entry::Out { before_it_ran: !runs });
        }
        let running_since = match before {
            Some(Entry::In(known)) if known.addresses == addresses => known.running_since,
            Some(Entry::In(_) | Entry::Out { before_it_ran: true }) => now,
            None if all => now,
            Some(Entry::Out { before_it_ran: false }) | None => None,
        };
        let known = before.and_then(|entry| match entry {
            Entry::In(known) => Some(&known.id),
            Entry::Out { .. } => None,
        });
        let id = self.id(&uid, pod, known);
        let (port, created) = (pod.port(), pod.created());
        (uid, Entry::In(Eligible { id, addresses, port, created, running_since }))
    }

    fn may_be_probed(&self, pod: &SeenPod) -> bool {
        !pod.is_in_host_network()
            && *self.own_uid != *pod.uid()
            && self.choice.admits(pod.namespace(), pod.own_choice(), |key| pod.label(key))
    }

    /// The pod's names, stored once where they are the same as before or as another pod's.
    fn id(&self, uid: &Arc<str>, pod: &SeenPod, known: Option<&Arc<PodId>>) -> Arc<PodId> {
        let workload = pod.workload();
        if let Some(known) = known
            && (&*known.namespace, &*known.name, &*known.workload)
                == (pod.namespace(), pod.name(), &*workload)
        {
            return Arc::clone(known);
        }
        Arc::new(PodId {
            uid: Arc::clone(uid),
            namespace: self.shared(pod.namespace(), |id| &id.namespace),
            name: pod.name().into(),
            workload: self.shared(&workload, |id| &id.workload),
        })
    }

    fn shared(&self, text: &str, part: fn(&PodId) -> &Arc<str>) -> Arc<str> {
        let known = self.next.iter().flat_map(BTreeMap::values).chain(self.entries.values());
        let mut parts = known.filter_map(|entry| match entry {
            Entry::In(known) => Some(part(&known.id)),
            Entry::Out { .. } => None,
        });
        parts.find(|known| ***known == *text).map_or_else(|| text.into(), Arc::clone)
    }

    /// The pods to probe, in order of UID. An address that two of them claim is the younger one's: the other is no
    /// longer there, and its object has not gone yet.
    pub fn pods(&self) -> Vec<Pod> {
        let mut holders: HashMap<IpAddr, (u64, &str)> = HashMap::new();
        for pod in self.eligible() {
            let claim = (pod.created, &*pod.id.uid);
            for address in pod.addresses.iter() {
                let holder = holders.entry(address).or_insert(claim);
                *holder = (*holder).max(claim);
            }
        }
        let held = |pod: &Eligible, address: &IpAddr| {
            holders.get(address).is_some_and(|(_, uid)| *uid == &*pod.id.uid)
        };
        let pods = self.eligible().map(|pod| Pod {
            id: Arc::clone(&pod.id),
            addresses: pod.addresses.iter().filter(|address| held(pod, address)).collect(),
            port: pod.port,
            running_since: pod.running_since,
            local: Local::default(),
        });
        pods.filter(|pod| !pod.addresses.is_empty()).collect()
    }

    fn eligible(&self) -> impl Iterator<Item = &Eligible> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::In(pod) => Some(pod),
            Entry::Out { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests;
