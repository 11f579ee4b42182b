//! The agents as the manifest says.

use crate::shared::{field, file_of_agent};
use crate::{cluster, minute, with_pods};
use podsonar_lab::Cluster;
use podsonar_lab::clock::wait_until;
use podsonar_lab::cluster::watched::METRICS_PORT;
use podsonar_lab::server::prometheus::{Format, Prometheus, Version};
use std::collections::BTreeSet;
use std::net::SocketAddr;

#[test]
fn an_agent_is_ready_on_each_node_and_knows_where_it_is() {
    let cluster = cluster();
    let nodes: BTreeSet<String> = cluster.nodes().iter().map(|node| node.identity.name.clone()).collect();
    let agents = cluster.agents().unwrap();
    assert_eq!(agents.len(), nodes.len());
    assert!(agents.iter().all(|agent| agent.ready), "{agents:?}");
    for node in nodes {
        let page = cluster.scrape(&node).unwrap();
        assert!(page.select("podsonar_build_info", &[("source", &node)]).next().is_some(), "{node}");
    }
}

#[test]
fn agents_nodes_and_pods_are_probed_by_both_families() {
    let cluster = with_pods();
    for kind in ["agent", "node", "pod"] {
        for family in ["4", "6"] {
            for destination in cluster.nodes().iter().skip(1).map(|node| &node.identity.name) {
                let labels =
                    [("kind", kind), ("family", family), ("destination", destination), ("result", "reply")];
                let what = format!("replies of {kind} on {destination} by IPv{family}");
                cluster
                    .wait_for_metrics("node1", minute(), &what, |page| {
                        page.sum("podsonar_probes_total", &labels).filter(|count| *count > 0.0)
                    })
                    .unwrap();
            }
        }
    }
}

#[test]
fn agents_may_do_nothing_but_open_raw_sockets() {
    let cluster = cluster();
    for node in cluster.nodes() {
        let name = &node.identity.name;
        let status = file_of_agent(node, "status");
        let field = |name| field(&status, name);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let capabilities = u64::from_str_radix(field(set), 16).unwrap();
            let wanted = if matches!(set, "CapInh" | "CapAmb") { 0 } else { 1 << 13 };
            assert_eq!(capabilities, wanted, "{set} on {name}: CAP_NET_RAW alone is 1 << 13");
        }
        assert_eq!(field("Uid"), "0\t0\t0\t0", "{name}");
        assert_eq!(field("NoNewPrivs"), "1", "{name}");
        assert_eq!(field("Seccomp"), "2", "{name}: filtered");
        let mounts = file_of_agent(node, "mounts");
        let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
        assert!(root.split(' ').nth(3).unwrap().starts_with("ro,"), "{name}: {root}");
        assert!(file_of_agent(node, "net/dev").contains("eth0"), "{name}: the pod's network, not the node's");
    }
}

#[test]
fn prometheus_scrapes_every_agent_by_its_pods_address() {
    let cluster = cluster();
    let nodes: BTreeSet<String> = cluster.nodes().iter().map(|node| node.identity.name.clone()).collect();
    let prometheus =
        Prometheus::start(cluster.router(), Version::Three, Format::Native, 9090, &targets(&cluster));
    let prometheus = prometheus.unwrap();
    wait_until(minute(), "answered probes of every agent", || {
        let series = prometheus.query("sum by (source) (podsonar_probes_total{result=\"reply\"}) > 0")?;
        let sources: BTreeSet<String> =
            series.into_iter().filter_map(|mut sample| sample.labels.remove("source")).collect();
        Ok((sources == nodes).then_some(()))
    })
    .unwrap();
    let up: Vec<f64> = prometheus.query("up").unwrap().iter().map(|sample| sample.value).collect();
    assert_eq!(up, vec![1.0; nodes.len()]);
}

fn targets(cluster: &Cluster) -> Vec<SocketAddr> {
    let agents = cluster.agents().expect("agents");
    agents.iter().map(|agent| (*agent.addresses.first().expect("an address"), METRICS_PORT).into()).collect()
}
