use super::*;
use crate::mesh::Local;
use crate::target::PodId;

#[test]
fn lists_of_peers_alone_are_taken_and_a_slow_answer_undoes_nothing() {
    let mut directory = Directory::default();
    assert!(!directory.learn(list("b", 1, &["10.0.0.1"]), at(1)));
    directory.set_peers(&[peer("b", "192.0.2.2")], at(1));
    assert!(directory.learn(list("b", 3, &["10.0.0.3"]), at(4)));
    assert!(!directory.learn(list("b", 2, &["10.0.0.2"]), at(5)));
    assert!(!directory.learn(list("c", 9, &["10.0.0.9"]), at(9)));
    assert_eq!(pods(&directory), [("b", "10.0.0.3".into(), Standing::Sound)]);
}

#[test]
fn an_address_of_two_nodes_is_probed_for_neither_until_one_lets_go() {
    let mut directory = with_peers(1);
    directory.learn(list("b", 1, &["10.0.0.1", "10.0.0.2"]), at(1));
    directory.learn(list("c", 1, &["10.0.0.2", "10.0.0.3"]), at(1));
    assert_eq!(
        pods(&directory),
        [
            ("b", "10.0.0.1".into(), Standing::Sound),
            ("b", "10.0.0.2".into(), Standing::Contested),
            ("c", "10.0.0.2".into(), Standing::Contested),
            ("c", "10.0.0.3".into(), Standing::Sound),
        ]
    );
    assert_eq!(directory.contested(), 2);
    directory.learn(list("b", 2, &["10.0.0.1"]), at(2));
    assert_eq!(directory.contested(), 0);
    assert_eq!(directory.standing("c", address("10.0.0.2")), Standing::Sound);
}

#[test]
fn a_departed_agent_claims_nothing_and_its_pods_stay_unprobed_for_two_minutes() {
    let mut directory = with_peers(1);
    directory.learn(list("b", 1, &["10.0.0.1"]), at(1));
    directory.learn(list("c", 1, &["10.0.0.1"]), at(1));
    directory.set_peers(&[peer("c", "192.0.2.3")], at(10));
    assert_eq!(
        pods(&directory),
        [("b", "10.0.0.1".into(), Standing::Departed), ("c", "10.0.0.1".into(), Standing::Sound)]
    );
    // Told again, it has still departed when it did.
    directory.set_peers(&[peer("c", "192.0.2.3")], at(100));
    directory.settle(at(129));
    assert_eq!((directory.departed(), pods(&directory).len()), (1, 2));
    directory.settle(at(130));
    assert_eq!((directory.departed(), pods(&directory).len()), (0, 1));
}

#[test]
fn who_comes_back_goes_on_with_its_pods() {
    let mut directory = with_peers(1);
    directory.learn(list("b", 1, &["10.0.0.1"]), at(1));
    directory.set_peers(&[], at(10));
    assert_eq!(pods(&directory), [("b", "10.0.0.1".into(), Standing::Departed)]);
    directory.set_peers(&[peer("b", "192.0.2.7")], at(100));
    directory.settle(at(500));
    assert_eq!(pods(&directory), [("b", "10.0.0.1".into(), Standing::Sound)]);
}

#[test]
fn nobody_can_claim_our_own_pods_or_other_agents() {
    let mut directory = with_peers(1);
    directory.set_own(list("a", 1, &["10.0.9.9"]), at(1));
    directory.learn(list("b", 1, &["10.0.9.9", "192.0.2.3", "192.0.2.2"]), at(1));
    directory.learn(list("c", 1, &["192.0.2.3", "192.0.2.2"]), at(1));
    assert_eq!(
        pods(&directory),
        [
            ("b", "10.0.9.9".into(), Standing::Contested),
            ("b", "192.0.2.3".into(), Standing::Contested),
            // The agent itself is a pod of its node.
            ("b", "192.0.2.2".into(), Standing::Sound),
            ("c", "192.0.2.3".into(), Standing::Sound),
            ("c", "192.0.2.2".into(), Standing::Contested),
        ]
    );
}

#[test]
fn a_node_s_own_address_is_claimed_too() {
    let mut directory = with_peers(1);
    directory.learn(node_at("b", 1, "192.0.2.200"), at(1));
    directory.learn(list("c", 1, &["192.0.2.200"]), at(1));
    assert_eq!(directory.standing("b", address("192.0.2.200")), Standing::Contested);
    assert_eq!(directory.standing("c", address("192.0.2.200")), Standing::Contested);
}

#[test]
fn a_list_that_nobody_confirms_ends_claiming() {
    let mut directory = with_peers(1);
    directory.learn(list("b", 1, &["10.0.0.1"]), at(1));
    directory.learn(list("c", 60, &["10.0.0.1"]), at(60));
    directory.settle(at(120));
    assert_eq!(directory.standing("c", address("10.0.0.1")), Standing::Contested);
    directory.settle(at(121));
    assert_eq!(directory.standing("c", address("10.0.0.1")), Standing::Sound);
    assert_eq!(directory.standing("b", address("10.0.0.1")), Standing::Contested);
    // Confirmed again, it does, though it is the same list.
    directory.learn(list("b", 130, &["10.0.0.1"]), at(130));
    assert_eq!(directory.contested(), 2);
}

fn with_peers(seconds: u64) -> Directory {
    let mut directory = Directory::default();
    directory.set_peers(&[peer("b", "192.0.2.2"), peer("c", "192.0.2.3")], at(seconds));
    directory
}

fn pods(directory: &Directory) -> Vec<(&str, String, Standing)> {
    directory.pods().map(|each| (&*each.view.node, each.address.to_string(), each.standing)).collect()
}

fn peer(node: &str, at: &str) -> Peer {
    Peer {
        node: node.into(),
        zone: Arc::default(),
        uid: Arc::default(),
        addresses: vec![address(at)],
        mesh_port: 19_989,
        terminating: false,
    }
}

fn list(node: &str, asked: u64, addresses: &[&str]) -> Arc<NodeView> {
    let pod = |(number, text): (usize, &&str)| Pod {
        id: Arc::new(PodId {
            uid: format!("{node}-{number}").into(),
            namespace: "default".into(),
            name: format!("{node}-{number}").into(),
            workload: Arc::default(),
        }),
        addresses: vec![address(text)],
        port: None,
        running_since: None,
        local: Local::default(),
    };
    let pods = addresses.iter().enumerate().map(pod).collect();
    Arc::new(NodeView { pods, ..view(node, asked) })
}

fn node_at(node: &str, asked: u64, at: &str) -> Arc<NodeView> {
    Arc::new(NodeView { addresses: vec![address(at)], ..view(node, asked) })
}

fn view(node: &str, asked: u64) -> NodeView {
    NodeView {
        node: node.into(),
        zone: Arc::default(),
        epoch: 1,
        addresses: Vec::new(),
        leaving: false,
        asked_at: at(asked),
        watch_age: Some(Duration::ZERO),
        probes_us: None,
        pods: Vec::new(),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}
