//! The only place where the agent reads a clock.

use podsonar_core::time::{ClockReading, Instant};

/// The clocks as the driver sees them; tests give it clocks that jump.
pub trait Clocks {
    /// `CLOCK_MONOTONIC`.
    fn mono(&mut self) -> Instant;

    /// All clocks at one moment.
    fn read(&mut self) -> ClockReading;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClocks;

impl Clocks for SystemClocks {
    fn mono(&mut self) -> Instant {
        podsonar_net::monotonic()
    }

    fn read(&mut self) -> ClockReading {
        podsonar_net::read_clocks()
    }
}

/// `CLOCK_MONOTONIC`, for whoever is not driven by ticks.
pub fn now() -> Instant {
    podsonar_net::monotonic()
}
