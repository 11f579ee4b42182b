//! One agent of a large cluster, by the very code that an agent runs: its roster, its plan, its ledger.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use podsonar::degrade::Means;
use podsonar::discovery::pod_names::NamedPod;
use podsonar::mesh::rules;
use podsonar::plan::Plan;
use podsonar_core::config::{Downward, Host, Probing, Resolver, Written};
use podsonar_core::direction::inbound::{Counts, Edge, News};
use podsonar_core::engine::{PathMtuFinding, PlannedFetch};
use podsonar_core::exchange::directory::Directory;
use podsonar_core::mesh::{Local, NodeView, Peer, Pod};
use podsonar_core::outcome::{ProbeResult, Rtt};
use podsonar_core::roster::Roster;
use podsonar_core::target::{Family, Kind, Planned, PodId, Protocol, StreamId};
use podsonar_core::time::Instant;
use podsonar_core::wire::Channel;

use super::{PODS, ZONES};
use crate::support::{Book, report};

/// The settings of an agent in a cluster whose file says this; without a file if it is empty.
pub(super) fn probing(file: &str) -> Probing {
    let mut written = Written::default();
    if !file.is_empty() {
        written.read("file", file).unwrap();
    }
    let domains = ["podsonar.svc.cluster.local", "svc.cluster.local", "cluster.local"];
    let resolver = Resolver {
        servers: vec![([10, 96, 0, 10], 53).into()],
        search: domains.map(String::from).into(),
        ndots: 5,
        ..Resolver::default()
    };
    let say = |text: &str| Some(text.to_owned());
    let downward = Downward {
        service_host: say("10.96.0.1"),
        service_port: say("443"),
        node_name: say("node-00000"),
        pod_name: say("podsonar-0"),
        pod_namespace: say("podsonar"),
        pod_uid: say("uid"),
        pod_ips: say("10.0.0.1"),
        host_ips: say("172.16.0.1"),
    };
    let host = Host { name: say("node-00000"), resolver, downward };
    match written.resolve(&host) {
        Ok(configuration) => configuration.probing,
        Err(problems) => panic!("{problems:#?}"),
    }
}

/// What one agent does.
pub(super) struct Agent {
    /// How many agents it probes.
    pub(super) peers: usize,
    /// How many pods of other nodes it probes.
    pub(super) pods: usize,
    planned: Vec<Planned>,
    fetches: Vec<PlannedFetch>,
    plan: Plan,
    chosen: Vec<Peer>,
}

impl Agent {
    /// The agent of a node among so many, when it knows all.
    pub(super) fn new(number: usize, nodes: usize, probing: &Probing) -> Self {
        let (node, zone) = (name(number), zone(number));
        let peers: Vec<Peer> = (0..nodes).filter(|other| *other != number).map(peer).collect();
        let roster = Roster::new(&node, &zone, &peers, probing.mesh.max_peers);
        let chosen: Vec<Peer> = roster.peers().cloned().collect();
        let mut directory = Directory::default();
        directory.set_own(Arc::new(view(number)), NOW);
        directory.set_peers(&peers, NOW);
        let is_chosen = |other: &usize| {
            let name = name(*other);
            chosen.iter().any(|peer| peer.node == name)
        };
        for other in (0..nodes).filter(is_chosen) {
            directory.learn(Arc::new(view(other)), NOW);
        }
        let duties = roster.duties(&directory, &rules(probing));
        let is_theirs = |planned: &&Planned| {
            let target = &planned.stream.target;
            target.kind == Kind::Pod
                && target.destination != node
                && planned.stream.protocol == Protocol::Icmp
        };
        let pods = duties.planned.iter().filter(is_theirs).count();
        let named = |planned: &Planned| {
            let target = &planned.stream.target;
            let own = target.destination == node;
            let is_first = planned.stream.protocol == Protocol::Icmp;
            let id = target.pod.clone().filter(|_| is_first)?;
            Some(NamedPod {
                id,
                node: Arc::clone(&target.destination),
                address: target.address,
                port: target.port,
                own,
            })
        };
        let mut plan = Plan::new(&node, &zone, probing.clone());
        plan.take_pods(duties.planned.iter().filter_map(named).collect(), Vec::new());
        plan.take_mesh(duties.planned);
        let planned = plan.planned([Some(Means::Raw); Channel::ALL.len()]);
        Self { peers: chosen.len(), pods, planned, fetches: duties.fetches, plan, chosen }
    }

