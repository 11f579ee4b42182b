//! All lists together: who claims which address, and who has gone.
//!
//! Two rules make what single lists cannot. An address that two nodes claim is probed for neither until one lets go:
//! it has just moved, or one of them lies. And a departed agent's pods keep their state for some minutes, unprobed,
//! since an agent that is replaced comes back and its pods never left.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::mesh::{NodeView, Peer, Pod};
use crate::time::Instant;

/// What all agents tell.
///
/// What is known from the API server or a file (our own node, the peers' addresses) is believed before what a peer
/// says of itself: a peer cannot keep us from probing our own pods or other agents by claiming their addresses.
#[derive(Debug, Default)]
pub struct Directory {
    own: Option<Arc<NodeView>>,
    /// The addresses of our own node and pods.
    ours: HashSet<IpAddr>,
    agents: HashMap<IpAddr, Arc<str>>,
    nodes: BTreeMap<Arc<str>, Entry>,
    /// The only node whose fresh list claims it; `None`: several do.
    holders: HashMap<IpAddr, Option<Arc<str>>>,
}

#[derive(Debug, Default)]
struct Entry {
    view: Option<Arc<NodeView>>,
    /// Since when its agent is no peer of ours any more.
    departed: Option<Instant>,
}

/// How an address in a list stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may be probed.
    Sound,
    /// Another node claims it too; it is not probed, and keeps its state.
    Contested,
    /// Its node's agent has departed; it is not probed, and keeps its state.
    Departed,
}

/// An address of a pod of another node.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The list that has it.
    pub view: &'a Arc<NodeView>,
    /// The pod.
    pub pod: &'a Pod,
    /// The address, one of the pod's.
    pub address: IpAddr,
    /// Whether it may be probed.
    pub standing: Standing,
}

impl Directory {
    /// How long the pods of a departed agent keep their state.
    pub const KEPT: Duration = Duration::from_mins(2);

    /// A list that was not confirmed for so long claims nothing against others: its agent may be unable to let go.
    pub const CLAIMS: Duration = Duration::from_mins(2);

    /// Takes our own node's pods and addresses, which nobody else can claim.
    pub fn set_own(&mut self, view: Arc<NodeView>, now: Instant) {
        self.ours = claimed(&view).collect();
        self.own = Some(view);
        self.settle(now);
    }

    /// Takes the peers that there are now. Who is not among them has departed; who is back is back.
    pub fn set_peers(&mut self, peers: &[Peer], now: Instant) {
        let present: HashSet<&str> = peers.iter().map(|peer| &*peer.node).collect();
        for (node, entry) in &mut self.nodes {
            entry.departed =
                if present.contains(&**node) { None } else { Some(entry.departed.unwrap_or(now)) };
        }
        for peer in peers {
            self.nodes.entry(Arc::clone(&peer.node)).or_default();
        }
        let addresses = |peer: &Peer| {
            let node = Arc::clone(&peer.node);
            peer.addresses.clone().into_iter().map(move |address| (address, Arc::clone(&node)))
        };
        self.agents = peers.iter().flat_map(addresses).collect();
        self.settle(now);
    }

    /// Takes a peer's list, new or confirmed. One of a node that is no peer, or older than what is known, is not
    /// taken: a slow answer does not undo a quick one.
    pub fn learn(&mut self, view: Arc<NodeView>, now: Instant) -> bool {
        let Some(entry) = self.nodes.get_mut(&view.node) else { return false };
        let (newer, same) = entry.view.as_ref().map_or((true, false), |known| {
            let same = known.pods == view.pods && known.addresses == view.addresses && is_fresh(known, now);
            (known.asked_at < view.asked_at, same)
        });
        if newer {
            entry.view = Some(view);
            if !same {
                self.settle(now);
            }
        }
        newer
    }

    /// Forgets who departed long ago, and claims that are too old. To be called every few seconds.
    pub fn settle(&mut self, now: Instant) {
        self.nodes.retain(|_, entry| entry.departed.is_none_or(|since| now.since(since) < Self::KEPT));
        let mut holders: HashMap<IpAddr, Option<Arc<str>>> = HashMap::new();
        let claiming = self.nodes.values().filter(|entry| entry.departed.is_none());
        for view in claiming.filter_map(|entry| entry.view.as_ref()).filter(|view| is_fresh(view, now)) {
            for address in claimed(view) {
                let holder = holders.entry(address).or_insert_with(|| Some(Arc::clone(&view.node)));
                holder.take_if(|holder| *holder != view.node);
            }
        }
        self.holders = holders;
    }

    /// Our own node.
    pub fn own(&self) -> Option<&Arc<NodeView>> {
        self.own.as_ref()
    }

    /// The last list of a node's agent, departed or not.
    pub fn view(&self, node: &str) -> Option<&Arc<NodeView>> {
        self.nodes.get(node)?.view.as_ref()
    }

    /// The last list of each node whose agent is a peer, in order of nodes.
    pub fn views(&self) -> impl Iterator<Item = &Arc<NodeView>> {
        self.nodes.values().filter(|entry| entry.departed.is_none()).filter_map(|entry| entry.view.as_ref())
    }

    /// Every address of every pod of other nodes, in order of nodes and UIDs; those of departed agents too.
    pub fn pods(&self) -> impl Iterator<Item = Listed<'_>> {
        self.nodes.values().filter_map(|entry| entry.view.as_ref()).flat_map(move |view| {
            view.pods.iter().flat_map(move |pod| {
                pod.addresses.iter().map(move |&address| Listed {
                    view,
                    pod,
                    address,
                    standing: self.standing(&view.node, address),
                })
            })
        })
    }

    /// How an address stands that this node's list has, of a pod or of the node itself.
    pub fn standing(&self, node: &str, address: IpAddr) -> Standing {
        if self.nodes.get(node).is_none_or(|entry| entry.departed.is_some()) {
            return Standing::Departed;
        }
        // What an agent has by the API server's word is its own, whoever else claims it.
        let proven = self.agents.get(&address);
        let holder =
            proven.map_or_else(|| self.holders.get(&address).map(Option::as_deref), |node| Some(Some(node)));
        let sole = holder.is_none_or(|holder| holder == Some(node));
        if sole && !self.ours.contains(&address) { Standing::Sound } else { Standing::Contested }
    }

    /// How many addresses in lists are not probed because somebody else has them too.
    pub fn contested(&self) -> usize {
        let of_node = |view: &Arc<NodeView>| {
            claimed(view).filter(|&each| self.standing(&view.node, each) == Standing::Contested).count()
        };
        self.views().map(of_node).sum()
    }

    /// How many nodes' agents have departed lately.
    pub fn departed(&self) -> usize {
        self.nodes.values().filter(|entry| entry.departed.is_some()).count()
    }
}

fn is_fresh(view: &NodeView, now: Instant) -> bool {
    now.since(view.asked_at) < Directory::CLAIMS
}

/// The addresses that a list claims: the node's own, and its pods'.
fn claimed(view: &NodeView) -> impl Iterator<Item = IpAddr> {
    view.addresses.iter().chain(view.pods.iter().flat_map(|pod| &pod.addresses)).copied()
}

#[cfg(test)]
mod tests;
