//! [`Servers`]: what every article on the network of pods says, as an agent's metrics tell it of three real nginx pods on
//! other nodes: a pod answers at its address; its bare name does not resolve; its DNS name does, and answers.

use crate::minute;
use podsonar_lab::Cluster;
use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::objects::Pod;
use podsonar_lab::scrape::Scrape;
use std::collections::BTreeSet;
use std::time::Duration;

/// Enough for the bare name of one pod a minute, which is the longest that anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// The manifest of the pods.
pub(crate) const MANIFEST: &str = include_str!("../manifests/article.yaml");
/// The namespace of the pods.
pub(crate) const NAMESPACE: &str = "article";
/// Which pods these are.
pub(crate) const SELECTOR: &str = "app=nginx";

/// Three nodes with a server each, all without `CoreDNS`, and one more whose agent is asked.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The nodes that have one.
    pub(crate) nodes: Vec<String>,
    /// The node whose agent is asked.
    pub(crate) observer: String,
}

impl Servers {
    /// Runs them, and waits until all are ready.
    pub(crate) fn install(cluster: &Cluster) -> Self {
        let dns = cluster.pods("kube-system", "k8s-app=kube-dns").expect("CoreDNS");
        let dns: BTreeSet<String> = dns.into_iter().map(|pod| pod.node).collect();
        let names = cluster.nodes().iter().map(|node| node.identity.name.clone());
        let (others, mut free): (Vec<_>, Vec<_>) = names.partition(|name| dns.contains(name));
        let rest = free.split_off(3);
        let observer = rest.into_iter().chain(others).next().expect("a fourth node");
        for node in &free {
            cluster
                .kubectl(&["label", "--overwrite", "node", node, "podsonar.io/article=yes"])
                .expect("a label");
        }
        cluster.apply(MANIFEST).expect("servers");
        cluster.wait_for_rollout(NAMESPACE, "deployment/nginx", minute()).expect("servers that are ready");
        let there: BTreeSet<String> = pods(cluster).into_iter().map(|pod| pod.node).collect();
        assert_eq!(there, free.iter().cloned().collect(), "one on each");
        Self { nodes: free, observer }
    }

    /// Waits until the observer has told all of it since an earlier reading of its metrics.
    pub(crate) fn are_told(&self, cluster: &Cluster, before: &Scrape) {
        let Self { nodes, observer } = self;
        let grows = |what: &str, name: &str, labels: &[(&str, &str)]| {
            let least = before.sum(name, labels).unwrap_or(0.0);
            let grown = |page: &Scrape| page.sum(name, labels).filter(|value| *value > least).map(drop);
            cluster
                .wait_for_metrics(observer, Deadline::after(PATIENCE), what, grown)
                .expect("a counter that grows");
        };
        for protocol in ["icmp", "tcp"] {
            let reply = |kind, destination: &str| {
                let of_whom = [("kind", kind), ("destination", destination)];
                let labels = [of_whom[0], of_whom[1], ("protocol", protocol), ("result", "reply")];
                let what = format!("{protocol} replies of {kind} {destination}");
                grows(&what, "podsonar_probes_total", &labels);
            };
            for node in nodes {
                reply("pod", node);
            }
            reply("name", "pod");
        }
        let asked = |name, result| {
            let what = format!("{result} for names of the kind {name}");
            grows(&what, "podsonar_dns_queries_total", &[("name", name), ("result", result)]);
        };
        asked("pod", "noerror");
        asked("bare_pod", "nxdomain");
        let page = cluster.scrape(observer).expect("metrics");
        let resolved = page.sum("podsonar_dns_queries_total", &[("name", "bare_pod"), ("result", "noerror")]);
        assert!(resolved.unwrap_or(0.0) < 1.0, "no bare name resolves");
    }
}

/// The servers' pods that stay.
fn pods(cluster: &Cluster) -> Vec<Pod> {
    let pods = cluster.pods(NAMESPACE, SELECTOR).expect("servers");
    pods.into_iter().filter(|pod| !pod.terminating).collect()
}
