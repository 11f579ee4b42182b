//! The share of loss in windows of time.
//!
//! A window ends when 60 s have passed and it has 30 results: with fewer a share says little. It is never longer than
//! five minutes, so that a silent target, which gets a SYN each 30 s, does not vanish among healthy ones.

use std::time::Duration;

use super::Seen;
use crate::time::Instant;

/// A window is not shorter than this.
const SPAN: Duration = Duration::from_mins(1);

/// Nor does it have fewer results than this,
const ENOUGH: u32 = 30;

/// unless it is as long as this.
const LONGEST: Duration = Duration::from_mins(5);

/// A stream's window that has not ended. A result belongs to the window in which it became known.
#[derive(Debug, Default)]
pub(super) struct Window {
    began: Instant,
    probes: u32,
    lost: u32,
}

impl Window {
    /// Takes results, known at `now`. Returns the share of loss of the window that they come after, if they do.
    pub(super) fn note(&mut self, seen: Seen, count: u64, now: Instant) -> Option<f64> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let (probes, lost) = match seen {
            Seen::Answered => (count, 0),
            Seen::Lost => (count, count),
            Seen::Nothing => return None,
        };
        let age = now.since(self.began);
        let ended = self.probes > 0 && (age >= LONGEST || (age >= SPAN && self.probes >= ENOUGH));
        let ratio = ended.then(|| f64::from(self.lost) / f64::from(self.probes));
        if ended || self.probes == 0 {
            *self = Self { began: now, probes: 0, lost: 0 };
        }
        self.probes = self.probes.saturating_add(probes);
        self.lost = self.lost.saturating_add(lost);
        ratio
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_after_a_minute_with_thirty_results_or_after_five_minutes() {
        // Interval in milliseconds, and how many results the first window then has.
        for (interval, results) in
            [(20, 3_000), (1_000, 60), (2_000, 30), (5_000, 30), (10_000, 30), (30_000, 10), (600_000, 1)]
        {
            let mut window = Window::default();
            let results: u64 = results;
            for number in 0..results {
                assert_eq!(
                    window.note(Seen::Answered, 1, at(number * interval)),
                    None,
                    "{interval} {number}"
                );
            }
            assert_eq!(window.note(Seen::Lost, 1, at(results * interval)), Some(0.0), "{interval}");
        }
    }

    #[test]
    fn each_result_is_in_one_window() {
        let mut window = Window::default();
        let mut ratios = Vec::new();
        for number in 0..=180 {
            let seen = if number == 60 || number == 179 { Seen::Lost } else { Seen::Answered };
            ratios.extend(window.note(seen, 1, at(number * 1_000)));
        }
        assert_eq!(ratios, [0.0, 1.0 / 60.0, 1.0 / 60.0]);
    }

    #[test]
    fn what_says_nothing_is_in_no_window() {
        let mut window = Window::default();
        for number in 0..1_000 {
            assert_eq!(window.note(Seen::Nothing, 9, at(number * 1_000)), None);
        }
        assert_eq!(window.probes, 0);
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }
}
