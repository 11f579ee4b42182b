//! That a release that is gone has left nothing: no object, and nothing on the nodes.

use crate::minute;
use podsonar_lab::cluster::Node;
use podsonar_lab::{Cluster, LabError, tool};
use std::collections::BTreeSet;
use std::process::Command;

/// Waits until the API server has nothing of the release, nor any node of its pods.
pub(crate) fn none(cluster: &Cluster) {
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
    let nothing = cluster.wait(minute(), "nodes without anything of the release", |cluster| {
        for node in cluster.nodes() {
            if !on(node)?.is_empty() || !folders(node)?.is_subset(&pods(cluster)?) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    });
    let seen = || cluster.nodes().iter().map(|node| (on(node), folders(node))).collect::<Vec<_>>();
    assert!(nothing.is_ok(), "{nothing:?}: {:?}", seen());
}

/// What of agents is on a node: their processes, their containers, and who listens on their ports, which are the node's own with
/// `hostNetwork`.
fn on(node: &Node) -> Result<String, LabError> {
    let ctr = tool::cluster("ctr")?;
    let script = format!(
        "pidof podsonar; {} --namespace k8s.io containers list | grep /podsonar: ; \
         ss -Hltn '( sport = :19988 or sport = :19989 )'",
        ctr.display()
    );
    shell(node, &script)
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
