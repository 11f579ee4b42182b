//! How many series a scrape has: they follow nodes and a budget, not pods.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::outcome::{ProbeResult, Rtt};
use podsonar_core::target::{Kind, Planned, PodId, Protocol, Stream, StreamId, Target};

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
            let of_node = |kind, last| {
                let address = Ipv4Addr::new(10, 0, node, last).into();
                let zone = format!("zone-{}", node % 3).into();
                Target { zone, ..Target::new(kind, format!("worker-{node}").into(), address, Some(80)) }
            };
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

    fn leave(&mut self) {
        for id in 1..=self.streams {
            self.book.ledger.removed(StreamId(id), crate::support::clock(1).mono);
        }
        self.streams = 0;
    }
}

fn stream(target: Target, protocol: Protocol) -> Planned {
    let stream = Stream { target: Arc::new(target), protocol };
    Planned { stream, interval: Duration::from_secs(5), timeout: Duration::from_millis(800), presumed: false }
}

fn answered() -> ProbeResult {
    ProbeResult::Reply(Rtt::Observed(Duration::from_micros(300)))
}
