//! What the engine tells, and what the metrics then say.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Book, RETAIN, clock, outcome, planned, report};
use podsonar::ledger::TickReport;
use podsonar_core::engine::Baseline;
use podsonar_core::outcome::{
    LateHint, Outcome, ProbeResult, Rtt, SendError, Sent, StampSource, Stray, Unreachable, Void,
};
use podsonar_core::target::{Kind, Planned, PodId, Protocol, Stream, StreamId, Target};
use podsonar_core::time::Instant;

const RTT: Rtt = Rtt::Observed(Duration::from_micros(300));

#[test]
fn reply_and_lost_start_at_zero_and_others_appear_when_used() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1:80", Protocol::Tcp);
    assert_eq!(book.lines(&["podsonar_probes_total"]).len(), 2);
    assert_eq!(book.value(&["probes_total", "result=\"reply\""]), "0");
    assert_eq!(book.value(&["probes_total", "result=\"lost\""]), "0");
    book.outcome(1, ProbeResult::Reset(RTT));
    book.outcome(1, ProbeResult::Unreachable(Unreachable::Host));
    assert_eq!(book.value(&["probes_total", "result=\"reset\""]), "1");
    assert_eq!(book.value(&["probes_total", "result=\"unreachable\""]), "1");
}

#[test]
fn only_observed_round_trips_reach_the_histogram() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    for result in [
        ProbeResult::Reply(RTT),
        ProbeResult::Reply(Rtt::Estimated(Duration::from_millis(90))),
        ProbeResult::Reply(Rtt::Unmeasured),
        ProbeResult::Lost,
    ] {
        book.outcome(1, result);
    }
    assert_eq!(book.value(&["rtt_seconds_count"]), "1");
    assert_eq!(book.value(&["rtt_seconds_sum"]), "0.0003");
    assert_eq!(book.value(&["rtt_seconds_bucket", "le=\"0.00025\""]), "0");
    assert_eq!(book.value(&["rtt_seconds_bucket", "le=\"0.0005\""]), "1");
    assert_eq!(book.value(&["probes_total", "result=\"reply\""]), "3");
    assert_eq!(book.value(&["probes_total", "result=\"lost\""]), "1");
}

#[test]
fn the_two_counters_add_up_to_all_that_fell_due() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    let results = [
        ProbeResult::Reply(RTT),
        ProbeResult::Lost,
        ProbeResult::Unreachable(Unreachable::Network),
        ProbeResult::Void(Void::NotSent(SendError::NoRoute)),
        ProbeResult::Void(Void::Unknown),
        ProbeResult::Void(Void::Discarded),
    ];
    for result in results {
        book.outcome(1, result);
    }
    let skipped = Outcome { count: 40, ..outcome(1, ProbeResult::Void(Void::Skipped)) };
    book.ledger.outcome(&skipped, &clock(0));
    let sum: u64 = ["podsonar_probes_total", "podsonar_probes_void_total"]
        .iter()
        .flat_map(|name| book.lines(&[name]))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 46);
    assert_eq!(book.value(&["probes_void_total", "reason=\"skipped\""]), "40");
}

#[test]
fn stamps_are_counted_by_direction_and_source() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    let reply = outcome(1, ProbeResult::Reply(Rtt::Estimated(Duration::from_millis(1))));
    let sent = Sent { tx: StampSource::Sched, rx: Some(StampSource::User), ..reply.sent.unwrap() };
    book.ledger.outcome(&Outcome { sent: Some(sent), ..reply }, &clock(0));
    book.outcome(1, ProbeResult::Lost);
    let stamps = |direction, stamp| book.value(&["stamp_source_total", "icmp", direction, stamp]);
    assert_eq!(stamps("tx", "sched"), "1");
    assert_eq!(stamps("rx", "user"), "1");
    assert_eq!(stamps("tx", "software"), "1");
    assert_eq!(stamps("rx", "software"), "0");
}

