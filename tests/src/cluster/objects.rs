//! Asking the API server, and waiting for what it says.

use super::{Cluster, control};
use crate::clock::{Deadline, ask_each};
use crate::error::{Doing, LabError};
use crate::scrape;
use crate::tool;
use serde_json::Value;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// A pod as the API server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The node it is on; empty before it was given one.
    pub node: String,
    /// Its addresses, the first of the cluster's first family.
    pub addresses: Vec<IpAddr>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// How often its containers were started again.
    pub restarts: u64,
}

/// The pause between two questions to the API server.
const PAUSE: Duration = Duration::from_millis(100);

impl Cluster {
    /// Runs kubectl as the cluster's administrator and returns its output.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, LabError> {
        self.kubectl_reading(arguments, "")
    }

    /// Makes objects be as a manifest says: YAML, or several with `---` between.
    pub fn apply(&self, manifest: &str) -> Result<(), LabError> {
        self.kubectl_reading(&["apply", "--server-side", "--force-conflicts", "--filename=-"], manifest)
            .map(drop)
    }

    /// What the API server would say to objects of a manifest, fields that it does not know included. Nothing changes.
    ///
    /// # Errors
    /// [`LabError::Command`] with what it refuses.
    pub fn dry_run(&self, manifest: &str) -> Result<String, LabError> {
        let strictly = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-"];
        self.kubectl_reading(&strictly, manifest)
    }

    /// The object of this kind in a manifest.
    ///
    /// # Errors
    /// [`LabError::Missing`] if there is none.
    pub fn find(&self, manifest: &str, kind: &str) -> Result<Value, LabError> {
        let line = ["create", "--dry-run=client", "--output=json", "--filename=-"];
        let text = self.kubectl_reading(&line, manifest)?;
        // One object after another, not a list.
        let objects: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
        let objects = objects.map_err(|_| LabError::Malformed { what: "objects", text: text.clone() })?;
        let found =
            objects.into_iter().find(|object| object.get("kind").and_then(Value::as_str) == Some(kind));
        found.ok_or_else(|| LabError::Missing { what: "an object", hint: format!("no {kind} in {text}") })
    }

    /// Removes the objects of a manifest, and waits until they are gone.
    pub fn delete(&self, manifest: &str) -> Result<(), LabError> {
        self.kubectl_reading(&["delete", "--ignore-not-found", "--timeout=60s", "--filename=-"], manifest)
            .map(drop)
    }

    /// Runs a command in a pod's only container and returns its output.
    pub fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String, LabError> {
        let arguments = ["exec", "--namespace", namespace, pod, "--"];
        self.kubectl(&[&arguments, command].concat())
    }

    /// Asks for an object or a list by its path, such as `/api/v1/nodes/node1`.
    ///
    /// # Errors
    /// [`LabError::Missing`] with the answer, if it is none.
    pub fn get(&self, path: &str) -> Result<Value, LabError> {
        let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, control::PROXY_PORT));
        let response = scrape::get(self.router(), proxy, path, &[])?;
        let text = response.text();
        if response.status != 200 {
            let hint = format!("{path} is answered by {}: {text}", response.status);
            return Err(LabError::Missing { what: "an object", hint });
        }
        serde_json::from_str(&text).map_err(|_| LabError::Malformed { what: "an object", text })
    }

    /// The pods of a namespace that a label selector such as `app=web` chooses; an empty one chooses all.
    pub fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>, LabError> {
        let selector = selector.replace('=', "%3D");
        let list = self.get(&format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"))?;
        let items = list.get("items").and_then(Value::as_array);
        let pods = items.and_then(|items| items.iter().map(pod).collect());
        pods.ok_or_else(|| LabError::Malformed { what: "a list of pods", text: list.to_string() })
    }

    /// Asks until there is an answer, some tenths of a second apart.
    ///
    /// # Errors
    /// The question's own, at once; [`LabError::Deadline`] when time is up.
    pub fn wait<T>(
        &self,
        deadline: Deadline,
        waiting_for: &str,
        mut ask: impl FnMut(&Self) -> Result<Option<T>, LabError>,
    ) -> Result<T, LabError> {
        ask_each(PAUSE, deadline, waiting_for, || ask(self))
    }

    /// Waits until each node that is on is ready.
    pub fn wait_for_nodes(&self, deadline: Deadline) -> Result<(), LabError> {
        for node in self.nodes().iter().filter(|node| node.running().is_ok()) {
            self.wait_for_node(&node.identity.name, "True", deadline)?;
        }
        Ok(())
    }

    /// Waits until a node's condition `Ready` is `True`, `False` or `Unknown`.
    pub fn wait_for_node(&self, name: &str, ready: &str, deadline: Deadline) -> Result<(), LabError> {
        self.wait(deadline, &format!("{name} to be Ready={ready}"), |cluster| {
            let list = cluster.get("/api/v1/nodes")?;
            let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
            let mut named = items.filter(|node| text(node, "/metadata/name") == name);
            Ok(named.any(|node| condition(node, "Ready") == ready).then_some(()))
        })
    }

    /// Waits until all replicas of `deployment/NAME` or `daemonset/NAME` are of its newest form and available.
    pub fn wait_for_rollout(&self, namespace: &str, what: &str, deadline: Deadline) -> Result<(), LabError> {
        let (kind, name) = what.split_once('/').unwrap_or(("deployment", what));
        let path = format!("/apis/apps/v1/namespaces/{namespace}/{kind}s/{name}");
        self.wait(deadline, &format!("the rollout of {what}"), |cluster| {
            Ok(is_rolled_out(&cluster.get(&path)?).then_some(()))
        })
    }

    fn kubectl_reading(&self, arguments: &[&str], input: &str) -> Result<String, LabError> {
        let mut command = Command::new(tool::cluster("kubectl")?);
        command.arg(format!("--kubeconfig={}", self.kubeconfig().display())).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let line = format!("kubectl {}", arguments.join(" "));
        let mut child = self.router().start(command)?;
        let pipe = child.stdin.take();
        // Both ways at once: kubectl answers what it has read before it reads on.
        let output = thread::scope(|scope| {
            scope.spawn(move || {
                // One that reads nothing of it says why itself.
                pipe.map(|mut pipe| pipe.write_all(input.as_bytes()))
            });
            child.wait_with_output()
        });
        let output = output.doing(format!("wait for `{line}`"))?;
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(words(&output.stdout));
        }
        let stderr = words(&output.stderr);
        Err(LabError::Command { command: line, status: output.status.to_string(), stderr })
    }

    /// The administrator's file for kubectl, for programs on the router.
    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.shared.keys.join("admin.kubeconfig")
    }
}

