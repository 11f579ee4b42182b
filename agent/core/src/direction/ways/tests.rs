use proptest::prelude::*;

use super::*;
use crate::outcome::{Rtt, Unreachable, Void};

#[test]
fn losses_are_told_apart_by_what_the_peer_heard() {
    let mut book = Book::default();
    book.report(PEER, heard(10, 10), 10);
    for (sequence, result) in (11..=20).zip([ANSWERED, LOST, ANSWERED, LOST, LOST].into_iter().cycle()) {
        book.note(sequence, result);
    }
    // Of 12, 14, 15, 17, 19, 20 the peer missed 14 and 19.
    book.report(PEER, heard(20, 18), 20);
    let expected = Ways { sent: 10, lost: 6, covered: 10, there: 2, back: 4, losing: 2 };
    assert_eq!(*book.ways(), expected);
    assert_eq!(book.ways().unattributed(), 0);
}

#[test]
fn a_report_waits_for_the_results_of_all_that_it_covers() {
    let mut book = Book::default();
    book.report(PEER, heard(1, 1), 3);
    book.note(3, ANSWERED);
    book.report(PEER, heard(3, 2), 3);
    assert_eq!(book.ways().covered, 0);
    book.note(2, LOST);
    assert_eq!((book.ways().covered, book.ways().there), (2, 1));
}

#[test]
fn results_from_before_the_first_report_are_kept() {
    let mut book = Book::default();
    (1..=3).for_each(|sequence| book.note(sequence, ANSWERED));
    book.note(4, LOST);
    book.report(PEER, heard(1, 1), 4);
    book.report(PEER, heard(4, 4), 4);
    assert_eq!((book.ways().covered, book.ways().there, book.ways().back), (3, 0, 1));
}

#[test]
fn a_peer_that_began_anew_is_not_held_against_its_former_counts() {
    for (epoch, restarted) in [(PEER + 1, heard(20, 3)), (PEER, heard(20, 3))] {
        let mut book = Book::default();
        book.report(PEER, heard(10, 10), 10);
        (11..=20).for_each(|sequence| book.note(sequence, ANSWERED));
        book.report(epoch, restarted, 20);
        assert_eq!((book.ways().covered, book.ways().there, book.ways().back), (0, 0, 0));
        book.note(21, LOST);
        book.report(epoch, heard(21, 4), 21);
        assert_eq!((book.ways().covered, book.ways().there, book.ways().back), (1, 0, 1));
    }
}

#[test]
fn a_report_that_contradicts_what_we_saw_is_not_used() {
    let mut book = Book::default();
    book.report(PEER, heard(10, 1), 10);
    (11..=20).for_each(|sequence| book.note(sequence, ANSWERED));
    book.report(PEER, heard(20, 5), 20);
    assert_eq!(*book.ways(), Ways { sent: 10, ..Ways::default() });
}

#[test]
fn forged_reports_about_what_was_never_sent_are_ignored() {
    let mut book = Book::default();
    book.report(PEER, heard(u64::MAX, u64::MAX), 10);
    book.report(PEER, heard(11, 1), 10);
    assert_eq!(book.base, None);
    book.report(PEER, heard(10, 10), 10);
    book.report(PEER, heard(9, 9), 10);
    book.report(PEER, heard(u64::MAX, 11), 10);
    assert_eq!((book.base, book.waiting.len()), (Some((PEER, heard(10, 10))), 0));
}

#[test]
fn a_probe_that_says_nothing_makes_neither_way_worse() {
    let mut book = Book::default();
    book.report(PEER, heard(10, 10), 10);
    book.note(11, ProbeResult::Void(Void::Unknown));
    book.note(12, LOST);
    // One of the two was missed; which is not known.
    book.report(PEER, heard(12, 11), 12);
    assert_eq!((book.ways().there, book.ways().back, book.ways().unattributed()), (0, 0, 1));
}