#[test]
fn late_and_further_answers_change_no_result() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1:80", Protocol::Tcp);
    book.outcome(1, ProbeResult::Lost);
    for stray in [Stray::Late(LateHint::WayBack), Stray::Late(LateHint::None), Stray::Duplicate] {
        book.ledger.stray(StreamId(1), stray);
    }
    assert_eq!(book.value(&["late_replies_total", "hint=\"way_back\""]), "1");
    assert_eq!(book.value(&["late_replies_total", "hint=\"none\""]), "1");
    assert_eq!(book.value(&["duplicate_replies_total"]), "1");
    assert_eq!(book.value(&["probes_total", "result=\"lost\""]), "1");
    assert_eq!(book.value(&["probes_total", "result=\"reply\""]), "0");
}

#[test]
fn the_lag_is_observed_only_if_something_was_due() {
    let mut book = Book::new();
    book.ledger.tick(&TickReport { lag: None, ..report(1) });
    assert_eq!(book.value(&["schedule_lag_seconds_count"]), "0");
    book.tick(2);
    assert_eq!(book.value(&["schedule_lag_seconds_count"]), "1");
    assert_eq!(book.value(&["schedule_lag_seconds_bucket", "le=\"0.001\""]), "1");
}

#[test]
fn totals_that_are_reported_each_tick_do_not_add_up() {
    let mut book = Book::new();
    for seconds in [1, 2] {
        book.ledger.tick(&TickReport { clock_jumps: 2, drops: [5, 0, 0, 0], ..report(seconds) });
    }
    assert_eq!(book.value(&["clock_jumps_total"]), "2");
    assert_eq!(book.value(&["socket_drops_total", "icmp"]), "5");
}

#[test]
fn a_removed_streams_series_stay_for_the_retain_period_and_its_gauge_goes_at_once() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    book.outcome(1, ProbeResult::Reply(RTT));
    book.ledger.removed(StreamId(1), clock(100).mono);
    assert_eq!(book.targets(), 0);
    book.tick(100 + RETAIN.as_secs() - 1);
    assert_eq!(book.value(&["probes_total", "result=\"reply\""]), "1");
    book.tick(100 + RETAIN.as_secs() + 10);
    assert!(book.lines(&["192.0.2.1"]).is_empty());
}

#[test]
fn a_stream_that_returns_goes_on_where_it_stopped() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    book.outcome(1, ProbeResult::Reply(RTT));
    book.ledger.removed(StreamId(1), clock(0).mono);
    book.tick(RETAIN.as_secs() - 1);
    book.add(2, "192.0.2.1", Protocol::Icmp);
    book.outcome(2, ProbeResult::Reply(RTT));
    book.tick(10 * RETAIN.as_secs());
    assert_eq!(book.value(&["probes_total", "result=\"reply\""]), "2");
    assert_eq!(book.targets(), 1);
}

#[test]
fn a_stream_whose_settings_change_has_one_series_and_one_target() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    book.ledger.removed(StreamId(1), clock(0).mono);
    book.add(2, "192.0.2.1", Protocol::Icmp);
    book.tick(10 * RETAIN.as_secs());
    book.outcome(2, ProbeResult::Lost);
    assert_eq!(book.value(&["probes_total", "result=\"lost\""]), "1");
    assert_eq!(book.targets(), 1);
}

#[test]
fn a_target_with_two_protocols_is_one_target() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1:80", Protocol::Icmp);
    book.add(2, "192.0.2.1:80", Protocol::Tcp);
    book.add(3, "192.0.2.1", Protocol::Icmp);
    assert_eq!(book.targets(), 2);
    book.ledger.removed(StreamId(1), clock(0).mono);
    assert_eq!(book.targets(), 2);
    book.ledger.removed(StreamId(2), clock(0).mono);
    assert_eq!(book.targets(), 1);
}

#[test]
fn what_comes_for_an_unknown_stream_changes_nothing() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    let before = book.lines(&["podsonar_"]);
    book.outcome(9, ProbeResult::Lost);
    book.ledger.stray(StreamId(9), Stray::Duplicate);
    book.ledger.removed(StreamId(9), Instant::from_nanos(0));
    assert_eq!(book.lines(&["podsonar_"]), before);
    assert_eq!(planned("192.0.2.1", Protocol::Icmp).stream.target.port, None);
}

