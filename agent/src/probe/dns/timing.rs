//! How long a server took to answer, and whether that was in time: pure, on clocks that may have been set meanwhile.

use std::time::Duration;

use podsonar_core::time::{ClockReading, ClockWatch, WallTime};

/// Both ends of a UDP exchange: our own clocks around it, and the kernel's stamps where there are any.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Read before the question was handed to the kernel.
    pub(super) before: ClockReading,
    /// When it left.
    pub(super) transmitted: Option<WallTime>,
    /// When the answer came.
    pub(super) received: Option<WallTime>,
    /// Read when we saw the answer.
    pub(super) after: ClockReading,
}

impl Times {
    /// From kernel stamp to kernel stamp. `None` without both of them, or if a clock was set meanwhile: it moved
    /// between our two readings, or a stamp does not lie between them.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        let (transmitted, received) = (self.transmitted?, self.received?);
        let between = self.before.wall <= transmitted && received <= self.after.wall;
        (between && self.clocks_stood()).then(|| received.since(transmitted)).flatten()
    }

    /// Whether the answer came within `limit` after the question left. We may look later than we wanted, so what
    /// counts is the kernel's stamp. An answer whose time nobody knows is in time: it was there when we looked.
    pub(super) fn in_time(&self, limit: Duration) -> bool {
        let since_before = || self.received.filter(|_| self.clocks_stood())?.since(self.before.wall);
        self.round_trip().or_else(since_before).is_none_or(|took| took <= limit)
    }

    fn clocks_stood(&self) -> bool {
        let mut watch = ClockWatch::new(self.before);
        let moved = watch.moved();
        watch.read(self.after);
        watch.moved().tolerable_since(moved)
    }
}

#[cfg(test)]
mod tests {
    use podsonar_core::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    #[test]
    fn the_round_trip_is_between_stamps_however_late_we_look() {
        let times = times(Some(1), Some(4), 90_000);
        assert_eq!(times.round_trip(), Some(Duration::from_millis(3)));
        assert!(times.in_time(LIMIT));
    }

    #[test]
    fn an_answer_is_late_by_its_stamp() {
        assert!(times(Some(1), Some(101), 102).in_time(LIMIT));
        assert!(!times(Some(1), Some(102), 103).in_time(LIMIT));
        assert!(!times(None, Some(102), 103).in_time(LIMIT), "one stamp is enough to tell");
    }

    #[test]
    fn without_both_stamps_nothing_is_observed_and_nothing_called_late() {
        for times in [times(None, Some(4), 5), times(Some(1), None, 5), times(None, None, 90_000)] {
            assert_eq!(times.round_trip(), None);
            assert!(times.in_time(LIMIT));
        }
    }

    #[test]
    fn a_clock_that_was_set_meanwhile_takes_the_observation_away_and_not_the_answer() {
        for step_ms in [-3_600_000, -1, 1, 3_600_000] {
            let mut stepped = times(Some(1), Some(4), 5);
            stepped.after.wall = wall(5 + step_ms);
            assert_eq!(stepped.round_trip(), None, "{step_ms} ms");
            assert!(stepped.in_time(LIMIT), "{step_ms} ms");
        }
    }

    #[test]
    fn a_step_forth_and_back_shows_in_a_stamp_outside_of_our_readings() {
        for (transmitted, received) in [(3_600_001, 4), (1, 3_600_004), (1, -3_600_000), (-10, 4)] {
            assert_eq!(times(Some(transmitted), Some(received), 5).round_trip(), None);
        }
    }

    /// An exchange that begins at 0 and is seen `after` milliseconds later.
    fn times(transmitted: Option<i64>, received: Option<i64>, after: i64) -> Times {
        let (transmitted, received) = (transmitted.map(wall), received.map(wall));
        Times { before: reading(0), transmitted, received, after: reading(after) }
    }

    fn reading(ms: i64) -> ClockReading {
        ClockReading {
            mono: Instant::from_nanos((1_000_000 * ms).cast_unsigned()),
            wall: wall(ms),
            suspended: Duration::ZERO,
            uncertainty: Duration::ZERO,
        }
    }

    fn wall(ms: i64) -> WallTime {
        WallTime::from_nanos(1_700_000_000_000_000_000 + 1_000_000 * ms)
    }
}
