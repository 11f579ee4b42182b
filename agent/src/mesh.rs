//! This agent as one of many: who its peers are, what they tell, what it tells them, and what is probed of all that.
//!
//! Everything here is the main task's. Discovery and the exchange bring news, [`Mesh::take_news`] and
//! [`Mesh::learn`] take them in, and [`Mesh::orders`] says what follows for the driver, the listeners and the name
//! servers' questions.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::config::{Identity, Probing};
use podsonar_core::direction::inbound::Source;
use podsonar_core::engine::Fetched;
use podsonar_core::exchange::directory::Directory;
use podsonar_core::mesh::{NodeView, Peer, Pod};
use podsonar_core::roster::{Duties, Roster, Rules};
use podsonar_core::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use crate::clock;
use crate::discovery::endpoints::endpoints;
use crate::discovery::found::Found;
use crate::discovery::pod_names::NamedPod;
use crate::exchange::accept;
use crate::exchange::lists::Lists;
use crate::exchange::{self, Callers};
use crate::metrics::mesh::{PeerState, Watched};
use crate::metrics::state::Metrics;

/// A probe without an answer after this time is lost: below the second after which a SYN-ACK is sent again.
const TIMEOUT: Duration = Duration::from_millis(800);

/// A peer's list is stale when it could not be had for so many intervals.
const STALE_AFTER: u32 = 5;

/// What a mesh begins with.
#[derive(Debug)]
pub struct Setting {
    /// Where our list is served.
    pub listener: TcpListener,
    /// When this agent began: its list counts from there.
    pub started: Instant,
    /// Who this agent is in its cluster; `None` outside.
    pub identity: Option<Identity>,
    /// The agents' Service.
    pub service: String,
}

/// How the rest of the agent takes part in the mesh.
#[derive(Debug)]
struct Parts {
    found: Found,
    /// Who may read our list.
    callers: Arc<Callers>,
    /// Our list, as it is served, and who serves it.
    served: Arc<exchange::Mesh>,
    server: JoinHandle<()>,
    /// The peers' lists, as they were fetched.
    lists: Arc<Lists>,
    metrics: Arc<Metrics>,
}

/// Who this agent is to others.
#[derive(Debug, Clone)]
pub struct Myself {
    /// The own node.
    pub node: Arc<str>,
    /// Its zone as it was set; discovery may know better.
    pub zone: Arc<str>,
    /// This run of the agent.
    pub epoch: u64,
    /// The node's own addresses: one of each family at most, v4 first.
    pub addresses: Vec<IpAddr>,
}

/// The mesh as this agent sees it.
#[derive(Debug)]
pub struct Mesh {
    parts: Parts,
    myself: Myself,
    rules: Rules,
    peers: Arc<[Peer]>,
    roster: Roster,
    directory: Directory,
    /// Whether this agent has been told to end.
    ending: bool,
}

/// What follows from what is known.
#[derive(Debug, Default, PartialEq)]
pub struct Orders {
    /// The agents that there are.
    pub peers: Vec<Peer>,
    /// What is probed and fetched.
    pub duties: Duties,
    /// Whose echo requests count.
    pub sources: Vec<Source>,
    /// Pods whose names are asked for.
    pub named: Vec<NamedPod>,
    /// Name servers' pods, where these are asked themselves.
    pub servers: Vec<std::net::SocketAddr>,
}

impl Mesh {
    /// Begins to look for pods and peers, and to serve our own list until `stop` changes.
    pub fn begin(
        setting: Setting,
        myself: Myself,
        probing: &Probing,
        lists: Arc<Lists>,
        metrics: &Arc<Metrics>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let Setting { listener, started, identity, service } = setting;
        let metrics = Arc::clone(metrics);
        metrics.mesh.enable();
        let callers = Arc::new(Callers::new(probing.mesh.allowed.clone()));
        let served = exchange::Mesh::new(Arc::clone(&callers), Arc::clone(&metrics), clock::now, started);
        let served = Arc::new(served);
        let found = Found::begin(identity, &service, &probing.mesh, probing.pods.clone(), &callers, &metrics);
        let limits = exchange::server::limits();
        let server = tokio::spawn(exchange::server::serve(listener, Arc::clone(&served), limits, stop));
        let parts = Parts { found, callers, served, server, lists, metrics };
        let mut mesh = Self {
            rules: rules(probing),
            peers: Arc::default(),
            roster: Roster::default(),
            directory: Directory::default(),
            ending: false,
            parts,
            myself,
        };
        mesh.configure(probing);
        mesh
    }

