//! What is booked of other agents' probes, and how long it is shown.

use podsonar::status::{Scope, Status};
use podsonar_core::direction::inbound::{Counts, Edge, News};
use podsonar_core::direction::ways::{Verdict, Ways};
use podsonar_core::target::Family;

use crate::support::{Book, RETAIN};

#[test]
fn a_known_agent_is_shown_from_the_start_with_the_peer_as_source() {
    let mut book = Book::new();
    book.ledger.inbound(&news("b", Counts::default()));
    let labels = "{family=\"4\",source=\"b\",source_zone=\"zone-b\",destination=\"node-1\",destination_zone=\"zone-a\"} 0";
    for name in ["probes", "lost", "unknown", "outages"] {
        assert_eq!(
            book.lines(&[&format!("inbound_{name}_total")]),
            [format!("podsonar_inbound_{name}_total{labels}")]
        );
    }
    assert_eq!(book.lines(&["podsonar_inbound_silent"]), [] as [String; 0]);
}

#[test]
fn counts_add_up() {
    let mut book = Book::new();
    for _ in 0..2 {
        book.ledger.inbound(&news("b", COUNTS));
    }
    for (name, value) in [("probes", "14"), ("lost", "6"), ("unknown", "4"), ("outages", "2")] {
        assert_eq!(book.value(&[&format!("inbound_{name}_total")]), value);
    }
}

#[test]
fn silence_is_a_gauge_that_exists_only_while_it_lasts() {
    let mut book = Book::new();
    let silent = News { silent: true, ..news("b", COUNTS) };
    book.ledger.inbound(&silent);
    assert_eq!(book.value(&["podsonar_inbound_silent"]), "1");
    assert_eq!(book.value(&["edges_in_fault", "inbound_silent"]), "1");
    book.ledger.inbound(&news("b", COUNTS));
    assert_eq!(book.lines(&["podsonar_inbound_silent"]), [] as [String; 0]);
    assert_eq!(book.value(&["edges_in_fault", "inbound_silent"]), "0");
}

#[test]
fn a_peers_counters_stay_for_a_while_after_it_has_left_and_its_gauge_does_not() {
    let mut book = Book::new();
    book.tick(1);
    book.ledger.inbound(&News { silent: true, ..news("b", COUNTS) });
    book.ledger.inbound(&News { gone: true, ..news("b", Counts::default()) });
    assert_eq!(book.lines(&["podsonar_inbound_silent"]), [] as [String; 0]);
    assert_eq!(book.metrics.both_ways(), []);
    let retain = RETAIN.as_secs();
    book.tick(retain);
    assert_eq!(book.value(&["inbound_lost_total"]), "3");
    book.tick(retain + 15);
    assert_eq!(book.lines(&["podsonar_inbound_lost"]), [] as [String; 0]);
}

#[test]
fn a_peer_that_comes_back_goes_on_counting() {
    let mut book = Book::new();
    book.tick(1);
    book.ledger.inbound(&news("b", COUNTS));
    book.ledger.inbound(&News { gone: true, ..news("b", Counts::default()) });
    book.tick(60);
    book.ledger.inbound(&news("b", COUNTS));
    book.tick(RETAIN.as_secs() + 120);
    assert_eq!(book.value(&["inbound_lost_total"]), "6");
}

#[test]
fn rejected_requests_and_drops_are_shown_where_somebody_listens() {
    let mut book = Book::new();
    assert_eq!(book.lines(&["inbound_rejected"]), [] as [String; 0]);
    book.ledger.request_drops(Family::V6, 5);
    book.ledger.refused_requests([1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(book.value(&["inbound_drops_total"]), "5");
    assert_eq!(book.value(&["inbound_rejected_total", "wrong_address"]), "7");
}

#[test]
fn people_are_told_both_ways_and_where_a_peer_is_at_fault() {
    let mut book = Book::new();
    for node in ["c", "b"] {
        book.ledger.inbound(&News { silent: node == "b", ..news(node, COUNTS) });
    }
    let ways = Ways { sent: 100, lost: 9, covered: 90, there: 5, back: 3, losing: 5 };
    for node in ["b", "c"] {
        book.ledger.ways(&news(node, COUNTS).edge, &ways);
    }
    let told = book.metrics.both_ways();
    let verdicts: Vec<_> = told.iter().map(|both| (&*both.edge.node, both.verdict())).collect();
    assert_eq!(verdicts, [("b", Some(Verdict::OutOrDown)), ("c", Some(Verdict::In))]);
    assert_eq!((told[0].inbound, told[0].ways), (COUNTS, Some(ways)));
}

#[test]
fn the_status_says_which_way_probes_were_lost_and_which_way_is_dead() {
    let mut book = Book::new();
    let ways = Ways { sent: 100, lost: 9, covered: 90, there: 5, back: 3, losing: 0 };
    let dead = Ways { losing: 5, ..ways };
    for (node, ways, silent) in [("b", ways, false), ("c", dead, false), ("d", ways, true), ("e", dead, true)]
    {
        book.ledger.inbound(&News { silent, ..news(node, COUNTS) });
        book.ledger.ways(&news(node, COUNTS).edge, &ways);
    }
    book.ledger.inbound(&news("quiet", Counts { probes: 7, ..Counts::default() }));
    let status = Status::of(&book.metrics);
    let words = status.to_string();
    let line = "  way      b (IPv4): 9 of 100 lost, 5 on the way there, 3 back; of its own 3 of 10 lost on the way here, \
                and 1 outages\n";
    assert!(words.contains(line), "{words}");
    assert!(!words.contains("quiet"), "{words}");
    let faults: Vec<_> =
        status.faults.iter().map(|fault| (fault.scope, &*fault.place, &*fault.what)).collect();
    assert_eq!(
        faults,
        [
            (Scope::Way, "c", "it is heard, but nothing that is sent there arrives (IPv4)"),
            (Scope::Way, "d", "it answers, but nothing that it sends itself arrives (IPv4)"),
        ]
    );
    assert_eq!(status.ways.len(), 5);
}

/// For the golden scrape.
pub(crate) fn feed(book: &mut Book) {
    book.ledger.inbound(&news("node-2", COUNTS));
    book.ledger.inbound(&News { silent: true, ..news("node-3", Counts::default()) });
    book.ledger.request_drops(Family::V4, 2);
    book.ledger.refused_requests([0, 1, 0, 0, 2, 0, 3]);
}

fn news(node: &str, counts: Counts) -> News {
    let edge = Edge { node: node.into(), zone: "zone-b".into(), family: Family::V4 };
    News { edge, counts, silent: false, gone: false }
}

const COUNTS: Counts = Counts { probes: 7, lost: 3, unknown: 2, outages: 1 };
