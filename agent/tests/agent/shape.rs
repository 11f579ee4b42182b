//! The shape of loss, floors and the agent's health, from what the ledger is told to the scrape.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Book, clock, report};
use podsonar::ledger::TickReport;
use podsonar_core::health::{Fault, Throttling};
use podsonar_core::outcome::{ProbeResult, Rtt, Unreachable, Void};
use podsonar_core::target::{Kind, Planned, Protocol, Stream, StreamId, Target};

const REPLY: ProbeResult = ProbeResult::Reply(Rtt::Unmeasured);

#[test]
fn episodes_are_there_from_the_start_and_bursts_when_they_end() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    assert_eq!(book.value(&["loss_episodes_total"]), "0");
    let unreachable = ProbeResult::Unreachable(Unreachable::Host);
    for result in [REPLY, ProbeResult::Lost, ProbeResult::Void(Void::Unknown), unreachable] {
        book.outcome(1, result);
    }
    assert_eq!(book.value(&["loss_episodes_total", "destination=\"192.0.2.1\""]), "1");
    assert_eq!(book.value(&["loss_burst_probes_count"]), "0");
    book.outcome(1, REPLY);
    assert_eq!(book.value(&["loss_burst_probes_count"]), "1");
    assert_eq!(book.value(&["loss_burst_probes_sum"]), "2.0");
    assert_eq!(book.value(&["loss_burst_probes_bucket", "le=\"2.5\""]), "1");
}

#[test]
fn each_target_has_its_own_runs_and_windows() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    book.add(2, "192.0.2.2", Protocol::Icmp);
    for second in 0..=60 {
        book.outcome_at(1, if second == 30 { ProbeResult::Lost } else { REPLY }, second);
        book.outcome_at(2, ProbeResult::Lost, second);
    }
    assert_eq!(book.value(&["loss_episodes_total", "192.0.2.1"]), "1");
    assert_eq!(book.value(&["loss_episodes_total", "192.0.2.2"]), "1");
    assert_eq!(book.value(&["loss_burst_probes_count"]), "1");
    assert_eq!(book.value(&["loss_ratio_count"]), "2");
    assert_eq!(book.value(&["loss_ratio_bucket", "le=\"0.01\""]), "0");
    assert_eq!(book.value(&["loss_ratio_bucket", "le=\"0.05\""]), "1");
    assert_eq!(book.value(&["loss_ratio_bucket", "le=\"0.99\""]), "1");
}

#[test]
fn a_floor_is_absent_until_there_is_one_and_goes_with_its_stream() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    book.add(2, "192.0.2.1:80", Protocol::Tcp);
    book.outcome(2, observed(300));
    for result in [REPLY, ProbeResult::Reply(Rtt::Estimated(Duration::from_millis(9))), ProbeResult::Lost] {
        book.outcome(1, result);
    }
    assert!(book.lines(&["rtt_floor_seconds"]).is_empty(), "only ICMP with kernel stamps has a floor");
    book.outcome_at(1, observed(300), 5);
    book.tick(6);
    assert!(floor(&book).abs_diff(Duration::from_micros(300)) < Duration::from_nanos(100));
    book.tick(64);
    assert_eq!(book.lines(&["rtt_floor_seconds"]).len(), 1);
    book.tick(65);
    assert!(book.lines(&["rtt_floor_seconds"]).is_empty(), "60 seconds have passed");
    book.outcome_at(1, observed(200), 70);
    book.tick(70);
    assert_eq!(book.lines(&["rtt_floor_seconds"]).len(), 1);
    book.ledger.removed(StreamId(1), clock(71).mono);
    assert!(book.lines(&["rtt_floor_seconds"]).is_empty());
    assert_eq!(book.lines(&["loss_episodes_total"]).len(), 2, "counters stay");
}

#[test]
fn a_stream_whose_settings_change_keeps_its_floor() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    book.outcome(1, observed(300));
    book.add(2, "192.0.2.1", Protocol::Icmp);
    book.ledger.removed(StreamId(1), clock(1).mono);
    assert_eq!(book.lines(&["rtt_floor_seconds"]).len(), 1);
}

