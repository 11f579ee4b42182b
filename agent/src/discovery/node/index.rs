//! What a Node object says that matters: pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::discovery::watch::Watched;

/// The label with the zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Taints of nodes that are about to be taken away, and who sets them.
const TAINTS: [(&str, Leaving); 5] = [
    ("ToBeDeletedByClusterAutoscaler", Leaving::Autoscaler),
    ("karpenter.sh/disrupted", Leaving::Karpenter),
    // Its name before Karpenter 1.0.
    ("karpenter.sh/disruption", Leaving::Karpenter),
    ("node.kubernetes.io/out-of-service", Leaving::OutOfService),
    ("node.cloudprovider.kubernetes.io/shutdown", Leaving::Shutdown),
];

/// Why a node is about to leave, the strongest reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leaving {
    /// Its Node object is gone or going.
    Deleted,
    /// Its machine is shut down, as the cloud provider says.
    Shutdown,
    /// Somebody declared it out of service.
    OutOfService,
    /// The cluster autoscaler takes it away.
    Autoscaler,
    /// Karpenter takes it away.
    Karpenter,
    /// It is cordoned: drained, or about to be.
    Cordoned,
}

impl fmt::Display for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "its Node object is deleted",
            Self::Shutdown => "its machine is shut down",
            Self::OutOfService => "it is declared out of service",
            Self::Autoscaler => "the cluster autoscaler takes it away",
            Self::Karpenter => "Karpenter takes it away",
            Self::Cordoned => "it is cordoned",
        })
    }
}

/// A Node object as far as it matters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    metadata: Metadata,
    spec: Option<Spec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
    deletion_timestamp: Option<IgnoredAny>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Spec {
    unschedulable: Option<bool>,
    taints: Option<Vec<Taint>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Taint {
    key: String,
}

impl Watched for Node {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Node {
    /// Its zone; the one before if that is the same, so that nothing is stored twice.
    pub fn zone(&self, before: &Arc<str>) -> Arc<str> {
        let zone = self.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE));
        let zone = zone.map_or("", String::as_str);
        if **before == *zone { Arc::clone(before) } else { zone.into() }
    }

    /// The strongest reason to leave, if there is any.
    pub fn leaving(&self) -> Option<Leaving> {
        let spec = self.spec.as_ref();
        let deleted = self.metadata.deletion_timestamp.as_ref().map(|_| Leaving::Deleted);
        let cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or(false).then_some(Leaving::Cordoned);
        let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let tainted = taints.iter().filter_map(|taint| {
            TAINTS.into_iter().find(|(key, _)| *key == taint.key).map(|(_, leaving)| leaving)
        });
        tainted.chain(deleted).chain(cordoned).min()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_ordinary_node_stays_and_has_its_zone() {
        let node = node(json!({
            "metadata": {"resourceVersion": "7", "labels": {ZONE: "a", "x": "y"}},
            "spec": {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]},
        }));
        assert_eq!((node.leaving(), &*node.zone(&Arc::default()), node.version()), (None, "a", "7"));
    }

    #[test]
    fn each_way_to_leave_is_seen() {
        let tainted =
            |key: &str| json!({"metadata": {}, "spec": {"taints": [{"key": "other"}, {"key": key}]}});
        for (object, leaving) in [
            (json!({"metadata": {}, "spec": {"unschedulable": true}}), Leaving::Cordoned),
            (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), Leaving::Deleted),
            (tainted("ToBeDeletedByClusterAutoscaler"), Leaving::Autoscaler),
            (tainted("karpenter.sh/disrupted"), Leaving::Karpenter),
            (tainted("karpenter.sh/disruption"), Leaving::Karpenter),
            (tainted("node.kubernetes.io/out-of-service"), Leaving::OutOfService),
            (tainted("node.cloudprovider.kubernetes.io/shutdown"), Leaving::Shutdown),
        ] {
            assert_eq!(node(object).leaving(), Some(leaving));
        }
    }

    #[test]
    fn the_strongest_reason_is_told() {
        let node = node(json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"unschedulable": true, "taints": [{"key": "karpenter.sh/disrupted"}]},
        }));
        assert_eq!(node.leaving(), Some(Leaving::Deleted));
    }

    #[test]
    fn what_is_null_or_not_there_is_nothing() {
        for object in [
            json!({"metadata": {"labels": null}, "spec": {"taints": null}}),
            json!({}),
            json!({"spec": null}),
        ] {
            let node = node(object);
            assert_eq!((node.leaving(), &*node.zone(&Arc::default())), (None, ""));
        }
    }

    fn node(object: serde_json::Value) -> Node {
        serde_json::from_value(object).unwrap()
    }
}
