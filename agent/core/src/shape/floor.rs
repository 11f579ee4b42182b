//! A path's floor: the 10th percentile of its round trips of the last minute. It shows when a path gets longer, and
//! does not move with queues that come and go.

use std::time::Duration;

use crate::time::{Instant, nanos};

/// Seconds that a floor looks back: the samples that it keeps.
const SECONDS: usize = 60;

/// The round trips of the last 60 seconds, at most one of each second, the first: a sample that needs no more room
/// for a stream of fifty probes a second than for one of one.
#[derive(Debug)]
pub struct Floor {
    /// Packed round trips by second modulo 60; zero where there is none.
    samples: [u16; SECONDS],
    /// The second of the newest sample, on the monotonic clock.
    newest: u64,
}

impl Default for Floor {
    fn default() -> Self {
        Self { samples: [0; SECONDS], newest: 0 }
    }
}

impl Floor {
    /// Takes a round trip that became known at `now`.
    pub fn note(&mut self, rtt: Duration, now: Instant) {
        let second = second(now);
        if second < self.newest {
            return;
        }
        let passed = second - self.newest;
        if passed >= SECONDS as u64 {
            self.samples = [0; SECONDS];
        } else {
            for each in self.newest + 1..=second {
                if let Some(sample) = self.samples.get_mut(place(each)) {
                    *sample = 0;
                }
            }
        }
        self.newest = second;
        if let Some(sample) = self.samples.get_mut(place(second)).filter(|sample| **sample == 0) {
            *sample = pack(rtt);
        }
    }

    /// The floor as of `now`, by nearest rank; `None` if there was no round trip in the last 60 seconds.
    pub fn at(&self, now: Instant) -> Option<Duration> {
        let oldest = (second(now) + 1).saturating_sub(SECONDS as u64);
        let first = (self.newest + 1).saturating_sub(SECONDS as u64).max(oldest);
        let mut samples = [0; SECONDS];
        let mut count = 0;
        let present = (first..=self.newest).filter_map(|each| self.samples.get(place(each)));
        for (slot, sample) in samples.iter_mut().zip(present.filter(|sample| **sample > 0)) {
            *slot = *sample;
            count += 1;
        }
        let samples = samples.get_mut(..count).filter(|samples| !samples.is_empty())?;
        let rank = samples.len().div_ceil(10);
        let (_, floor, _) = samples.select_nth_unstable(rank - 1);
        Some(unpack(*floor))
    }
}

/// The longest round trip that is told from longer ones, in nanoseconds.
const LONGEST: f32 = 4.2e9;

/// Nanoseconds as a binary fraction with 11 bits and an exponent of 5: within 0.03 %, in the order of what it stands
/// for, and never zero.
fn pack(rtt: Duration) -> u16 {
    let rounding = 1 << 11;
    let bits = (nanos(rtt) as f32).clamp(2.0, LONGEST).to_bits();
    ((bits - ONE + rounding) >> 12) as u16
}

fn unpack(sample: u16) -> Duration {
    Duration::from_nanos(f32::from_bits((u32::from(sample) << 12) + ONE) as u64)
}

/// The bits of a fraction of one: below the exponents that are packed.
const ONE: u32 = 1_f32.to_bits();

fn second(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000_000
}

fn place(second: u64) -> usize {
    (second % SECONDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_floor_is_the_tenth_percentile_of_the_last_minute() {
        let mut floor = Floor::default();
        assert_eq!(floor.at(at(5_000)), None);
        for number in 0..120_u64 {
            floor.note(Duration::from_micros(1_000 - number), at(number * 1_000));
        }
        // Seconds 60 to 119 have 940 to 881 µs: the sixth least is 886.
        assert_eq!(floor.at(at(119_999)), Some(packed(886_000)));
        assert_eq!(floor.at(at(178_999)), Some(packed(881_000)));
        assert_eq!(floor.at(at(179_000)), None);
    }

    #[test]
    fn a_queue_that_comes_and_goes_does_not_move_it() {
        let mut floor = Floor::default();
        for number in 0..60 {
            let micros = if number % 2 == 0 { 300 } else { 300 + number * 1_000 };
            floor.note(Duration::from_micros(micros), at(number * 1_000));
        }
        assert_eq!(floor.at(at(60_000)), Some(packed(300_000)));
    }

    proptest! {
        #[test]
        fn packing_keeps_the_order_and_three_digits(one in 2..4_200_000_000_u64, other in 2..20_000_000_000_u64) {
            let [one, other] = [one, other].map(Duration::from_nanos);
            let ratio = unpack(pack(one)).as_secs_f64() / one.as_secs_f64();
            prop_assert!((ratio - 1.0).abs() < 0.0003 || one < Duration::from_micros(5), "{one:?} {ratio}");
            prop_assert!((pack(one) < pack(other)) <= (one < other));
            prop_assert!(pack(one) > 0);
        }
    }

    #[test]
    fn very_short_and_long_round_trips_are_clipped() {
        assert_eq!(unpack(pack(Duration::ZERO)), Duration::from_nanos(2));
        let longest = unpack(pack(Duration::from_secs(9)));
        assert!((longest.as_secs_f64() - 4.2).abs() < 0.002, "{longest:?}");
    }

    proptest! {
        #[test]
        fn it_is_what_a_sorted_list_shows(
            steps in proptest::collection::vec((0..20_000_u64, 1..1_000_000_u64), 1..300),
            later in 0..90_000_u64
        ) {
            let mut floor = Floor::default();
            let mut first: BTreeMap<u64, u64> = BTreeMap::new();
            let mut now = 0;
            for (step, rtt) in steps {
                now += step / if step % 3 == 0 { 1 } else { 20 };
                floor.note(Duration::from_nanos(rtt), at(now));
                first.entry(now / 1_000).or_insert(rtt);
            }
            now += later;
            let recent = first.range((now / 1_000 + 1).saturating_sub(60)..);
            let mut samples: Vec<u64> = recent.map(|(_, rtt)| *rtt).collect();
            samples.sort_unstable();
            let expected = samples.len().div_ceil(10).checked_sub(1).map(|rank| samples[rank]);
            prop_assert_eq!(floor.at(at(now)), expected.map(packed));
        }
    }

    /// A floor of so many nanoseconds, as exactly as it is kept.
    fn packed(nanos: u64) -> Duration {
        unpack(pack(Duration::from_nanos(nanos)))
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }
}
