//! The outcome, pinned: agents of one version must agree on every platform and in every release. A change here is a new
//! version.

use super::*;
use podsonar_core::selection::VERSION;
#[cfg(not(podsonar_next))]
use podsonar_core::selection::observers;

/// FNV-1a (draft-eastlake-fnv §4.2), 64 bit.
fn digest(edges: &BTreeSet<(Arc<str>, Arc<str>)>) -> u64 {
    let bytes =
        edges.iter().flat_map(|(one, other)| one.bytes().chain([b' ']).chain(other.bytes()).chain([b'\n']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[test]
#[cfg(not(podsonar_next))]
fn version_1_is_pinned() {
    assert_eq!(VERSION, 1);
    let small = cluster(&[20, 20, 10]);
    let peers = graph(&small).peers_of("node-2-0");
    assert_eq!(
        peers.join(" "),
        "node-0-1 node-0-10 node-0-12 node-0-13 node-0-15 node-0-17 node-0-19 node-0-7 node-0-8 \
         node-0-9 node-1-10 node-1-12 node-1-13 node-1-14 node-1-16 node-1-4 node-1-7 node-1-9 \
         node-2-1 node-2-2 node-2-3 node-2-4 node-2-5 node-2-6 node-2-7 node-2-8 node-2-9"
    );
    let observers = observers(&peers, "5a1f3d1e-8f43-4a3a-9c55-0d6f6a2b7c11", 4);
    assert_eq!(
        observers.iter().map(|name| &***name).collect::<Vec<_>>(),
        ["node-1-12", "node-2-9", "node-2-8", "node-0-17"]
    );
    assert_eq!(digest(&edges(&small)), 6_210_285_104_817_070_661);
    assert_eq!(digest(&edges(&cluster(&[200, 200, 100]))), 8_647_420_052_609_733_651);
}

#[test]
#[cfg(podsonar_next)]
fn the_next_version_chooses_other_peers() {
    assert_eq!(VERSION, 2);
    assert_ne!(digest(&edges(&cluster(&[20, 20, 10]))), 6_210_285_104_817_070_661);
}
