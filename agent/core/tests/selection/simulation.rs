//! Whole clusters, with the bars that the selection must hold. `make sim` prints the table; a debug build tries fewer
//! joins and leaves.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a broken simulation fails loudly")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use podsonar_core::selection::{observers, rank};

use super::*;

const PODS: usize = 30;
const ZONES: usize = 3;
/// For one agent: the graph, its peers, their peers, and its rank for each of their pods.
const TIME_MAX: Duration = Duration::from_millis(100);

#[test]
fn every_bar_holds_from_3_to_5000_nodes() {
    println!(
        "{PODS} pods a node, peers.max {PEERS_MAX}, observers.max {OBSERVERS_MAX}; probes/s: default intervals, one family, ICMP and SYN for each pod"
    );
    println!(
        "{:>5} {:>15}  {:>14}  {:>9}  {:>8} {:>6}  {:>13} {:>8}  {:>13}  {:>7}",
        "nodes",
        "zones",
        "degree min/",
        "observers",
        "see all",
        "edges",
        "pods probed",
        "probes/s",
        "edges moved",
        "for one"
    );
    println!(
        "{:>5} {:>15}  {:>14}  {:>9}  {:>8} {:>6}  {:>13} {:>8}  {:>13}  {:>7}",
        "", "", "mean/max", "min/med", "zones", "apart", "mean/max", "mean", "median/max", "agent"
    );
    let mut missed = Vec::new();
    for nodes in [3, 33, 50, 500, 5_000] {
        let third = |n: usize| [n - n / 3 * 2, n / 3, n / 3];
        let fifth = (nodes / 5).max(1);
        let alone = [nodes / 2, nodes - nodes / 2 - 1, 1];
        for sizes in [third(nodes), [nodes - fifth - (nodes - fifth) / 2, (nodes - fifth) / 2, fifth], alone]
        {
            Simulation::run(sizes).check(&mut missed);
        }
    }
    assert!(missed.is_empty(), "bars missed:\n{}", missed.join("\n"));
}

struct Simulation {
    sizes: [usize; ZONES],
    nodes: usize,
    /// By node: the size of its zone, its degree.
    degrees: Vec<(usize, usize)>,
    observers: Vec<usize>,
    seeing_all: usize,
    /// Edges between two zones, and how many there can be.
    between: Vec<(usize, usize)>,
    moved: Vec<usize>,
    took: Duration,
}

impl Simulation {
    fn run(sizes: [usize; ZONES]) -> Self {
        let members = cluster(&sizes);
        let graph = graph(&members);
        let zone_of: HashMap<_, _> = members.iter().map(|(name, zone)| (name, zone)).collect();
        let size_of = |zone: &Arc<str>| sizes[zone.trim_start_matches("zone-").parse::<usize>().unwrap()];
        let all = edges(&members);
        let mut peers: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
        for (one, other) in &all {
            peers.entry(Arc::clone(one)).or_default().push(Arc::clone(other));
            peers.entry(Arc::clone(other)).or_default().push(Arc::clone(one));
        }
        for (name, _) in
            members.iter().step_by(members.len().div_ceil(if cfg!(debug_assertions) { 20 } else { 500 }))
        {
            peers.get_mut(name).unwrap().sort();
            assert_eq!(graph.peers_of(name), peers[name], "one agent's view is part of the whole");
        }

        let mut seen_by_pod = Vec::new();
        let mut probed: HashMap<&Arc<str>, usize> = HashMap::new();
        for (name, peers) in &peers {
            for pod in 0..PODS {
                let chosen: BTreeSet<_> =
                    observers(peers, &format!("uid-{name}-{pod}"), OBSERVERS_MAX).into_iter().collect();
                seen_by_pod.push(chosen.len());
                for observer in chosen {
                    *probed.entry(observer).or_default() += 1;
                }
            }
        }
        seen_by_pod.sort_unstable();

        let large: Vec<_> = (0..ZONES)
            .filter(|zone| sizes[*zone] * 5 >= members.len())
            .map(|z| format!("zone-{z}"))
            .collect();
        let sees = |name: &Arc<str>, zone: &str| {
            &**zone_of[name] == zone || peers[name].iter().any(|peer| &**zone_of[peer] == zone)
        };
        let seeing_all = members.iter().filter(|(name, _)| large.iter().all(|zone| sees(name, zone))).count();
        let between = (0..ZONES).flat_map(|a| (a + 1..ZONES).map(move |b| (a, b)));
        let between = between.map(|(a, b)| {
            let pair: BTreeSet<_> = [format!("zone-{a}"), format!("zone-{b}")].into();
            let joins = |(one, other): &&(Arc<str>, Arc<str>)| {
                pair == [zone_of[one].to_string(), zone_of[other].to_string()].into()
            };
            (all.iter().filter(joins).count(), sizes[a] * sizes[b])
        });
        let between = between.collect();

        let pods: Vec<usize> =
            members.iter().map(|(name, _)| probed.get(name).copied().unwrap_or(0)).collect();
        let degrees: Vec<_> = members.iter().map(|(name, zone)| (size_of(zone), peers[name].len())).collect();
        let this = Self {
            sizes,
            nodes: members.len(),
            observers: seen_by_pod,
            seeing_all,
            between,
            moved: moved(&members, &all),
            // The least of some: others on the machine can only add to it.
            took: (0..5).map(|_| for_one_agent(&members)).min().unwrap(),
            degrees,
        };
        this.print(&pods);
        this
    }

