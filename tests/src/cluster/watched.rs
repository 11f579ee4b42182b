//! The agents of the cluster: their pods and their metrics.

use super::Cluster;
use super::objects::Pod;
use crate::clock::Deadline;
use crate::error::LabError;
use crate::scrape::{self, Scrape};
use std::net::SocketAddr;
use std::time::Duration;

/// The agents' manifest.
pub const MANIFEST: &str = include_str!("../../suite/manifests/podsonar.yaml");
/// The namespace of the manifests in `tests/suite/manifests`.
pub const NAMESPACE: &str = "podsonar";
/// The port of the agents' metrics.
pub const METRICS_PORT: u16 = 19988;
/// The port of the agents' exchange.
pub const MESH_PORT: u16 = 19989;
/// What an agent's answer may take.
const ANSWER: Duration = Duration::from_secs(5);

impl Cluster {
    /// Runs the agents as the manifests in `tests/suite/manifests` say, and waits until all are ready.
    pub fn install_agents(&self, deadline: Deadline) -> Result<(), LabError> {
        self.apply(MANIFEST)?;
        self.wait_for_rollout(NAMESPACE, "daemonset/podsonar", deadline)
    }

    /// The agents' pods, without those on their way out.
    pub fn agents(&self) -> Result<Vec<Pod>, LabError> {
        let pods = self.pods(NAMESPACE, "app.kubernetes.io/name=podsonar")?;
        Ok(pods.into_iter().filter(|pod| !pod.terminating).collect())
    }

    /// The agent of a node.
    ///
    /// # Errors
    /// [`LabError::Missing`] if it has none with an address.
    pub fn agent(&self, node: &str) -> Result<Pod, LabError> {
        let mut agents = self.agents()?.into_iter();
        let found = agents.find(|pod| pod.node == node && !pod.addresses.is_empty());
        found.ok_or_else(|| LabError::Missing { what: "an agent", hint: format!("none is on {node}") })
    }

    /// The metrics of a node's agent, by its pod's address.
    pub fn scrape(&self, node: &str) -> Result<Scrape, LabError> {
        page(self, &self.agent(node)?)
    }

    /// What a node's agent answers for a path of its own listener.
    pub fn ask_agent(&self, node: &str, path: &str) -> Result<String, LabError> {
        ask(self, &self.agent(node)?, path)
    }

    /// Waits until the metrics of a node's agent satisfy a condition. An agent that does not answer is asked again.
    pub fn wait_for_metrics<T>(
        &self,
        node: &str,
        deadline: Deadline,
        waiting_for: &str,
        mut wanted: impl FnMut(&Scrape) -> Option<T>,
    ) -> Result<T, LabError> {
        let waiting_for = format!("{waiting_for} of the agent of {node}");
        self.wait(deadline, &waiting_for, |cluster| {
            Ok(cluster.scrape(node).ok().and_then(|page| wanted(&page)))
        })
    }
}

/// The metrics of an agent whose pod is known; the API server is not asked.
pub fn page(cluster: &Cluster, agent: &Pod) -> Result<Scrape, LabError> {
    Scrape::parse(&ask(cluster, agent, "/metrics")?)
}

fn ask(cluster: &Cluster, agent: &Pod, path: &str) -> Result<String, LabError> {
    let Some(address) = agent.addresses.first() else {
        return Err(LabError::Missing { what: "an agent's address", hint: agent.name.clone() });
    };
    let address = SocketAddr::from((*address, METRICS_PORT));
    Ok(scrape::get_within(cluster.router(), address, path, &[], ANSWER)?.text())
}
