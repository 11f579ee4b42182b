//! podsonar's benchmarks: what it promises, measured beside the limit of the machine and beside other probers in the
//! same run, on real packets, with a capture as the truth.
//!
//! Each subcommand prints its figures and its bounds, and fails if a bound is missed. `BENCHMARKS.md` explains them.

mod accuracy;
mod agent;
mod api;
mod cost;
mod limit;
mod load;
mod loss;
mod names;
mod node;
mod path;
mod peers;
mod reload;
mod report;
mod scrape;
mod soak;
mod spacing;
mod stats;
mod versus;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use podsonar_lab::tool;
use report::Report;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(name = "podsonar-bench", about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How far reported round trips are from the wire's, also when the CPU is scarce
    Accuracy(Options),
    /// CPU per probe and memory, beside a bare loop of system calls
    Cost(Options),
    /// Losses reported against losses on the wire
    Loss(Options),
    /// How evenly probes leave
    Spacing(Options),
    /// CPU per scrape
    Scrape(Options),
    /// The same targets under podsonar and under other probers
    Peers(Options),
    /// CPU per reload of the configuration
    Reload(Options),
    /// Bytes from the API server to one agent of a large cluster
    Api(Options),
    /// CPU and memory of an agent with 32 peers and 240 pods
    Node(Options),
    /// CPU for asking for names
    Names(Options),
    /// Verdicts over minutes: those that must come, and those that must not
    Soak(Options),
    /// The bare loop of system calls, as a program of its own
    #[command(hide = true)]
    Limit(limit::Limit),
    /// A thread that does nothing but run
    #[command(hide = true)]
    Spin,
}

/// What all benchmarks know.
#[derive(Debug, Clone, Args)]
struct Options {
    /// At most a minute in all, for a first look; the figures of BENCHMARKS.md come from full runs
    #[arg(long)]
    short: bool,
    /// Put the figures into the benchmark's section of this project's BENCHMARKS.md
    #[arg(long)]
    write: bool,
    /// The folder of the programs to compare with; else the one that tests/tools/peers.sh fills
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Run only the parts whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

impl Options {
    /// One of two values, by the mode.
    fn pick<T>(&self, short: T, full: T) -> T {
        if self.short { short } else { full }
    }

    /// One of two durations in seconds, by the mode.
    fn seconds(&self, short: u64, full: u64) -> Duration {
        Duration::from_secs(self.pick(short, full))
    }

    /// Whether a part of the benchmark is wanted.
    fn wants(&self, part: &str) -> bool {
        part.contains(&self.only)
    }

    fn peer(&self, name: &str) -> Result<PathBuf> {
        match &self.peers {
            Some(folder) => existing(&folder.join(name), "--peers names its folder"),
            None => Ok(tool::peer(name)?),
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Accuracy(options) => accuracy::run(&options).and_then(|report| finish(&report, &options)),
        Command::Cost(options) => cost::run(&options).and_then(|report| finish(&report, &options)),
        Command::Loss(options) => loss::run(&options).and_then(|report| finish(&report, &options)),
        Command::Spacing(options) => spacing::run(&options).and_then(|report| finish(&report, &options)),
        Command::Reload(options) => reload::run(&options).and_then(|report| finish(&report, &options)),
        Command::Api(options) => api::run(&options).and_then(|report| finish(&report, &options)),
        Command::Node(options) => node::run(&options).and_then(|report| finish(&report, &options)),
        Command::Names(options) => names::run(&options).and_then(|report| finish(&report, &options)),
        Command::Scrape(options) => scrape::run(&options).and_then(|report| finish(&report, &options)),
        Command::Soak(options) => soak::run(&options).and_then(|report| finish(&report, &options)),
        Command::Peers(options) => versus::run(&options).and_then(|report| finish(&report, &options)),
        Command::Limit(limit) => limit.run().map(|()| ExitCode::SUCCESS),
        Command::Spin => load::spin(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("podsonar-bench: {error:#}");
        ExitCode::from(2)
    })
}

/// Shows a report, writes it where wanted, and turns it into an exit code: 1 if a bound is missed.
fn finish(report: &Report, options: &Options) -> Result<ExitCode> {
    print!("{}", report.text());
    if options.write {
        report.write_to(Path::new("BENCHMARKS.md")).context("write BENCHMARKS.md")?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn existing(path: &Path, hint: &str) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("{} is missing: {hint}", path.display()))
}
