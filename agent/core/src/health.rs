//! Whether the agent itself is sick. A prober that is starved, deaf or stopped measures itself: while it is so, it
//! says so, and names no culprit on the network.

use std::time::Duration;

use crate::outcome::{Outcome, ProbeResult, Rtt, Void};
use crate::target::Kind;
use crate::time::Instant;

/// A fault stays this long after its last sign: results of what it spoilt still come in.
const HOLD: Duration = Duration::from_secs(15);

/// What is judged by shares is judged in windows of this length.
const WINDOW: Duration = Duration::from_secs(5);

/// A driver that runs this much later than it meant to has stalled.
const STALL: Duration = Duration::from_millis(500);

/// Half the round trips over loopback may not be longer than this.
const SLOW_CONTROL: Duration = Duration::from_millis(5);

/// Fewer results of the control than this in a window say nothing about its speed.
const ENOUGH_CONTROL: u32 = 3;

/// A window with fewer skipped probes than this is no lag: any host is busy for a moment.
const FEW_SKIPPED: u64 = 3;

/// One skipped probe of so many is lag.
const SKIPPED_SHARE: u64 = 10;

/// Throttled for one part of so many of the time is too much.
const THROTTLED_SHARE: u32 = 20;

/// What is wrong with the agent or its host. The text form is the metric label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Probes over loopback were lost, unknown or slow.
    Control,
    /// The agent fell behind its schedule and skipped probes.
    Lag,
    /// The kernel dropped packets because a socket's buffer was full.
    Drops,
    /// A CPU quota stopped the agent.
    Throttled,
    /// The agent did not run for half a second or more when it should have.
    Stalled,
    /// Somebody set the clock, or the machine slept.
    Clock,
}

impl Fault {
    /// Every fault, in label order.
    pub const ALL: [Self; 6] =
        [Self::Control, Self::Lag, Self::Drops, Self::Throttled, Self::Stalled, Self::Clock];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Lag => "lag",
            Self::Drops => "drops",
            Self::Throttled => "throttled",
            Self::Stalled => "stalled",
            Self::Clock => "clock",
        }
    }

    /// What it is, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Control => "probes over loopback are lost or slow",
            Self::Lag => "it is behind its schedule and skips probes",
            Self::Drops => "its sockets' buffers overflow",
            Self::Throttled => "its CPU quota stops it",
            Self::Stalled => "it did not run when it should have",
            Self::Clock => "its clock was set, or the machine slept",
        }
    }
}

/// How long a CPU quota has stopped the agent's cgroup, as read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttling {
    /// When it was read.
    pub at: Instant,
    /// The time throttled so far, added up over processors.
    pub time: Duration,
    /// The quota's periods so far in which it was throttled.
    pub periods: u64,
}

/// What the driver saw at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signs {
    /// The time of the tick.
    pub now: Instant,
    /// Time since the last tick that the driver did not mean to sleep.
    pub overslept: Duration,
    /// Packets that any socket dropped so far.
    pub drops: u64,
    /// Jumps of the wall clock so far.
    pub clock_jumps: u64,
    /// The last reading of the cgroup; `None` without quota.
    pub throttling: Option<Throttling>,
}

/// The agent's health. Faults appear with their sign and stay for 15 s after the last one.
#[derive(Debug, Clone)]
pub struct Health {
    now: Instant,
    /// When each fault ends, by [`Fault::ALL`].
    until: [Instant; Fault::ALL.len()],
    drops: u64,
    clock_jumps: u64,
    throttling: Option<Throttling>,
    stalls: u64,
    stalled: Duration,
    window: Window,
}

/// What is judged when a window ends.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    results: u64,
    skipped: u64,
    control: u32,
    slow_control: u32,
}

impl Window {
    const fn new(began: Instant) -> Self {
        Self { began, results: 0, skipped: 0, control: 0, slow_control: 0 }
    }

