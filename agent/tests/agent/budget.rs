//! How many series a scrape has: they follow nodes and a budget, not pods.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::direction::inbound::{Counts, Edge, News};
use podsonar_core::outcome::{ProbeResult, Rtt};
use podsonar_core::target::{Family, Kind, Planned, PodId, Protocol, Stream, StreamId, Target};

use crate::support::{Book, RETAIN, planned};

const NODES: u8 = 32;

#[test]
fn an_agent_with_32_peers_in_three_zones_has_at_most_2800_series_and_1000_with_native_histograms_only() {
    let mut mesh = Mesh::new(Book::new());
    mesh.join(NODES, 8);
    let (classic, native) = mesh.book.series();
    assert!(classic <= 2_800, "{classic} classic");
    assert!(native <= 1_000, "{native} with native histograms only");
    assert_eq!(mesh.book.value(&["podsonar_folded_destinations"]), "0");
}

#[test]
fn series_do_not_depend_on_the_number_of_pods() {
    let series = [2, 8, 30].map(|pods| {
        let mut mesh = Mesh::new(Book::new());
        mesh.join(NODES, pods);
        mesh.book.series()
    });
    assert!(series.iter().all(|each| *each == series[0]), "{series:?}");
}

#[test]
fn by_zone_there_is_a_histogram_for_each_zone_and_counters_for_each_node() {
    let mut mesh = Mesh::new(Book::with(4_000, true));
    mesh.join(NODES, 8);
    let (classic, _) = mesh.book.series();
    assert!(classic <= 1_300, "{classic}");
    let counts = mesh.book.lines(&["podsonar_rtt_seconds_count", "kind=\"pod\"", "protocol=\"icmp\""]);
    let of_zones: Vec<_> = counts.iter().filter(|line| !line.contains(",destination=")).collect();
    assert_eq!((counts.len(), of_zones.len()), (3, 3), "{counts:#?}");
    let probes = mesh.book.lines(&["probes_total", "kind=\"pod\"", "protocol=\"icmp\"", "result=\"reply\""]);
    assert_eq!(probes.len(), usize::from(NODES));
    let all = probes.iter().map(|line| value(line)).sum::<u64>();
    assert_eq!(all, counts.iter().map(|line| value(line)).sum::<u64>());
}

#[test]
fn a_second_family_has_counters_and_no_histogram() {
    let mut book = Book::new();
    let secondary =
        Target { secondary: true, ..Target::new(Kind::Agent, "n1".into(), "fd00::1".parse().unwrap(), None) };
    book.ledger.added(StreamId(1), &stream(secondary, Protocol::Icmp));
    book.outcome(1, ProbeResult::Reply(Rtt::Observed(Duration::from_micros(90))));
    assert_eq!(book.value(&["probes_total", "family=\"6\"", "result=\"reply\""]), "1");
    assert!(book.lines(&["podsonar_rtt_seconds"]).is_empty());
}

#[test]
fn above_the_budget_new_nodes_are_shown_as_other_until_there_is_room_and_written_targets_never() {
    let mut mesh = Mesh::new(Book::with(1_500, false));
    mesh.join(NODES, 8);
    let (classic, _) = mesh.book.series();
    assert!(classic <= 1_500, "{classic}");
    let folded: u64 = mesh.book.value(&["podsonar_folded_destinations"]).parse().unwrap();
    assert!((10..25).contains(&folded), "{folded}");
    let agents = |mesh: &Mesh| mesh.book.lines(&["probes_total", "kind=\"agent\"", "result=\"reply\""]);
    let shown = agents(&mesh);
    assert_eq!(shown.len() as u64, u64::from(NODES) - folded + 1);
    let other: Vec<_> = shown.iter().filter(|line| line.contains("destination=\"other\"")).collect();
    assert_eq!(other.iter().map(|line| value(line)).collect::<Vec<_>>(), [folded], "none is lost");

    mesh.book.ledger.added(StreamId(1_000_000), &planned("192.0.2.1", Protocol::Icmp));
    assert_eq!(mesh.book.lines(&["probes_total", "destination=\"192.0.2.1\""]).len(), 2);

    mesh.leave();
    assert_eq!(mesh.book.value(&["podsonar_folded_destinations"]), "0");
    mesh.book.tick(RETAIN.as_secs() + 20);
    mesh.join(10, 8);
    assert_eq!(mesh.book.value(&["podsonar_folded_destinations"]), "0");
}