    /// Waits until our list is no longer served.
    ///
    /// # Errors
    /// Serving it has panicked.
    pub async fn ended(self) -> Result<(), JoinError> {
        self.parts.server.await
    }

    /// Other settings than before.
    pub fn configure(&mut self, probing: &Probing) {
        self.rules = rules(probing);
        self.parts.found.configure(&probing.mesh, probing.pods.clone());
        self.choose(&probing.mesh.pod_networks);
    }

    /// Waits for news.
    pub async fn changed(&mut self) {
        self.parts.found.changed().await;
    }

    /// Takes in what discovery has found.
    pub fn take_news(&mut self, probing: &Probing, now: Instant) {
        let peers = self.parts.found.peers.borrow_and_update().clone();
        let node = self.parts.found.node.borrow_and_update().clone();
        self.parts.found.pods.borrow_and_update();
        let moved = !node.zone.is_empty() && node.zone != self.myself.zone;
        if moved {
            self.myself.zone = node.zone;
        }
        if moved || *peers.peers != *self.peers {
            self.peers = peers.peers;
            self.directory.set_peers(&self.peers, now);
            self.choose(&probing.mesh.pod_networks);
        }
    }

    /// A fetch has ended. Returns whether there is something new in it.
    pub fn learn(&mut self, node: &Arc<str>, fetched: Fetched, now: Instant) -> bool {
        let zone = self.parts.lists.zone(node);
        self.parts.metrics.fetch_result(&zone, fetched.result);
        let Some(view) = fetched.view else {
            if !fetched.result.is_usable() {
                self.parts.found.is_silent(node);
            }
            return false;
        };
        let before = self.directory.view(node).cloned();
        self.directory.learn(Arc::clone(&view), now);
        before.is_none_or(|before| {
            (&before.pods, &before.addresses, before.epoch, before.leaving, &before.zone, before.probes_us)
                != (&view.pods, &view.addresses, view.epoch, view.leaving, &view.zone, view.probes_us)
        })
    }

    /// This agent has been told to end: its peers hear of it with their next fetch.
    pub fn leave(&mut self) {
        self.ending = true;
    }

    /// What our own list says now; it is served from now on, too.
    pub fn own_view(&mut self, now: Instant) -> Arc<NodeView> {
        let pods = self.parts.found.pods.borrow().clone();
        let node = self.parts.found.node.borrow().clone();
        let local = |pod: &Pod| Pod { local: self.parts.metrics.local.of(pod), ..pod.clone() };
        let view = Arc::new(NodeView {
            node: Arc::clone(&self.myself.node),
            zone: Arc::clone(&self.myself.zone),
            epoch: self.myself.epoch,
            addresses: self.myself.addresses.clone(),
            leaving: self.ending || node.leaving.is_some(),
            asked_at: now,
            watch_age: pods.health.age(now),
            probes_us: None,
            pods: pods.pods.iter().map(local).collect(),
        });
        if pods.health.is_listed() {
            self.parts.served.publish(&view);
        }
        self.directory.set_own(Arc::clone(&view), now);
        self.show_peers(now);
        for (watched, health) in [
            (Watched::Pods, pods.health),
            (Watched::Node, node.health),
            (Watched::Peers, self.parts.found.peers.borrow().health),
        ] {
            self.parts.metrics.mesh.set_health(watched, health);
        }
        view
    }

    /// Whether time alone changes what follows: claims and the departed are forgotten after a while.
    pub fn is_settling(&self) -> bool {
        self.directory.departed() > 0 || self.directory.contested() > 0
    }

    /// What follows from all that is known.
    pub fn orders(&self, probing: &Probing) -> Orders {
        let duties = self.roster.duties(&self.directory, &self.rules);
        self.show(&duties);
        self.parts.callers.replace(self.known_addresses());
        let own = self.directory.own().map(|view| &view.pods[..]).unwrap_or_default();
        let mut named: Vec<NamedPod> =
            own.iter().flat_map(|pod| NamedPod::each(pod, &self.myself.node, true)).collect();
        let observed: HashSet<&Arc<str>> = duties
            .planned
            .iter()
            .filter_map(|plan| plan.stream.target.pod.as_ref())
            .map(|pod| &pod.uid)
            .collect();
        for peer in self.roster.peers() {
            let view = self.directory.view(&peer.node);
            let pods = view.map(|view| &view.pods[..]).unwrap_or_default();
            let pods = pods.iter().filter(|pod| observed.contains(&pod.id.uid));
            named.extend(pods.flat_map(|pod| NamedPod::each(pod, &peer.node, false)));
        }
        let all = own.iter().chain(self.directory.views().flat_map(|view| &view.pods));
        let service = probing.dns.servers.first().map(std::net::SocketAddr::ip);
        let servers = probing.dns.endpoints.as_ref().map(|wanted| endpoints(wanted, service, all));
        Orders {
            peers: self.peers.to_vec(),
            sources: self.sources(),
            servers: servers.unwrap_or_default(),
            named,
            duties,
        }
    }