    fn lags(&self) -> bool {
        self.skipped >= FEW_SKIPPED && self.skipped.saturating_mul(SKIPPED_SHARE) >= self.results
    }

    /// The median is above a bound if more than half of the values are.
    fn control_is_slow(&self) -> bool {
        self.control >= ENOUGH_CONTROL && self.slow_control > self.control / 2
    }
}

impl Health {
    /// An agent without fault.
    pub fn new(now: Instant) -> Self {
        Self {
            now,
            until: [now; Fault::ALL.len()],
            drops: 0,
            clock_jumps: 0,
            throttling: None,
            stalls: 0,
            stalled: Duration::ZERO,
            window: Window::new(now),
        }
    }

    /// A probe of a target of this kind has its result.
    pub fn note(&mut self, kind: Kind, outcome: &Outcome) {
        self.window.results += outcome.count;
        if outcome.result == ProbeResult::Void(Void::Skipped) {
            self.window.skipped += outcome.count;
        }
        if kind == Kind::Control {
            self.note_control(outcome.result);
        }
    }

    fn note_control(&mut self, result: ProbeResult) {
        match result {
            ProbeResult::Lost | ProbeResult::Unreachable(_) | ProbeResult::Void(Void::Unknown) => {
                self.sign(Fault::Control);
            }
            ProbeResult::Reply(Rtt::Observed(rtt)) | ProbeResult::Reset(Rtt::Observed(rtt)) => {
                self.window.control += 1;
                self.window.slow_control += u32::from(rtt > SLOW_CONTROL);
            }
            ProbeResult::Reply(_)
            | ProbeResult::Reset(_)
            | ProbeResult::Listener
            | ProbeResult::Void(Void::NotSent(_) | Void::Skipped | Void::Discarded | Void::Intercepted) => {}
        }
    }

    /// What the driver saw at this tick.
    pub fn tick(&mut self, signs: &Signs) {
        self.now = signs.now;
        if signs.overslept >= STALL {
            self.stalls += 1;
            self.stalled += signs.overslept;
            self.sign(Fault::Stalled);
        }
        if signs.drops > self.drops {
            self.sign(Fault::Drops);
        }
        if signs.clock_jumps > self.clock_jumps {
            self.sign(Fault::Clock);
        }
        (self.drops, self.clock_jumps) = (signs.drops, signs.clock_jumps);
        if signs.throttling != self.throttling {
            if let (Some(before), Some(read)) = (self.throttling, signs.throttling) {
                let throttled = read.time.saturating_sub(before.time);
                if throttled > Duration::ZERO && throttled >= read.at.since(before.at) / THROTTLED_SHARE {
                    self.sign(Fault::Throttled);
                }
            }
            self.throttling = signs.throttling;
        }
        if signs.now.since(self.window.began) >= WINDOW {
            if self.window.lags() {
                self.sign(Fault::Lag);
            }
            if self.window.control_is_slow() {
                self.sign(Fault::Control);
            }
            self.window = Window::new(signs.now);
        }
    }

    /// Whether the agent has this fault.
    pub fn has(&self, fault: Fault) -> bool {
        self.until.get(fault as usize).is_some_and(|until| self.now < *until)
    }

    /// Whether verdicts that name a culprit may be given: the agent has no fault.
    pub fn gives_verdicts(&self) -> bool {
        self.until.iter().all(|until| self.now >= *until)
    }

    /// Whether the probes over loopback show that this process' clock can be trusted.
    pub fn control_is_good(&self) -> bool {
        !self.has(Fault::Control)
    }

    /// How often the driver stalled.
    pub fn stalls(&self) -> u64 {
        self.stalls
    }

    /// For how long it stalled, added up.
    pub fn stalled(&self) -> Duration {
        self.stalled
    }

    fn sign(&mut self, fault: Fault) {
        if let Some(until) = self.until.get_mut(fault as usize) {
            *until = self.now + HOLD;
        }
    }
}

#[cfg(test)]
mod tests;
