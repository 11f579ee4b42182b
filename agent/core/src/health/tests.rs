use super::*;
use crate::outcome::SendError;
use crate::target::StreamId;

const FAST: ProbeResult = ProbeResult::Reply(Rtt::Observed(Duration::from_micros(40)));
const SLOW: ProbeResult = ProbeResult::Reset(Rtt::Observed(Duration::from_millis(6)));

#[test]
fn an_agent_that_works_has_no_fault() {
    let mut health = Health::new(at(0));
    for second in 0..60 {
        health.note(Kind::Control, &outcome(FAST, 1));
        health.note(Kind::Fixed, &outcome(ProbeResult::Lost, 1));
        health.tick(&Signs { throttling: Some(throttling(second, 0)), ..quiet(second) });
        assert_eq!(faults(&health), [], "{second}");
        assert!(health.gives_verdicts());
    }
}

#[test]
fn each_sign_is_its_fault_and_stays_for_fifteen_seconds() {
    let signs: [(Fault, Signs); 3] = [
        (Fault::Drops, Signs { drops: 1, ..quiet(100) }),
        (Fault::Stalled, Signs { overslept: Duration::from_millis(500), ..quiet(100) }),
        (Fault::Clock, Signs { clock_jumps: 1, ..quiet(100) }),
    ];
    for (fault, signs) in signs {
        let mut health = Health::new(at(100));
        health.tick(&signs);
        assert_eq!(faults(&health), [fault]);
        assert!(!health.gives_verdicts());
        let later = |second| Signs { now: at(second), overslept: Duration::ZERO, ..signs };
        health.tick(&later(114));
        assert!(health.has(fault), "totals that stay are no further sign, and 15 s have not passed");
        health.tick(&later(115));
        assert_eq!(faults(&health), []);
        assert!(health.gives_verdicts());
    }
}

#[test]
fn stalls_are_counted_and_added_up() {
    let mut health = Health::new(at(0));
    for (second, millis) in [(1, 499), (2, 700), (3, 20), (4, 1_300)] {
        health.tick(&Signs { overslept: Duration::from_millis(millis), ..quiet(second) });
    }
    assert_eq!((health.stalls(), health.stalled()), (2, Duration::from_secs(2)));
}

#[test]
fn throttling_counts_by_its_share_of_the_time_between_two_readings() {
    for (millis, is_fault) in [(0, false), (49, false), (50, true), (900, true)] {
        let mut health = Health::new(at(0));
        health.tick(&Signs { throttling: Some(throttling(7, 5_000)), ..quiet(7) });
        assert_eq!(faults(&health), [], "what was before the agent looked is none of its business");
        health.tick(&Signs { throttling: Some(throttling(8, 5_000 + millis)), ..quiet(8) });
        assert_eq!(health.has(Fault::Throttled), is_fault, "{millis}");
    }
}

#[test]
fn a_reading_that_is_old_is_no_further_sign() {
    let mut health = Health::new(at(0));
    for second in [1, 2] {
        let throttling = Some(throttling(second, second * 500));
        health.tick(&Signs { throttling, ..quiet(second) });
    }
    for second in 3..18 {
        health.tick(&Signs { throttling: Some(throttling(2, 1_000)), ..quiet(second) });
    }
    assert_eq!(faults(&health), []);
}

#[test]
fn one_loss_over_loopback_is_a_fault_of_this_host() {
    let bad = [ProbeResult::Lost, ProbeResult::Void(Void::Unknown)];
    let good = [
        FAST,
        ProbeResult::Reply(Rtt::Unmeasured),
        ProbeResult::Void(Void::NotSent(SendError::NoRoute)),
        ProbeResult::Void(Void::Discarded),
    ];
    for (results, is_fault) in [(bad.as_slice(), true), (good.as_slice(), false)] {
        for result in results {
            let mut health = Health::new(at(0));
            health.note(Kind::Fixed, &outcome(*result, 1));
            assert!(!health.has(Fault::Control));
            health.note(Kind::Control, &outcome(*result, 1));
            assert_eq!(health.has(Fault::Control), is_fault, "{result:?}");
        }
    }
}

#[test]
fn a_slow_loopback_is_a_fault_if_its_median_is_slow() {
    for (slow, fast, is_fault) in [(2, 0, false), (3, 0, true), (2, 2, false), (3, 2, true), (50, 60, false)]
    {
        let mut health = Health::new(at(0));
        for _ in 0..slow {
            health.note(Kind::Control, &outcome(SLOW, 1));
        }
        for _ in 0..fast {
            health.note(Kind::Control, &outcome(FAST, 1));
        }
        health.tick(&quiet(5));
        assert_eq!(health.has(Fault::Control), is_fault, "{slow} slow, {fast} fast");
    }
}

#[test]
fn skipped_probes_are_lag_if_they_are_many() {
    let skipped = ProbeResult::Void(Void::Skipped);
    for (missed, sent, is_fault) in
        [(2, 0, false), (3, 0, true), (3, 27, true), (3, 28, false), (90, 9_000, false)]
    {
        let mut health = Health::new(at(0));
        health.note(Kind::Fixed, &outcome(skipped, missed));
        for _ in 0..sent {
            health.note(Kind::Fixed, &outcome(FAST, 1));
        }
        health.tick(&quiet(4));
        assert!(!health.has(Fault::Lag), "the window has not ended");
        health.tick(&quiet(5));
        assert_eq!(health.has(Fault::Lag), is_fault, "{missed} of {}", missed + sent);
        health.tick(&quiet(20));
        assert!(!health.has(Fault::Lag), "a window is judged once");
    }
}

fn faults(health: &Health) -> Vec<Fault> {
    Fault::ALL.into_iter().filter(|fault| health.has(*fault)).collect()
}

fn quiet(second: u64) -> Signs {
    Signs { now: at(second), overslept: Duration::ZERO, drops: 0, clock_jumps: 0, throttling: None }
}

fn throttling(second: u64, millis: u64) -> Throttling {
    Throttling { at: at(second), time: Duration::from_millis(millis), periods: millis / 50 }
}

fn outcome(result: ProbeResult, count: u64) -> Outcome {
    Outcome { stream: StreamId(1), number: 0, due: at(0), result, count, sent: None }
}

fn at(second: u64) -> Instant {
    Instant::from_nanos(second * 1_000_000_000)
}
