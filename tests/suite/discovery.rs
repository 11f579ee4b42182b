//! Discovery against a real API server: nothing is missed, nothing is lost with the server, nothing is sent that is not
//! ours.

#[path = "discovery/world.rs"]
mod world;

use podsonar::discovery::api::Patience;
use podsonar::discovery::node::Leaving;
use podsonar::discovery::peers::{Limits, Mode, Refresh};
use podsonar::discovery::watch::TroubleKind;
use podsonar_lab::clock::{Deadline, soon};
use podsonar_lab::server::apiserver::objects::{self, Agent};
use podsonar_lab::server::apiserver::{Settings, Write};
use serde_json::json;
use std::time::Duration;
use world::World;

#[test]
fn a_streamed_list_and_what_follows() {
    follows_pods(Settings::default());
}

#[test]
fn where_lists_are_not_streamed_they_are_fetched() {
    follows_pods(Settings { streams_lists: false, ..Settings::default() });
}

#[test]
fn where_etcd_is_too_old_for_streamed_lists_they_are_fetched() {
    follows_pods(Settings { old_etcd: true, ..Settings::default() });
}

/// Pods from their creation to their end, among those of another node.
fn follows_pods(settings: Settings) {
    let world = World::new(settings);
    world.write(&[
        objects::create_pod("old", "node-1"),
        objects::create_pod("stranger", "node-2"),
        objects::run_pod("old", &["10.1.0.1"]),
        objects::run_pod("stranger", &["10.1.0.2"]),
    ]);
    let follower = world.follow();
    follower.wait_for_pods(&["old 10.1.0.1"]);
    assert_eq!(follower.pod("old").running_since, None, "it ran before");

    world.write(&[objects::create_pod("new", "node-1")]);
    world.write(&[objects::run_pod("new", &["10.1.0.3", "fd01::3"])]);
    follower.wait_for_pods(&["new 10.1.0.3 fd01::3", "old 10.1.0.1"]);
    let new = follower.pod("new");
    assert!(new.running_since.is_some(), "its start was seen");
    assert_eq!((new.port, &*new.id.namespace), (Some(80), objects::PODS));

    world.write(&[objects::run_pod("new", &["10.1.0.9"])]);
    follower.wait_for_pods(&["new 10.1.0.9", "old 10.1.0.1"]);
    world.write(&[objects::set_phase("old", "Succeeded", &["10.1.0.1"])]);
    follower.wait_for_pods(&["new 10.1.0.9"]);
    world.write(&[objects::delete_pod("new"), objects::delete_pod("old")]);
    follower.wait_for_pods(&[]);
    assert_eq!(follower.troubles(), []);
}

