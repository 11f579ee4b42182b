use super::*;

#[test]
fn nothing_is_missing_before_the_first_packet() {
    let (window, counts) = fed(&[(0, 700), (1_000, 701)]);
    assert_eq!(counts, Counts { probes: 1, ..Counts::default() });
    assert_eq!(window.heard(), Heard { highest: 701, count: 2 });
}

#[test]
fn a_gap_is_a_loss_two_seconds_after_a_later_packet_came() {
    let (mut window, mut counts) = fed(&[(0, 1), (2_000, 3)]);
    window.close(at(3_999), None, &mut counts);
    assert_eq!(counts.lost, 0);
    assert_eq!(window.heard(), Heard { highest: 1, count: 1 });
    window.close(at(4_000), None, &mut counts);
    assert_eq!(counts.lost, 1);
    assert_eq!(window.heard(), Heard { highest: 3, count: 2 });
}

#[test]
fn a_packet_that_was_overtaken_is_no_loss() {
    let (mut window, mut counts) = fed(&[(0, 1), (1_000, 4), (1_100, 2), (1_200, 3)]);
    window.close(at(60_000), None, &mut counts);
    assert_eq!(counts, Counts { probes: 3, ..Counts::default() });
    assert_eq!(window.heard(), Heard { highest: 4, count: 4 });
}

#[test]
fn a_packet_that_comes_after_it_was_given_up_stays_lost() {
    let (mut window, mut counts) = fed(&[(0, 1), (2_000, 3), (3_000, 4)]);
    window.close(at(4_500), None, &mut counts);
    assert_eq!(window.note(arrival(4_600), 2, PERIOD, &mut counts), Place::Old);
    assert_eq!((counts.probes, counts.lost), (2, 1));
    assert_eq!(window.heard(), Heard { highest: 4, count: 3 });
}

#[test]
fn duplicates_count_once() {
    let (_, counts) = fed(&[(0, 1), (1_000, 2), (1_001, 2), (1_002, 1), (2_000, 3), (2_000, 3)]);
    assert_eq!(counts, Counts { probes: 2, ..Counts::default() });
}

#[test]
fn a_gap_that_our_own_drops_may_explain_is_unknown_and_told_as_heard() {
    // Dropped in the tick in which the packet before was handed over, in the one with the packet after, between, after.
    for dropped in [1_000, 3_000, 2_500, 4_000] {
        let (mut window, mut counts) = fed(&[(0, 1), (1_000, 2), (3_000, 4)]);
        window.close(at(5_000), Some(at(dropped)), &mut counts);
        assert_eq!((counts.lost, counts.unknown), (0, 1), "dropped at {dropped}");
        assert_eq!(window.heard(), Heard { highest: 4, count: 4 });
    }
    let (mut window, mut counts) = fed(&[(0, 1), (1_000, 2), (3_000, 4)]);
    window.close(at(5_000), Some(at(999)), &mut counts);
    assert_eq!((counts.lost, counts.unknown), (1, 0));
}

#[test]
fn a_direction_that_was_dead_is_an_outage_and_no_jump_of_losses() {
    for missing in [OUTAGE, 30, LONGEST_GAP, LONGEST_GAP + 1, 5_000] {
        let healed = (missing + 2) * 1_000;
        let (mut window, mut counts) = fed(&[(0, 1), (1_000, 2), (healed, missing + 3)]);
        window.close(at(healed + 60_000), None, &mut counts);
        assert_eq!(counts, Counts { probes: 2, outages: 1, ..Counts::default() }, "{missing}");
        assert_eq!(window.heard(), Heard { highest: missing + 3, count: 3 });
    }
}

#[test]
fn a_gap_as_long_while_packets_keep_coming_is_loss() {
    // Two streams share the sequence, or the sender is faster than its period says: the gap lasts no five periods.
    let (mut window, mut counts) = fed(&[(0, 1), (4_000, 12)]);
    window.close(at(6_000), None, &mut counts);
    assert_eq!(counts, Counts { probes: 1, lost: 10, ..Counts::default() });
}

#[test]
fn a_receiver_that_dropped_all_through_a_long_stall_has_seen_no_outage() {
    let mut counts = Counts::default();
    let mut window = Window::new(arrival(0), 1, PERIOD);
    let woken = Arrival { at: at(300_000), now: at(300_500), dropped: Some(at(300_500)) };
    assert_eq!(window.note(woken, 301, PERIOD, &mut counts), Place::New);
    assert_eq!(counts, Counts { probes: 1, unknown: 299, ..Counts::default() });
}

#[test]
fn forged_jumps_do_not_make_us_deaf() {
    for forged in [20, 1_000, u64::MAX] {
        let (mut window, mut counts) = fed(&[(0, 1), (1_000, 2)]);
        assert_eq!(window.note(arrival(1_500), forged, PERIOD, &mut counts), Place::Implausible);
        assert_eq!(window.note(arrival(2_000), 3, PERIOD, &mut counts), Place::New);
        window.close(at(60_000), None, &mut counts);
        assert_eq!(counts, Counts { probes: 2, ..Counts::default() });
    }
}

#[test]
fn a_forger_who_goes_on_is_not_believed_while_the_true_sender_does() {
    let (mut window, mut counts) = fed(&[(0, 1)]);
    for step in 1..100_u64 {
        let now = step * 1_000;
        assert_eq!(window.note(arrival(now), 1 + step, PERIOD, &mut counts), Place::New);
        for forged in 0..10 {
            let sequence = 50_000 + step * 10 + forged;
            let place = window.note(arrival(now + 10 * forged), sequence, PERIOD, &mut counts);
            assert_eq!(place, Place::Implausible);
        }
    }
    assert_eq!(counts, Counts { probes: 99, ..Counts::default() });
}

#[test]
fn after_a_forged_first_packet_the_true_sender_is_heard() {
    let mut counts = Counts::default();
    let mut window = Window::new(arrival(0), u64::MAX, PERIOD);
    let places: Vec<Place> =
        (1..=6).map(|step| window.note(arrival(step * 1_000), step, PERIOD, &mut counts)).collect();
    let (deaf, heard) = places.split_at(3);
    assert!(deaf.iter().all(|place| *place == Place::Implausible), "{places:?}");
    assert!(heard.iter().all(|place| *place == Place::New), "{places:?}");
    assert_eq!(counts, Counts { probes: 3, outages: 1, ..Counts::default() });
}

#[test]
fn the_period_is_the_shorter_of_two_streams_and_follows_a_slower_sender() {
    let mut period = Period::new(5_000);
    for millis in [1_000, 1_000, 1_000, 1_000, 5_000].into_iter().cycle().take(100) {
        period.note(millis);
    }
    assert_eq!(period.millis, 1_000);
    (0..LONGER_PERIODS).for_each(|_| period.note(5_000));
    assert_eq!(period.millis, 5_000);
    period.note(0);
    assert_eq!(period.millis, 10);
}

/// A window that was given these packets, each with its time in milliseconds.
fn fed(packets: &[(u64, u64)]) -> (Window, Counts) {
    let mut counts = Counts::default();
    let mut window = Window::new(arrival(packets[0].0), packets[0].1, PERIOD);
    for (millis, sequence) in &packets[1..] {
        window.note(arrival(*millis), *sequence, PERIOD, &mut counts);
    }
    (window, counts)
}

fn arrival(millis: u64) -> Arrival {
    Arrival { at: at(millis), now: at(millis), dropped: None }
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos((1_000_000 + millis) * 1_000_000)
}

const PERIOD: u32 = 1_000;
