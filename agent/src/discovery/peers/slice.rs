//! An `EndpointSlice` as far as it matters
//! (<https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>).

use std::net::IpAddr;
use std::sync::Arc;

use podsonar_core::target::Family;
use serde::Deserialize;

use crate::discovery::watch::Watched;

/// The name of the port of `/v1/node` in the Service.
pub(super) const PORT: &str = "mesh";

/// An `EndpointSlice`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Slice {
    metadata: Metadata,
    address_type: String,
    ports: Option<Vec<Port>>,
    endpoints: Option<Vec<SeenEndpoint>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    resource_version: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Port {
    name: Option<String>,
    port: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SeenEndpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
    node_name: Option<String>,
    target_ref: Option<TargetRef>,
    zone: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct TargetRef {
    uid: Option<String>,
}

/// The name and version of a slice, without what is in it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SliceName {
    metadata: Metadata,
}

impl SliceName {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// `metadata.resourceVersion`.
    pub fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// One agent in a slice: one address of its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its node.
    pub node: Arc<str>,
    /// The UID of its pod; empty if the slice names none.
    pub uid: Arc<str>,
    /// The zone of its node; empty if none is told.
    pub zone: Arc<str>,
    /// Where it is.
    pub address: IpAddr,
    /// The port of its `/v1/node`.
    pub port: u16,
    /// Whether it is ready, whatever the Service publishes.
    pub serving: bool,
    /// Whether its pod is going away.
    pub terminating: bool,
}

impl Watched for Slice {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Slice {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Its agents, and how many of its endpoints are of no use: no node, no address of the slice's family, or a slice
    /// without a port of the name `mesh`. Only the first address of an endpoint has a meaning.
    pub fn agents(&self) -> (Vec<Endpoint>, usize) {
        let seen = self.endpoints.as_deref().unwrap_or_default();
        let ports = self.ports.as_deref().unwrap_or_default();
        let port = ports.iter().find(|port| port.name.as_deref() == Some(PORT)).and_then(|port| port.port);
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let family = match self.address_type.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        };
        let (Some(port), Some(family)) = (port, family) else { return (Vec::new(), seen.len()) };
        let agents: Vec<_> = seen.iter().filter_map(|each| each.agent(port, family)).collect();
        let useless = seen.len() - agents.len();
        (agents, useless)
    }
}

impl SeenEndpoint {
    fn agent(&self, port: u16, family: Family) -> Option<Endpoint> {
        let node = self.node_name.as_deref().filter(|node| !node.is_empty())?;
        let address: IpAddr = self.addresses.as_ref()?.first()?.parse().ok()?;
        let conditions = self.conditions.clone().unwrap_or_default();
        let uid = self.target_ref.as_ref().and_then(|target| target.uid.as_deref());
        (Family::of(address) == family).then(|| Endpoint {
            node: node.into(),
            uid: uid.unwrap_or_default().into(),
            zone: self.zone.as_deref().unwrap_or_default().into(),
            address,
            port,
            // What is not told counts as "yes" and "no": https://pkg.go.dev/k8s.io/api/discovery/v1#EndpointConditions
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_endpoint_is_an_agent_with_its_node_pod_and_zone() {
        let slice = slice(
            "IPv4",
            &json!([{
                "addresses": ["10.0.0.1", "10.0.0.9"], "nodeName": "a", "zone": "z", "targetRef": {"kind": "Pod", "uid": "u"},
                "conditions": {"ready": true, "serving": false, "terminating": true},
            }]),
        );
        let (agents, useless) = slice.agents();
        let [agent] = agents.as_slice() else { panic!("one agent") };
        assert_eq!((&*agent.node, &*agent.uid, &*agent.zone, agent.port), ("a", "u", "z", 19_989));
        assert_eq!(
            (agent.address.to_string().as_str(), agent.serving, agent.terminating),
            ("10.0.0.1", false, true)
        );
        assert_eq!((useless, slice.name()), (0, "podsonar-x"));
    }

    #[test]
    fn what_is_not_told_is_serving_and_stays() {
        for conditions in [json!(null), json!({}), json!({"serving": null})] {
            let endpoints = json!([{"addresses": ["10.0.0.1"], "nodeName": "a", "conditions": conditions}]);
            let agent = &slice("IPv4", &endpoints).agents().0[0];
            assert_eq!((agent.serving, agent.terminating, &*agent.uid, &*agent.zone), (true, false, "", ""));
        }
    }

    #[test]
    fn endpoints_of_no_use_are_counted() {
        let endpoints = json!([
            {"addresses": ["10.0.0.1"]},
            {"addresses": ["10.0.0.1"], "nodeName": ""},
            {"addresses": [], "nodeName": "a"},
            {"nodeName": "a"},
            {"addresses": ["fd00::1"], "nodeName": "a"},
            {"addresses": ["name.example"], "nodeName": "a"},
        ]);
        assert_eq!(slice("IPv4", &endpoints).agents(), (Vec::new(), 6));
        assert_eq!(slice("IPv6", &endpoints).agents().0.len(), 1);
        assert_eq!(slice("FQDN", &endpoints).agents(), (Vec::new(), 6));
    }

    #[test]
    fn a_slice_without_the_port_or_without_endpoints_has_no_agents() {
        let endpoints = json!([{"addresses": ["10.0.0.1"], "nodeName": "a"}]);
        for ports in [
            json!(null),
            json!([]),
            json!([{"name": "metrics", "port": 1}]),
            json!([{"name": PORT, "port": 70000}]),
        ] {
            let mut object = object("IPv4", &endpoints);
            object["ports"] = ports;
            let slice: Slice = serde_json::from_value(object).unwrap();
            assert_eq!(slice.agents(), (Vec::new(), 1));
        }
        assert_eq!(slice("IPv4", &json!(null)).agents(), (Vec::new(), 0));
    }

    fn slice(family: &str, endpoints: &Value) -> Slice {
        serde_json::from_value(object(family, endpoints)).unwrap()
    }

    fn object(family: &str, endpoints: &Value) -> Value {
        json!({
            "metadata": {"name": "podsonar-x", "resourceVersion": "7"},
            "addressType": family,
            "ports": [{"name": "metrics", "port": 19988}, {"name": PORT, "port": 19989, "protocol": "TCP"}],
            "endpoints": endpoints,
        })
    }
}
