//! Who probes whom: a pure function of the nodes' names and zones, so that all agents agree without talking. `make sim`
//! shows what comes of it.
//!
//! All nodes stand on one ring, and those of each zone on another, in the order of a hash. A node **likes** others:
//! first its nearest on the ring of its zone, a quarter of `peers.max` to each side; then its nearest on the ring of
//! all, until it has liked `peers.max`. Two nodes are peers where each likes the other. So the graph is symmetric and
//! below the ceiling by construction, and a full mesh while everybody has room for everybody.
//!
//! A ring that is looked at to distance r is as good as r rings: who joins or leaves it moves three edges for each.
//! Nearer ones are liked on both sides, so these rings never coincide, as independent ones do; and a change stays where
//! it happens. Up to 8 distances are used in a zone and 16 across, of which half serve small clusters and small zones.

mod duty;
mod ring;

use std::sync::Arc;

use crate::hash::stable;
use ring::Ring;

pub use duty::{Capped, cap, observers, rank};

/// Which selection this is. Agents of two versions choose different peers, which costs symmetry for the time of an
/// update and nothing else: any known agent's probes count.
pub const VERSION: u32 = if cfg!(podsonar_next) { 2 } else { 1 };

/// The graph of all nodes.
#[derive(Debug)]
pub struct Graph {
    /// In order of name.
    nodes: Vec<Node>,
    /// The ring of each zone.
    zones: Vec<Ring>,
    /// The ring of all nodes.
    across: Ring,
    /// Most peers of a node.
    max: usize,
}

#[derive(Debug)]
struct Node {
    name: Arc<str>,
    zone: usize,
    /// Its place in its zone's ring.
    in_zone: usize,
    /// Its place in the ring of all.
    in_all: usize,
    /// What put it there.
    hash: u64,
}

impl Graph {
    /// The graph of nodes given by name and zone, in any order; an empty zone is a zone as others are. Of a name that
    /// comes twice the last zone in alphabetical order counts, so that any zone is better than none. No node gets more
    /// than `peers_max` peers.
    pub fn new(nodes: impl IntoIterator<Item = (Arc<str>, Arc<str>)>, peers_max: usize) -> Self {
        let mut named: Vec<_> = nodes.into_iter().collect();
        named.sort_unstable_by(|a, b| b.cmp(a));
        named.dedup_by(|a, b| a.0 == b.0);
        named.reverse();
        let mut zones: Vec<_> = named.iter().map(|(_, zone)| Arc::clone(zone)).collect();
        zones.sort_unstable();
        zones.dedup();

        let mut nodes = Vec::with_capacity(named.len());
        let mut members = vec![Vec::new(); zones.len()];
        for (index, (name, zone)) in named.into_iter().enumerate() {
            let zone = zones.partition_point(|other| *other < zone);
            if let Some(members) = members.get_mut(zone) {
                members.push((place(b"zone", &name), index));
            }
            let hash = place(b"all", &name);
            nodes.push(Node { name, zone, in_zone: 0, in_all: 0, hash });
        }
        let across = Ring::new(nodes.iter().enumerate().map(|(index, node)| (node.hash, index)).collect());
        let zones: Vec<_> = members.into_iter().map(Ring::new).collect();
        for (place, &node) in across.nodes().iter().enumerate() {
            if let Some(node) = nodes.get_mut(node) {
                node.in_all = place;
            }
        }
        for (place, &node) in zones.iter().flat_map(|zone| zone.nodes().iter().enumerate()) {
            if let Some(node) = nodes.get_mut(node) {
                node.in_zone = place;
            }
        }
        Self { nodes, zones, across, max: peers_max }
    }

    /// The peers of a node, in order of name; none if it is not in the graph.
    pub fn peers_of(&self, name: &str) -> Vec<Arc<str>> {
        let Ok(index) = self.nodes.binary_search_by(|node| (*node.name).cmp(name)) else { return Vec::new() };
        let mut peers: Vec<_> =
            self.liked(index).into_iter().filter(|peer| self.liked(*peer).contains(&index)).collect();
        peers.sort_unstable();
        peers.into_iter().filter_map(|peer| Some(Arc::clone(&self.nodes.get(peer)?.name))).collect()
    }

