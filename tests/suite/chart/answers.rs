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

    /// Whether each node has an agent that since then was answered by the agents and pods of all other nodes, in both ways and
    /// families, and that holds no loss back.
    pub(crate) fn are_whole(&self, cluster: &Cluster) -> bool {
        let agents = cluster.agents().unwrap_or_default();
        cluster.nodes().iter().all(|node| {
            let agent = agents.iter().find(|agent| agent.node == node.identity.name && agent.ready);
            agent.is_some_and(|agent| self.is_whole(cluster, agent))
        })
    }

    fn is_whole(&self, cluster: &Cluster, agent: &Pod) -> bool {
        let Ok(now) = page(cluster, agent) else { return false };
        let before = self.before.get(&key(agent));
        let names = cluster.nodes().iter().map(|node| node.identity.name.as_str());
        let is_answered = |destination| {
            paths(destination).all(|labels| replies(Some(&now), &labels) > replies(before, &labels))
        };
        names.filter(|name| *name != agent.node).all(is_answered)
            && now.sum("podsonar_held_losses", &[]).is_none_or(|held| held < 1.0)
    }
}

type Labels<'a> = [(&'static str, &'a str); 5];

/// All paths to a node.
fn paths(destination: &str) -> impl Iterator<Item = Labels<'_>> {
    let kinds = ["agent", "pod"].into_iter();
    let ways = kinds.flat_map(|kind| ["icmp", "tcp"].map(|protocol| (kind, protocol)));
    ways.flat_map(|way| ["4", "6"].map(|family| (way, family))).map(move |((kind, protocol), family)| {
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
