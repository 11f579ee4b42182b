//! The lab's clocks. Waiting is for an event, under a [`Deadline`]; a pause stands only between two questions of
//! [`wait_until`].
#![expect(clippy::disallowed_methods, reason = "the lab may read clocks, and does so here only")]

use crate::error::LabError;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// `CLOCK_REALTIME` in nanoseconds since 1970, the clock of the kernel's packet stamps.
pub fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The same in seconds, as Prometheus has it.
pub fn unix_seconds() -> f64 {
    unix_ns() as f64 / 1e9
}

/// The moment at which waiting for a condition becomes an error.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline this far from now.
    pub fn after(wait: Duration) -> Self {
        Self(now() + wait)
    }

    /// What is left; zero once it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// The deadline of waits that only a defect makes long: generous, since machines that run tests are slow and shared.
pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Asks again and again, some milliseconds apart, until there is an answer: for conditions of other programs that
/// nothing announces.
///
/// # Errors
/// The question's own, at once; [`LabError::Deadline`] when time is up.
pub fn wait_until<T>(
    deadline: Deadline,
    waiting_for: &str,
    ask: impl FnMut() -> Result<Option<T>, LabError>,
) -> Result<T, LabError> {
    ask_each(Duration::from_millis(5), deadline, waiting_for, ask)
}

/// The same with a pause of the caller's choice between two questions, for questions that cost something.
///
/// # Errors
/// As [`wait_until`].
pub fn ask_each<T>(
    pause: Duration,
    deadline: Deadline,
    waiting_for: &str,
    mut ask: impl FnMut() -> Result<Option<T>, LabError>,
) -> Result<T, LabError> {
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if deadline.passed() {
            return Err(LabError::Deadline {
                waiting_for: waiting_for.to_owned(),
                seen: "nothing of it".to_owned(),
            });
        }
        thread::sleep(pause);
    }
}