    /// All edges, each once, in order of names.
    pub fn edges(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let liked: Vec<_> = (0..self.nodes.len()).map(|node| self.liked(node)).collect();
        let mutual = |one: usize, other: usize| liked.get(other).is_some_and(|liked| liked.contains(&one));
        let name = |node: usize| self.nodes.get(node).map(|node| Arc::clone(&node.name));
        let mut edges: Vec<_> = liked
            .iter()
            .enumerate()
            .flat_map(|(one, liked)| liked.iter().map(move |other| (one, *other)))
            .filter(|(one, other)| one < other && mutual(*one, *other))
            .collect();
        edges.sort_unstable();
        edges.into_iter().filter_map(|(one, other)| Some((name(one)?, name(other)?))).collect()
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whom a node would have as peers, if all liked it.
    fn liked(&self, index: usize) -> Vec<usize> {
        let Some(node) = self.nodes.get(index) else { return Vec::new() };
        let mut liked: Vec<_> = self.own(node).collect();
        let mut others: Vec<_> = (1..=self.max.div_ceil(2))
            .flat_map(|distance| {
                self.across.around(node.in_all, distance).map(move |other| (distance, other))
            })
            .filter(|(_, other)| !liked.contains(other))
            .filter_map(|(distance, other)| Some((self.weight(index, other, distance)?, other)))
            .collect();
        others.sort_unstable();
        liked.extend(others.into_iter().map(|(_, other)| other));
        liked.truncate(self.max);
        liked
    }

    /// Its nearest in its own zone.
    fn own(&self, node: &Node) -> impl Iterator<Item = usize> {
        let zone = self.zones.get(node.zone);
        (1..=self.max / 4).filter_map(move |distance| Some(zone?.around(node.in_zone, distance))).flatten()
    }

    /// In which order two nodes on the ring of all like each other; the same for both, and ties are decided by what
    /// differs between any two pairs of a node. A pair that would miss a zone without each other comes first. Else
    /// distance counts, in relation to how far the one looks that has more room.
    fn weight(&self, one: usize, other: usize, distance: usize) -> Option<(usize, u64)> {
        let (a, b) = (self.nodes.get(one)?, self.nodes.get(other)?);
        let needed = self.window(a, b.zone) == Some(other) || self.window(b, a.zone) == Some(one);
        let reach = self.reach(a).max(self.reach(b));
        Some((if needed { 0 } else { (distance << 16) / reach }, a.hash ^ b.hash))
    }

    /// How far a node looks on the ring of all, to each side: far enough for half of its peers, and where its zone has
    /// so few others that they do not make the half of a half, for what is missing too.
    fn reach(&self, node: &Node) -> usize {
        let own = self.zones.get(node.zone).map_or(0, |zone| zone.nodes().len().saturating_sub(1));
        (self.max / 4 + (self.max / 4).saturating_sub(own)).max(1)
    }

    /// A node's only sight of a large zone that it would miss by chance, as all its near are of other zones: the zone's
    /// nearest. Where "large" begins differs from node to node, between a tenth and a fifth of all, so that a zone that
    /// grows through it moves no more edges at once than others do; and it is looked for only so far that a node that
    /// leaves a gap makes eight windows at most.
    fn window(&self, node: &Node, zone: usize) -> Option<usize> {
        let size = self.zones.get(zone)?.nodes().len() as u64;
        let large = self.nodes.len() as u64 * (0x1_0000 + (node.hash & 0xffff)) / 0xa_0000;
        if zone == node.zone || size < large {
            return None;
        }
        (1..=self.max * 5 / 16)
            .flat_map(|distance| {
                self.across.around(node.in_all, distance).map(move |other| (distance, other))
            })
            .find(|(_, other)| self.nodes.get(*other).is_some_and(|other| other.zone == zone))
            .filter(|(distance, _)| *distance > self.max * 3 / 16)
            .map(|(_, other)| other)
    }
}

/// A node's place in a ring.
fn place(ring: &[u8], name: &str) -> u64 {
    stable(&[b"selection", &VERSION.to_le_bytes(), ring, name.as_bytes()])
}
