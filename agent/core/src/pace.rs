//! How fast: the length of a tick, and the ceilings that hold always, also after a stall.

use std::time::Duration;

use crate::time::{Instant, nanos};

/// Probes that a tick is sized for: a wake-up costs four to five times a probe, so it should serve several.
const PROBES_PER_TICK: f64 = 10.0;
const SHORTEST_TICK: Duration = Duration::from_millis(10);
const LONGEST_TICK: Duration = Duration::from_millis(50);

/// A probe may be sent this many ticks after it was due; later it is skipped. So no tick ever has to send more
/// than this many ticks' worth of probes.
const LAG_TICKS: u32 = 2;

/// The pace of one set of streams.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: f64,
    tick: Duration,
    max_pps: f64,
    /// Probes that may be sent without exceeding `max_pps`.
    tokens: f64,
    /// Probes that this tick may still send.
    left: f64,
    filled: Instant,
}

impl Pace {
    /// A pace for `rate` probes a second on average, at most `max_pps`.
    pub(crate) fn new(rate: f64, max_pps: u32, now: Instant) -> Self {
        let tick = Duration::try_from_secs_f64(PROBES_PER_TICK / rate.max(f64::MIN_POSITIVE))
            .unwrap_or(LONGEST_TICK)
            .clamp(SHORTEST_TICK, LONGEST_TICK);
        // Nothing adds up to -0.0, which nobody wants to read.
        let rate = rate + 0.0;
        Self { rate, tick, max_pps: f64::from(max_pps), tokens: 0.0, left: 0.0, filled: now.back(tick) }
    }

    /// Changes the rate and keeps what the ceiling has left.
    pub(crate) fn set_rate(&mut self, rate: f64, now: Instant) {
        let Self { max_pps, tokens, left, filled, .. } = *self;
        *self = Self { max_pps, tokens, left, filled, ..Self::new(rate, 0, now) };
    }

    /// Probes a second that the schedule asks for.
    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    /// A tick begins: works out how many probes it may send.
    pub(crate) fn begin_tick(&mut self, now: Instant) {
        let worth = |per_second: f64| per_second * self.tick.as_secs_f64() * f64::from(LAG_TICKS);
        let burst = worth(self.max_pps).max(1.0);
        self.tokens = (self.tokens + now.since(self.filled).as_secs_f64() * self.max_pps).min(burst);
        self.filled = now;
        let stall = worth(self.rate).max(PROBES_PER_TICK * f64::from(LAG_TICKS));
        self.left = self.tokens.min(stall.floor());
    }

    /// Whether this tick may send another probe.
    pub(crate) fn allows(&self) -> bool {
        self.left >= 1.0
    }

    /// A probe was handed out.
    pub(crate) fn spend(&mut self) {
        self.left -= 1.0;
        self.tokens -= 1.0;
    }

    /// Probes due before this are too late to be sent.
    pub(crate) fn skip_before(&self, now: Instant) -> Instant {
        now.back(self.tick * LAG_TICKS)
    }

    /// The last tick at or before `at`.
    pub(crate) fn tick_at_or_before(&self, at: Instant) -> Instant {
        at.back(Duration::from_nanos(at.as_nanos() % nanos(self.tick)))
    }

    /// The first tick at or after `at`: ticks lie on a fixed grid.
    pub(crate) fn tick_at_or_after(&self, at: Instant) -> Instant {
        let tick = nanos(self.tick);
        Instant::from_nanos(at.as_nanos().div_ceil(tick).saturating_mul(tick))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_sized_for_ten_probes_within_bounds() {
        for (rate, millis) in [(0.0, 50), (3.0, 50), (400.0, 25), (1_000.0, 10), (20_000.0, 10)] {
            assert_eq!(pace(rate).tick, Duration::from_millis(millis), "{rate}/s");
        }
    }

    #[test]
    fn nothing_to_probe_is_no_negative_rate() {
        assert!(pace(std::iter::empty::<f64>().sum()).rate().is_sign_positive());
    }

    #[test]
    fn a_stall_earns_no_more_than_two_ticks_worth() {
        let mut pace = pace(10_000.0);
        assert_eq!(send_all(&mut pace, at(1_000)), 200);
        assert_eq!(
            send_all(&mut pace, at(1_000)),
            200,
            "the ceiling of 20,000/s has two ticks of 200 probes"
        );
        assert_eq!(send_all(&mut pace, at(1_000)), 0);
    }

    #[test]
    fn two_ticks_worth_is_never_rounded_up() {
        // The control is probed each second too.
        let mut pace = pace(10_001.0);
        assert_eq!(send_all(&mut pace, at(1_000)), 200);
    }

    #[test]
    fn the_ceiling_holds_over_any_second() {
        let mut pace = Pace::new(20_000.0, 20_000, at(0));
        let mut sent = 0;
        for millis in (5_000..6_000).step_by(10) {
            sent += send_all(&mut pace, at(millis));
        }
        assert!((20_000..=20_400).contains(&sent), "{sent}");
    }

    #[test]
    fn the_next_tick_lies_on_the_grid() {
        let pace = pace(1_000.0);
        assert_eq!(pace.tick_at_or_after(at(10)), at(10));
        assert_eq!(pace.tick_at_or_after(at(11)), at(20));
        assert_eq!(pace.tick_at_or_before(at(10)), at(10));
        assert_eq!(pace.tick_at_or_before(at(19)), at(10));
    }

    fn send_all(pace: &mut Pace, now: Instant) -> u32 {
        pace.begin_tick(now);
        let mut sent = 0;
        while pace.allows() {
            pace.spend();
            sent += 1;
        }
        sent
    }

    fn pace(rate: f64) -> Pace {
        Pace::new(rate, 20_000, at(0))
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }
}
