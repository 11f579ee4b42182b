//! The pods of the cluster's name server, from what is known of pods anyway.
//!
//! An agent knows the pods of its own node and of its peers' nodes, so above 33 nodes it does not see all of them: it
//! asks those that it sees, and the service address while it sees none. Each is asked by all agents that have its node
//! as a peer, 32 by default. A watch of its own for these pods would cost the API server more with each agent.

use std::net::{IpAddr, SocketAddr};

use podsonar_core::config::Endpoints;
use podsonar_core::mesh::Pod;
use podsonar_core::target::Family;

/// At most so many pods are asked: each has series of its own, and takes its share of the queries.
pub const MAX_ENDPOINTS: usize = 8;

/// The addresses to ask: one of each pod that the workload makes, in the family of `service`, else the one it has.
/// Where there are more than [`MAX_ENDPOINTS`], those with the smallest UIDs, so that the choice lasts as long as they do.
pub fn endpoints<'a>(
    wanted: &Endpoints,
    service: Option<IpAddr>,
    pods: impl IntoIterator<Item = &'a Pod>,
) -> Vec<SocketAddr> {
    let is_wanted =
        |pod: &&Pod| *pod.id.namespace == *wanted.namespace && *pod.id.workload == *wanted.workload;
    let mut pods: Vec<&Pod> = pods.into_iter().filter(is_wanted).collect();
    pods.sort_by_key(|pod| &pod.id.uid);
    pods.dedup_by_key(|pod| &pod.id.uid);
    let same_family =
        |address: &&IpAddr| service.is_none_or(|service| Family::of(service) == Family::of(**address));
    let address =
        |pod: &Pod| pod.addresses.iter().find(same_family).or_else(|| pod.addresses.first()).copied();
    let addresses = pods.into_iter().filter_map(address).take(MAX_ENDPOINTS);
    let mut servers: Vec<SocketAddr> =
        addresses.map(|address| SocketAddr::new(address, wanted.port)).collect();
    servers.sort_unstable();
    servers.dedup();
    servers
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use podsonar_core::mesh::Local;
    use podsonar_core::target::PodId;

    use super::*;

    #[test]
    fn the_pods_of_the_workload_are_asked_each_at_one_address() {
        let pods = [
            pod("2", "kube-system", "Deployment/coredns", &["10.0.0.2", "fd00::2"]),
            pod("1", "kube-system", "Deployment/coredns", &["10.0.0.1"]),
            pod("1", "kube-system", "Deployment/coredns", &["10.0.0.1"]),
            pod("3", "kube-system", "Deployment/other", &["10.0.0.3"]),
            pod("4", "default", "Deployment/coredns", &["10.0.0.4"]),
        ];
        let of = |service: Option<&str>| {
            let service = service.map(|service| service.parse().unwrap());
            let servers = endpoints(&wanted(), service, &pods);
            servers.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(None), ["10.0.0.1:53", "10.0.0.2:53"]);
        assert_eq!(of(Some("10.96.0.10")), ["10.0.0.1:53", "10.0.0.2:53"]);
        assert_eq!(of(Some("fd00::10")), ["10.0.0.1:53", "[fd00::2]:53"]);
    }

    #[test]
    fn of_many_the_same_few_stay() {
        let all: Vec<_> = (10..50)
            .map(|number| {
                pod(&number.to_string(), "kube-system", "Deployment/coredns", &[&format!("10.0.0.{number}")])
            })
            .collect();
        let chosen = endpoints(&wanted(), None, &all);
        assert_eq!(chosen.len(), MAX_ENDPOINTS);
        assert_eq!(endpoints(&wanted(), None, all.iter().rev().skip(5)), chosen);
    }

    fn wanted() -> Endpoints {
        Endpoints { namespace: "kube-system".into(), workload: "Deployment/coredns".into(), port: 53 }
    }

    fn pod(uid: &str, namespace: &str, workload: &str, addresses: &[&str]) -> Pod {
        let id = PodId {
            uid: uid.into(),
            namespace: namespace.into(),
            name: uid.into(),
            workload: workload.into(),
        };
        Pod {
            id: Arc::new(id),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            port: None,
            running_since: None,
            local: Local::default(),
        }
    }
}