/// A text of an object; empty where there is none.
fn text(object: &Value, path: &str) -> String {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What a condition of an object's status says: `True`, `False`, `Unknown`, or nothing.
fn condition(object: &Value, kind: &str) -> String {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let mut named = conditions.filter(|one| text(one, "/type") == kind);
    named.next().map(|one| text(one, "/status")).unwrap_or_default()
}

fn pod(object: &Value) -> Option<Pod> {
    let addresses = object.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten();
    let containers =
        object.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten();
    Some(Pod {
        name: object.pointer("/metadata/name")?.as_str()?.to_owned(),
        uid: object.pointer("/metadata/uid")?.as_str()?.to_owned(),
        node: text(object, "/spec/nodeName"),
        addresses: addresses.filter_map(|one| text(one, "/ip").parse().ok()).collect(),
        ready: condition(object, "Ready") == "True",
        terminating: object.pointer("/metadata/deletionTimestamp").is_some(),
        restarts: containers.filter_map(|one| one.get("restartCount")?.as_u64()).sum(),
    })
}

/// Whether a Deployment's or `DaemonSet`'s status says that it is as its newest form wants it.
fn is_rolled_out(object: &Value) -> bool {
    let number = |path: &str| object.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let (wanted, updated, there, available) = if object.pointer("/status/desiredNumberScheduled").is_some() {
        (
            number("/status/desiredNumberScheduled"),
            number("/status/updatedNumberScheduled"),
            number("/status/desiredNumberScheduled"),
            number("/status/numberAvailable"),
        )
    } else {
        (
            number("/spec/replicas"),
            number("/status/updatedReplicas"),
            number("/status/replicas"),
            number("/status/availableReplicas"),
        )
    };
    number("/status/observedGeneration") >= number("/metadata/generation")
        && wanted > 0
        && [updated, there, available] == [wanted; 3]
}
