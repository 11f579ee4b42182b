//! All agents of the cluster, from the slices of their Service: pure state.
//!
//! While the endpoint controller moves an endpoint between slices it is in two of them: one pod has one address of each
//! family, that of the slice which was written last. While a node's agent is replaced, the node has two pods: the one
//! that does not terminate is its agent, then the one that serves, then the one that came later to us. Slices do not
//! tell how old a pod is.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use podsonar_core::mesh::Peer;
use podsonar_core::target::Family;

use super::slice::{Endpoint, Slice};

/// The slices as they are known.
#[derive(Debug, Default)]
pub struct Index {
    own_node: Arc<str>,
    slices: BTreeMap<String, Known>,
    /// The next set, while a list is told.
    next: Option<BTreeMap<String, Known>>,
    /// When each pod was first seen, as a number that grows.
    seen: HashMap<Arc<str>, u64>,
    counter: u64,
}

#[derive(Debug, Clone)]
struct Known {
    /// `metadata.resourceVersion`, to compare for equality.
    version: String,
    /// When it was last told, as a number that grows: its version as a number where it is one, as it always is.
    written: u64,
    agents: Vec<Endpoint>,
    useless: usize,
}

/// One pod of an agent, of all slices.
#[derive(Debug)]
struct Candidate<'a> {
    first_seen: u64,
    v4: Option<(u64, &'a Endpoint)>,
    v6: Option<(u64, &'a Endpoint)>,
}

impl<'a> Candidate<'a> {
    fn endpoints(&self) -> impl Iterator<Item = &'a Endpoint> {
        self.v4.into_iter().chain(self.v6).map(|(_, endpoint)| endpoint)
    }

    /// The endpoint that was written last.
    fn newest(&self) -> Option<&'a Endpoint> {
        self.v4.into_iter().chain(self.v6).max_by_key(|(written, _)| *written).map(|(_, endpoint)| endpoint)
    }

    /// The higher, the more it is the node's agent.
    fn rank(&self) -> (bool, bool, u64) {
        let newest = self.newest();
        let stays = newest.is_some_and(|endpoint| !endpoint.terminating);
        (stays, newest.is_some_and(|endpoint| endpoint.serving), self.first_seen)
    }
}

impl Index {
    /// No slices yet; peers are on other nodes than the own one.
    pub fn new(own_node: Arc<str>) -> Self {
        Self { own_node, ..Self::default() }
    }

    /// A list begins. What was known stays until it is complete.
    pub fn begin(&mut self) {
        self.next = Some(BTreeMap::new());
    }

    /// A slice of the list.
    pub fn include(&mut self, slice: &Slice) {
        let known = self.known(slice);
        if let Some(next) = &mut self.next {
            next.insert(slice.name().to_owned(), known);
        }
    }

    /// The list is complete: what was not in it is gone.
    pub fn complete(&mut self) {
        if let Some(next) = self.next.take() {
            self.slices = next;
            self.forget();
        }
    }

    /// A slice is new or has changed.
    pub fn apply(&mut self, slice: &Slice) {
        let known = self.known(slice);
        self.slices.insert(slice.name().to_owned(), known);
        self.forget();
    }

    /// A slice is gone.
    pub fn delete(&mut self, name: &str) {
        self.slices.remove(name);
        self.forget();
    }

    /// The version of a slice as it is known.
    pub fn version(&self, slice: &str) -> Option<&str> {
        self.slices.get(slice).map(|known| known.version.as_str())
    }

    /// Keeps only slices of these names.
    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.slices.retain(|name, _| exists(name));
        self.forget();
    }

    /// The slices that name a node.
    pub fn slices_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a str> {
        let of_node = move |known: &Known| known.agents.iter().any(|agent| &*agent.node == node);
        self.slices.iter().filter(move |(_, known)| of_node(known)).map(|(name, _)| name.as_str())
    }

    /// How many endpoints there are: a pod has one of each family, and may be in two slices.
    pub fn endpoints(&self) -> usize {
        self.slices.values().map(|known| known.agents.len()).sum()
    }

    /// How many endpoints are of no use: see [`Slice::agents`].
    pub fn useless(&self) -> usize {
        self.slices.values().map(|known| known.useless).sum()
    }

    /// The agents of all other nodes, by node.
    pub fn peers(&self) -> Vec<Peer> {
        let mut nodes: BTreeMap<&str, BTreeMap<&str, Candidate<'_>>> = BTreeMap::new();
        for known in self.slices.values() {
            for endpoint in known.agents.iter().filter(|endpoint| endpoint.node != self.own_node) {
                let pods = nodes.entry(&endpoint.node).or_default();
                let first_seen = self.seen.get(&endpoint.uid).copied().unwrap_or_default();
                let fresh = Candidate { first_seen, v4: None, v6: None };
                let pod = pods.entry(&endpoint.uid).or_insert(fresh);
                let place = match Family::of(endpoint.address) {
                    Family::V4 => &mut pod.v4,
                    Family::V6 => &mut pod.v6,
                };
                if place.is_none_or(|(written, _)| written < known.written) {
                    *place = Some((known.written, endpoint));
                }
            }
        }
        nodes.values().filter_map(|pods| agent_of(pods.values())).collect()
    }

    fn known(&mut self, slice: &Slice) -> Known {
        use crate::discovery::watch::Watched;

        let (agents, useless) = slice.agents();
        for agent in &agents {
            if !self.seen.contains_key(&agent.uid) {
                self.counter += 1;
                self.seen.insert(Arc::clone(&agent.uid), self.counter);
            }
        }
        let version = slice.version().to_owned();
        let written = version.parse().unwrap_or_else(|_| {
            self.counter += 1;
            self.counter
        });
        Known { version, written, agents, useless }
    }

    /// Forgets when pods were seen that are in no slice any more.
    fn forget(&mut self) {
        if self.seen.len() > 2 * self.endpoints() + 64 {
            let there: std::collections::HashSet<&str> =
                self.slices.values().flat_map(|known| known.agents.iter().map(|agent| &*agent.uid)).collect();
            self.seen.retain(|uid, _| there.contains(&**uid));
        }
    }
}

/// The agent of a node, of all pods there.
fn agent_of<'a>(pods: impl Iterator<Item = &'a Candidate<'a>>) -> Option<Peer> {
    let pod = pods.max_by_key(|pod| pod.rank())?;
    let newest = pod.newest()?;
    let addresses: Vec<IpAddr> = pod.endpoints().map(|endpoint| endpoint.address).collect();
    Some(Peer {
        node: Arc::clone(&newest.node),
        zone: Arc::clone(&newest.zone),
        uid: Arc::clone(&newest.uid),
        addresses,
        mesh_port: newest.port,
        terminating: newest.terminating,
    })
}

#[cfg(test)]
mod tests;
