//! Points in time as numbers with types: the engine compares them and never asks for them.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on `CLOCK_MONOTONIC`, in nanoseconds since that clock's own start.
///
/// Schedules and deadlines live on this clock: nobody sets it, and it stands still during a suspend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The instant `nanos` nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `by` before this one, or the clock's start.
    #[must_use]
    pub fn back(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

/// A point on `CLOCK_REALTIME`, in nanoseconds since the Unix epoch: the clock of the kernel's packet stamps.
///
/// Two of them may be subtracted only while the clock was not set between them; see [`ClockWatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(i64);

impl WallTime {
    /// The time `nanos` nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Time passed since `earlier`, or `None` if `earlier` is later.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        u64::try_from(self.0.checked_sub(earlier.0)?).ok().map(Duration::from_nanos)
    }
}

impl Sub for WallTime {
    type Output = i64;
    /// Signed difference in nanoseconds.
    fn sub(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// All clocks read at one moment: monotonic, realtime, monotonic again, and the time spent suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// `CLOCK_MONOTONIC`, in the middle of the reading.
    pub mono: Instant,
    /// `CLOCK_REALTIME`, read between two monotonic readings.
    pub wall: WallTime,
    /// `CLOCK_BOOTTIME − CLOCK_MONOTONIC`: grows by each suspend.
    pub suspended: Duration,
    /// Half the distance of the two monotonic readings: how far `wall` may be from `mono`.
    pub uncertainty: Duration,
}

impl ClockReading {
    /// `CLOCK_REALTIME − CLOCK_MONOTONIC` in nanoseconds. It changes only when somebody sets the clock.
    fn offset(&self) -> i64 {
        self.wall.0.saturating_sub(i64::try_from(self.mono.0).unwrap_or(i64::MAX))
    }

    /// Where a kernel stamp lies on the monotonic clock.
    pub fn to_mono(&self, wall: WallTime) -> Instant {
        Instant(u64::try_from(wall.0.saturating_sub(self.offset())).unwrap_or(0))
    }

    /// Where a point of the monotonic clock lies on the wall clock.
    pub fn to_wall(&self, mono: Instant) -> WallTime {
        WallTime(i64::try_from(mono.0).unwrap_or(i64::MAX).saturating_add(self.offset()))
    }
}

/// Movement of the wall clock that stamps may carry unnoticed; more makes them worthless (DESIGN: 50 µs).
pub const TOLERATED_MOVEMENT: Duration = Duration::from_micros(50);

/// The fastest that the kernel slews a clock (`adjtimex(2)`: 500 parts per million).
const SLEW_PPM: u64 = 500;

/// Notices when kernel stamps stop being comparable: somebody set the clock, or the machine slept.
///
/// It adds up each movement of the realtime clock against the monotonic one that slewing and the uncertainty of
/// the readings do not explain. Two stamps may be subtracted if the sum grew by no more than
/// [`TOLERATED_MOVEMENT`] between them: so a step forth and back within one probe's life is seen too.
#[derive(Debug, Clone, Copy)]
pub struct ClockWatch {
    last: ClockReading,
    moved: Movement,
    jumps: u64,
}

/// The unexplained movement of the wall clock so far, in nanoseconds; only differences have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Movement(u64);

impl Movement {
    /// Whether stamps taken between `earlier` and now may be subtracted.
    pub fn tolerable_since(self, earlier: Self) -> bool {
        self.0.saturating_sub(earlier.0) <= nanos(TOLERATED_MOVEMENT)
    }
}

impl ClockWatch {
    /// Starts from a first reading.
    pub fn new(first: ClockReading) -> Self {
        Self { last: first, moved: Movement(0), jumps: 0 }
    }

    /// Takes the next reading.
    pub fn read(&mut self, now: ClockReading) {
        let elapsed = nanos(now.mono.since(self.last.mono));
        let explained = elapsed / 1_000_000 * SLEW_PPM
            + elapsed % 1_000_000 * SLEW_PPM / 1_000_000
            + nanos(now.uncertainty)
            + nanos(self.last.uncertainty);
        let shift = now.offset().abs_diff(self.last.offset());
        let slept = nanos(now.suspended).abs_diff(nanos(self.last.suspended));
        let unexplained = shift.max(slept).saturating_sub(explained);
        if unexplained > nanos(TOLERATED_MOVEMENT) {
            self.jumps += 1;
        }
        self.moved = Movement(self.moved.0.saturating_add(unexplained));
        self.last = now;
    }

    /// The last reading.
    pub fn now(&self) -> &ClockReading {
        &self.last
    }

    /// The movement seen so far.
    pub fn moved(&self) -> Movement {
        self.moved
    }

    /// How often the clock jumped by more than [`TOLERATED_MOVEMENT`] between two readings.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }
}

/// A duration as nanoseconds; `u64` holds 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slewing_and_uncertain_readings_are_not_movement() {
        let mut watch = ClockWatch::new(reading(0, 1_000_000_000));
        watch.read(reading(1_000_000_000, 2_000_000_000 + 500_000));
        watch.read(ClockReading {
            uncertainty: Duration::from_millis(3),
            ..reading(1_010_000_000, 2_013_000_000)
        });
        assert_eq!(watch.moved(), Movement(0));
        assert_eq!(watch.jumps(), 0);
    }

    #[test]
    fn a_step_forth_and_back_stays_visible() {
        let mut watch = ClockWatch::new(reading(0, 0));
        let before = watch.moved();
        watch.read(reading(10_000_000, 3_600_010_000_000));
        watch.read(reading(20_000_000, 20_000_000));
        assert!(!watch.moved().tolerable_since(before));
        assert_eq!(watch.jumps(), 2);
    }

    #[test]
    fn many_small_steps_add_up() {
        let mut watch = ClockWatch::new(reading(0, 0));
        let before = watch.moved();
        for step in 1..=3 {
            watch.read(reading(step * 10_000_000, i64::try_from(step * 10_000_000 + step * 40_000).unwrap()));
        }
        assert!(!watch.moved().tolerable_since(before));
        assert_eq!(watch.jumps(), 0);
    }

    #[test]
    fn a_suspend_is_movement_even_if_the_offset_hides_it() {
        let mut watch = ClockWatch::new(reading(0, 0));
        let before = watch.moved();
        watch.read(ClockReading { suspended: Duration::from_secs(9), ..reading(10_000_000, 10_000_000) });
        assert!(!watch.moved().tolerable_since(before));
    }

    #[test]
    fn stamps_convert_both_ways() {
        let reading = reading(5_000, 1_700_000_000_000_005_000);
        let stamp = WallTime::from_nanos(1_700_000_000_000_009_000);
        assert_eq!(reading.to_mono(stamp), Instant::from_nanos(9_000));
        assert_eq!(reading.to_wall(Instant::from_nanos(9_000)), stamp);
        assert_eq!(reading.to_mono(WallTime::from_nanos(-1)), Instant::from_nanos(0));
    }

    fn reading(mono: u64, wall: i64) -> ClockReading {
        ClockReading {
            mono: Instant::from_nanos(mono),
            wall: WallTime::from_nanos(wall),
            suspended: Duration::ZERO,
            uncertainty: Duration::ZERO,
        }
    }
}
