//! Objects as a cluster has them, as JSON, and the requests that write them with their status.

use super::{NAMESPACE, Write};
use serde_json::{Value, json};

/// The namespace of the pods that tests make.
pub const PODS: &str = "workloads";

/// The path of the rules of role-based access.
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// The path of the slices of the agents' Service.
pub const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/podsonar/endpointslices";

/// Exactly what the agent's manifest gives: pods and nodes of the cluster, slices of the own namespace.
pub fn rights() -> Vec<Write> {
    let account = json!([{"kind": "ServiceAccount", "name": "podsonar", "namespace": NAMESPACE}]);
    let own = format!("{RBAC}/namespaces/{NAMESPACE}");
    let reference =
        |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "podsonar"});
    let role = json!({
        "metadata": {"name": "podsonar"},
        "rules": [{
            "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"],
        }],
    });
    let binding = |kind: &str| json!({"metadata": {"name": "podsonar"}, "roleRef": reference(kind), "subjects": account});
    vec![
        Write::create(&format!("{RBAC}/clusterroles"), cluster_role(&["pods", "nodes"])),
        Write::create(&format!("{RBAC}/clusterrolebindings"), binding("ClusterRole")),
        Write::create(&format!("{own}/roles"), role),
        Write::create(&format!("{own}/rolebindings"), binding("Role")),
    ]
}

/// The right to see objects of some kinds in the whole cluster.
pub fn cluster_role(resources: &[&str]) -> Value {
    json!({
        "metadata": {"name": "podsonar"},
        "rules": [{"apiGroups": [""], "resources": resources, "verbs": ["get", "list", "watch"]}],
    })
}

/// The path of a pod.
pub fn pod_path(name: &str) -> String {
    format!("/api/v1/namespaces/{PODS}/pods/{name}")
}

/// Creates a pod on a node, which is Pending then.
pub fn create_pod(name: &str, node: &str) -> Write {
    let object = json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "web", "ports": [{"containerPort": 80}]}],
        },
    });
    Write::create(&format!("/api/v1/namespaces/{PODS}/pods"), object)
}

/// Makes a pod Running with addresses, as its kubelet would.
pub fn run_pod(name: &str, addresses: &[&str]) -> Write {
    set_phase(name, "Running", addresses)
}

/// Sets a pod's phase and addresses, as its kubelet would.
pub fn set_phase(name: &str, phase: &str, addresses: &[&str]) -> Write {
    let ips: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let status = json!({"status": {"phase": phase, "podIP": addresses.first(), "podIPs": ips}});
    Write::merge(&format!("{}/status", pod_path(name)), status)
}

/// Removes a pod.
pub fn delete_pod(name: &str) -> Write {
    Write::delete(&pod_path(name))
}

/// Creates a node in a zone.
pub fn create_node(name: &str, zone: &str) -> Write {
    let labels = json!({"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name});
    Write::create("/api/v1/nodes", json!({"metadata": {"name": name, "labels": labels}}))
}

/// Changes a node's specification.
pub fn change_node(name: &str, spec: &Value) -> Write {
    Write::merge(&format!("/api/v1/nodes/{name}"), json!({"spec": spec}))
}

/// Removes a node.
pub fn delete_node(name: &str) -> Write {
    Write::delete(&format!("/api/v1/nodes/{name}"))
}

/// One agent in a slice.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its node.
    pub node: String,
    /// The UID of its pod.
    pub uid: String,
    /// Its address.
    pub address: String,
}

impl Agent {
    /// The agent of a node by number: a name, an UID and an address of its own.
    pub fn number(number: usize) -> Self {
        let (high, middle, low) = (number / 62_500, number / 250 % 250, number % 250 + 1);
        Self {
            node: format!("node-{number:05}"),
            uid: format!("0b8f4c5e-5d7c-4f43-8a63-{number:012}"),
            address: format!("10.{}.{middle}.{low}", 100 + high),
        }
    }

    /// The name of its pod.
    pub fn pod(&self) -> String {
        format!("podsonar-{}", self.node)
    }
}

/// A slice of the agents' Service, with at most a hundred agents as the controller makes them.
pub fn slice(name: &str, family: &str, agents: &[Agent]) -> Value {
    let endpoints: Vec<_> = agents.iter().map(endpoint).collect();
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "podsonar"}},
        "addressType": family,
        "ports": [
            {"name": "metrics", "port": 19988, "protocol": "TCP"},
            {"name": "mesh", "port": 19989, "protocol": "TCP"},
        ],
        "endpoints": endpoints,
    })
}

/// Creates the slices of agents 0 up to a number, a hundred in each.
pub fn create_slices(agents: usize) -> Vec<Write> {
    let starts = (0..agents).step_by(100);
    starts
        .map(|start| {
            let agents: Vec<_> = (start..agents.min(start + 100)).map(Agent::number).collect();
            Write::create(SLICES, slice(&format!("podsonar-{:05}", start / 100), "IPv4", &agents))
        })
        .collect()
}

fn endpoint(agent: &Agent) -> Value {
    json!({
        "addresses": [agent.address],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": agent.node,
        "zone": "zone-a",
        "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": agent.pod(), "uid": agent.uid},
    })
}
