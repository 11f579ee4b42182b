//! What an agent of a mesh probes: from its peers, their lists and its own pods, by the rules of the selection.
//!
//! Pure: the same knowledge gives the same roster on every agent. The costly part, the graph of all nodes, is made anew
//! only when peers come or go; a list that changed costs a walk over the chosen peers' pods.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::PlannedFetch;
use crate::exchange::directory::{Directory, Standing};
use crate::mesh::{NodeView, Peer, Pod};
use crate::selection::{Graph, cap, rank};
use crate::target::{Family, Kind, Planned, Protocol, Stream, Target};

/// How much is probed, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Most peers.
    pub max_peers: usize,
    /// Agents that probe a pod of another node.
    pub max_observers: usize,
    /// Most pods of other nodes.
    pub max_pods: usize,
    /// Time between two probes of an agent.
    pub agents_interval: Duration,
    /// Time between two probes of another node's pod or address.
    pub pods_interval: Duration,
    /// Time between two probes of an own pod.
    pub own_pods_interval: Duration,
    /// A probe without an answer after this time is lost.
    pub timeout: Duration,
    /// Time between two fetches of a peer's list.
    pub fetch_interval: Duration,
    /// Time for a whole list.
    pub fetch_timeout: Duration,
    /// Where a SYN goes to a pod without a known port: its RST proves the path.
    pub closed_port: u16,
}

/// The peers that an agent has chosen.
#[derive(Debug, Default)]
pub struct Roster {
    node: Arc<str>,
    zone: Arc<str>,
    chosen: Vec<Chosen>,
}

/// A peer, and whom its node's pods are observed by.
#[derive(Debug)]
struct Chosen {
    peer: Peer,
    observers: Vec<Arc<str>>,
}

/// All that is to be probed and asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Duties {
    /// Every stream.
    pub planned: Vec<Planned>,
    /// Every peer's list.
    pub fetches: Vec<PlannedFetch>,
    /// Pods of other nodes that the ceiling left out.
    pub left_out: usize,
}

impl Roster {
    /// The roster of the agent of a node among all peers.
    pub fn new(node: &Arc<str>, zone: &Arc<str>, peers: &[Peer], max_peers: usize) -> Self {
        let all = peers.iter().map(|peer| (Arc::clone(&peer.node), Arc::clone(&peer.zone)));
        let me = (Arc::clone(node), Arc::clone(zone));
        let graph = Graph::new(all.chain([me]), max_peers);
        let mine = graph.peers_of(node);
        let chosen = peers.iter().filter(|peer| mine.contains(&peer.node));
        let chosen = chosen.map(|peer| Chosen { peer: peer.clone(), observers: graph.peers_of(&peer.node) });
        Self { node: Arc::clone(node), zone: Arc::clone(zone), chosen: chosen.collect() }
    }

    /// The peers that are probed.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.chosen.iter().map(|chosen| &chosen.peer)
    }

    /// What is to be done, as far as lists tell.
    pub fn duties(&self, directory: &Directory, rules: &Rules) -> Duties {
        let mut duties = Duties::default();
        let mut pods = Vec::new();
        for Chosen { peer, observers } in &self.chosen {
            duties.fetches.push(PlannedFetch {
                node: Arc::clone(&peer.node),
                addresses: peer.addresses.clone(),
                port: peer.mesh_port,
                interval: rules.fetch_interval,
                timeout: rules.fetch_timeout,
            });
            if !peer.terminating {
                let place = Place::of(peer, directory.view(&peer.node));
                let agents = place.targets(Kind::Agent, &peer.addresses, None);
                duties.planned.extend(agents.map(|target| {
                    planned(target, Protocol::Icmp, rules.agents_interval, rules.timeout, false)
                }));
            }
            let Some(view) = directory.view(&peer.node) else { continue };
            let place = Place::of(peer, Some(view));
            let sound = |address: &IpAddr| directory.standing(&peer.node, *address) == Standing::Sound;
            let own: Vec<IpAddr> = view.addresses.iter().copied().filter(sound).collect();
            let nodes = place.targets(Kind::Node, &own, None);
            // Under hostNetwork an agent is probed by its node's address already.
            let nodes = nodes.filter(|target| !peer.addresses.contains(&target.address));
            duties.planned.extend(
                nodes.map(|target| planned(target, Protocol::Icmp, rules.pods_interval, rules.timeout, true)),
            );
            for pod in &view.pods {
                let observed = rank(observers, &pod.id.uid, rules.max_observers, &self.node);
                if let Some(rank) = observed
                    && pod.addresses.iter().all(sound)
                {
                    pods.push((rank, Arc::clone(&pod.id.uid), (place.clone(), pod)));
                }
            }
        }
        let capped = cap(pods, rules.max_pods);
        duties.left_out = capped.left_out;
        for (place, pod) in capped.kept {
            duties.planned.extend(of_pod(&place, pod, rules.pods_interval, rules));
        }
        if let Some(own) = directory.own() {
            let place = Place { node: Arc::clone(&self.node), zone: Arc::clone(&self.zone) };
            duties
                .planned
                .extend(own.pods.iter().flat_map(|pod| of_pod(&place, pod, rules.own_pods_interval, rules)));
        }
        duties
    }
}

/// Where targets are: the labels `destination` and `destination_zone`.
#[derive(Debug, Clone)]
struct Place {
    node: Arc<str>,
    zone: Arc<str>,
}

impl Place {
    /// A peer's place. Its own word about its zone counts where nobody else has told.
    fn of(peer: &Peer, view: Option<&Arc<NodeView>>) -> Self {
        let told = || view.map(|view| Arc::clone(&view.zone)).unwrap_or_default();
        let zone = if peer.zone.is_empty() { told() } else { Arc::clone(&peer.zone) };
        Self { node: Arc::clone(&peer.node), zone }
    }

    /// A target for each address.
    fn targets(
        &self,
        kind: Kind,
        addresses: &[IpAddr],
        pod: Option<(&Pod, u16)>,
    ) -> impl Iterator<Item = Arc<Target>> {
        let first = addresses.first().map(|address| Family::of(*address));
        addresses.iter().map(move |&address| {
            let port = pod.map(|(pod, closed)| pod.port.unwrap_or(closed));
            Arc::new(Target {
                zone: Arc::clone(&self.zone),
                secondary: first != Some(Family::of(address)),
                pod: pod.map(|(pod, _)| Arc::clone(&pod.id)),
                ..Target::new(kind, Arc::clone(&self.node), address, port)
            })
        })
    }
}

/// ICMP and SYN to each of a pod's addresses.
fn of_pod(place: &Place, pod: &Pod, interval: Duration, rules: &Rules) -> Vec<Planned> {
    let targets = place.targets(Kind::Pod, &pod.addresses, Some((pod, rules.closed_port)));
    let both = |target: Arc<Target>| {
        [Protocol::Icmp, Protocol::Tcp]
            .map(|protocol| planned(Arc::clone(&target), protocol, interval, rules.timeout, true))
    };
    targets.flat_map(both).collect()
}

fn planned(
    target: Arc<Target>,
    protocol: Protocol,
    interval: Duration,
    timeout: Duration,
    presumed: bool,
) -> Planned {
    Planned { stream: Stream { target, protocol }, interval, timeout, presumed }
}
