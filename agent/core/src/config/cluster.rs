//! Who this agent is in its cluster, by the variables that the pod's manifest sets from Kubernetes' downward API.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::origin::{At, Origin};
use super::problem::Fault;
use super::resolve::Resolving;
use super::setting;
use crate::target::Family;

/// The longest name of an object: a DNS subdomain (RFC 1123).
const MAX_NAME: usize = 253;

/// The longest name of a namespace or Service: a DNS label (RFC 1123).
const MAX_LABEL: usize = 63;

/// The variables as they are, empty ones as if absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Downward {
    /// `KUBERNETES_SERVICE_HOST`: with it, this is a pod of a cluster.
    pub service_host: Option<String>,
    /// `KUBERNETES_SERVICE_PORT`.
    pub service_port: Option<String>,
    /// `NODE_NAME`, from `spec.nodeName`.
    pub node_name: Option<String>,
    /// `POD_NAME`, from `metadata.name`.
    pub pod_name: Option<String>,
    /// `POD_NAMESPACE`, from `metadata.namespace`.
    pub pod_namespace: Option<String>,
    /// `POD_UID`, from `metadata.uid`.
    pub pod_uid: Option<String>,
    /// `POD_IPS`, from `status.podIPs`.
    pub pod_ips: Option<String>,
    /// `HOST_IPS`, from `status.hostIPs`.
    pub host_ips: Option<String>,
}

/// Who this agent is, and where the API server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The API server's host: an address or a name.
    pub api_host: String,
    /// The API server's port.
    pub api_port: u16,
    /// The node that this agent runs on.
    pub node: Arc<str>,
    /// The agent's own pod.
    pub pod: Arc<str>,
    /// The pod's namespace: that of the agents' Service.
    pub namespace: Arc<str>,
    /// The pod's UID.
    pub uid: Arc<str>,
    /// The pod's addresses: one of each family at most, v4 first; at least one.
    pub pod_ips: Vec<IpAddr>,
    /// The node's addresses: one of each family at most, v4 first; at least one.
    pub host_ips: Vec<IpAddr>,
}

/// What a variable of [`Downward`] must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The name of an object.
    Name,
    /// The name of a namespace.
    Namespace,
    /// A UID.
    Uid,
    /// Addresses with commas between them.
    Addresses,
    /// A TCP port.
    Port,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "the name of a Kubernetes object",
            Self::Namespace => "the name of a namespace",
            Self::Uid => "a UID",
            Self::Addresses => "IP addresses with commas between them",
            Self::Port => "a TCP port",
        })
    }
}

impl Resolving<'_> {
    /// Who the agent is; `None` outside of a cluster, where Kubernetes is switched off, and where something is wrong
    /// with the variables, which has been noted.
    pub(super) fn identity(&mut self) -> Option<Identity> {
        let on = self.word(&setting::KUBERNETES)? == "auto";
        let downward = self.host.downward.clone();
        let api_host = downward.service_host.filter(|_| on)?;
        let port = |text: &str| text.parse().ok().filter(|port: &u16| *port > 0);
        let text = |text: &str| Some(Arc::from(text));
        // All are looked at before any is missed.
        let api_port = self.variable("KUBERNETES_SERVICE_PORT", downward.service_port, Wanted::Port, port);
        let node = self.variable("NODE_NAME", downward.node_name, Wanted::Name, |name| {
            is_name(name, MAX_NAME).then_some(name).and_then(text)
        });
        let pod = self.variable("POD_NAME", downward.pod_name, Wanted::Name, |name| {
            is_name(name, MAX_NAME).then_some(name).and_then(text)
        });
        let namespace = self.variable("POD_NAMESPACE", downward.pod_namespace, Wanted::Namespace, |name| {
            is_label(name).then_some(name).and_then(text)
        });
        let uid = self.variable("POD_UID", downward.pod_uid, Wanted::Uid, |uid| {
            (uid.len() <= MAX_NAME && uid.bytes().all(|byte| byte.is_ascii_graphic()))
                .then_some(uid)
                .and_then(text)
        });
        let pod_ips = self.variable("POD_IPS", downward.pod_ips, Wanted::Addresses, addresses);
        let host_ips = self.variable("HOST_IPS", downward.host_ips, Wanted::Addresses, addresses);
        Some(Identity {
            api_host,
            api_port: api_port?,
            node: node?,
            pod: pod?,
            namespace: namespace?,
            uid: uid?,
            pod_ips: pod_ips?,
            host_ips: host_ips?,
        })
    }

    fn variable<T>(
        &mut self,
        name: &'static str,
        value: Option<String>,
        wanted: Wanted,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let at = At::new("", Origin::Variable(name));
        let Some(text) = value else {
            self.note(at, None, Fault::NoVariable(wanted));
            return None;
        };
        let value = read(text.trim());
        if value.is_none() {
            self.note(at, Some(&text), Fault::NotVariable(wanted));
        }
        value
    }
}

