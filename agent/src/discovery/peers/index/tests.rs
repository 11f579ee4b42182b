use serde_json::{Value, json};

use super::*;

#[test]
fn peers_are_the_agents_of_other_nodes_by_node() {
    let index = with(&[(
        "s",
        "IPv4",
        1,
        vec![on("b", "ub", "10.0.0.2"), on("own", "uo", "10.0.0.9"), on("a", "ua", "10.0.0.1")],
    )]);
    assert_eq!(peers(&index), ["a ua 10.0.0.1", "b ub 10.0.0.2"]);
    let peer = &index.peers()[0];
    assert_eq!((&*peer.zone, peer.mesh_port, peer.terminating), ("z", 19_989, false));
}

#[test]
fn both_families_of_a_pod_are_one_peer() {
    let index = with(&[
        ("s6", "IPv6", 1, vec![on("a", "ua", "fd00::1")]),
        ("s4", "IPv4", 2, vec![on("a", "ua", "10.0.0.1"), on("b", "ub", "10.0.0.2")]),
    ]);
    assert_eq!(peers(&index), ["a ua 10.0.0.1 fd00::1", "b ub 10.0.0.2"]);
}

#[test]
fn more_than_a_hundred_agents_come_in_several_slices() {
    let mut index = Index::new("own".into());
    for (number, first) in (0..950).step_by(100).enumerate() {
        let agents: Vec<_> = (first..first + 100)
            .map(|each| {
                on(
                    &format!("n{each:04}"),
                    &format!("u{each}"),
                    &format!("10.0.{}.{}", each / 250, each % 250 + 1),
                )
            })
            .collect();
        index.apply(&slice(&format!("s{number}"), "IPv4", number as u64 + 1, &agents));
    }
    assert_eq!((index.peers().len(), index.endpoints(), index.useless()), (1_000, 1_000, 0));
    index.delete("s0");
    assert_eq!(index.peers().len(), 900);
}

#[test]
fn an_endpoint_that_moves_between_slices_is_one_peer_as_the_newer_slice_has_it() {
    let mut index = with(&[("s1", "IPv4", 5, vec![on("a", "ua", "10.0.0.1")])]);
    index.apply(&slice("s2", "IPv4", 6, &[on("a", "ua", "10.0.0.1")]));
    assert_eq!(peers(&index), ["a ua 10.0.0.1"], "in both while it moves");
    index.apply(&slice("s2", "IPv4", 7, &[on("a", "ua", "10.0.0.7")]));
    assert_eq!(peers(&index), ["a ua 10.0.0.7"], "its sandbox got another address");
    index.apply(&slice("s1", "IPv4", 8, &[]));
    assert_eq!(peers(&index), ["a ua 10.0.0.7"]);
    index.delete("s1");
    assert_eq!(peers(&index), ["a ua 10.0.0.7"]);
}

#[test]
fn of_two_pods_on_a_node_the_one_that_stays_is_the_agent() {
    let old = terminating(on("a", "old", "10.0.0.1"));
    let new = on("a", "new", "10.0.0.2");
    for both in [vec![old.clone(), new.clone()], vec![new, old.clone()]] {
        assert_eq!(peers(&with(&[("s", "IPv4", 1, both)])), ["a new 10.0.0.2"]);
    }
    let alone = with(&[("s", "IPv4", 1, vec![old])]);
    assert!(alone.peers()[0].terminating, "it is told as long as it is there");
}

#[test]
fn of_two_that_stay_the_serving_one_is_the_agent_then_the_later_one() {
    let mut starting = on("a", "new", "10.0.0.2");
    starting["conditions"] = json!({"ready": true, "serving": false});
    let index = with(&[("s", "IPv4", 1, vec![on("a", "old", "10.0.0.1"), starting])]);
    assert_eq!(peers(&index), ["a old 10.0.0.1"]);
    let mut index = with(&[("s", "IPv4", 1, vec![on("a", "z-old", "10.0.0.1")])]);
    index.apply(&slice("s", "IPv4", 2, &[on("a", "a-new", "10.0.0.2"), on("a", "z-old", "10.0.0.1")]));
    assert_eq!(peers(&index), ["a a-new 10.0.0.2"]);
}

#[test]
fn without_a_pod_behind_it_an_endpoint_is_its_nodes() {
    let mut bare = on("a", "", "10.0.0.1");
    bare["targetRef"] = json!(null);
    assert_eq!(peers(&with(&[("s", "IPv4", 1, vec![bare])])), ["a  10.0.0.1"]);
}

#[test]
fn a_list_replaces_all_at_its_end_and_not_before() {
    let mut index = with(&[("s1", "IPv4", 1, vec![on("a", "ua", "10.0.0.1")])]);
    index.begin();
    index.include(&slice("s2", "IPv4", 2, &[on("b", "ub", "10.0.0.2")]));
    assert_eq!(peers(&index), ["a ua 10.0.0.1"]);
    index.complete();
    assert_eq!(peers(&index), ["b ub 10.0.0.2"]);
    assert_eq!((index.version("s2"), index.version("s1")), (Some("2"), None));
    assert_eq!(index.slices_of("b").collect::<Vec<_>>(), ["s2"]);
    index.retain(|name| name != "s2");
    assert!(index.peers().is_empty());
}

#[test]
fn pods_that_are_gone_are_forgotten() {
    let mut index = Index::new("own".into());
    for round in 0..10_000 {
        index.apply(&slice("s", "IPv4", round, &[on("a", &format!("u{round}"), "10.0.0.1")]));
    }
    assert!(index.seen.len() < 100, "{} remembered", index.seen.len());
}

fn with(slices: &[(&str, &str, u64, Vec<Value>)]) -> Index {
    let mut index = Index::new("own".into());
    index.begin();
    for (name, family, version, endpoints) in slices {
        index.include(&slice(name, family, *version, endpoints));
    }
    index.complete();
    index
}

fn slice(name: &str, family: &str, version: u64, endpoints: &[Value]) -> Slice {
    let object = json!({
        "metadata": {"name": name, "resourceVersion": version.to_string()},
        "addressType": family,
        "ports": [{"name": "mesh", "port": 19989}],
        "endpoints": endpoints,
    });
    serde_json::from_value(object).unwrap()
}

fn on(node: &str, uid: &str, address: &str) -> Value {
    json!({
        "addresses": [address], "nodeName": node, "zone": "z", "targetRef": {"kind": "Pod", "uid": uid},
        "conditions": {"ready": true, "serving": true, "terminating": false},
    })
}

fn terminating(mut endpoint: Value) -> Value {
    endpoint["conditions"] = json!({"ready": true, "serving": true, "terminating": true});
    endpoint
}

fn peers(index: &Index) -> Vec<String> {
    let line = |peer: &Peer| {
        let addresses: Vec<_> = peer.addresses.iter().map(ToString::to_string).collect();
        format!("{} {} {}", peer.node, peer.uid, addresses.join(" "))
    };
    index.peers().iter().map(line).collect()
}
