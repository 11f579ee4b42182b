//! What every article on the network of pods says, as an agent's metrics tell it of three real nginx pods on other
//! nodes: a pod answers at its address; its bare name does not resolve; its DNS name does, and answers.

use crate::{cluster, minute};
use podsonar_lab::Cluster;
use podsonar_lab::cluster::objects::Pod;
use podsonar_lab::scrape::Scrape;
use std::collections::BTreeSet;

const MANIFEST: &str = include_str!("../manifests/article.yaml");

#[test]
fn pods_answer_by_address_and_dns_name_and_not_by_bare_name() {
    let cluster = cluster();
    let (servers, observer) = nodes(&cluster);
    for node in &servers {
        cluster.kubectl(&["label", "node", node, "podsonar.io/article=yes"]).unwrap();
    }
    let before = cluster.scrape(&observer).unwrap();
    cluster.apply(MANIFEST).unwrap();
    cluster.wait_for_rollout("article", "deployment/nginx", minute()).unwrap();
    let pods = cluster.pods("article", "app=nginx").unwrap();
    let there: BTreeSet<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
    assert_eq!(there, servers.iter().map(String::as_str).collect(), "one on each");

    for node in &servers {
        for protocol in ["icmp", "tcp"] {
            let labels = [
                ("kind", "pod"),
                ("destination", node.as_str()),
                ("protocol", protocol),
                ("result", "reply"),
            ];
            let what = format!("{protocol} replies of a pod on {node}");
            grows(&cluster, &observer, &before, &what, "podsonar_probes_total", &labels);
        }
    }
    for protocol in ["icmp", "tcp"] {
        let labels = [("kind", "name"), ("destination", "pod"), ("protocol", protocol), ("result", "reply")];
        let what = format!("{protocol} replies by pods' DNS names");
        grows(&cluster, &observer, &before, &what, "podsonar_probes_total", &labels);
    }
    let resolved = [("name", "pod"), ("result", "noerror")];
    grows(&cluster, &observer, &before, "resolved DNS names", "podsonar_dns_queries_total", &resolved);
    let absent = "bare names that do not resolve";
    cluster
        .wait_for_metrics(&observer, minute(), absent, |page| (bare(page, "nxdomain") > 0.0).then_some(()))
        .unwrap();
    let after = cluster.scrape(&observer).unwrap();
    assert!(bare(&after, "noerror") < 1.0, "no bare name resolves");

    cluster.delete(MANIFEST).unwrap();
    for node in &servers {
        cluster.kubectl(&["label", "node", node, "podsonar.io/article-"]).unwrap();
    }
}

/// Three nodes for the servers, all without `CoreDNS`, and one more whose agent is asked.
fn nodes(cluster: &Cluster) -> (Vec<String>, String) {
    let dns: BTreeSet<String> = cluster
        .pods("kube-system", "k8s-app=kube-dns")
        .expect("CoreDNS")
        .into_iter()
        .map(|pod: Pod| pod.node)
        .collect();
    let names = cluster.nodes().iter().map(|node| node.identity.name.clone());
    let mut free = names.filter(|name| !dns.contains(name));
    let servers = free.by_ref().take(3).collect();
    (servers, free.next().expect("a fourth node"))
}

fn bare(page: &Scrape, result: &str) -> f64 {
    page.sum("podsonar_dns_queries_total", &[("name", "bare_pod"), ("result", result)]).unwrap_or(0.0)
}

/// Waits until a counter of an agent is above what it was.
fn grows(cluster: &Cluster, node: &str, before: &Scrape, what: &str, name: &str, labels: &[(&str, &str)]) {
    let least = before.sum(name, labels).unwrap_or(0.0);
    let grown = |page: &Scrape| page.sum(name, labels).filter(|value| *value > least).map(drop);
    cluster.wait_for_metrics(node, minute(), what, grown).expect("a counter that grows");
}
