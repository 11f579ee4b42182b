//! One line a second for a person who watches: what was measured since the line before.

use std::fmt;
use std::io::{IsTerminal, Write, stdout};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use podsonar_core::outcome::{ProbeResult, Rtt};

/// Time between two lines.
pub const EVERY: Duration = Duration::from_secs(1);

/// What happened since somebody last looked. The driver's thread adds, whoever looks takes.
#[derive(Debug, Default)]
pub struct Glance {
    /// Counting for nobody would cost each probe some 30 ns.
    watched: AtomicBool,
    answered: AtomicU64,
    lost: AtomicU64,
    other: AtomicU64,
    observed: AtomicU64,
    rtt_sum: AtomicU64,
    rtt_least: AtomicU64,
    rtt_most: AtomicU64,
}

/// What happened in a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Probes that were answered.
    pub answered: u64,
    /// Probes that were lost, or answered by ICMP errors.
    pub lost: u64,
    /// Probes that say nothing about the network.
    pub other: u64,
    /// Least, mean and greatest round trip, if any was measured.
    pub rtt: Option<[Duration; 3]>,
}

impl Glance {
    /// Somebody will look from now on.
    pub fn begin(&self) {
        self.watched.store(true, Relaxed);
    }

    /// Takes `count` results in.
    pub(crate) fn note(&self, result: ProbeResult, count: u64) {
        if !self.watched.load(Relaxed) {
            return;
        }
        match result {
            ProbeResult::Reply(rtt) | ProbeResult::Reset(rtt) => {
                self.answered.fetch_add(1, Relaxed);
                if let Rtt::Observed(rtt) = rtt {
                    let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
                    // Zero is "none yet".
                    let least = self.rtt_least.load(Relaxed);
                    if least == 0 || nanos < least {
                        self.rtt_least.store(nanos.max(1), Relaxed);
                    }
                    self.rtt_most.fetch_max(nanos, Relaxed);
                    self.rtt_sum.fetch_add(nanos, Relaxed);
                    self.observed.fetch_add(1, Relaxed);
                }
            }
            ProbeResult::Lost | ProbeResult::Unreachable(_) => {
                self.lost.fetch_add(count, Relaxed);
            }
            ProbeResult::Listener | ProbeResult::Void(_) => {
                self.other.fetch_add(count, Relaxed);
            }
        }
    }

    /// What happened since it was last taken.
    pub fn take(&self) -> Seen {
        let nanos = |value: &AtomicU64| Duration::from_nanos(value.swap(0, Relaxed));
        let [least, sum, most] = [&self.rtt_least, &self.rtt_sum, &self.rtt_most].map(nanos);
        let observed = u32::try_from(self.observed.swap(0, Relaxed)).unwrap_or(u32::MAX);
        Seen {
            answered: self.answered.swap(0, Relaxed),
            lost: self.lost.swap(0, Relaxed),
            other: self.other.swap(0, Relaxed),
            rtt: sum.checked_div(observed).map(|mean| [least, mean, most]),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, lost, other, rtt } = self;
        write!(f, "{answered:>6} answered {lost:>5} lost {other:>5} other   ")?;
        match rtt {
            None => f.write_str("no round trip"),
            Some(times) => {
                let [least, mean, most] = times.map(|time| time.as_secs_f64() * 1e3);
                write!(f, "round trips {least:.3} / {mean:.3} / {most:.3} ms (least/mean/most)")
            }
        }
    }
}

/// Whether somebody watches: only a terminal gets lines.
pub fn is_watched() -> bool {
    stdout().is_terminal()
}

/// Shows a line. Whether anybody reads it is not our concern.
pub fn show(seen: &Seen, targets: &str) {
    let _ = writeln!(stdout(), "{seen}   {targets}");
}

#[cfg(test)]
mod tests {
    use podsonar_core::outcome::Void;

    use super::*;

    #[test]
    fn a_line_tells_what_happened_since_the_last_one() {
        let glance = Glance::default();
        glance.note(ProbeResult::Lost, 1);
        glance.begin();
        for millis in [2, 1, 6] {
            glance.note(ProbeResult::Reply(Rtt::Observed(Duration::from_millis(millis))), 1);
        }
        glance.note(ProbeResult::Reset(Rtt::Unmeasured), 1);
        glance.note(ProbeResult::Lost, 1);
        glance.note(ProbeResult::Void(Void::Skipped), 7);
        assert_eq!(
            glance.take().to_string(),
            "     4 answered     1 lost     7 other   round trips 1.000 / 3.000 / 6.000 ms (least/mean/most)"
        );
        assert_eq!(glance.take(), Seen::default());
        assert!(Seen::default().to_string().ends_with("no round trip"));
    }
}
