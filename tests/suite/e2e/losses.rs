//! [`Losses`]: what all agents, also those that went meanwhile, have called lost.

use podsonar_lab::Cluster;
use podsonar_lab::clock::{Deadline, ask_each};
use podsonar_lab::cluster::objects::Pod;
use podsonar_lab::cluster::watched::{NAMESPACE, page};
use podsonar_lab::scrape::Scrape;
use std::collections::BTreeMap;
use std::time::Duration;

/// Reads the agents' counters again and again. The last reading of each agent counts, so that one that goes is not
/// forgotten.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// What agents had counted before, by the UID of their pods and by the labels that matter.
    before: BTreeMap<String, Counts>,
    /// What they have counted now.
    seen: BTreeMap<String, Counts>,
    /// The agents as the API server last told them.
    agents: Vec<Pod>,
}

type Counts = BTreeMap<String, f64>;

/// What is told of each series.
const LABELS: [&str; 6] = ["kind", "protocol", "family", "source", "destination", "result"];

impl Losses {
    /// Counts from what the agents say now.
    pub(crate) fn from_now(cluster: &Cluster) -> Self {
        let mut losses = Self::default();
        losses.read(cluster);
        losses.before = losses.seen.clone();
        losses
    }

    /// Reads until something is so that comes soon.
    pub(crate) fn watch_until(&mut self, cluster: &Cluster, what: &str, done: impl FnMut(&Self) -> bool) {
        self.watch_until_by(crate::minute(), cluster, what, done);
    }

    /// Reads until something is so.
    pub(crate) fn watch_until_by(
        &mut self,
        deadline: Deadline,
        cluster: &Cluster,
        what: &str,
        mut done: impl FnMut(&Self) -> bool,
    ) {
        ask_each(PAUSE, deadline, what, || {
            self.read(cluster);
            Ok(done(self).then_some(()))
        })
        .expect("it comes to be");
    }

    /// How many answers all agents together have had.
    pub(crate) fn replies(&self) -> f64 {
        self.grown().filter(|(series, _)| series.contains("result=reply")).map(|(_, count)| count).sum()
    }

    /// What any agent has called lost or unreachable, with the counts.
    pub(crate) fn lost(&self) -> Vec<String> {
        let is_loss = |series: &str| {
            ["result=lost ", "result=unreachable "].iter().any(|result| series.contains(result))
        };
        let lost = self.grown().filter(|(series, count)| is_loss(series) && *count > 0.0);
        lost.map(|(series, count)| format!("{series}: {count}")).collect()
    }

    fn grown(&self) -> impl Iterator<Item = (&String, f64)> {
        self.seen.iter().flat_map(move |(agent, counts)| {
            let before = move |series: &String| self.before.get(agent)?.get(series);
            counts.iter().map(move |(series, count)| (series, count - before(series).unwrap_or(&0.0)))
        })
    }

    /// Agents that do not answer now are read another time: they start or go. Without an API server those that are
    /// known are asked.
    fn read(&mut self, cluster: &Cluster) {
        if let Ok(agents) = cluster.pods(NAMESPACE, "app.kubernetes.io/name=podsonar") {
            self.agents = agents;
        }
        for agent in &self.agents {
            if let Ok(page) = page(cluster, agent) {
                self.seen.insert(agent.uid.clone(), counts(&page));
            }
        }
    }
}

const PAUSE: Duration = Duration::from_millis(500);

fn counts(page: &Scrape) -> Counts {
    let mut counts = Counts::new();
    for sample in page.select("podsonar_probes_total", &[]) {
        let labels =
            LABELS.map(|label| format!("{label}={} ", sample.labels.get(label).map_or("", String::as_str)));
        *counts.entry(labels.concat()).or_insert(0.0) += sample.value;
    }
    counts
}
