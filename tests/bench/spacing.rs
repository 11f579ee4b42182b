//! How evenly probes leave, by a capture on the agent's own interface.

use crate::Options;
use crate::agent::Plan;
use crate::load::{Pressure, pass};
use crate::path::Path;
use crate::report::{Report, Table};
use crate::stats::{Figure, Spread};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use podsonar_lab::clock::{Deadline, unix_ns};
use podsonar_lab::wire::{ProbeKey, Wire};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("spacing", options.short);
    let columns =
        ["targets", "tick ms", "periods", "|period − 1 s| p50 ms", "p99 ms", "max ms", "worst drift %"];
    let mut table = Table::new("One target's period, idle machine", columns);
    for targets in [200, 1000, 10_000] {
        if !options.wants(&format!("idle-{targets}")) {
            continue;
        }
        eprintln!("spacing: {targets} targets");
        let found = periods(targets, options.seconds(8, 60))?;
        let tick = tick(targets);
        let mut cells =
            vec![targets.to_string(), Figure(millis(tick)).to_string(), found.deviations.count.to_string()];
        cells.extend(found.deviations.cells());
        cells.push(Figure(found.worst_drift * 100.0).to_string());
        table.row(cells);
        let bound = millis(tick) + 1.0;
        report.at_most(
            format!("{targets} targets: period deviation p99"),
            found.deviations.p99,
            bound,
            " ms",
        );
        if !options.short {
            report.at_most(
                format!("{targets} targets: drift over 60 s"),
                found.worst_drift * 100.0,
                0.1,
                " %",
            );
        }
    }
    report.table(table);
    if options.wants("stall") {
        stalls(options, &mut report)?;
    }
    Ok(report)
}

/// The agent's tick: about 10 ms, up to 50 ms where few probes are due (10 probes a tick in between).
fn tick(probes_per_second: u32) -> Duration {
    Duration::from_secs_f64((10.0 / f64::from(probes_per_second)).clamp(0.01, 0.05))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[derive(Debug)]
struct Periods {
    /// In milliseconds.
    deviations: Spread,
    /// The mean period's deviation from the interval, as a share, of the worst target.
    worst_drift: f64,
}

fn periods(targets: u32, time: Duration) -> Result<Periods> {
    let path = Path::new(targets)?;
    let agent = plan(&path).start(&path.node, &Pressure::none())?;
    pass(INTERVAL);
    let capture = path.capture()?;
    pass(time);
    let wire = Wire::new(&capture.stop()?);
    drop(agent);
    let mut sent: HashMap<IpAddr, Vec<i64>> = HashMap::new();
    for probe in wire.probes() {
        if let ProbeKey::Echo { address, .. } = probe.key {
            sent.entry(address).or_default().push(probe.sent_ns);
        }
    }
    let interval = INTERVAL.as_nanos() as f64;
    let mut deviations = Vec::new();
    let mut worst_drift = f64::NAN;
    for times in sent.values() {
        deviations.extend(times.windows(2).filter_map(|pair| match pair {
            [one, next] => Some(((next - one) as f64 - interval).abs() / 1e6),
            _ => None,
        }));
        if let (Some(first), Some(last), periods @ 1..) = (times.first(), times.last(), times.len() - 1) {
            let mean = (last - first) as f64 / periods as f64;
            worst_drift = worst_drift.max((mean / interval - 1.0).abs());
        }
    }
    Ok(Periods { deviations: Spread::of(&deviations), worst_drift })
}

/// Stops the process for a while and looks at how it goes on.
fn stalls(options: &Options, report: &mut Report) -> Result<()> {
    const TARGETS: u32 = 10_000;
    let tick = tick(TARGETS);
    let worth = f64::from(TARGETS) * tick.as_secs_f64();
    let title = format!("Most probes in any {} ms, at {TARGETS}/s ({worth} a tick)", tick.as_millis());
    let mut table = Table::new(title, ["stopped for", "before", "in the 3 s after", "in ticks' worth"]);
    for stopped in [options.pick(200, 50), 1000, options.pick(1000, 5000)].map(Duration::from_millis) {
        let path = Path::new(TARGETS)?;
        let agent = plan(&path).start(&path.node, &Pressure::none())?;
        let capture = path.capture()?;
        pass(options.seconds(2, 5));
        let before = unix_ns();
        agent.process.signal(Signal::SIGSTOP)?;
        pass(stopped);
        agent.process.signal(Signal::SIGCONT)?;
        let after = unix_ns();
        let end = Deadline::after(Duration::from_secs(3));
        pass(end.left());
        let wire = Wire::new(&capture.stop()?);
        drop(agent);
        let sent: Vec<i64> = wire.probes().iter().map(|probe| probe.sent_ns).collect();
        let split = sent.partition_point(|sent| *sent < after);
        let (earlier, later) = sent.split_at_checked(split).context("probes before and after the stall")?;
        let steady = earlier.partition_point(|sent| *sent < before);
        let usual = most_within(earlier.get(..steady).unwrap_or(earlier), tick);
        let most = most_within(later, tick);
        let ticks = most as f64 / worth;
        let cells = [
            format!("{} ms", stopped.as_millis()),
            usual.to_string(),
            most.to_string(),
            Figure(ticks).to_string(),
        ];
        table.row(cells);
        let name = format!("stopped for {} ms: ticks' worth of probes in a tick", stopped.as_millis());
        report.at_most(name, if later.is_empty() { f64::NAN } else { ticks }, 2.0, "");
    }
    report.table(table);
    Ok(())
}

fn plan(path: &Path) -> Plan<'static> {
    Plan { targets: path.targets(), interval: INTERVAL, protocols: "icmp", ..Plan::default() }
}

/// The most moments that lie in any window of this length. They are in order.
fn most_within(times: &[i64], window: Duration) -> usize {
    let window = window.as_nanos() as i64;
    let in_window =
        |(begin, first): (usize, &i64)| times.partition_point(|time| *time < first + window) - begin;
    times.iter().enumerate().map(in_window).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_window_is_found_wherever_it_begins() {
        assert_eq!(most_within(&[0, 5, 9, 10, 11, 30], Duration::from_nanos(10)), 4);
        assert_eq!(most_within(&[], Duration::from_nanos(10)), 0);
    }

    #[test]
    fn ticks_are_longer_where_little_is_due() {
        assert_eq!([1, 200, 500, 1000, 10_000].map(|rate| tick(rate).as_millis()), [50, 50, 20, 10, 10]);
    }
}
