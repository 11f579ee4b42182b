//! Nodes, their agents, and what these tell: enough of the exchange and of discovery to see losses confirmed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::engine::{FetchId, Fetched, PlannedFetch};
use podsonar_core::exchange::FetchResult;
use podsonar_core::mesh::{Answers, Local, NodeView, Peer, Pod};
use podsonar_core::target::{Kind, Planned, PodId, Protocol, Stream, Target};
use podsonar_core::time::Instant;
use serde::Deserialize;

use super::scenario::Host;

/// The node on which the simulated agent runs.
pub(crate) const OWN: &str = "sim";

const INTERVAL: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(2);

/// How a node's agent meets a fetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Exchange {
    /// It tells.
    #[default]
    Tells,
    /// Nothing comes back.
    Blocked,
    /// An HTTP status says no.
    Refuses,
}

/// What is so of a node and its agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    pub(crate) exchange: Exchange,
    /// How long its watch has been broken; zero while it lives.
    pub(crate) watch_age_ms: u64,
    pub(crate) leaving: bool,
    /// Its agent is listed among the peers, and as terminating.
    pub(crate) listed: bool,
    pub(crate) terminating: bool,
}

impl Default for Node {
    fn default() -> Self {
        let exchange = Exchange::default();
        Self { exchange, watch_age_ms: 0, leaving: false, listed: true, terminating: false }
    }
}

/// All nodes, what is known of them here, and the fetches under way.
#[derive(Debug, Default)]
pub(crate) struct Mesh {
    views: BTreeMap<String, Arc<NodeView>>,
    under_way: Vec<(u64, FetchId, Fetched)>,
    /// How many fetches were begun.
    pub(crate) begun: u64,
}

impl Mesh {
    pub(crate) fn fetches(nodes: &BTreeMap<String, Node>) -> Vec<PlannedFetch> {
        let others = nodes.keys().filter(|name| *name != OWN);
        let fetch = |node: &String| PlannedFetch {
            node: node.as_str().into(),
            addresses: vec![[192, 0, 2, 99].into()],
            port: 19_989,
            interval: INTERVAL,
            timeout: TIMEOUT,
        };
        others.map(fetch).collect()
    }

    pub(crate) fn peers(nodes: &BTreeMap<String, Node>, hosts: &[Host]) -> Vec<Peer> {
        let listed = nodes.iter().filter(|(name, node)| *name != OWN && node.listed);
        let peer = |(name, node): (&String, &Node)| Peer {
            node: name.as_str().into(),
            zone: "".into(),
            uid: "agent".into(),
            addresses: hosts
                .iter()
                .filter(|host| host.kind == Some(Role::Agent) && host.is_on(name))
                .map(|host| host.address)
                .collect(),
            mesh_port: 19_989,
            terminating: node.terminating,
        };
        listed.map(peer).collect()
    }

    /// A fetch begins; its end comes later.
    pub(crate) fn begin(&mut self, now: u64, id: FetchId, node: &str, answer: Option<(NodeView, Exchange)>) {
        self.begun += 1;
        let slow = u64::try_from(TIMEOUT.as_nanos()).unwrap();
        let (after, fetched) = match answer {
            None | Some((_, Exchange::Blocked)) => (slow, Fetched::failed(FetchResult::Timeout)),
            Some((_, Exchange::Refuses)) => (1_000_000, Fetched::failed(FetchResult::Refused)),
            Some((view, Exchange::Tells)) => {
                let view = Arc::new(view);
                self.views.insert(node.into(), Arc::clone(&view));
                (1_000_000, Fetched { result: FetchResult::Ok, view: Some(view) })
            }
        };
        self.under_way.push((now + after, id, fetched));
    }

    /// The fetches that have ended by now.
    pub(crate) fn ended(&mut self, now: u64) -> Vec<(FetchId, Fetched)> {
        let ended = self.under_way.extract_if(.., |(at, ..)| *at <= now);
        ended.map(|(_, id, fetched)| (id, fetched)).collect()
    }

    /// Our own agent tells.
    pub(crate) fn tell(&mut self, view: Arc<NodeView>) {
        self.views.insert(OWN.into(), view);
    }

    /// The pods that are known from all lists, and the node of each.
    fn pods(&self) -> impl Iterator<Item = (&str, &Pod)> {
        self.views.iter().flat_map(|(node, view)| view.pods.iter().map(move |pod| (node.as_str(), pod)))
    }

    /// What follows from the lists: a pod that is in one is probed.
    pub(crate) fn planned(&self, hosts: &[Host], default: &Planned) -> Vec<Planned> {
        let mut planned = Vec::new();
        let mut add = |target: Target, host: &Host, protocols: &[Protocol]| {
            let target = Arc::new(target);
            planned.extend(protocols.iter().map(|&protocol| Planned {
                stream: Stream { target: Arc::clone(&target), protocol },
                interval: host.interval_ms.map_or(default.interval, Duration::from_millis),
                presumed: host.presumed,
                ..default.clone()
            }));
        };
        for host in hosts.iter().filter(|host| host.is_planned()) {
            let (Some(kind), Some(node)) = (host.kind, &host.node) else { continue };
            match kind {
                Role::Agent => {
                    add(
                        Target::new(Kind::Agent, node.as_str().into(), host.address, None),
                        host,
                        &[Protocol::Icmp],
                    );
                }
                Role::Node => {
                    add(
                        Target::new(Kind::Node, node.as_str().into(), host.address, None),
                        host,
                        &[Protocol::Icmp],
                    );
                }
                Role::Pod => {}
            }
        }
        for (node, pod) in self.pods() {
            let Some(host) = pod.addresses.first().and_then(|address| at(hosts, *address)) else { continue };
            let target = Target::new(Kind::Pod, node.into(), host.address, host.port);
            let target = Target { pod: Some(Arc::clone(&pod.id)), ..target };
            let protocols: &[_] =
                if host.port.is_some() { &[Protocol::Icmp, Protocol::Tcp] } else { &[Protocol::Icmp] };
            add(target, host, protocols);
        }
        planned
    }
}

/// What a node's agent tells now.
pub(crate) fn view(name: &str, node: &Node, hosts: &[Host], now: Instant) -> NodeView {
    let listed =
        hosts.iter().filter(|host| host.kind == Some(Role::Pod) && host.is_on(name) && host.is_planned());
    let mut pods: Vec<Pod> = listed.map(pod).collect();
    pods.sort_by(|one, other| one.id.uid.cmp(&other.id.uid));
    NodeView {
        node: name.into(),
        zone: "".into(),
        epoch: 1,
        addresses: Vec::new(),
        leaving: node.leaving,
        asked_at: now,
        watch_age: Some(Duration::from_millis(node.watch_age_ms)),
        probes_us: None,
        pods,
    }
}

fn pod(host: &Host) -> Pod {
    let uid = host.uid.clone().unwrap_or_else(|| host.address.to_string());
    let id = PodId { uid: uid.into(), namespace: "ns".into(), name: "pod".into(), workload: "".into() };
    let answers = if host.answers_owner { Answers::Yes } else { Answers::Never };
    Pod {
        id: Arc::new(id),
        addresses: vec![host.address],
        port: host.port,
        running_since: host.running_since_ms.map(|ms| Instant::from_nanos((10_000 + ms) * 1_000_000)),
        local: Local { icmp: answers, tcp: answers },
    }
}

fn at(hosts: &[Host], address: IpAddr) -> Option<&Host> {
    hosts.iter().find(|host| host.address == address)
}

/// What kind of target a host of a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Agent,
    Pod,
    Node,
}
