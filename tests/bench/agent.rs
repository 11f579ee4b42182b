//! How the benchmarks start the agent under test, and what they read of it.

use crate::load::Pressure;
use anyhow::{Context, Result};
use podsonar_lab::agent::{Launch, Privilege};
use podsonar_lab::scrape::Scrape;
use podsonar_lab::{Agent, Host, Process};
use std::path::Path;
use std::time::Duration;

/// Under /run, which is the host's own and vanishes with it.
const TARGETS: &str = "/run/targets";

/// How long an agent may take to end: under a quota there is little CPU to write down what was in flight.
pub(crate) const THE_END: Duration = Duration::from_mins(1);

/// What the agent is to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan<'a> {
    /// As the user writes them.
    pub(crate) targets: Vec<String>,
    /// Between probes of a target.
    pub(crate) interval: Duration,
    /// `icmp`, `tcp` or both with a comma.
    pub(crate) protocols: &'a str,
    /// Whether each probe is recorded.
    pub(crate) record: bool,
    /// What it may do.
    pub(crate) privilege: Privilege,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            interval: Duration::from_secs(1),
            protocols: "icmp,tcp",
            record: false,
            privilege: Privilege::Everything,
        }
    }
}

impl Plan<'_> {
    /// Starts the agent and waits until it is ready.
    pub(crate) fn start(&self, host: &Host, pressure: &Pressure) -> Result<Agent> {
        host.write_file(Path::new(TARGETS), self.targets.join("\n").as_bytes(), 0o644)?;
        let interval = format!("{}ms", self.interval.as_millis());
        let arguments = ["--targets-file", TARGETS, "--interval", &interval, "--protocols", self.protocols];
        let mut launch = Launch::on(host).privilege(self.privilege).arguments(&arguments);
        if self.record {
            launch = launch.records();
        }
        if let Some(cgroup) = pressure.cgroup() {
            launch = launch.cgroup(cgroup);
        }
        Ok(launch.start()?)
    }
}

/// Results in the agent's counters: `probes_total` and `probes_void_total` together.
pub(crate) fn results(scrape: &Scrape) -> u64 {
    let sum = |name| {
        let control = scrape.sum(name, &[("kind", "control")]).unwrap_or(0.0);
        scrape.sum(name, &[]).unwrap_or(0.0) - control
    };
    (sum("podsonar_probes_total") + sum("podsonar_probes_void_total")) as u64
}

/// Resident memory of a process in bytes (`VmRSS` of proc(5)).
pub(crate) fn resident_bytes(process: &Process) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
    Ok(kib * 1024.0)
}
