//! Which pods an agent has to probe: of each pod, its node's peers in an order of the pod's own.

use std::sync::Arc;

use crate::hash::stable;

/// Who probes a pod: the first `max` of its node's peers in an order that the pod's UID makes of them, so that each pod
/// of a node has others. They are as many as they can be, on as many nodes; when a peer goes, only its pods find
/// another.
pub fn observers<'a>(peers: &'a [Arc<str>], pod_uid: &str, max: usize) -> Vec<&'a Arc<str>> {
    let mut order: Vec<_> = peers.iter().map(|peer| (score(peer, pod_uid), peer)).collect();
    order.sort_unstable();
    order.truncate(max);
    order.into_iter().map(|(_, peer)| peer).collect()
}

/// Which of a pod's observers a node is: zero is the first; `None` if it is none of them. `peers` are those of the
/// pod's node, `me` need not be one of them.
pub fn rank(peers: &[Arc<str>], pod_uid: &str, max: usize, me: &str) -> Option<usize> {
    if !peers.iter().any(|peer| **peer == *me) {
        return None;
    }
    let mine = (score(me, pod_uid), me);
    let before = peers.iter().filter(|peer| (score(peer, pod_uid), &***peer) < mine).count();
    (before < max).then_some(before)
}

/// What is left of an agent's pods under a ceiling.
#[derive(Debug, PartialEq, Eq)]
pub struct Capped<T> {
    /// The pods to probe, those first in which this agent's probes matter most.
    pub kept: Vec<T>,
    /// How many had no room.
    pub left_out: usize,
}

/// Keeps at most `max` of an agent's pods, each with this agent's [`rank`] among its observers and its UID. Those go
/// first in which it is a late observer: when all agents are full, every pod has kept its first ones.
pub fn cap<T>(pods: impl IntoIterator<Item = (usize, Arc<str>, T)>, max: usize) -> Capped<T> {
    let mut pods: Vec<_> =
        pods.into_iter().map(|(rank, uid, pod)| (rank, score("", &uid), uid, pod)).collect();
    pods.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
    let left_out = pods.len().saturating_sub(max);
    pods.truncate(max);
    Capped { kept: pods.into_iter().map(|(.., pod)| pod).collect(), left_out }
}

fn score(observer: &str, pod_uid: &str) -> u64 {
    stable(&[b"observer", &super::VERSION.to_le_bytes(), observer.as_bytes(), pod_uid.as_bytes()])
}
