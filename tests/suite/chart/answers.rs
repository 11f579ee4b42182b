//! [`Answers`]: whether every path was measured since a moment, and nothing of it is still in doubt.

use podsonar_lab::Cluster;
use podsonar_lab::cluster::objects::Pod;
use podsonar_lab::cluster::watched::page;
use podsonar_lab::scrape::Scrape;
use std::collections::BTreeMap;

/// What running agents said at a moment.
#[derive(Debug)]
pub(crate) struct Answers {
    /// By the UIDs of their pods, with how often each was started: one that starts again counts from zero.
    before: BTreeMap<(String, u64), Scrape>,
}

impl Answers {
    /// From now on.
    pub(crate) fn from_now(cluster: &Cluster) -> Self {
        let agents = cluster.agents().unwrap_or_default().into_iter();
        let before = agents.filter_map(|agent| Some((key(&agent), page(cluster, &agent).ok()?)));
        Self { before: before.collect() }
    }

    /// What is missing until each node has an agent that since then was answered by the agents and pods of all other nodes, in all ways
    /// and families, and that holds no loss back.
    pub(crate) fn missing(&self, cluster: &Cluster) -> Vec<String> {
        let agents = cluster.agents().unwrap_or_default();
        let names: Vec<&str> = cluster.nodes().iter().map(|node| node.identity.name.as_str()).collect();
        let missing_of = |source: &&str| {
            let agent = agents.iter().find(|agent| agent.node == *source && agent.ready);
            let page = agent.and_then(|agent| Some((agent, page(cluster, agent).ok()?)));
            let Some((agent, now)) = page else { return vec![format!("{source} has no agent")] };
            let before = self.before.get(&key(agent));
            let others = names.iter().filter(|name| *name != source);
            let silent = others
                .flat_map(|name| paths(name))
                .filter(|labels| replies(Some(&now), labels) <= replies(before, labels));
            let held = now.sum("podsonar_held_losses", &[]).filter(|held| *held > 0.0);
            silent
                .map(|labels| format!("{source} has no answer of {labels:?}"))
                .chain(held.map(|held| format!("{source} holds {held} losses back")))
                .collect()
        };
        names.iter().flat_map(missing_of).collect()
    }
}

type Labels<'a> = [(&'static str, &'a str); 5];

/// All paths to a node: to its agent, which is probed by ICMP alone, and to its pods.
fn paths(destination: &str) -> impl Iterator<Item = Labels<'_>> {
    let ways = [("agent", "icmp"), ("pod", "icmp"), ("pod", "tcp")];
    let both = ways.into_iter().flat_map(|way| ["4", "6"].map(|family| (way, family)));
    both.map(move |((kind, protocol), family)| {
        [
            ("kind", kind),
            ("protocol", protocol),
            ("family", family),
            ("destination", destination),
            ("result", "reply"),
        ]
    })
}

fn replies(page: Option<&Scrape>, labels: &Labels<'_>) -> f64 {
    page.and_then(|page| page.sum("podsonar_probes_total", labels)).unwrap_or(0.0)
}

fn key(agent: &Pod) -> (String, u64) {
    (agent.uid.clone(), agent.restarts)
}