#[test]
fn a_node_that_is_shown_has_room_for_its_pods_too_which_are_told_later() {
    for by_zone in [false, true] {
        let mut mesh = Mesh::new(Book::with(1_500, by_zone));
        // As it is when an agent begins: peers are known before their lists.
        for node in 1..=200 {
            mesh.add(&of_node(node, Kind::Agent, 1), &[Protocol::Icmp]);
        }
        mesh.join(200, 1);
        for node in 1..=200 {
            mesh.hear(node, COUNTS);
        }
        let (classic, _) = mesh.book.series();
        assert!((500..=1_500).contains(&classic), "{classic}");
        let shown = |parts: &[&str], label: &str| -> BTreeSet<String> {
            mesh.book.lines(parts).iter().map(|line| word(line, label)).collect()
        };
        let agents = shown(&["probes_total", "kind=\"agent\""], "destination");
        assert!(agents.len() > 5 && agents.contains("other"), "{agents:?}");
        let pods = shown(&["probes_total", "kind=\"pod\"", "protocol=\"tcp\""], "destination");
        let ways = shown(&["podsonar_inbound_lost_total"], "source");
        assert_eq!((&pods, &ways), (&agents, &agents), "the same nodes everywhere");
    }
}

#[test]
fn ways_that_there_is_no_room_for_are_one_and_still_told_apart_to_people() {
    let mut mesh = Mesh::new(Book::with(1_500, false));
    for node in 1..=250 {
        mesh.hear(node, COUNTS);
        mesh.hear(node, COUNTS);
    }
    let (classic, _) = mesh.book.series();
    assert!(classic <= 1_500, "{classic}");
    let folded: u64 = mesh.book.value(&["podsonar_folded_destinations"]).parse().unwrap();
    let lost = mesh.book.lines(&["podsonar_inbound_lost_total"]);
    assert_eq!(lost.len() as u64, 250 - folded + 1);
    assert_eq!(lost.iter().map(|line| value(line)).sum::<u64>(), 250 * 2 * COUNTS.lost, "none is lost");

    // The last one, that is folded, falls silent, and so does the one before.
    for node in [250, 249] {
        mesh.book.ledger.inbound(&News { silent: true, ..news(node, Counts::default()) });
    }
    let silent = mesh.book.lines(&["podsonar_inbound_silent"]);
    assert_eq!((silent.len(), word(&silent[0], "source")), (1, "other".into()));
    assert_eq!(mesh.book.value(&["edges_in_fault", "inbound_silent"]), "2");
    let told = mesh.book.metrics.both_ways();
    let quiet = told.iter().find(|both| &*both.edge.node == "worker-250").unwrap();
    assert_eq!((told.len(), quiet.silent, quiet.inbound.lost), (250, true, 2 * COUNTS.lost));

    for node in 1..=250 {
        mesh.book.ledger.inbound(&News { gone: true, ..news(node, Counts::default()) });
    }
    assert_eq!(mesh.book.value(&["podsonar_folded_destinations"]), "0");
    assert_eq!(mesh.book.lines(&["podsonar_inbound_silent"]), [] as [String; 0]);
    assert_eq!(mesh.book.lines(&["podsonar_inbound_lost_total"]).len(), lost.len(), "for the retain period");
    mesh.book.tick(RETAIN.as_secs() + 20);
    assert_eq!(mesh.book.lines(&["podsonar_inbound_lost_total"]), [] as [String; 0]);
    mesh.hear(250, COUNTS);
    assert_eq!(mesh.book.lines(&["podsonar_inbound_lost_total", "worker-250"]).len(), 1);
}

#[test]
fn a_family_that_is_the_second_of_some_nodes_and_the_first_of_others_is_one_series_of_other() {
    let mut mesh = Mesh::new(Book::with(100, false));
    for (node, secondary) in [(1, false), (2, true)] {
        let address = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, node.into()).into();
        let target = Target { address, secondary, ..of_node(node, Kind::Agent, 1) };
        mesh.add(&target, &[Protocol::Icmp]);
    }
    let reply = ["probes_total", "family=\"6\"", "destination=\"other\"", "result=\"reply\""];
    assert_eq!(mesh.book.value(&reply), "2");
    mesh.leave();
    mesh.book.tick(RETAIN.as_secs() + 20);
    assert_eq!(mesh.book.lines(&reply), [] as [String; 0]);
}

#[test]
fn a_peer_that_says_another_zone_each_time_takes_no_room_of_others() {
    for by_zone in [false, true] {
        let mut mesh = Mesh::new(Book::with(4_000, by_zone));
        mesh.join(NODES - 1, 2);
        let (honest, _) = mesh.book.series();
        for flip in 0..300_u32 {
            let zone: Arc<str> = format!("made-up-{flip}").into();
            let first = mesh.streams;
            for (kind, last) in [(Kind::Agent, 1), (Kind::Node, 2), (Kind::Pod, 3)] {
                let target = Target { zone: Arc::clone(&zone), ..of_node(NODES, kind, last) };
                mesh.add(&target, &[Protocol::Icmp, Protocol::Tcp]);
            }
            let News { edge, .. } = news(NODES, COUNTS);
            let edge = Edge { zone, ..edge };
            for gone in [false, true] {
                mesh.book.ledger.inbound(&News { edge: edge.clone(), gone, ..news(NODES, COUNTS) });
            }
            for id in first + 1..=mesh.streams {
                mesh.book.ledger.removed(StreamId(id), crate::support::clock(1).mono);
            }
        }
        let (classic, _) = mesh.book.series();
        assert!(classic < honest + 400, "{honest}, then {classic}");
        mesh.add(&of_node(NODES + 1, Kind::Agent, 1), &[Protocol::Icmp]);
        assert_eq!(mesh.book.value(&["podsonar_folded_destinations"]), "0", "whoever comes next has room");
    }
}

