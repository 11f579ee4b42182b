//! How evenly probes leave, by a capture on the agent's own interface.

use crate::Options;
use crate::agent::Plan;
use crate::load::{Pressure, pass};
use crate::path::Path;
use crate::report::{Report, Table};
use crate::stats::{Figure, Spread};
use anyhow::Result;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use podsonar_lab::clock::unix_ns;
use podsonar_lab::wire::{ProbeKey, Wire};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(1);

/// A packet of so many bytes is a large probe.
const LARGE: usize = 1_000;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("spacing", options.short);
    let columns = [
        "targets",
        "tick ms",
        "periods",
        "|period − 1 s| p50 ms",
        "p99 ms",
        "max ms",
        "worst drift %",
        "skipped",
    ];
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
        cells.push(found.skipped.to_string());
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

/// By which share the mean period differs from the interval, over a time in intervals. A skipped probe makes a period
/// longer, but no drift.
fn drift(intervals: f64) -> f64 {
    (intervals / intervals.round() - 1.0).abs()
}

#[derive(Debug)]
struct Periods {
    /// In milliseconds.
    deviations: Spread,
    /// The mean period's deviation from the interval, as a share, of the worst target.
    worst_drift: f64,
    /// Periods that are longer by half an interval and more.
    skipped: usize,
}

fn periods(targets: u32, time: Duration) -> Result<Periods> {
    let path = Path::direct(targets)?;
    let agent = plan(&path).start(&path.node, &Pressure::none())?;
    pass(INTERVAL);
    let capture = path.capture()?;
    pass(time);
    let wire = Wire::new(&capture.stop()?);
    drop(agent);
    let mut sent: HashMap<IpAddr, Vec<i64>> = HashMap::new();
    // Large probes have a schedule of their own.
    for probe in wire.probes().iter().filter(|probe| probe.length < LARGE) {
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
        if let (Some(first), Some(last)) = (times.first(), times.last()) {
            worst_drift = worst_drift.max(drift((last - first) as f64 / interval));
        }
    }
    let skipped = deviations.iter().filter(|deviation| **deviation > interval / 2e6).count();
    Ok(Periods { deviations: Spread::of(&deviations), worst_drift, skipped })
}

/// Stops the process for a while and looks at how it goes on. Ticks lie on multiples of their length on the monotonic
/// clock, so that is how sends are counted; any stretch of that length may touch two ticks.
fn stalls(options: &Options, report: &mut Report) -> Result<()> {
    const TARGETS: u32 = 10_000;
    let tick = tick(TARGETS);
    let worth = f64::from(TARGETS) * tick.as_secs_f64();
    let millis = tick.as_millis();
    let title = format!("Most probes in a tick of {millis} ms, at {TARGETS}/s ({worth} are due in one)");
    let columns =
        ["stopped for", "in a tick before", "in a tick after", "in any 10 ms before", "in any 10 ms after"];
    let mut table = Table::new(title, columns);
    for stopped in [options.pick(200, 50), 1000, options.pick(1000, 5000)].map(Duration::from_millis) {
        eprintln!("spacing: stopped for {} ms", stopped.as_millis());
        let path = Path::direct(TARGETS)?;
        let agent = plan(&path).start(&path.node, &Pressure::none())?;
        let capture = path.capture()?;
        pass(options.seconds(2, 5));
        let before = monotonic()?;
        agent.process.signal(Signal::SIGSTOP)?;
        pass(stopped);
        agent.process.signal(Signal::SIGCONT)?;
        let after = monotonic()?;
        pass(Duration::from_secs(3));
        let offset = unix_ns() - monotonic()?;
        let wire = Wire::new(&capture.stop()?);
        drop(agent);
        let sent: Vec<i64> = wire.probes().iter().map(|probe| probe.sent_ns - offset).collect();
        let earlier = sent.get(..sent.partition_point(|sent| *sent < before)).unwrap_or_default();
        let later = sent.get(sent.partition_point(|sent| *sent < after)..).unwrap_or_default();
        let most = most_in_a_tick(later, tick);
        let counts =
            [most_in_a_tick(earlier, tick), most, most_within(earlier, tick), most_within(later, tick)];
        let stopped = format!("{} ms", stopped.as_millis());
        table.row([stopped.clone()].into_iter().chain(counts.map(|count| count.to_string())));
        let ticks = if later.is_empty() { f64::NAN } else { most as f64 / worth };
        report.at_most(format!("stopped for {stopped}: ticks' worth of probes in a tick"), ticks, 2.0, "");
    }
    report.table(table);
    Ok(())
}

/// `CLOCK_MONOTONIC` in nanoseconds.
fn monotonic() -> Result<i64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    Ok(i64::try_from(now.as_nanos())?)
}

fn plan(path: &Path) -> Plan<'static> {
    Plan { targets: path.targets(), interval: INTERVAL, protocols: "icmp", ..Plan::default() }
}

/// The most moments that lie in one tick. They are in order.
fn most_in_a_tick(times: &[i64], tick: Duration) -> usize {
    let tick = tick.as_nanos() as i64;
    times
        .chunk_by(|one, next| one.div_euclid(tick) == next.div_euclid(tick))
        .map(<[i64]>::len)
        .max()
        .unwrap_or(0)
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
    fn a_tick_begins_at_a_multiple_of_its_length() {
        assert_eq!(most_in_a_tick(&[0, 5, 9, 10, 11, 30], Duration::from_nanos(10)), 3);
        assert_eq!(most_in_a_tick(&[], Duration::from_nanos(10)), 0);
    }

    #[test]
    fn drift_is_what_is_left_of_whole_periods() {
        assert!(drift(59.0) < 1e-9);
        assert!((drift(60.06) - 0.001).abs() < 1e-9);
    }

    #[test]
    fn ticks_are_longer_where_little_is_due() {
        assert_eq!([1, 200, 500, 1000, 10_000].map(|rate| tick(rate).as_millis()), [50, 50, 20, 10, 10]);
    }
}
