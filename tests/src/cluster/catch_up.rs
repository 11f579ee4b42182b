//! Bringing a cluster up to date after its API server was away.
//!
//! What watches the API server with client-go, kubelet too, asks for a lost watch again after up to 30 s and as much more
//! by chance. An API server that was started anew refuses the version from which it asks, since its cache begins at the
//! present one (`too old resource version`), and the list that has to follow waits as long once more. Until then kubelets
//! know of no new pods, and tell the state of their node as a difference from what they last saw: if it was called
//! `Unknown` meanwhile, it stays so.

use super::Cluster;
use super::watched::NAMESPACE;
use crate::clock::{Deadline, unix_ns};
use crate::error::LabError;
use serde_json::Value;
use std::time::Duration;

/// Two of client-go's longest pauses and kubelet's interval are 125 s; the rest is for a busy machine.
pub const LONGEST: Duration = Duration::from_mins(3);
/// The annotation by which kubelets show how much they know, as a JSON pointer.
const MARK: &str = "/metadata/annotations/lab-mark";

impl Cluster {
    /// Waits, once the API server is back, until all that runs in the cluster does what it is told again.
    pub fn catch_up(&mut self) -> Result<(), LabError> {
        let deadline = Deadline::after(LONGEST);
        // A real cluster's end when they cannot renew their lease of leadership, and are started anew.
        self.control.controllers.again()?;
        self.control.scheduler.again()?;
        // What kube-proxy knows cannot be asked. Services go on while it starts.
        for node in &mut self.nodes {
            if let Some(proxy) = node.running_mut().ok().and_then(|running| running.proxy.as_mut()) {
                proxy.again()?;
            }
        }
        self.wait_for_nodes(deadline)?;
        self.wait_for_kubelets(deadline)
    }

    /// Waits until each kubelet knows of a mark that its node's agent gets now: it sees what else is new, too. A kubelet that
    /// does not answer is asked again.
    fn wait_for_kubelets(&self, deadline: Deadline) -> Result<(), LabError> {
        let mark = unix_ns().to_string();
        let agents = self.agents()?;
        for agent in &agents {
            let mark = format!("lab-mark={mark}");
            self.kubectl(&["annotate", "pod", &agent.name, "--namespace", NAMESPACE, "--overwrite", &mark])?;
        }
        for agent in &agents {
            let path = format!("/api/v1/nodes/{}/proxy/pods", agent.node);
            self.wait(deadline, &format!("what kubelet of {} knows", agent.node), |cluster| {
                let Ok(list) = cluster.get(&path) else { return Ok(None) };
                let mut pods = list.get("items").and_then(Value::as_array).into_iter().flatten();
                let is_marked = |pod: &Value| pod.pointer(MARK).and_then(Value::as_str) == Some(&mark);
                Ok(pods.any(is_marked).then_some(()))
            })?;
        }
        Ok(())
    }
}