#[test]
fn the_own_node_and_each_way_in_which_it_leaves() {
    let world = World::new(Settings::default());
    let follower = world.follow();
    follower.wait_for_node("zone-a", None);
    world.write(&[objects::change_node("node-2", &json!({"unschedulable": true}))]);
    world.write(&[objects::change_node("node-1", &json!({"unschedulable": true}))]);
    follower.wait_for_node("zone-a", Some(Leaving::Cordoned));
    let taint = json!([{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]);
    world.write(&[objects::change_node("node-1", &json!({"unschedulable": null, "taints": taint}))]);
    follower.wait_for_node("zone-a", Some(Leaving::Karpenter));
    world.write(&[objects::change_node("node-1", &json!({"taints": null}))]);
    follower.wait_for_node("zone-a", None);
    world.write(&[objects::delete_node("node-1")]);
    follower.wait_for_node("zone-a", Some(Leaving::Deleted));
    world.write(&[objects::create_node("node-1", "zone-b")]);
    follower.wait_for_node("zone-b", None);
}

#[test]
fn peers_of_both_families_and_several_slices() {
    let world = World::new(Settings::default());
    world.write(&objects::create_slices(250));
    let six = [Agent { address: "fd01::7".into(), ..Agent::number(7) }];
    world.write(&[Write::create(objects::SLICES, objects::slice("six", "IPv6", &six))]);
    let mut other = objects::slice("other", "IPv4", &[Agent::number(999)]);
    other["metadata"]["labels"] = json!({"kubernetes.io/service-name": "other"});
    world.write(&[Write::create(objects::SLICES, other)]);
    let follower = world.follow();
    follower.wait_for_peers("250", |peers| peers.peers.len() == 250);
    let peers = follower.peers();
    assert_eq!((peers.peers[7].addresses.len(), peers.peers[8].addresses.len()), (2, 1));
    assert!(peers.peers.iter().all(|peer| peer.mesh_port == 19_989 && &*peer.zone == "zone-a"));

    world.write(&[Write::delete(&format!("{}/podsonar-00000", objects::SLICES))]);
    follower.wait_for_peers("151", |peers| peers.peers.len() == 151);
}

#[test]
fn so_many_peers_are_listed_and_refreshed_when_it_matters() {
    let world = World::new(Settings::default());
    world.write(&objects::create_slices(120));
    let limits = Limits {
        watched: 100,
        list_every: Duration::from_hours(1),
        refresh_every: Duration::ZERO,
        look_again: Duration::ZERO,
    };
    let follower = world.follow_with(limits, Patience::default());
    follower.wait_for_peers("list mode", |peers| peers.mode == Mode::List && peers.peers.len() == 120);

    let path = |number: usize| format!("{}/podsonar-{number:05}", objects::SLICES);
    let moved = |number| Agent { address: "10.250.0.1".into(), ..Agent::number(number) };
    let mut agents: Vec<_> = (100..120).map(Agent::number).collect();
    agents[10] = moved(110);
    world.write(&[Write::merge(&path(1), objects::slice("podsonar-00001", "IPv4", &agents))]);
    world.write(&[Write::create(objects::SLICES, objects::slice("late", "IPv4", &[Agent::number(500)]))]);
    follower.refresh(Refresh::Silent("node-00110".into()));
    let peers = follower.peers();
    assert_eq!(peers.peers[110].addresses, ["10.250.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(peers.peers.len(), 120, "only the slice of the silent one was fetched");
    follower.refresh(Refresh::Unknown);
    assert_eq!(follower.peers().peers.len(), 121);

    // An agent that was killed with its node, whose slice still had it at the first look.
    world.write(&[Write::delete(&path(1))]);
    follower.refresh(Refresh::Silent("node-00110".into()));
    assert_eq!(follower.peers().peers.len(), 101, "it is looked at again");

    world.write(&[Write::delete(&path(0))]);
    follower.refresh(Refresh::Unknown);
    follower.wait_for_peers("watch mode", |peers| peers.mode == Mode::Watch && peers.peers.len() == 1);
}

#[test]
fn a_killed_server_takes_nothing_away_and_all_is_caught_up_after_it() {
    let mut world = World::new(Settings::default());
    world.write(&[objects::create_pod("a", "node-1"), objects::create_pod("b", "node-1")]);
    world.write(&[objects::run_pod("a", &["10.1.0.1"])]);
    let follower = world.follow();
    follower.wait_for_pods(&["a 10.1.0.1"]);
    assert_eq!(follower.pods_age(), Some(Duration::ZERO));
    world.server.kill();
    follower.wait_until("the age of what is known to grow", soon(), |follower| {
        follower.pods_age().is_some_and(|age| age > Duration::from_secs(2))
    });
    assert_eq!(follower.pod_lines(), ["a 10.1.0.1"], "the last good set stays");
    assert!(follower.troubles().contains(&TroubleKind::Unreachable));
    world.server.start_again().unwrap();
    world.write(&[objects::run_pod("b", &["10.1.0.2"]), objects::delete_pod("a")]);
    follower.wait_until("it to be caught up", Deadline::after(Duration::from_secs(10)), |follower| {
        follower.pod_lines() == ["b 10.1.0.2"] && follower.pods_age() == Some(Duration::ZERO)
    });
    assert_eq!(follower.pods().pods[0].running_since, None, "when it started, nobody watched");
}

#[test]
fn what_is_too_old_to_go_on_from_is_listed_again() {
    let mut world = World::new(Settings::default());
    world.write(&[objects::create_pod("a", "node-1"), objects::run_pod("a", &["10.1.0.1"])]);
    let patience = Patience { silence: Duration::from_secs(2), ..Patience::default() };
    let follower = world.follow_with(Limits::default(), patience);
    follower.wait_for_pods(&["a 10.1.0.1"]);
    world.unplug();
    // Once it has given its watches up, nothing that is still on the way to them matters.
    follower.wait_until("all to be given up", Deadline::after(Duration::from_mins(1)), |follower| {
        follower.troubles().len() >= 3
    });
    world.write(&[objects::delete_pod("a"), objects::create_pod("b", "node-1")]);
    world.write(&[objects::run_pod("b", &["10.1.0.2"])]);
    // A server that starts anew has no changes from before in its cache, and etcd has none any more.
    world.server.kill();
    world.server.compact().unwrap();
    world.server.start_again().unwrap();
    world.plug_in();
    follower.wait_for_pods(&["b 10.1.0.2"]);
    assert!(follower.troubles().contains(&TroubleKind::Expired), "{:?}", follower.troubles());
}

#[test]
fn a_silent_server_is_noticed_and_a_quiet_one_is_not_taken_for_silent() {
    let world = World::new(Settings::default());
    world.write(&[objects::create_pod("a", "node-1"), objects::run_pod("a", &["10.1.0.1"])]);
    let follower = world.follow();
    follower.wait_for_pods(&["a 10.1.0.1"]);
    // Nothing happens but bookmarks, and of endpoint slices not even these, for longer than a watch may be silent.
    let quiet = Deadline::after(Duration::from_secs(100));
    follower.wait_until("100 quiet seconds", Deadline::after(Duration::from_mins(2)), |follower| {
        assert_eq!(follower.pods_age(), Some(Duration::ZERO), "{:?}", follower.troubles());
        quiet.passed()
    });
    assert_eq!(follower.troubles(), []);
    let paused = world.server.process().unwrap().pause().unwrap();
    follower.wait_until("the silence to be noticed", Deadline::after(Duration::from_mins(2)), |follower| {
        follower.pods_age() >= Some(Duration::from_secs(75))
    });
    let only = [TroubleKind::Silent, TroubleKind::Unreachable];
    assert!(follower.troubles().iter().all(|kind| only.contains(kind)), "{:?}", follower.troubles());
    assert_eq!(follower.pod_lines(), ["a 10.1.0.1"]);
    drop(paused);
    follower
        .wait_until("it to be current again", soon(), |follower| follower.pods_age() == Some(Duration::ZERO));
}

#[test]
fn a_refused_token_is_read_again() {
    let mut world = World::new(Settings::default());
    world.write(&[objects::create_pod("a", "node-1"), objects::run_pod("a", &["10.1.0.1"])]);
    let follower = world.follow();
    follower.wait_for_pods(&["a 10.1.0.1"]);
    world.server.void_tokens().unwrap();
    world.server.kill();
    world.server.start_again().unwrap();
    follower.wait_until("the refusal", soon(), |follower| {
        follower.troubles().contains(&TroubleKind::Unauthorized)
    });
    assert_eq!(follower.pod_lines(), ["a 10.1.0.1"], "the last good set stays");
    world.renew_token();
    follower.wait_until("the new token to be used", Deadline::after(Duration::from_mins(1)), |follower| {
        follower.pods_age() == Some(Duration::ZERO)
    });
}

#[test]
fn a_missing_right_is_told_and_is_used_once_it_is_given() {
    let world = World::without_rights();
    world.server.grant().unwrap();
    world.server.revoke_pods().unwrap();
    let follower = world.follow();
    follower.wait_for_node("zone-a", None);
    follower
        .wait_until("the refusal", soon(), |follower| follower.troubles().contains(&TroubleKind::Forbidden));
    assert_eq!(follower.pods_age(), None, "nothing was ever listed");
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/podsonar";
    world.write(&[Write::replace(path, objects::cluster_role(&["pods", "nodes"]))]);
    follower.wait_until("pods to be listed", Deadline::after(Duration::from_mins(1)), |follower| {
        follower.pods_age() == Some(Duration::ZERO)
    });
}

#[test]
fn churn_of_other_nodes_pods_sends_nothing_to_us() {
    let world = World::new(Settings::default());
    world.write(&[objects::create_pod("a", "node-1"), objects::run_pod("a", &["10.1.0.1"])]);
    let follower = world.follow();
    follower.wait_for_pods(&["a 10.1.0.1"]);
    let names: Vec<_> = (0..1_000).map(|number| format!("stranger-{number}")).collect();
    let capture = world.capture();
    world.write_many(names.iter().map(|name| objects::create_pod(name, "node-2")));
    world.write_many(names.iter().map(|name| objects::run_pod(name, &["10.1.0.2"])));
    world.write_many(names.iter().map(|name| objects::delete_pod(name)));
    world.write(&[objects::create_pod("z", "node-1")]);
    world.write(&[objects::run_pod("z", &["10.1.0.3"])]);
    follower.wait_for_pods(&["a 10.1.0.1", "z 10.1.0.3"]);
    let packets = capture.stop().unwrap();
    let received: usize =
        packets.iter().filter(|packet| !packet.outgoing).map(|packet| packet.bytes.len()).sum();
    // Two changes of a pod of ours, and a bookmark for each of three watches at the most.
    assert!(received < 12_000, "{received} bytes for 3,000 changes elsewhere");
}
