//! An agent that may open no raw socket, as with the chart's values for namespaces that are `restricted`.

use crate::{World, soon, sum};
use podsonar_lab::agent::Privilege;
use std::collections::BTreeSet;

#[test]
fn without_any_raw_socket_an_agent_is_ready_says_what_is_missing_and_connects_to_its_peers_pods() {
    let mut world = World::new(2, "");
    // It starts before its peer, and has nothing but its own pods then: it is ready all the same.
    world.mesh.start_agent_with(0, Privilege::Nobody).unwrap();
    world.mesh.start_agent(1).unwrap();
    let results = |destination, result| {
        [("kind", "pod"), ("protocol", "connect"), ("destination", destination), ("result", result)]
    };
    let count = |pages: &[podsonar_lab::scrape::Scrape], destination, result| {
        sum(&pages[0], "podsonar_probes_total", &results(destination, result))
    };
    world.wait_for(soon(), "handshakes with all pods", |pages| {
        let all =
            ["node-1", "node-2"].into_iter().flat_map(|node| ["reply", "reset"].map(|result| (node, result)));
        all.map(|(node, result)| count(pages, node, result)).all(|times| times >= 3).then_some(())
    });
    // A SYN alone is accepted by nobody.
    assert!(world.listeners[1].accepted() >= 3, "{}", world.listeners[1].accepted());

    let page = world.page(1);
    let modes = page.samples.iter().filter(|sample| sample.name == "podsonar_probe_mode");
    let modes: BTreeSet<_> =
        modes.map(|sample| (sample.labels["protocol"].as_str(), sample.labels["mode"].as_str())).collect();
    assert_eq!(modes, BTreeSet::from([("icmp", "none"), ("tcp", "connect")]));
    for raw in ["icmp", "tcp"] {
        assert_eq!(page.sum("podsonar_probes_total", &[("protocol", raw)]), None, "{raw}");
    }
    let lines = world.node(1).agent().unwrap().process.lines();
    for words in [
        ["not probed", "protocol=\"icmp\"", "ping_group_range"],
        ["full handshakes instead of SYNs", "protocol=\"tcp\"", "CAP_NET_RAW"],
        ["loss is not told by direction", "family=\"4\"", "other agents' probes cannot be seen"],
    ] {
        let said = |line: &String| words.iter().all(|word| line.contains(word));
        assert!(lines.iter().any(said), "{words:?} in {lines:#?}");
    }

    // Its peer has no fault to tell: it never heard a probe of it, and is not heard itself.
    world.go_on(30);
    assert_eq!(world.losses(), Vec::<String>::new());
    for page in world.pages() {
        assert_eq!(sum(&page, "podsonar_edges_in_fault", &[]), 0);
        assert_eq!(sum(&page, "podsonar_peers", &[("state", "told")]), 1);
    }
}
