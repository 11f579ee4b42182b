//! Reading the clocks. Only `clock.rs` of the agent calls this: everywhere else time is an argument.

use std::time::Duration;

use podsonar_core::time::{ClockReading, Instant, WallTime};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// How close the two monotonic readings must be. Undisturbed they are some 100 ns apart; a preemption in between
/// is worth another try.
const CLOSE: Duration = Duration::from_micros(20);

const TRIES: usize = 5;

/// Reads monotonic, real, boot and again monotonic time; the tightest of up to five tries if we are interrupted.
pub fn read_clocks() -> ClockReading {
    let mut best = read_once();
    for _ in 1..TRIES {
        if best.uncertainty * 2 < CLOSE {
            break;
        }
        let next = read_once();
        if next.uncertainty < best.uncertainty {
            best = next;
        }
    }
    best
}

/// `CLOCK_MONOTONIC`.
pub fn monotonic() -> Instant {
    Instant::from_nanos(u64::try_from(nanos(clock_gettime(ClockId::Monotonic))).unwrap_or(0))
}

/// Boot time is read inside the bracket too, so that `uncertainty` covers it as well: a preemption after the
/// bracket would look like a suspend.
fn read_once() -> ClockReading {
    let before = nanos(clock_gettime(ClockId::Monotonic));
    let wall = nanos(clock_gettime(ClockId::Realtime));
    let boot = nanos(clock_gettime(ClockId::Boottime));
    let after = nanos(clock_gettime(ClockId::Monotonic));
    let middle = before + (after - before) / 2;
    ClockReading {
        mono: Instant::from_nanos(u64::try_from(middle).unwrap_or(0)),
        wall: WallTime::from_nanos(wall),
        suspended: Duration::from_nanos(u64::try_from(boot - middle).unwrap_or(0)),
        uncertainty: Duration::from_nanos(u64::try_from(after - before).unwrap_or(0) / 2),
    }
}

/// Nanoseconds of a kernel time, which fit until the year 2262.
fn nanos(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_go_forward_and_say_how_sure_they_are() {
        let first = read_clocks();
        let second = read_clocks();
        assert!(second.mono >= first.mono);
        assert!(first.wall.as_nanos() > 1_600_000_000_000_000_000, "the machine's clock is not set");
        let slept = second.suspended.abs_diff(first.suspended);
        assert!(slept <= first.uncertainty + second.uncertainty, "{slept:?} without a suspend");
    }
}
