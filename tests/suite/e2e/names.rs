//! What agents tell of the cluster's name server: each of its pods by itself, and names that it does not have.

use crate::losses::Losses;
use crate::{minute, with_pods};
use podsonar_lab::Cluster;
use podsonar_lab::cluster::watched::{MANIFEST, NAMESPACE};
use podsonar_lab::cluster::{self, objects::Pod};
use podsonar_lab::scrape::Scrape;
use std::process::Command;
use std::time::Duration;

/// What the agents are told beside their defaults.
const CONFIG: &str = "
---
apiVersion: v1
kind: ConfigMap
metadata: {name: podsonar, namespace: podsonar}
data:
  config.yaml: |
    dns: {endpoints: true}
";

#[test]
fn a_dead_replica_of_the_name_server_is_told_by_its_address_and_names_that_it_does_not_have_are_no_loss() {
    let cluster = with_pods();
    let replicas = [
        ("pods insecure", "pods disabled"),
        ("replicas: 1", "replicas: 2"),
        // On two nodes, so that one can be stopped without the other.
        (
            "      priorityClassName:",
            "      topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, \
             whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {k8s-app: kube-dns}}}]\n      \
             priorityClassName:",
        ),
    ];
    rollout(&cluster, "kube-system", "deployment/coredns", &replaced(cluster::COREDNS, &replicas));
    let endpoints = [
        (
            "args: [run]",
            "args: [run, --config=/etc/podsonar/config.yaml]\n        \
             volumeMounts: [{name: config, mountPath: /etc/podsonar}]",
        ),
        (
            "      containers:",
            "      volumes: [{name: config, configMap: {name: podsonar}}]\n      containers:",
        ),
    ];
    rollout(&cluster, NAMESPACE, "daemonset/podsonar", &(replaced(MANIFEST, &endpoints) + CONFIG));

    let servers = cluster.pods("kube-system", "k8s-app=kube-dns").unwrap();
    let servers: Vec<Pod> = servers.into_iter().filter(|pod| !pod.terminating).collect();
    let [dead, live] = &servers[..] else { panic!("two replicas: {servers:?}") };
    let observer = other_node(&cluster, &servers);
    let mut losses = Losses::from_now(&cluster);
    told(&cluster, &observer, "absent names of both replicas", |page, before| {
        [dead, live]
            .iter()
            .all(|server| queries(page, server, "nxdomain") > queries(before, server, "nxdomain"))
    });
    signal(&cluster, dead, "STOP");
    let after = told(&cluster, &observer, "silence of one replica", |page, before| {
        queries(page, dead, "timeout") >= queries(before, dead, "timeout") + 2.0
            && queries(page, live, "nxdomain") > queries(before, live, "nxdomain")
    });
    signal(&cluster, dead, "CONT");
    assert!(queries(&after, live, "timeout") < 1.0, "the other replica answers");
    assert!(queries(&after, live, "noerror") < 1.0, "it has no names of pods");
    told(&cluster, &observer, "answers of the replica that goes on", |page, before| {
        queries(page, dead, "nxdomain") > queries(before, dead, "nxdomain")
    });
    losses.watch(&cluster, Duration::from_secs(5));
    assert_eq!(losses.lost(), Vec::<String>::new(), "what has no name is not lost");

    rollout(&cluster, NAMESPACE, "daemonset/podsonar", MANIFEST);
    rollout(&cluster, "kube-system", "deployment/coredns", cluster::COREDNS);
}

/// Makes objects be as a manifest says, and replaces all pods of one of them.
fn rollout(cluster: &Cluster, namespace: &str, what: &str, manifest: &str) {
    cluster.apply(manifest).expect("a manifest");
    cluster.kubectl(&["rollout", "restart", "--namespace", namespace, what]).expect("a rollout");
    cluster.wait_for_rollout(namespace, what, minute()).expect("pods that are ready");
}

fn replaced(manifest: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(manifest.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old}");
        text.replace(old, new)
    })
}

/// A node without any of these pods.
fn other_node(cluster: &Cluster, pods: &[Pod]) -> String {
    let mut names = cluster.nodes().iter().map(|node| &node.identity.name);
    names.find(|name| pods.iter().all(|pod| pod.node != **name)).expect("a node without").clone()
}

/// Waits until an agent tells something that it did not tell before.
fn told(cluster: &Cluster, node: &str, what: &str, is_so: impl Fn(&Scrape, &Scrape) -> bool) -> Scrape {
    let before = cluster.scrape(node).expect("metrics");
    cluster
        .wait_for_metrics(node, minute(), what, |page| is_so(page, &before).then(|| page.clone()))
        .expect("what is so")
}

/// Questions to this server for the names of pods.
fn queries(page: &Scrape, server: &Pod, result: &str) -> f64 {
    let address = server.addresses.first().expect("an address").to_string();
    let labels = [("server", address.as_str()), ("name", "pod"), ("result", result)];
    page.sum("podsonar_dns_queries_total", &labels).unwrap_or(0.0)
}

/// Sends a signal to a replica, the only one of its node.
fn signal(cluster: &Cluster, server: &Pod, signal: &str) {
    let mut nodes = cluster.nodes().iter();
    let node = nodes.find(|node| node.identity.name == server.node).expect("its node");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("kill -{signal} $(pidof coredns)")]);
    let output = node.running().expect("on").machine.output(command).expect("a signal");
    assert!(output.status.success(), "{output:?}");
}
