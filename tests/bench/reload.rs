//! CPU for reading the configuration again, and what that does to probing.

use crate::Options;
use crate::limit::target;
use crate::load::pass;
use crate::report::{Report, Table};
use crate::stats::{Figure, median};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use podsonar_lab::agent::Launch;
use podsonar_lab::{Agent, Host, Lab};
use std::path::Path;
use std::time::Duration;

const TARGETS: u32 = 10_000;
/// Under /run, which is the host's own and vanishes with it.
const FILE: &str = "/run/podsonar.yaml";
/// Slow, so that probing costs little beside a reload; what it costs is taken off.
const INTERVAL: &str = "20s";
/// Long enough for a reload to end.
const BETWEEN: Duration = Duration::from_millis(500);
/// What one may cost.
const CPU_MILLIS: f64 = 50.0;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("reload", options.short);
    let (rounds, reloads) = (options.pick(3, 10), options.pick(4, 10));
    let lab = Lab::new()?;
    let host = lab.host("agent")?;
    write(&host, 0)?;
    eprintln!("reload: {TARGETS} targets, one of them changed");
    let agent = Launch::on(&host).arguments(&["--config", FILE]).start()?;
    let mut millis = Vec::new();
    let mut versions = 1..;
    // The first rounds find no buffers.
    reload(&agent, &host, &mut versions, reloads)?;
    let mut gaps = 0.0;
    for _ in 0..rounds {
        let before = skipped(&agent)?;
        let start = agent.process.cpu_time()?;
        reload(&agent, &host, &mut versions, reloads)?;
        let busy = agent.process.cpu_time()?.saturating_sub(start);
        gaps += skipped(&agent)? - before;
        let start = agent.process.cpu_time()?;
        pass(BETWEEN * reloads);
        let idle = agent.process.cpu_time()?.saturating_sub(start);
        millis.push(busy.saturating_sub(idle).as_secs_f64() * 1e3 / f64::from(reloads));
    }
    let scrape = agent.scrape()?;
    let count = |name, labels: &[(&str, &str)]| scrape.sum(name, labels).context(name);
    let done = count("podsonar_config_reloads_total", &[("result", "ok")])?;
    let failed = count("podsonar_config_reloads_total", &[("result", "failed")])?;

    let extreme = |pick: fn(f64, f64) -> f64| millis.iter().copied().reduce(pick).unwrap_or(f64::NAN);
    let mut table = Table::new(
        format!("CPU-ms of the agent per reload, {TARGETS} targets in YAML, one changed"),
        ["reloads", "failed", "CPU-ms", "least", "most", "skipped probes meanwhile"],
    );
    let figures = [done, failed, median(&millis), extreme(f64::min), extreme(f64::max), gaps];
    table.row(figures.map(|figure| Figure(figure).to_string()));
    report.table(table);
    report.at_most("CPU of a reload", median(&millis), CPU_MILLIS, " ms");
    report.at_most("probes that fell out of the schedule meanwhile", gaps, 0.0, "");
    report.at_most("reloads that did not happen", f64::from((rounds + 1) * reloads) - done, 0.0, "");
    Ok(report)
}

/// Probes that the agent was too late for.
fn skipped(agent: &Agent) -> Result<f64> {
    let name = "podsonar_probes_void_total";
    agent.scrape()?.sum(name, &[("reason", "skipped")]).context(name)
}

fn reload(agent: &Agent, host: &Host, versions: &mut impl Iterator<Item = u32>, times: u32) -> Result<()> {
    for version in versions.take(times as usize) {
        write(host, version)?;
        agent.process.signal(Signal::SIGHUP)?;
        pass(BETWEEN);
    }
    Ok(())
}

/// The configuration with one target that each version has alone.
fn write(host: &Host, version: u32) -> Result<()> {
    let mut text = format!("probes: {{ interval: {INTERVAL}, protocols: [icmp] }}\ntargets:\n");
    for number in (0..TARGETS - 1).chain([TARGETS + version]) {
        text.extend(["  - ", &target(false, number).to_string(), "\n"]);
    }
    Ok(host.write_file(Path::new(FILE), text.as_bytes(), 0o644)?)
}
