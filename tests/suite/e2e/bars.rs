//! What a cluster does all day makes no loss: pods and agents are replaced, nodes are drained, the API server is away.
//! `make soak` runs these for as long as issue 5 says, `make e2e` for less than a minute each.

use crate::losses::Losses;
use crate::shared::wait_for_restart;
use crate::{minute, wait_for_whole_watches, with_pods};
use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::watched::NAMESPACE;
use podsonar_lab::scrape::Scrape;
use std::env;
use std::time::Duration;

/// The default of `exchange.interval`.
const EXCHANGE: Duration = Duration::from_secs(3);

#[test]
fn replaced_pods_are_no_loss() {
    replaced(&[("web", "deployment/web")]);
}

#[test]
fn replaced_agents_are_no_loss() {
    replaced(&[(NAMESPACE, "daemonset/podsonar")]);
}

#[test]
fn pods_and_agents_replaced_together_are_no_loss() {
    replaced(&[("web", "deployment/web"), (NAMESPACE, "daemonset/podsonar")]);
}

#[test]
fn a_drained_and_deleted_node_whose_power_is_cut_later_is_no_loss() {
    let mut cluster = with_pods();
    let mut losses = Losses::from_now(&cluster);
    cluster
        .kubectl(&["drain", "node5", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s"])
        .unwrap();
    cluster.kubectl(&["delete", "node", "node5"]).unwrap();
    losses.watch(&cluster, EXCHANGE);
    cluster.node(5).unwrap().power_off().unwrap();
    losses.watch(&cluster, Duration::from_secs(30));
    assert_eq!(losses.lost(), Vec::<String>::new());
    assert!(losses.replies() > 0.0);

    cluster.node(5).unwrap().power_on().unwrap();
    cluster.wait_for_node("node5", "True", minute()).unwrap();
}

#[test]
fn a_power_cut_without_notice_is_loss() {
    let mut cluster = with_pods();
    let before = cluster.agent("node6").unwrap();
    let mut losses = Losses::from_now(&cluster);
    cluster.node(6).unwrap().power_off().unwrap();
    losses.watch_until(&cluster, "losses", |losses| {
        // Told by others: its own agent may call others lost.
        let is_it =
            |series: &String| series.contains("destination=node6 ") && !series.contains("source=node6 ");
        losses.lost().iter().any(is_it)
    });
    cluster.node(6).unwrap().power_on().unwrap();
    // The API server has not noticed that the node was off: it is back when its kubelet tells of a restart.
    wait_for_restart(&cluster, &before);
}

#[test]
fn an_api_server_that_is_away_is_no_loss_and_agents_catch_up() {
    let mut cluster = with_pods();
    let before = cluster.agents().unwrap();
    let mut losses = Losses::from_now(&cluster);
    cluster.control.api_server.kill();
    losses.watch(&cluster, if is_soak() { Duration::from_mins(5) } else { Duration::from_secs(20) });
    let probed = losses.replies();
    losses.watch(&cluster, Duration::from_secs(6));
    assert!(losses.replies() > probed, "probing goes on");
    cluster.control.api_server.again().unwrap();
    cluster.wait_for_api_server(minute()).unwrap();
    let caught_up = Deadline::after(Duration::from_secs(10));
    wait_for_whole_watches(&cluster, caught_up);
    losses.watch(&cluster, EXCHANGE);
    assert_eq!(losses.lost(), Vec::<String>::new());
    let restarts: Vec<u64> = cluster.agents().unwrap().iter().map(|agent| agent.restarts).collect();
    assert_eq!(restarts, before.iter().map(|agent| agent.restarts).collect::<Vec<_>>());
    cluster.catch_up().unwrap();
}

#[test]
fn agents_of_the_next_version_among_others_are_no_loss_and_counted() {
    let cluster = with_pods();
    // Those that are told to go come back with the next version, and only those.
    let on_delete = r#"{"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}}"#;
    let in_namespace = ["--namespace", NAMESPACE];
    let kubectl = |arguments: &[&str]| cluster.kubectl(&[arguments, &in_namespace].concat()).unwrap();
    kubectl(&["patch", "daemonset", "podsonar", "--patch", on_delete]);
    kubectl(&["set", "image", "daemonset/podsonar", "podsonar=lab.local/podsonar:next"]);
    let mut losses = Losses::from_now(&cluster);
    for node in ["node1", "node2", "node3"] {
        let old = cluster.agent(node).unwrap();
        kubectl(&["delete", "pod", &old.name, "--wait=false"]);
        losses.watch_until(&cluster, "the next agent", |_| {
            cluster.agent(node).is_ok_and(|agent| agent.ready && agent.uid != old.uid)
        });
    }
    losses.watch(&cluster, if is_soak() { Duration::from_mins(10) } else { Duration::from_secs(20) });
    assert_eq!(losses.lost(), Vec::<String>::new());
    let page = cluster.scrape("node5").unwrap();
    let others = page.sum("podsonar_exchange_total", &[("result", "other_version")]);
    assert!(others.is_some_and(|count| count > 0.0), "lists of the next version are counted: {others:?}");
}

#[test]
fn a_blocked_exchange_is_no_loss_and_told() {
    let cluster = with_pods();
    let host = &cluster.nodes().first().unwrap().running().unwrap().machine.host;
    let mut losses = Losses::from_now(&cluster);
    let before = cluster.scrape("node2").unwrap();
    host.nft("add table inet lab_block").unwrap();
    host.nft("add chain inet lab_block stop { type filter hook forward priority -200 ; }").unwrap();
    host.nft("add rule inet lab_block stop tcp dport 19989 drop").unwrap();
    losses.watch(&cluster, if is_soak() { Duration::from_mins(5) } else { Duration::from_secs(30) });
    let after = cluster.scrape("node2").unwrap();
    host.nft("delete table inet lab_block").unwrap();
    assert_eq!(losses.lost(), Vec::<String>::new());
    let timeouts =
        |page: &Scrape| page.sum("podsonar_exchange_total", &[("result", "timeout")]).unwrap_or(0.0);
    assert!(timeouts(&after) > timeouts(&before), "what is blocked is counted");
}

/// Replaces all pods of these again and again.
fn replaced(what: &[(&str, &str)]) {
    let cluster = with_pods();
    let mut losses = Losses::from_now(&cluster);
    let (rounds, each) = if is_soak() { (10, Duration::from_mins(1)) } else { (2, Duration::from_secs(20)) };
    for _ in 0..rounds {
        let round = Deadline::after(each);
        for (namespace, name) in what {
            cluster.kubectl(&["rollout", "restart", "--namespace", namespace, name]).expect("a rollout");
        }
        for (namespace, name) in what {
            losses.watch_until(&cluster, "the new pods", |_| {
                cluster.wait_for_rollout(namespace, name, Deadline::after(Duration::ZERO)).is_ok()
            });
        }
        losses.watch(&cluster, round.left());
    }
    assert_eq!(losses.lost(), Vec::<String>::new());
    assert!(losses.replies() > 0.0);
}

/// Whether these tests may take as long as they are meant to.
fn is_soak() -> bool {
    env::var_os("PODSONAR_SOAK").is_some()
}
