//! What takes minutes to show: verdicts that must not come, and how soon those come that must, with default settings.
//!
//! Each part is a world of its own, and is bounded. Nothing here depends on how fast the machine is, so it may be busy.

mod blackhole;
mod chance;
mod ecmp;

use crate::Options;
use crate::report::{Report, Table};
use crate::stats::Figure;
use anyhow::Result;
use podsonar_lab::Agent;
use podsonar_lab::clock::{Deadline, now};
use podsonar_lab::scrape::Scrape;
use std::time::Duration;

/// Within this time a fault is found and named.
const FOUND: Duration = Duration::from_mins(1);
/// Waiting ends here, so that a fault that is found too late still has its figure.
const PATIENCE: Duration = Duration::from_mins(3);
/// Between two looks at the metrics.
const LOOK: Duration = Duration::from_millis(250);

/// A part: its name, and what runs it.
type Part = (&'static str, fn(&Options, &mut Found) -> Result<()>);

/// In the order in which they run. `--only` chooses among them by name.
const PARTS: [Part; 3] =
    [("random loss", chance::run), ("dead path", ecmp::run), ("MTU black hole", blackhole::run)];

/// What the parts found.
struct Found {
    report: Report,
    part: &'static str,
    figures: Table,
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let figures = Table::new("What was found", ["part", "", "figure"]);
    let mut found = Found { report: Report::new("soak", options.short), part: "", figures };
    for (name, part) in PARTS.into_iter().filter(|(name, _)| options.wants(name)) {
        eprintln!("soak: {name}");
        found.part = name;
        part(options, &mut found)?;
    }
    let Found { mut report, figures, .. } = found;
    report.table(figures);
    Ok(report)
}

impl Found {
    /// A figure that is only told.
    fn tell(&mut self, what: &str, figure: f64) {
        self.figures.row([self.part.to_owned(), what.to_owned(), Figure(figure).to_string()]);
    }

    /// A figure with a bound.
    fn at_most(&mut self, what: &str, measured: f64, limit: f64, unit: &str) {
        self.report.at_most(format!("{}: {what}", self.part), measured, limit, unit);
    }

    /// What must never be.
    fn never(&mut self, what: &str, count: f64) {
        self.at_most(what, count, 0.0, "");
    }
}

/// The sum of a metric's samples with these labels; 0 where there is none.
fn sum(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
    scrape.sum(name, labels).unwrap_or(0.0)
}

/// Paths with a fault of this kind now.
fn in_fault(scrape: &Scrape, fault: &str) -> f64 {
    sum(scrape, "podsonar_edges_in_fault", &[("fault", fault)])
}

/// How long it takes in seconds until a condition holds on the agent's metrics; not a number if it takes too long.
fn seconds_until(agent: &Agent, holds: impl Fn(&Scrape) -> bool) -> Result<f64> {
    let (start, end) = (now(), Deadline::after(PATIENCE));
    loop {
        if holds(&agent.scrape()?) {
            return Ok((now() - start).as_secs_f64());
        }
        if end.passed() {
            return Ok(f64::NAN);
        }
        crate::load::pass(LOOK);
    }
}

/// How many lines of the agent's log have these words: what came and went between two scrapes is there.
fn logged(agent: &Agent, words: &str) -> f64 {
    agent.process.lines().iter().filter(|line| line.contains(words)).count() as f64
}
