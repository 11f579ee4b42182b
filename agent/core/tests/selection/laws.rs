//! What holds for any cluster.

use std::collections::BTreeMap;

use podsonar_core::selection::{cap, observers, rank};
use proptest::prelude::*;

use super::*;

/// Clusters of up to 130 nodes in up to six zones, one of them without a name.
fn any_cluster() -> impl Strategy<Value = Vec<Member>> {
    let zones = prop_oneof![Just(1_u8), Just(3), Just(6)];
    (0..130_usize, zones, any::<u32>()).prop_flat_map(|(nodes, zones, seed)| {
        proptest::collection::vec(0..zones, nodes).prop_map(move |zones| {
            let zone = |zone: u8| if zone == 0 { Arc::from("") } else { Arc::from(format!("zone-{zone}")) };
            zones
                .into_iter()
                .enumerate()
                .map(|(n, z)| (Arc::from(format!("node-{seed}-{n}")), zone(z)))
                .collect()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edges_are_symmetric_and_no_node_has_more_than_the_ceiling(members in any_cluster(), peers_max in 0..40_usize) {
        let graph = Graph::new(members.iter().cloned(), peers_max);
        let peers: BTreeMap<_, _> = members.iter().map(|(name, _)| (name, graph.peers_of(name))).collect();
        for (name, of_it) in &peers {
            prop_assert!(of_it.len() <= peers_max);
            prop_assert!(of_it.iter().all(|peer| peer != *name && peers[peer].contains(name)));
        }
        let ends: usize = peers.values().map(Vec::len).sum();
        prop_assert_eq!(graph.edges().len() * 2, ends);
    }

    #[test]
    fn up_to_33_nodes_all_are_peers(members in any_cluster()) {
        let members = &members[..members.len().min(PEERS_MAX + 1)];
        let graph = graph(members);
        for (name, _) in members {
            prop_assert_eq!(graph.peers_of(name).len(), members.len() - 1);
        }
    }

    #[test]
    fn order_and_repetition_of_the_nodes_change_nothing(members in any_cluster(), key in any::<u64>()) {
        let mut shuffled = members.clone();
        shuffled.extend(members.iter().take(9).cloned());
        shuffled.extend(members.iter().take(5).map(|(name, _)| (Arc::clone(name), Arc::from(""))));
        let mixed = |name: &str| name.bytes().fold(key, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        shuffled.sort_by_key(|(name, _)| mixed(name));
        prop_assert_eq!(edges(&members), edges(&shuffled));
    }

    #[test]
    fn one_join_or_leave_moves_at_most_three_edges_a_ring(members in any_cluster(), who in any::<prop::sample::Index>()) {
        prop_assume!(!members.is_empty());
        let mut fewer = members.clone();
        fewer.remove(who.index(members.len()));
        prop_assert!(edges(&members).symmetric_difference(&edges(&fewer)).count() <= MOVES_MAX);
    }

    #[test]
    fn every_agent_computes_the_same_observers(count in 0..33_usize, uid in ".{0,40}", max in 0..12_usize) {
        let peers: Vec<Arc<str>> = (0..count).map(|n| Arc::from(format!("node-{n}"))).collect();
        let chosen = observers(&peers, &uid, max);
        prop_assert_eq!(chosen.len(), count.min(max));
        for peer in &peers {
            prop_assert_eq!(rank(&peers, &uid, max, peer), chosen.iter().position(|other| *other == peer));
        }
        prop_assert_eq!(rank(&peers, &uid, max, "stranger"), None);
        let reversed: Vec<_> = peers.iter().rev().cloned().collect();
        prop_assert_eq!(observers(&reversed, &uid, max), chosen);
    }

    #[test]
    fn when_a_peer_goes_only_its_pods_find_another_observer(count in 1..33_usize, uid in "[a-z]{8}") {
        let peers: Vec<Arc<str>> = (0..count).map(|n| Arc::from(format!("node-{n}"))).collect();
        let (fewer, gone) = (&peers[1..], &peers[0]);
        let (before, after) = (observers(&peers, &uid, OBSERVERS_MAX), observers(fewer, &uid, OBSERVERS_MAX));
        prop_assert!(before.iter().filter(|peer| **peer != gone).all(|peer| after.contains(peer)));
    }

    #[test]
    fn a_full_agent_keeps_pods_whose_first_observer_it_is(ranks in proptest::collection::vec(0..8_usize, 0..60), max in 0..70_usize) {
        let pods: Vec<_> = ranks.iter().enumerate().map(|(n, rank)| (*rank, Arc::from(format!("uid-{n}")), (*rank, n))).collect();
        let capped = cap(pods.clone(), max);
        prop_assert_eq!(capped.kept.len(), ranks.len().min(max));
        prop_assert_eq!(capped.kept.len() + capped.left_out, ranks.len());
        let last = capped.kept.iter().map(|(rank, _)| *rank).max();
        let kept_before = |rank: usize| capped.kept.iter().filter(|(kept, _)| *kept < rank).count();
        prop_assert!(last.is_none_or(|last| kept_before(last) == ranks.iter().filter(|rank| **rank < last).count()));
        prop_assert_eq!(cap(pods.into_iter().rev(), max), capped);
    }
}

#[test]
fn a_node_that_is_not_there_has_no_peers() {
    assert!(graph(&cluster(&[5, 5])).peers_of("stranger").is_empty());
    assert!(graph(&[]).is_empty() && graph(&[]).edges().is_empty());
}

#[test]
fn any_zone_is_better_than_none() {
    let nodes = [("a", ""), ("b", "z"), ("a", "z")].map(|(name, zone)| (Arc::from(name), Arc::from(zone)));
    assert_eq!(graph(&nodes).len(), 2);
    assert_eq!(edges(&nodes), edges(&nodes[1..]));
}