    /// Chooses peers anew.
    fn choose(&mut self, pod_networks: &[ipnet::IpNet]) {
        let Myself { node, zone, .. } = &self.myself;
        self.roster = Roster::new(node, zone, &self.peers, self.rules.max_peers);
        let rules = accept::Rules { pod_cidrs: pod_networks.to_vec() };
        let zones = self.roster.peers().map(|peer| (Arc::clone(&peer.node), Arc::clone(&peer.zone)));
        self.parts.lists.configure(rules, zones);
    }

    /// Whose echo requests count: those of agents that have told their epoch. Whoever leaves will fall silent, and so is
    /// who has chosen others, as one may that sees another cluster for a while: neither says anything of the way.
    fn sources(&self) -> Vec<Source> {
        let source = |peer: &Peer| {
            let view = self.directory.view(&peer.node)?;
            let quiet = peer.terminating || view.leaving || view.probes_us == Some(false);
            (!quiet).then(|| Source::of(peer, view))
        };
        self.roster.peers().filter_map(source).collect()
    }

    /// The addresses of all agents, with whether we probe them, and of the nodes that tell theirs.
    fn known_addresses(&self) -> Vec<(IpAddr, Option<bool>)> {
        let probed = self.roster.peers().filter(|peer| !peer.terminating).map(|peer| &peer.node);
        let probed: HashSet<&Arc<str>> = probed.collect();
        let agents = self.peers.iter().flat_map(|peer| {
            let probed = probed.contains(&peer.node);
            peer.addresses.iter().map(move |address| (*address, Some(probed)))
        });
        let nodes = self.directory.views().flat_map(|view| &view.addresses);
        agents.chain(nodes.map(|address| (*address, None))).collect()
    }

    fn show(&self, duties: &Duties) {
        let mesh = &self.parts.metrics.mesh;
        mesh.pods_left_out.set(duties.left_out as u64);
        mesh.contested.set(self.directory.contested() as u64);
    }

    /// How many peers are how. Time alone makes lists old.
    fn show_peers(&self, now: Instant) {
        let mesh = &self.parts.metrics.mesh;
        let old = self.rules.fetch_interval * STALE_AFTER;
        let mut counts = [0_u64; PeerState::ALL.len()];
        let mut count = |state: PeerState, more: u64| {
            if let Some(count) = counts.get_mut(state as usize) {
                *count += more;
            }
        };
        let mut chosen = 0;
        for peer in self.roster.peers() {
            chosen += 1;
            count(
                match self.directory.view(&peer.node) {
                    _ if peer.terminating => PeerState::Leaving,
                    Some(view) if view.leaving => PeerState::Leaving,
                    Some(view) if now.since(view.asked_at) > old => PeerState::Stale,
                    Some(_) => PeerState::Told,
                    None => PeerState::Untold,
                },
                1,
            );
        }
        count(PeerState::NotChosen, (self.peers.len() as u64).saturating_sub(chosen));
        for (state, count) in PeerState::ALL.into_iter().zip(counts) {
            mesh.set_peers(state, count);
        }
    }
}

/// How much is probed by these settings, and how often.
pub fn rules(probing: &Probing) -> Rules {
    let mesh = &probing.mesh;
    Rules {
        max_peers: mesh.max_peers,
        max_observers: mesh.max_observers,
        max_pods: mesh.max_targets,
        agents_interval: mesh.agents_interval,
        pods_interval: mesh.pods_interval,
        own_pods_interval: mesh.own_pods_interval,
        timeout: TIMEOUT,
        fetch_interval: mesh.fetch_interval,
        fetch_timeout: mesh.fetch_timeout,
        closed_port: probing.closed_port,
    }
}