#[test]
fn a_slot_that_is_taken_again_is_another_stream() {
    let mut book = Book::new();
    let (old, new) = (3, 1 << 32 | 3);
    book.add(old, "192.0.2.1", Protocol::Icmp);
    book.ledger.removed(StreamId(old), clock(1).mono);
    book.add(new, "192.0.2.2", Protocol::Icmp);
    book.outcome(old, ProbeResult::Lost);
    book.ledger.removed(StreamId(old), clock(1).mono);
    book.outcome(new, ProbeResult::Lost);
    assert_eq!(book.value(&["probes_total", "192.0.2.1", "result=\"lost\""]), "0");
    assert_eq!(book.value(&["probes_total", "192.0.2.2", "result=\"lost\""]), "1");
}

#[test]
fn loopback_has_no_shape_but_makes_the_agent_sick() {
    let mut book = Book::new();
    add_loopback(&mut book, 1);
    book.outcome(1, observed(30));
    book.tick(1);
    assert!(book.ledger.health().gives_verdicts());
    book.outcome(1, ProbeResult::Lost);
    book.tick(2);
    for name in ["loss_episodes_total", "loss_burst_probes", "loss_ratio", "rtt_floor_seconds"] {
        assert!(book.lines(&[name]).is_empty(), "{name}");
    }
    assert_eq!(book.value(&["probes_total", "kind=\"control\"", "result=\"lost\""]), "1");
    assert_eq!(book.value(&["agent_fault", "reason=\"control\""]), "1");
    assert!(!book.ledger.health().gives_verdicts());
    assert!(book.ledger.health().has(Fault::Control));
}

#[test]
fn handshakes_are_not_observed_while_loopback_is_bad() {
    let mut book = Book::new();
    add_loopback(&mut book, 1);
    book.add(2, "192.0.2.1:443", Protocol::Connect);
    let accepted = ProbeResult::Reply(Rtt::Estimated(Duration::from_millis(3)));
    book.outcome(2, accepted);
    book.outcome_at(1, ProbeResult::Lost, 1);
    book.tick(2);
    book.outcome_at(2, accepted, 2);
    assert_eq!(book.value(&["connect_duration_seconds_count"]), "1");
    assert_eq!(book.value(&["connects_unobserved_total"]), "1");
    assert_eq!(book.value(&["probes_total", "192.0.2.1:443", "result=\"reply\""]), "2");
}

#[test]
fn faults_are_shown_while_they_last() {
    let mut book = Book::new();
    book.tick(1);
    assert_eq!(book.lines(&["agent_fault"]).len(), Fault::ALL.len());
    assert!(book.lines(&["agent_fault"]).iter().all(|line| line.ends_with(" 0")));
    book.ledger.tick(&TickReport { overslept: Duration::from_millis(2_500), ..report(2) });
    assert_eq!(book.value(&["agent_fault", "reason=\"stalled\""]), "1");
    assert_eq!(book.value(&["stalls_total"]), "1");
    assert_eq!(book.value(&["stall_seconds_total"]), "2.5");
    book.tick(17);
    assert_eq!(book.value(&["agent_fault", "reason=\"stalled\""]), "0");
    assert_eq!(book.value(&["stalls_total"]), "1");
}

#[test]
fn throttling_is_shown_only_where_it_can_be_read() {
    let mut book = Book::new();
    book.tick(1);
    assert!(book.lines(&["cpu_throttled"]).is_empty());
    for (second, millis) in [(2, 0), (3, 400)] {
        let time = Duration::from_millis(millis);
        let read = Throttling { at: clock(second).mono, time, periods: millis / 100 };
        book.metrics.set_throttling(Some(read));
        book.tick(second);
    }
    assert_eq!(book.value(&["cpu_throttled_seconds_total"]), "0.4");
    assert_eq!(book.value(&["cpu_throttled_periods_total"]), "4");
    assert_eq!(book.value(&["agent_fault", "reason=\"throttled\""]), "1");
    book.metrics.set_throttling(None);
    assert!(book.lines(&["cpu_throttled"]).is_empty());
}

/// The control, probed by ICMP.
fn add_loopback(book: &mut Book, id: u64) {
    let target = Target::new(Kind::Control, "node-1".into(), Ipv4Addr::LOCALHOST.into(), None);
    let stream = Stream { target: Arc::new(target), protocol: Protocol::Icmp };
    let (interval, timeout) = (Duration::from_secs(1), Duration::from_millis(800));
    book.ledger.added(StreamId(id), &Planned { stream, interval, timeout, presumed: false });
}

fn observed(micros: u64) -> ProbeResult {
    ProbeResult::Reply(Rtt::Observed(Duration::from_micros(micros)))
}

fn floor(book: &Book) -> Duration {
    Duration::from_secs_f64(book.value(&["rtt_floor_seconds"]).parse().unwrap())
}
