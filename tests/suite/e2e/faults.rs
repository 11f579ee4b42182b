//! Faults of nodes, links and the control plane are real ones.

use crate::shared::wait_for_restart;
use crate::{cluster, minute};
use podsonar_lab::fault::{Faults, Loss};
use podsonar_lab::link::Way;
use podsonar_lab::scrape::Scrape;
use std::time::Duration;

const REPLIES: &[(&str, &str)] = &[("result", "reply"), ("protocol", "icmp")];
const LOST: &[(&str, &str)] = &[("result", "lost"), ("protocol", "icmp")];
/// Probes of other nodes' agents.
const AGENTS: &[(&str, &str)] = &[("protocol", "icmp"), ("kind", "agent")];

#[test]
fn a_delay_on_a_nodes_link_is_a_longer_round_trip_of_its_pods() {
    let mut cluster = cluster();
    let delay = Duration::from_millis(30);
    let node = cluster.node(2).unwrap();
    node.link().unwrap().set(Way::There, Faults { delay, ..Faults::default() });
    let before = cluster.scrape("node2").unwrap();
    cluster
        .wait_for_metrics("node2", minute(), "long round trips", |page| {
            let grown = |name| sum(page, name, AGENTS) - sum(&before, name, AGENTS);
            let (seconds, count) = (grown("podsonar_rtt_seconds_sum"), grown("podsonar_rtt_seconds_count"));
            (count >= 3.0 && seconds / count >= delay.as_secs_f64()).then_some(())
        })
        .unwrap();
    cluster.node(2).unwrap().heal().unwrap();
}

#[test]
fn a_cut_way_to_a_node_is_loss_of_its_paths_and_of_no_other() {
    let mut cluster = cluster();
    let before = cluster.scrape("node4").unwrap();
    let other = cluster.scrape("node5").unwrap();
    // The agent is asked for its metrics from beyond the link: probes alone are lost.
    let lost = Faults { loss: Loss::All, only: podsonar_lab::fault::Only::icmp(), ..Faults::default() };
    cluster.node(4).unwrap().link().unwrap().set(Way::Back, lost);
    cluster
        .wait_for_metrics("node4", minute(), "lost probes", |page| {
            (sum(page, "podsonar_probes_total", LOST) > sum(&before, "podsonar_probes_total", LOST))
                .then_some(())
        })
        .unwrap();
    cluster.node(4).unwrap().heal().unwrap();
    let after = cluster.scrape("node5").unwrap();
    for destination in ["node1", "node2", "node3", "node6"] {
        let labels = [LOST, &[("destination", destination)]].concat();
        let lost =
            sum(&after, "podsonar_probes_total", &labels) - sum(&other, "podsonar_probes_total", &labels);
        assert!(lost < 1.0, "{lost} lost between node5 and {destination}");
    }
    wait_for_replies(&cluster, "node4");
}

#[test]
fn a_node_without_power_is_noticed_and_comes_back_with_its_agent() {
    let mut cluster = cluster();
    let before = cluster.agent("node6").unwrap();
    cluster.node(6).unwrap().power_off().unwrap();
    cluster.wait_for_node("node6", "Unknown", minute()).unwrap();
    cluster.node(6).unwrap().power_on().unwrap();
    cluster.wait_for_node("node6", "True", minute()).unwrap();
    let after = wait_for_restart(&cluster, &before);
    assert_eq!(after.uid, before.uid, "the same pod, started again");
    assert!(after.restarts > before.restarts, "{before:?} {after:?}");
    wait_for_replies(&cluster, "node6");
}

#[test]
fn agents_go_on_while_the_api_server_is_gone() {
    let mut cluster = cluster();
    let before = cluster.agents().unwrap();
    cluster.control.api_server.kill();
    let page = podsonar_lab::cluster::watched::page(&cluster, before.first().unwrap()).unwrap();
    let wanted = sum(&page, "podsonar_probes_total", REPLIES) + 5.0;
    podsonar_lab::clock::wait_until(minute(), "replies", || {
        let page = podsonar_lab::cluster::watched::page(&cluster, before.first().unwrap())?;
        Ok((sum(&page, "podsonar_probes_total", REPLIES) >= wanted).then_some(()))
    })
    .unwrap();
    cluster.control.api_server.again().unwrap();
    cluster.wait_for_api_server(minute()).unwrap();
    cluster.catch_up().unwrap();
    let restarts = |agents: &[podsonar_lab::cluster::objects::Pod]| -> u64 {
        agents.iter().map(|agent| agent.restarts).sum()
    };
    assert_eq!(restarts(&cluster.agents().unwrap()), restarts(&before));
}

fn wait_for_replies(cluster: &podsonar_lab::Cluster, node: &str) {
    let before = sum(&cluster.scrape(node).expect("metrics"), "podsonar_probes_total", REPLIES);
    cluster
        .wait_for_metrics(node, minute(), "replies", |page| {
            (sum(page, "podsonar_probes_total", REPLIES) > before).then_some(())
        })
        .expect("replies");
}

/// A sum of samples; nothing where there is none.
fn sum(page: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
    page.sum(name, labels).unwrap_or(0.0)
}
