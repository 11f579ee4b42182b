//! Who probes whom: laws for any cluster, vectors that pin the outcome, and the simulation of whole clusters.

mod laws;
mod simulation;
mod vectors;

use std::collections::BTreeSet;
use std::sync::Arc;

use podsonar_core::selection::Graph;

/// A node's name and zone.
type Member = (Arc<str>, Arc<str>);

/// The default of `peers.max`.
const PEERS_MAX: usize = 32;
/// The default of `observers.max`.
const OBSERVERS_MAX: usize = 8;
/// Edges that one ring may move when a node joins or leaves, times rings: 8 in a zone, 16 across.
const MOVES_MAX: usize = 3 * (PEERS_MAX / 4 + PEERS_MAX / 2);

/// Zones of these sizes, with names as clouds make them.
fn cluster(sizes: &[usize]) -> Vec<Member> {
    let zone = |zone: usize| Arc::<str>::from(format!("zone-{zone}"));
    let node = |zone, node| Arc::<str>::from(format!("node-{zone}-{node}"));
    sizes.iter().enumerate().flat_map(|(z, size)| (0..*size).map(move |n| (node(z, n), zone(z)))).collect()
}

fn graph(members: &[Member]) -> Graph {
    Graph::new(members.iter().cloned(), PEERS_MAX)
}

fn edges(members: &[Member]) -> BTreeSet<(Arc<str>, Arc<str>)> {
    graph(members).edges().into_iter().collect()
}
