//! A release from its installation to its end: right metrics, no loss that is none, and nothing left.

use crate::losses::Losses;
use crate::release::Release;
use crate::shared::install_pods;
use crate::{Shared, cluster, minute};
use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::watched::NAMESPACE;
use podsonar_lab::{Cluster, LabError};
use std::time::Duration;

/// How long agents are watched after each step: longer than a loss takes to be confirmed.
const AFTER: Duration = Duration::from_secs(10);

#[test]
fn the_default_lives_without_false_loss() {
    lives(Release { helm: "helm", way: "default" });
}

#[test]
fn agents_in_the_network_of_their_nodes_live_without_false_loss() {
    lives(Release { helm: "helm3", way: "host-network" });
}

#[test]
fn agents_of_both_families_live_without_false_loss() {
    lives(Release { helm: "helm", way: "dual-stack" });
}

fn lives(release: Release) {
    let mut cluster = cluster();
    install_pods(&cluster);
    // Not all agents at once: somebody must be there to watch.
    let one_by_one = "--set=updateStrategy.rollingUpdate.maxUnavailable=1";
    release.install(&cluster, &[one_by_one]);
    rolled_out(&cluster, minute()).expect("agents");
    answers(&cluster);

    let mut losses = Losses::from_now(&cluster);
    let pod = cluster.pods("web", "app=web").expect("pods").swap_remove(0);
    delete(&cluster, "web", &pod.name);
    losses.watch_until(&cluster, "another pod", |_| {
        cluster.wait_for_rollout("web", "deployment/web", now()).is_ok()
    });
    no_loss(&cluster, &mut losses, "a pod was killed");

    let agent = cluster.agent("node2").expect("an agent");
    delete(&cluster, NAMESPACE, &agent.name);
    losses.watch_until(&cluster, "another agent", |_| {
        cluster.agent("node2").is_ok_and(|other| other.ready && other.uid != agent.uid)
    });
    no_loss(&cluster, &mut losses, "an agent was killed");

    release.upgrade(&cluster, &[one_by_one, "--set-string=image.tag=next"]);
    losses.watch_until(&cluster, "the next agents", |_| rolled_out(&cluster, now()).is_ok());
    no_loss(&cluster, &mut losses, "the agents were upgraded");

    release.rollback(&cluster);
    losses.watch_until(&cluster, "the agents from before", |_| rolled_out(&cluster, now()).is_ok());
    no_loss(&cluster, &mut losses, "the agents were rolled back");

    power_cut(&mut cluster, &mut losses);
    answers(&cluster);

    let mut losses = Losses::from_now(&cluster);
    release.uninstall(&cluster);
    losses.watch_until(&cluster, "the end of all agents", |_| {
        cluster.pods(NAMESPACE, "app.kubernetes.io/name=podsonar").is_ok_and(|pods| pods.is_empty())
    });
    assert_eq!(losses.lost(), Vec::<String>::new(), "the agents were uninstalled");
    nothing_is_left(&cluster);
}

/// A node goes without notice and comes back: its paths are lost, and no others.
fn power_cut(cluster: &mut Shared, losses: &mut Losses) {
    cluster.node(4).expect("a node").power_off().expect("off");
    let is_true = |series: &str| series.contains("destination=node4 ") || series.contains("kind=name ");
    losses.watch_until(cluster, "losses", |losses| losses.lost().iter().any(|series| is_true(series)));
    losses.watch(cluster, AFTER);
    cluster.node(4).expect("a node").power_on().expect("on");
    losses.watch_until(cluster, "the node", |_| cluster.wait_for_node("node4", "True", now()).is_ok());
    losses.watch_until(cluster, "its agent", |_| rolled_out(cluster, now()).is_ok());
    losses.watch(cluster, AFTER);
    let false_ones: Vec<_> = losses.lost().into_iter().filter(|series| !is_true(series)).collect();
    assert_eq!(false_ones, Vec::<String>::new(), "a node was off");
}

/// Waits until each agent has had answers of all other nodes' agents and pods, in each family.
fn answers(cluster: &Cluster) {
    for node in cluster.nodes() {
        let others: Vec<_> = cluster.nodes().iter().map(|other| &other.identity.name).collect();
        cluster
            .wait_for_metrics(&node.identity.name, minute(), "answers", |page| {
                let has = |destination, kind, family| {
                    let labels = [
                        ("destination", destination),
                        ("kind", kind),
                        ("family", family),
                        ("result", "reply"),
                    ];
                    page.sum("podsonar_probes_total", &labels).is_some_and(|count| count > 0.0)
                };
                let mut others = others.iter().filter(|other| **other != &node.identity.name);
                let has_all = others.all(|other| {
                    ["4", "6"].iter().all(|family| has(other, "agent", family) && has(other, "pod", family))
                });
                has_all.then_some(())
            })
            .expect("answers of all nodes");
    }
}

fn no_loss(cluster: &Cluster, losses: &mut Losses, what: &str) {
    losses.watch(cluster, AFTER);
    assert_eq!(losses.lost(), Vec::<String>::new(), "{what}");
    assert!(losses.replies() > 0.0, "{what}");
}

/// Everything that the release had is gone: its objects, and what was made from them.
fn nothing_is_left(cluster: &Cluster) {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "--output=name"]).expect("kinds");
    let kinds = kinds.split_whitespace().collect::<Vec<_>>().join(",");
    for label in ["app.kubernetes.io/instance=podsonar", "owner=helm"] {
        let selector = format!("--selector={label}");
        let line = ["get", &kinds, "--all-namespaces", &selector, "--output=name", "--ignore-not-found"];
        cluster
            .wait(minute(), &format!("the end of everything with {label}"), |cluster| {
                Ok(cluster.kubectl(&line)?.trim().is_empty().then_some(()))
            })
            .expect("nothing is left");
    }
}

fn rolled_out(cluster: &Cluster, deadline: Deadline) -> Result<(), LabError> {
    cluster.wait_for_rollout(NAMESPACE, "daemonset/podsonar", deadline)
}

fn delete(cluster: &Cluster, namespace: &str, pod: &str) {
    cluster.kubectl(&["delete", "pod", "--namespace", namespace, pod, "--wait=false"]).expect("a pod");
}

/// A deadline of what must be so already.
fn now() -> Deadline {
    Deadline::after(Duration::ZERO)
}