#[test]
fn all_lost_is_in_while_the_peer_is_heard_and_out_or_down_while_it_is_silent() {
    let mut book = Book::default();
    for sequence in 1..=5 {
        assert_eq!(book.ways().verdict(true), None);
        book.note(sequence, ProbeResult::Unreachable(Unreachable::Host));
    }
    assert_eq!(book.ways().verdict(false), Some(Verdict::In));
    assert_eq!(book.ways().verdict(true), Some(Verdict::OutOrDown));
    book.note(6, ANSWERED);
    assert_eq!(book.ways().verdict(true), None);
}

#[test]
fn a_result_that_never_comes_holds_nothing_up_for_good() {
    let mut book = Book::default();
    book.report(PEER, heard(10, 10), 10);
    for sequence in 12..=1_000 {
        book.note(sequence, ANSWERED);
        book.report(PEER, heard(sequence, sequence), sequence);
    }
    assert!(book.ways().covered >= 400, "{:?}", book.ways());
    assert_eq!((book.ways().there, book.ways().back), (0, 0));
}

proptest! {
    /// Whatever is lost either way, results come in any order within a while, and reports come when they come: both ways
    /// are told exactly.
    #[test]
    fn both_ways_are_exact_wherever_two_reports_enclose_them(
        packets in prop::collection::vec((0..3_u8, 0..20_usize, any::<bool>()), 1..400),
    ) {
        let mut book = Book::default();
        book.report(PEER, heard(5, 5), 5);
        let (mut received, mut there, mut back) = (5, 0, 0);
        let mut results: Vec<(usize, u64, ProbeResult)> = Vec::new();
        let mut reports = Vec::new();
        for (place, (fate, delay, reported)) in packets.iter().copied().enumerate() {
            let sequence = 6 + place as u64;
            there += u64::from(fate == 1);
            back += u64::from(fate == 2);
            received += u64::from(fate != 1);
            let result = if fate == 0 { ANSWERED } else { LOST };
            results.push((place + delay, sequence, result));
            if reported || place + 1 == packets.len() {
                reports.push((place, heard(sequence, received)));
            }
        }
        results.sort_by_key(|(at, ..)| *at);
        let (mut results, mut reports) = (results.into_iter().peekable(), reports.into_iter().peekable());
        for step in 0..packets.len() + 20 {
            while let Some((_, report)) = reports.next_if(|(at, _)| *at <= step) {
                book.report(PEER, report, report.highest);
            }
            while let Some((_, sequence, result)) = results.next_if(|(at, ..)| *at <= step) {
                book.note(sequence, result);
            }
        }
        let ways = book.ways();
        prop_assert_eq!((ways.covered, ways.there, ways.back), (packets.len() as u64, there, back));
    }

    /// Nothing that a packet can say makes more of the losses than there are, or memory grow.
    #[test]
    fn hostile_reports_neither_panic_nor_invent_losses(
        steps in prop::collection::vec((any::<bool>(), 0..3_u64, any::<u64>(), any::<u64>()), 1..300),
    ) {
        let mut book = Book::default();
        let mut taken = 0;
        for (lost, epoch, highest, count) in steps {
            taken += 1;
            book.note(taken, if lost { LOST } else { ANSWERED });
            book.report(epoch, heard(highest % (taken + 2), count % (taken + 2)), taken);
            book.report(epoch, heard(highest, count), taken);
            let ways = book.ways();
            prop_assert!(ways.there + ways.back <= ways.lost && ways.covered <= ways.sent);
            prop_assert!(book.fates.len() <= KEPT && book.waiting.len() <= WAITING);
        }
    }
}

fn heard(highest: u64, count: u64) -> Heard {
    Heard { highest, count }
}

const PEER: u64 = 9;
const LOST: ProbeResult = ProbeResult::Lost;
const ANSWERED: ProbeResult = ProbeResult::Reply(Rtt::Unmeasured);