    fn mean_degree(&self) -> f64 {
        self.degrees.iter().map(|(_, degree)| *degree).sum::<usize>() as f64 / self.nodes as f64
    }

    fn print(&self, pods: &[usize]) {
        let degrees = || self.degrees.iter().map(|(_, degree)| *degree);
        let mean_pods = pods.iter().sum::<usize>() as f64 / self.nodes as f64;
        // Agents each second; their nodes, and their pods twice, every 5 s; lists every 3 s; own pods twice every 10 s.
        let probes =
            self.mean_degree() * (1.0 + 0.2 + 1.0 / 3.0) + mean_pods * 2.0 / 5.0 + PODS as f64 * 2.0 / 10.0;
        println!(
            "{:>5} {:>15}  {:>14}  {:>9}  {:>7.1}% {:>6}  {:>13} {:>8.0}  {:>13}  {:>7}",
            self.nodes,
            self.sizes.map(|size| size.to_string()).join("/"),
            format!("{}/{:.2}/{}", degrees().min().unwrap(), self.mean_degree(), degrees().max().unwrap()),
            format!("{}/{}", self.observers[0], self.observers[self.observers.len() / 2]),
            100.0 * self.seeing_all as f64 / self.nodes as f64,
            self.between.iter().map(|(edges, _)| edges).min().unwrap(),
            format!("{mean_pods:.0}/{}", pods.iter().max().unwrap()),
            probes,
            format!("{}/{}", self.moved[self.moved.len() / 2], self.moved[self.moved.len() - 1]),
            format!("{:.1} ms", self.took.as_secs_f64() * 1e3),
        );
    }

    fn check(&self, missed: &mut Vec<String>) {
        let max = PEERS_MAX as f64;
        let mut bar = |holds: bool, what: &str| {
            if !holds {
                missed.push(format!("{} nodes in zones of {:?}: {what}", self.nodes, self.sizes));
            }
        };
        bar(
            self.degrees.iter().all(|(_, degree)| *degree <= PEERS_MAX),
            "a node has more than peers.max peers",
        );
        if self.nodes <= PEERS_MAX + 1 {
            bar(self.degrees.iter().all(|(_, degree)| *degree == self.nodes - 1), "no full mesh");
        } else {
            let (mean, each) = if self.nodes >= 500 { (0.95, 0.8) } else { (0.6, 0.5) };
            bar(self.mean_degree() >= mean * max, "mean degree");
            let least = |zone: usize| if zone > PEERS_MAX / 2 { each * max } else { 0.4 * max };
            bar(
                self.degrees.iter().all(|(zone, degree)| *degree as f64 >= least(*zone)),
                "a node has too few peers",
            );
        }
        bar(self.seeing_all * 100 >= self.nodes * 97, "too many nodes do not see a large zone");
        bar(
            self.between.iter().all(|(edges, possible)| *edges >= 8.min(*possible)),
            "two zones are hardly joined",
        );
        let exactly = if self.nodes >= 50 { OBSERVERS_MAX } else { OBSERVERS_MAX.min(self.nodes - 1) };
        bar(self.observers.iter().all(|observers| *observers == exactly), "a pod has too few observers");
        bar(self.moved.iter().all(|moved| *moved <= MOVES_MAX), "a join or leave moves too much");
        bar(cfg!(debug_assertions) || self.took < TIME_MAX, "takes too long for one agent");
    }
}

/// How many edges one join or leave moves, each tried in turn.
fn moved(members: &[Member], all: &BTreeSet<(Arc<str>, Arc<str>)>) -> Vec<usize> {
    let tries = if cfg!(debug_assertions) { 6_000 / members.len() } else { 500_000 / members.len() };
    let mut moved = Vec::new();
    for place in (0..members.len()).step_by(members.len().div_ceil(tries.max(2))) {
        let mut left = members.to_vec();
        let (_, zone) = left.remove(place);
        moved.push(edges(&left).symmetric_difference(all).count());
        let mut joined = members.to_vec();
        joined.push((Arc::from(format!("node-new-{place}")), zone));
        moved.push(edges(&joined).symmetric_difference(all).count());
    }
    moved.sort_unstable();
    moved
}

#[expect(clippy::disallowed_methods, reason = "a bar on the time it takes")]
fn for_one_agent(members: &[Member]) -> Duration {
    let me = &*members[0].0;
    let start = std::time::Instant::now();
    let graph = graph(members);
    let mut mine = 0;
    for peer in graph.peers_of(me) {
        let peers = graph.peers_of(&peer);
        mine += (0..PODS)
            .filter(|pod| rank(&peers, &format!("uid-{peer}-{pod}"), OBSERVERS_MAX, me).is_some())
            .count();
    }
    let took = start.elapsed();
    assert!(mine > 0);
    took
}
