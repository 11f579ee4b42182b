//! A Pod object as far as it matters: everything else is passed over while it is read.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::discovery::watch::Watched;

/// The label that tells which `ReplicaSet` of a `Deployment` a pod is of.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// A Pod object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SeenPod {
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    uid: String,
    name: String,
    namespace: String,
    resource_version: String,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<IgnoredAny>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<Annotations>,
    owner_references: Option<Vec<Owner>>,
}

/// Others can be very long: the applied configuration of each object is one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    /// Opts a pod in (`true`) or out (`false`).
    #[serde(rename = "podsonar.io/probe")]
    probe: Option<String>,
    /// The TCP port to probe, whatever the containers declare.
    #[serde(rename = "podsonar.io/tcp-port")]
    tcp_port: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    restart_policy: Option<String>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Port {
    container_port: i64,
    protocol: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Watched for SeenPod {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// The addresses of a pod: one of each family at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// v4 first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl SeenPod {
    /// `metadata.uid`; empty in no real object.
    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    /// When it was created, as a number that grows with time; zero if that is not known.
    pub fn created(&self) -> u64 {
        let text = self.metadata.creation_timestamp.as_deref().unwrap_or_default();
        let digits = text.bytes().filter(u8::is_ascii_digit).take(14);
        digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    }

    /// Whether it runs and has its network: Running, not about to go, and its sandbox stands. The last is a condition
    /// that kubelets set since Kubernetes 1.29: while a dead sandbox is replaced, status still has its addresses.
    pub fn runs(&self) -> bool {
        let Some(status) = &self.status else { return false };
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let down = |each: &Condition| each.kind == "PodReadyToStartContainers" && each.status == "False";
        status.phase.as_deref() == Some("Running")
            && self.metadata.deletion_timestamp.is_none()
            && !conditions.iter().any(down)
    }

    /// Whether it has the node's addresses instead of its own.
    pub fn is_in_host_network(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
    }

    /// What its own annotation says about being probed.
    pub fn own_choice(&self) -> Option<bool> {
        self.metadata.annotations.as_ref()?.probe.as_deref()?.parse().ok()
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Its addresses: the first of each family.
    pub fn addresses(&self) -> Addresses {
        let Some(status) = &self.status else { return Addresses::default() };
        let all = status.pod_ips.iter().flatten().map(|each| each.ip.as_str());
        let mut addresses = Addresses::default();
        for address in all.chain(status.pod_ip.as_deref()).filter_map(|text| text.parse().ok()) {
            match address {
                IpAddr::V4(v4) => addresses.v4 = addresses.v4.or(Some(v4)),
                IpAddr::V6(v6) => addresses.v6 = addresses.v6.or(Some(v6)),
            }
        }
        addresses
    }

    /// The TCP port to probe: as annotated, else the first that a container declares, else the first of a sidecar (an
    /// init container that goes on running). An annotation that is no port counts as none.
    pub fn port(&self) -> Option<u16> {
        let annotated = || self.metadata.annotations.as_ref()?.tcp_port.as_deref()?.trim().parse().ok();
        let spec = self.spec.as_ref();
        let all = |containers: Option<&Vec<Container>>| containers.cloned().unwrap_or_default();
        let main = all(spec.and_then(|spec| spec.containers.as_ref()));
        let mut sidecars = all(spec.and_then(|spec| spec.init_containers.as_ref()));
        sidecars.retain(|each| each.restart_policy.as_deref() == Some("Always"));
        let declared = || main.iter().chain(&sidecars).find_map(Container::tcp_port);
        annotated().filter(|port| *port > 0).or_else(declared)
    }

    /// The controller that made it, as kind and name: of a `Deployment`'s `ReplicaSet` the `Deployment`; empty without.
    pub fn workload(&self) -> String {
        let owners = self.metadata.owner_references.as_deref().unwrap_or_default();
        let Some(Owner { kind, name, .. }) = owners.iter().find(|owner| owner.controller == Some(true))
        else {
            return String::new();
        };
        let of_deployment = || {
            let hash = self.label(TEMPLATE_HASH)?;
            name.strip_suffix(hash)?.strip_suffix('-').filter(|deployment| !deployment.is_empty())
        };
        match kind.as_str() {
            "ReplicaSet" => {
                of_deployment().map_or_else(|| format!("{kind}/{name}"), |own| format!("Deployment/{own}"))
            }
            _ => format!("{kind}/{name}"),
        }
    }
}

impl Container {
    /// The first TCP port that it declares; a protocol that is not told is TCP.
    fn tcp_port(&self) -> Option<u16> {
        let ports = self.ports.as_deref().unwrap_or_default();
        let tcp =
            ports.iter().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
        tcp.filter_map(|port| u16::try_from(port.container_port).ok()).find(|port| *port > 0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn annotations_choose_and_name_the_port() {
        let annotated = |value: &str| {
            seen(
                json!({"metadata": {"annotations": {"podsonar.io/probe": value, "podsonar.io/tcp-port": value, "other": "x"}}}),
            )
        };
        assert_eq!(annotated("true").own_choice(), Some(true));
        assert_eq!(annotated("false").own_choice(), Some(false));
        assert_eq!((annotated("maybe").own_choice(), annotated("maybe").port()), (None, None));
        assert_eq!(annotated(" 8080 ").port(), Some(8080));
        assert_eq!(annotated("0").port(), None);
    }

    #[test]
    fn the_port_is_the_first_tcp_one_of_containers_then_of_sidecars() {
        let with = |containers: Value, init: Value| {
            seen(json!({"metadata": {}, "spec": {"containers": containers, "initContainers": init}}))
        };
        let init = json!([
            {"name": "migrate", "ports": [{"containerPort": 1}]},
            {"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 15001}]},
        ]);
        let udp = json!([{"ports": [{"containerPort": 53, "protocol": "UDP"}]}, {"name": "no ports"}]);
        assert_eq!(with(udp.clone(), init.clone()).port(), Some(15001), "the sidecar's");
        assert_eq!(with(udp, json!(null)).port(), None);
        let both = json!([{"ports": [
            {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81},
        ]}]);
        assert_eq!(with(both.clone(), init).port(), Some(80));
        let annotated = json!({
            "metadata": {"annotations": {"podsonar.io/tcp-port": "9090"}}, "spec": {"containers": both},
        });
        assert_eq!(seen(annotated).port(), Some(9090));
        let odd =
            json!([{"ports": [{"containerPort": 70000}, {"containerPort": -1}, {"containerPort": 443}]}]);
        assert_eq!(with(odd, json!([])).port(), Some(443));
    }

    #[test]
    fn the_workload_is_the_controller_and_of_a_replica_set_its_deployment() {
        let owned = |kind: &str, name: &str, hash: &str| {
            seen(json!({"metadata": {
                "labels": {TEMPLATE_HASH: hash},
                "ownerReferences": [
                    {"kind": "Backup", "name": "x"},
                    {"kind": kind, "name": name, "controller": true},
                ],
            }}))
            .workload()
        };
        assert_eq!(owned("ReplicaSet", "web-7d4b9", "7d4b9"), "Deployment/web");
        assert_eq!(owned("ReplicaSet", "alone", "7d4b9"), "ReplicaSet/alone");
        assert_eq!(owned("ReplicaSet", "-7d4b9", "7d4b9"), "ReplicaSet/-7d4b9");
        assert_eq!(owned("StatefulSet", "db", "7d4b9"), "StatefulSet/db");
        assert_eq!(owned("DaemonSet", "proxy", ""), "DaemonSet/proxy");
        assert_eq!(owned("Job", "backup-28391", ""), "Job/backup-28391");
        assert_eq!(
            seen(json!({"metadata": {"ownerReferences": [{"kind": "A", "name": "b"}]}})).workload(),
            ""
        );
        assert_eq!(seen(json!({"metadata": {}})).workload(), "");
    }

    #[test]
    fn one_address_of_each_family_counts_and_the_old_field_alone_too() {
        let addressed = |status: Value| seen(json!({"metadata": {}, "status": status})).addresses();
        let both = addressed(json!({"podIP": "fd00::1", "podIPs": [
            {"ip": "fd00::1"}, {"ip": "10.0.0.1"}, {"ip": "10.0.0.9"}, {"ip": "none"},
        ]}));
        let texts: Vec<_> = both.iter().map(|address| address.to_string()).collect();
        assert_eq!(texts, ["10.0.0.1", "fd00::1"]);
        assert_eq!(addressed(json!({"podIP": "10.0.0.7"})).iter().count(), 1);
        assert!(addressed(json!({"podIPs": null, "podIP": ""})).is_empty());
    }

    #[test]
    fn creation_is_a_number_that_grows() {
        let created = |text: &str| seen(json!({"metadata": {"creationTimestamp": text}})).created();
        assert!(created("2026-01-01T00:00:00Z") < created("2026-01-01T00:00:01Z"));
        assert!(created("2025-12-31T23:59:59Z") < created("2026-01-01T00:00:00Z"));
        assert_eq!((created(""), created(&"9".repeat(100))), (0, 99_999_999_999_999));
        assert_eq!(seen(json!({"metadata": {"creationTimestamp": null}})).created(), 0);
    }

    fn seen(object: Value) -> SeenPod {
        serde_json::from_value(object).unwrap()
    }
}