/// `BASE_SERIES` is set aside for it.
#[test]
fn what_an_agent_of_both_families_has_besides_nodes_and_zones_of_fetches_is_within_its_part_of_the_budget() {
    let mut mesh = Mesh::new(Book::new());
    mesh.join(1, 1);
    let both = [Protocol::Icmp, Protocol::Tcp];
    let second = |kind, last: u8| {
        let address = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into();
        Target { address, secondary: true, ..of_node(1, kind, last) }
    };
    mesh.add(&second(Kind::Agent, 1), &both[..1]);
    mesh.add(&second(Kind::Node, 2), &both[..1]);
    for (last, target) in (3..).zip([of_node(1, Kind::Pod, 3), second(Kind::Pod, 3)]) {
        mesh.add(&target, &both);
        mesh.add(
            &Target { destination: "pod".into(), ..Target { kind: Kind::Name, ..target.clone() } },
            &both,
        );
        let address = if last == 3 { target.address } else { Ipv6Addr::LOCALHOST.into() };
        mesh.add(&Target::new(Kind::Control, "node-1".into(), address, Some(1)), &both);
    }
    crate::names::feed(&mesh.book);
    crate::scrape::feed_mesh(&mesh.book);
    let lines = mesh.book.lines(&[]);
    let of_node = |line: &&String| line.contains("worker-1") || line.contains("exchange_total");
    let base = lines.len() - lines.iter().filter(of_node).count();
    assert!(base + 20 <= 730, "{base}, and 20 targets in trouble");
}

fn value(line: &str) -> u64 {
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// What an agent of a mesh has, fed by hand.
struct Mesh {
    book: Book,
    streams: u64,
}

impl Mesh {
    fn new(mut book: Book) -> Self {
        for (id, protocol) in [(900_001, Protocol::Icmp), (900_002, Protocol::Tcp)] {
            let target = Target::new(Kind::Control, "node-1".into(), Ipv4Addr::LOCALHOST.into(), Some(1));
            book.ledger.added(StreamId(id), &stream(target, protocol));
            book.outcome(id, answered());
        }
        Self { book, streams: 0 }
    }

    /// Peers in three zones, each with its agent, its node's address and so many pods.
    fn join(&mut self, nodes: u8, pods: u8) {
        for node in 1..=nodes {
            let of_node = |kind, last| of_node(node, kind, last);
            self.add(&of_node(Kind::Agent, 1), &[Protocol::Icmp]);
            self.add(&of_node(Kind::Node, 2), &[Protocol::Icmp]);
            for pod in 0..pods {
                let id = format!("{node}-{pod}");
                let id = PodId {
                    uid: id.as_str().into(),
                    namespace: "default".into(),
                    name: id.as_str().into(),
                    workload: "Deployment/web".into(),
                };
                let target = Target { pod: Some(Arc::new(id)), ..of_node(Kind::Pod, 10 + pod) };
                self.add(&target, &[Protocol::Icmp, Protocol::Tcp]);
            }
        }
    }

    fn add(&mut self, target: &Target, protocols: &[Protocol]) {
        for protocol in protocols {
            self.streams += 1;
            self.book.ledger.added(StreamId(self.streams), &stream(target.clone(), *protocol));
            self.book.outcome(self.streams, answered());
        }
    }

    /// Probes of a node's agent arrive.
    fn hear(&mut self, node: u8, counts: Counts) {
        self.book.ledger.inbound(&news(node, counts));
    }

    fn leave(&mut self) {
        for id in 1..=self.streams {
            self.book.ledger.removed(StreamId(id), crate::support::clock(1).mono);
        }
        self.streams = 0;
    }
}

const COUNTS: Counts = Counts { probes: 7, lost: 3, unknown: 2, outages: 1 };

fn news(node: u8, counts: Counts) -> News {
    let Target { destination: node, zone, .. } = of_node(node, Kind::Agent, 1);
    News { edge: Edge { node, zone, family: Family::V4 }, counts, silent: false, gone: false }
}

/// A target on a node of one of three zones.
fn of_node(node: u8, kind: Kind, last: u8) -> Target {
    let address = Ipv4Addr::new(10, 0, node, last).into();
    let zone = format!("zone-{}", node % 3).into();
    Target { zone, ..Target::new(kind, format!("worker-{node}").into(), address, Some(80)) }
}

/// The value of a label of a line.
fn word(line: &str, label: &str) -> String {
    let (_, rest) = line.split_once(&format!("{label}=\"")).unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

fn stream(target: Target, protocol: Protocol) -> Planned {
    let stream = Stream { target: Arc::new(target), protocol };
    Planned { stream, interval: Duration::from_secs(5), timeout: Duration::from_millis(800), presumed: false }
}

fn answered() -> ProbeResult {
    ProbeResult::Reply(Rtt::Observed(Duration::from_micros(300)))
}