/// The first address of each family, v4 first, as a node or pod has them.
fn addresses(text: &str) -> Option<Vec<IpAddr>> {
    let all: Vec<IpAddr> = text.split(',').map(|item| item.trim().parse().ok()).collect::<Option<_>>()?;
    let first = |family| all.iter().copied().find(|address| Family::of(*address) == family);
    let found: Vec<_> = Family::ALL.into_iter().filter_map(first).collect();
    (!found.iter().any(IpAddr::is_unspecified)).then_some(found)
}

/// Whether it can be the name of an object.
fn is_name(text: &str, most: usize) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    text.len() <= most
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

/// Whether it can be the name of a namespace or Service.
pub(super) fn is_label(text: &str) -> bool {
    is_name(text, MAX_LABEL) && !text.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Configuration, Host, Problem, Written};

    #[test]
    fn in_a_cluster_the_agent_knows_who_it_is() {
        let identity = resolve(complete(), "").unwrap().agent.identity.unwrap();
        assert_eq!(
            (&*identity.node, &*identity.namespace, &*identity.pod),
            ("node-1", "monitoring", "podsonar-x")
        );
        assert_eq!((identity.api_host.as_str(), identity.api_port), ("10.96.0.1", 443));
        let addresses =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(identity.pod_ips, addresses(&["10.0.0.2", "fd00::2"]), "v4 first");
        assert_eq!(identity.host_ips, addresses(&["192.0.2.1"]));
    }

    #[test]
    fn everything_that_is_missing_or_malformed_is_told_at_once_with_the_fix() {
        let downward = Downward {
            service_host: Some("10.96.0.1".into()),
            pod_namespace: Some("Not_A_Namespace".into()),
            pod_ips: Some("10.0.0.2,ten".into()),
            ..Downward::default()
        };
        let problems = resolve(downward, "").unwrap_err();
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        for name in ["KUBERNETES_SERVICE_PORT", "NODE_NAME", "POD_NAME", "POD_UID", "HOST_IPS"] {
            assert!(
                told.iter().any(|line| line.starts_with(&format!("{name}: is not set"))),
                "{name}: {told:?}"
            );
        }
        for line in ["POD_NAMESPACE=Not_A_Namespace: must be", "POD_IPS=10.0.0.2,ten: must be"] {
            assert!(told.iter().any(|each| each.starts_with(line)), "{line}: {told:?}");
        }
        assert_eq!(told.len(), 7, "{told:?}");
    }

    #[test]
    fn outside_a_cluster_and_where_switched_off_nothing_is_missed() {
        assert_eq!(resolve(Downward::default(), "targets: [192.0.2.1]").unwrap().agent.identity, None);
        let alone = Downward { service_host: Some("10.96.0.1".into()), ..Downward::default() };
        let off = "kubernetes: 'off'\ntargets: [192.0.2.1]";
        assert_eq!(resolve(alone, off).unwrap().agent.identity, None);
    }

    #[test]
    fn in_a_cluster_no_target_must_be_written() {
        assert!(resolve(complete(), "").unwrap().probing.planned.is_empty());
        assert!(resolve(complete(), "kubernetes: 'off'").is_err());
        assert!(resolve(Downward::default(), "").is_err());
    }

    fn complete() -> Downward {
        Downward {
            service_host: Some("10.96.0.1".into()),
            service_port: Some("443".into()),
            node_name: Some("node-1".into()),
            pod_name: Some("podsonar-x".into()),
            pod_namespace: Some("monitoring".into()),
            pod_uid: Some("0b8f4c5e-5d7c-4f43-8a63-2f1d4b8a9f10".into()),
            pod_ips: Some("fd00::2,10.0.0.2".into()),
            host_ips: Some("192.0.2.1".into()),
        }
    }

    fn resolve(downward: Downward, file: &str) -> Result<Configuration, Vec<Problem>> {
        let mut written = Written::default();
        if !file.is_empty() {
            written.read("f", file).unwrap();
        }
        written.resolve(&Host { name: Some("host".into()), downward, ..Host::default() })
    }
}
