//! How soon agents see what happens to pods and paths.

use crate::losses::Losses;
use crate::{minute, wait_for_whole_watches, with_pods};
use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::watched::MESH_PORT;
use podsonar_lab::fault::{Faults, Loss, Only};
use podsonar_lab::link::Way;
use podsonar_lab::packet::Packet;
use podsonar_lab::scrape::Scrape;
use std::time::Duration;

/// The default intervals of probes to agents and to pods.
const AGENTS: Duration = Duration::from_secs(1);
const PODS: Duration = Duration::from_secs(5);

#[test]
fn a_path_that_breaks_is_lost_in_two_intervals_and_three_seconds() {
    let faults = Faults { loss: Loss::All, ..Faults::default() };
    for (kind, interval) in [("agent", AGENTS), ("pod", PODS)] {
        broken(&faults, kind, "icmp", 2 * interval + Duration::from_secs(3));
    }
}

#[test]
fn a_path_that_loses_connections_alone_is_lost_in_three_intervals_and_four_seconds() {
    // Of all ports, else it would be the listener; and not of the exchange, by which it is known that the pods are there.
    let is_lost =
        |packet: &Packet<'_>| packet.tcp().is_some_and(|tcp| tcp.is_syn() && tcp.dst_port != MESH_PORT);
    let faults = Faults { loss: Loss::All, only: Only::matching(is_lost), ..Faults::default() };
    broken(&faults, "pod", "tcp", 3 * PODS + Duration::from_secs(4));
}

#[test]
fn a_new_pod_is_probed_from_other_nodes_within_ten_seconds() {
    let cluster = with_pods();
    // What an agent learns just after its watch was broken has no known start.
    let mut losses = Losses::from_now(&cluster);
    wait_for_whole_watches(&cluster, minute());
    losses.watch(&cluster, Duration::from_secs(6));
    let before = cluster.scrape("node1").unwrap();
    cluster.kubectl(&["rollout", "restart", "--namespace=web", "deployment/web"]).unwrap();
    cluster.wait_for_rollout("web", "deployment/web", minute()).unwrap();
    let grown = |page: &Scrape, name: &str, labels: &[(&str, &str)]| {
        page.sum(name, labels).unwrap_or(0.0) - before.sum(name, labels).unwrap_or(0.0)
    };
    let page = cluster
        .wait_for_metrics("node1", minute(), "first replies of new pods", |page| {
            (grown(page, "podsonar_first_reply_seconds_count", &[]) >= 8.0).then(|| page.clone())
        })
        .unwrap();
    let all = grown(&page, "podsonar_first_reply_seconds_count", &[]);
    let in_time = grown(&page, "podsonar_first_reply_seconds_bucket", &[("le", "10.5")]);
    assert!((all - in_time).abs() < 0.5, "{in_time} of {all} within ten seconds");
    assert!(grown(&page, "podsonar_first_reply_timeouts_total", &[]) < 0.5);
}

/// Breaks the way to a node, and sees how soon another node's agent says so.
fn broken(faults: &Faults, kind: &str, protocol: &str, within: Duration) {
    let mut cluster = with_pods();
    let labels =
        |result| [("kind", kind), ("protocol", protocol), ("destination", "node3"), ("result", result)];
    let count = |page: &Scrape, result| page.sum("podsonar_probes_total", &labels(result)).unwrap_or(0.0);
    let before = cluster.scrape("node1").expect("metrics");
    // What never answered can break no path.
    cluster
        .wait_for_metrics("node1", minute(), "replies", |page| {
            (count(page, "reply") > count(&before, "reply")).then_some(())
        })
        .expect("replies before");
    let before = cluster.scrape("node1").expect("metrics");
    cluster.node(3).expect("a node").link().expect("on").set(Way::Back, faults.clone());
    let lost = cluster.wait_for_metrics("node1", Deadline::after(within), "losses", |page| {
        (count(page, "lost") > count(&before, "lost")).then_some(())
    });
    cluster.mend().expect("healed links");
    lost.expect("losses in time");
}
