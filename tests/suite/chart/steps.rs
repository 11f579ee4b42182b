//! [`Steps`]: says how long each step of a test took, so that one sees where a suite's minutes go.

use podsonar_lab::clock::now;
use std::io::{Write, stderr};
use std::time::Instant;

/// The steps of one test.
#[derive(Debug)]
pub(crate) struct Steps {
    test: &'static str,
    since: Instant,
}

impl Steps {
    /// Begins.
    pub(crate) fn of(test: &'static str) -> Self {
        Self { test, since: now() }
    }

    /// A step is over, and the next begins. Tests' own output is shown only of those that fail; this goes past that.
    pub(crate) fn done(&mut self, what: &str) {
        let seconds = (now() - self.since).as_secs_f64();
        // Nothing depends on it.
        let _ = writeln!(stderr().lock(), "{seconds:6.1} s  {}: {what}", self.test);
        self.since = now();
    }
}