    pub(super) fn probes_per_second(&self) -> f64 {
        self.planned.iter().map(|each| 1.0 / each.interval.as_secs_f64()).sum()
    }

    /// Large probes go to other agents, and to what the user wrote.
    pub(super) fn large_per_second(&self) -> f64 {
        self.plan.probing().mtu.map_or(0.0, |interval| self.chosen.len() as f64 / interval.as_secs_f64())
    }

    /// All that may be asked: each name by all candidates of the search list.
    pub(super) fn questions_per_second(&self) -> f64 {
        self.plan.questions().iter().map(|each| f64::from(each.exchanges) / each.interval.as_secs_f64()).sum()
    }

    pub(super) fn fetches_per_second(&self) -> f64 {
        self.fetches.iter().map(|each| 1.0 / each.interval.as_secs_f64()).sum()
    }

    /// Series of its scrape after a minute in which all was answered, and a bit of everything happened beside: with classic
    /// histograms, and with each histogram as one.
    pub(super) fn series(&self, by_zone: bool) -> (usize, usize) {
        let probing = self.plan.probing();
        let mut book = Book::of(probing.buckets.clone(), probing.max_series, by_zone);
        for (id, planned) in (0..).zip(&self.planned) {
            book.ledger.added(StreamId(id), planned);
            for second in 0..=61 {
                book.outcome_at(id, ProbeResult::Reply(Rtt::Observed(Duration::from_micros(300))), second);
            }
            if planned.stream.target.kind == Kind::Agent {
                book.ledger
                    .path_mtu(StreamId(id), PathMtuFinding { path_mtu: Some(1_500), blackholed: false });
            }
        }
        for peer in &self.chosen {
            let edge =
                Edge { node: Arc::clone(&peer.node), zone: Arc::clone(&peer.zone), family: Family::V4 };
            book.ledger.inbound(&News { edge, counts: Counts::default(), silent: false, gone: false });
        }
        crate::names::feed(&book);
        crate::exchange::feed(&book);
        crate::scrape::feed_mesh(&book);
        book.ledger.tick(&report(62));
        book.series()
    }
}

const NOW: Instant = Instant::from_nanos(1_000_000_000);

fn name(number: usize) -> Arc<str> {
    format!("node-{number:05}").into()
}

fn zone(number: usize) -> Arc<str> {
    format!("zone-{}", number % ZONES).into()
}

/// The address of a node's pods, the agent's first.
fn address(node: usize, pod: usize) -> IpAddr {
    let place = u32::try_from(node * 64 + pod + 1).unwrap();
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + place).into()
}

fn peer(number: usize) -> Peer {
    Peer {
        node: name(number),
        zone: zone(number),
        uid: format!("agent-{number}").into(),
        addresses: vec![address(number, 0)],
        mesh_port: 19_989,
        terminating: false,
    }
}

/// What a node's agent tells.
pub(super) fn view(number: usize) -> NodeView {
    let pod = |pod: usize| Pod {
        id: Arc::new(PodId {
            uid: format!("00000000-0000-4000-8000-{number:06}{pod:06}").into(),
            namespace: format!("namespace-{}", pod % 5).into(),
            name: format!("workload-{number}-5d4f8c7b9-{pod:05}").into(),
            workload: format!("Deployment/workload-{number}").into(),
        }),
        addresses: vec![address(number, pod)],
        port: Some(8_080),
        running_since: None,
        local: Local::default(),
    };
    NodeView {
        node: name(number),
        zone: zone(number),
        epoch: number as u64 + 1,
        addresses: vec![(Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16, 0, 1)) + number as u32)).into()],
        leaving: false,
        asked_at: NOW,
        watch_age: Some(Duration::ZERO),
        probes_us: None,
        pods: (1..=PODS).map(pod).collect(),
    }
}
