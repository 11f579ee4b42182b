//! That a release that is gone has left nothing: no object, and nothing on the nodes.

use crate::minute;
use podsonar_lab::cluster::Node;
use podsonar_lab::{Cluster, LabError};
use std::collections::BTreeSet;
use std::process::Command;

/// Waits until the API server has no object of the release.
pub(crate) fn no_object(cluster: &Cluster) {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "--output=name"]).expect("kinds");
    let kinds = kinds.split_whitespace().collect::<Vec<_>>().join(",");
    for label in ["app.kubernetes.io/instance=podsonar", "owner=helm"] {
        let selector = format!("--selector={label}");
        let line = ["get", &kinds, "--all-namespaces", &selector, "--output=name", "--ignore-not-found"];
        cluster
            .wait(minute(), &format!("the end of everything with {label}"), |cluster| {
                Ok(cluster.kubectl(&line)?.trim().is_empty().then_some(()))
            })
            .expect("no object is left");
    }
}

/// Waits until no node has anything of agents. Records of dead containers are their kubelet's, which clears them away each minute.
pub(crate) fn nothing_on_nodes(cluster: &Cluster) {
    let mut last = String::new();
    let nothing = cluster.wait(minute(), "nodes without anything of the release", |cluster| {
        let pods = pods(cluster)?;
        let left = |node: &Node| -> Result<String, LabError> {
            let folders: Vec<String> = folders(node)?.difference(&pods).cloned().collect();
            Ok(format!("{}{}", on(node)?, folders.join(" ")))
        };
        last = cluster.nodes().iter().map(left).collect::<Result<String, _>>()?;
        Ok(last.is_empty().then_some(()))
    });
    assert!(nothing.is_ok(), "{last}");
}

/// What of agents is on a node: their processes, and who listens on their ports, which are the node's own with `hostNetwork`.
fn on(node: &Node) -> Result<String, LabError> {
    shell(node, "pidof podsonar; ss -Hltn '( sport = :19988 or sport = :19989 )'")
}

/// The UIDs of the pods that a node's kubelet keeps a folder for.
fn folders(node: &Node) -> Result<BTreeSet<String>, LabError> {
    Ok(shell(node, "ls /var/lib/kubelet/pods")?.split_whitespace().map(str::to_owned).collect())
}

/// The UIDs of all pods that there are.
fn pods(cluster: &Cluster) -> Result<BTreeSet<String>, LabError> {
    let line = ["get", "pods", "--all-namespaces", "--output=jsonpath={.items[*].metadata.uid}"];
    Ok(cluster.kubectl(&line)?.split_whitespace().map(str::to_owned).collect())
}

fn shell(node: &Node, script: &str) -> Result<String, LabError> {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    let output = node.running()?.machine.output(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
