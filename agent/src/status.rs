//! What this agent sees, in words and as JSON: its own health, what it probes by state, and each fault by place, the
//! widest first. `/` shows the words, `/status` the JSON; `podsonar status` asks the running agent for them.

mod ask;
mod faults;
mod ways;

use std::fmt::{self, Write as _};

use podsonar_core::target::Kind;
use serde::Serialize;

use crate::condition::State;
use crate::metrics::state::Metrics;

pub use self::ask::{AskError, ask};
pub use self::faults::{Finding, Scope};
pub use self::ways::Lost;

/// What one agent sees at one moment.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The agent's version.
    pub version: &'static str,
    /// Its node: the label `source` of its metrics.
    pub source: String,
    /// Its zone, empty if it has none.
    pub zone: String,
    /// Probes that fall due each second.
    pub probes_per_second: f64,
    /// Targets by kind and state; what there is none of is left out.
    pub targets: Vec<Count>,
    /// Names to be probed that have no address now.
    pub unresolved_names: u64,
    /// Which way probes between this node and its peers were lost.
    pub ways: Vec<Lost>,
    /// What is wrong, the widest first.
    pub faults: Vec<Finding>,
}

/// Targets of one kind in one state.
#[derive(Debug, Serialize)]
pub struct Count {
    /// The label `kind`.
    pub kind: &'static str,
    /// The label `state`.
    pub state: &'static str,
    /// How many.
    pub targets: u64,
}

impl Status {
    /// What the metrics say now.
    pub fn of(metrics: &Metrics) -> Self {
        let mut targets = Vec::new();
        for (kind, states) in Kind::ALL.into_iter().zip(&metrics.targets) {
            for (state, count) in State::ALL.into_iter().zip(states).filter(|(_, count)| count.get() > 0) {
                targets.push(Count { kind: kind.label(), state: state.label(), targets: count.get() });
            }
        }
        Self {
            version: env!("CARGO_PKG_VERSION"),
            source: metrics.source().into(),
            zone: metrics.zone().into(),
            probes_per_second: metrics.probes_per_second.get(),
            targets,
            unresolved_names: metrics.unresolved.get(),
            ways: ways::of(metrics),
            faults: faults::of(metrics),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = if self.zone.is_empty() { String::new() } else { format!(" in zone {}", self.zone) };
        writeln!(
            f,
            "podsonar {} on {}{zone}, {:.1} probes/s",
            self.version, self.source, self.probes_per_second
        )?;
        for kind in Kind::ALL {
            let mut words = String::new();
            for each in self.targets.iter().filter(|each| each.kind == kind.label()) {
                let comma = if words.is_empty() { "" } else { ", " };
                write!(words, "{comma}{} {}", each.targets, each.state)?;
            }
            if !words.is_empty() {
                writeln!(f, "  {:<8} {words}", kind.label())?;
            }
        }
        if self.unresolved_names > 0 {
            writeln!(f, "  {:<8} {} without an address", "name", self.unresolved_names)?;
        }
        for lost in self.ways.iter().filter(|lost| lost.is_worth_a_line()) {
            writeln!(f, "  {:<8} {lost}", "way")?;
        }
        if self.faults.is_empty() {
            return writeln!(f, "no fault is known");
        }
        writeln!(f, "faults, the widest first:")?;
        for Finding { scope, place, what } in &self.faults {
            writeln!(f, "  {:<11} {place}: {what}", scope.label())?;
        }
        Ok(())
    }
}