#[test]
fn addresses_of_pods_names_are_one_path_and_no_targets() {
    let mut book = Book::new();
    for (id, last) in [(1, 1), (2, 2), (3, 3)] {
        for protocol in [Protocol::Icmp, Protocol::Tcp] {
            let id = id * 10 + protocol as u64;
            let planned = planned(&format!("10.0.0.{last}:80"), protocol);
            let pod = Arc::new(PodId {
                uid: last.to_string().into(),
                namespace: "web".into(),
                name: "web-1".into(),
                workload: Arc::default(),
            });
            let target = Target::new(Kind::Name, "pod".into(), planned.stream.target.address, Some(80));
            let target = Arc::new(Target { pod: Some(pod), ..target });
            let planned = Planned { stream: Stream { target, protocol }, ..planned };
            book.ledger.added(StreamId(id), &planned);
            book.outcome(id, if last == 3 { ProbeResult::Lost } else { ProbeResult::Reply(RTT) });
            book.ledger.removed(StreamId(id), clock(0).mono);
        }
    }
    book.tick(1);
    for protocol in ["icmp", "tcp"] {
        let of = |result: &str| {
            let labels = ["probes_total", protocol, "kind=\"name\"", "destination=\"pod\"", result];
            book.value(&labels)
        };
        assert_eq!((of("result=\"reply\""), of("result=\"lost\"")), ("2".into(), "1".into()));
    }
    assert_eq!(book.targets(), 0);
    for none in ["unhealthy_target{", "rtt_floor_seconds{", "loss_episodes_total{", "10.0.0."] {
        assert!(book.lines(&[none]).is_empty(), "{none}");
    }
}

#[test]
fn what_never_answered_is_in_no_trouble_until_its_own_node_hears_it() {
    let mut book = Book::new();
    book.add_pod(1, "10.1.0.1", Protocol::Icmp);
    book.ledger.baseline(StreamId(1), Baseline::NeverAnswered);
    book.outcome(1, ProbeResult::Void(Void::Unknown));
    assert_eq!(book.value(&["podsonar_targets{", "kind=\"pod\"", "state=\"never_answered\""]), "1");
    assert!(book.lines(&["podsonar_unhealthy_target{"]).is_empty());
    book.ledger.baseline(StreamId(1), Baseline::NeverReachable);
    for _ in 0..5 {
        book.outcome(1, ProbeResult::Lost);
    }
    assert_eq!(book.value(&["podsonar_targets{", "kind=\"pod\"", "state=\"never_reachable\""]), "1");
    let trouble = book.lines(&["podsonar_unhealthy_target{", "destination_pod=\"web-1\""]);
    assert!(trouble.len() == 1 && trouble[0].contains("state=\"never_reachable\""), "{trouble:?}");
    book.outcome(1, ProbeResult::Reply(RTT));
    assert_eq!(book.value(&["podsonar_targets{", "kind=\"pod\"", "state=\"answering\""]), "1");
    assert!(book.lines(&["podsonar_unhealthy_target{"]).is_empty());
    assert_eq!(book.targets(), 1);
}

#[test]
fn first_replies_are_observed_and_those_that_never_come_are_counted() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    assert!(book.lines(&["first_reply"]).is_empty(), "only pods have a first reply");
    book.add_pod(2, "10.1.0.2", Protocol::Icmp);
    assert_eq!(book.value(&["first_reply_seconds_count"]), "0");
    assert_eq!(book.value(&["first_reply_timeouts_total"]), "0");
    book.ledger.first_reply(StreamId(2), Some(Duration::from_millis(2_250)));
    book.ledger.first_reply(StreamId(2), None);
    assert_eq!(book.value(&["first_reply_seconds_count"]), "1");
    assert_eq!(book.value(&["first_reply_seconds_bucket", "le=\"1.5\""]), "0");
    assert_eq!(book.value(&["first_reply_seconds_bucket", "le=\"2.5\""]), "1");
    assert_eq!(book.value(&["first_reply_timeouts_total"]), "1");
}
