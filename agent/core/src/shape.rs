//! The shape of loss: how losses come together, and how fast a path is at its best.
//!
//! A percentage hides whether one probe in a hundred is lost or all of them for a while. So each stream's results are
//! told as runs of losses ([`Finding::Episode`], [`Finding::Burst`]), as shares of loss in windows
//! ([`Finding::Ratio`]), and its round trips as a [`Floor`].
//!
//! Lost and unreachable are both loss: ICMP errors are rationed by their senders, so the same fault shows as either.
//! A result that says nothing about the network is nothing here: it ends no run and adds to none.

mod floor;
mod runs;
mod window;

use crate::outcome::{Outcome, ProbeResult};
use crate::time::Instant;

pub use floor::Floor;

use runs::{Runs, Span};
use window::Window;

/// What a result is to the shape of loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The network carried the probe and its answer.
    Answered,
    /// It did not.
    Lost,
    /// Nothing is known.
    Nothing,
}

impl From<ProbeResult> for Seen {
    fn from(result: ProbeResult) -> Self {
        match result {
            ProbeResult::Reply(_) | ProbeResult::Reset(_) | ProbeResult::Listener => Self::Answered,
            ProbeResult::Lost | ProbeResult::Unreachable(_) => Self::Lost,
            ProbeResult::Void(_) => Self::Nothing,
        }
    }
}

/// What a stream's results show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Finding {
    /// A run of losses began.
    Episode,
    /// A run of losses ended after so many probes.
    Burst(u64),
    /// A window ended, with this share of its probes lost.
    Ratio(f64),
}

/// One stream's loss.
#[derive(Debug, Default)]
pub struct Shape {
    runs: Runs,
    window: Window,
}

impl Shape {
    /// Takes an outcome of the stream, known at `now`, and tells what it shows. Outcomes may come in any order: a run
    /// is told when all probes before its end have their result.
    pub fn note(&mut self, outcome: &Outcome, now: Instant, tell: &mut impl FnMut(Finding)) {
        let Outcome { number, count, .. } = *outcome;
        let seen = Seen::from(outcome.result);
        self.runs.note(Span { first: number, count, seen }, tell);
        if let Some(ratio) = self.window.note(seen, count, now) {
            tell(Finding::Ratio(ratio));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outcome::{Rtt, SendError, Unreachable, Void};
    use crate::target::StreamId;

    #[test]
    fn only_silence_and_errors_of_the_network_are_loss() {
        let rtt = Rtt::Observed(Duration::from_millis(1));
        for (result, seen) in [
            (ProbeResult::Reply(rtt), Seen::Answered),
            (ProbeResult::Reset(Rtt::Unmeasured), Seen::Answered),
            (ProbeResult::Lost, Seen::Lost),
            (ProbeResult::Unreachable(Unreachable::Host), Seen::Lost),
            (ProbeResult::Void(Void::NotSent(SendError::NoRoute)), Seen::Nothing),
            (ProbeResult::Void(Void::Skipped), Seen::Nothing),
            (ProbeResult::Void(Void::Unknown), Seen::Nothing),
            (ProbeResult::Void(Void::Discarded), Seen::Nothing),
        ] {
            assert_eq!(Seen::from(result), seen, "{result:?}");
        }
    }

    #[test]
    fn runs_and_windows_are_told_together() {
        let mut shape = Shape::default();
        let mut told = Vec::new();
        for number in 0..=60 {
            let lost = (10..14).contains(&number);
            let result = if lost { ProbeResult::Lost } else { ProbeResult::Reply(Rtt::Unmeasured) };
            let due = Instant::from_nanos(number * 1_000_000_000);
            let outcome = Outcome { stream: StreamId(1), number, due, result, count: 1, sent: None };
            shape.note(&outcome, due, &mut |finding| told.push(finding));
        }
        assert_eq!(told, [Finding::Episode, Finding::Burst(4), Finding::Ratio(4.0 / 60.0)]);
    }
}
