//! How far reported round trips are from the wire's.
//!
//! The wire is a capture on the prober's own interface, by the kernel's stamps. What the agent and fping report is
//! compared packet by packet, the means that `smokeping_prober` reports with the wire's means, target by target.

use crate::Options;
use crate::agent::{Plan, THE_END};
use crate::load::{Condition, pass};
use crate::path::Path;
use crate::peers::{Ping, Smokeping, fping, fping_line, smokeping};
use crate::report::{Report, Table};
use crate::stats::{Figure, Spread};
use anyhow::Result;
use podsonar_lab::capture::Captured;
use podsonar_lab::clock::{Deadline, soon};
use podsonar_lab::record::{Record, Stamp};
use podsonar_lab::wire::{ProbeKey, Wire, WireProbe};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

const TARGETS: u32 = 200;
/// The bounds in microseconds.
pub(crate) const P99_MICROS: f64 = 15.0;
pub(crate) const MAX_MICROS: f64 = 150.0;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("accuracy", options.short);
    let title = "|reported − wire| in µs, 200 targets, 500 µs path";
    let mut table = Table::new(
        title,
        [
            "condition",
            "program",
            "compared",
            "p50",
            "p99",
            "max",
            "max sending",
            "max receiving",
            "of the wire's",
        ],
    );
    for condition in Condition::ALL.into_iter().filter(|condition| options.wants(condition.name())) {
        eprintln!("accuracy: {}", condition.name());
        for (protocol, errors) in measure_agent(condition, options)? {
            let spread = Spread::of(&errors.micros);
            table.row(row(condition, &format!("agent {protocol}"), &errors));
            report.at_most(format!("{}: {protocol} p99", condition.name()), spread.p99, P99_MICROS, " µs");
            report.at_most(format!("{}: {protocol} max", condition.name()), spread.max, MAX_MICROS, " µs");
        }
        // A short run shows the peers at both ends only: each must start and end under the condition.
        if options.short && !matches!(condition, Condition::Idle | Condition::Both) {
            continue;
        }
        let errors = measure_fping(condition, options)?;
        table.row(row(condition, "fping", &errors));
        let errors = measure_smokeping(condition, options)?;
        table.row(row(condition, "smokeping_prober, means", &errors));
    }
    report.table(table);
    Ok(report)
}

/// Differences in microseconds, and what the wire had to compare with.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    pub(crate) micros: Vec<f64>,
    pub(crate) answered: usize,
    /// The largest difference of the stamps at one end alone, where they are known.
    sending: f64,
    receiving: f64,
}

impl Errors {
    fn new(micros: Vec<f64>, answered: usize) -> Self {
        Self { micros, answered, sending: f64::NAN, receiving: f64::NAN }
    }

    /// Compares what the agent reports of a probe with the wire.
    fn compare(&mut self, record: &Record, wire: Option<&WireProbe>) {
        let (Some(sent_ns), Some(rtt_ns)) = (record.sent_ns, record.rtt_ns) else { return };
        let answer = wire.and_then(|wire| Some((wire.sent_ns, wire.first_reply?.0)));
        // A round trip of a probe that the wire never answered is as wrong as can be.
        let (wire_sent_ns, wire_reply_ns) = answer.unwrap_or((sent_ns, sent_ns));
        let micros = |difference: i64| difference.abs() as f64 / 1e3;
        self.micros.push(micros(rtt_ns - (wire_reply_ns - wire_sent_ns)));
        self.sending = self.sending.max(micros(sent_ns - wire_sent_ns));
        self.receiving = self.receiving.max(micros(sent_ns + rtt_ns - wire_reply_ns));
    }

    /// The columns from "compared" on.
    pub(crate) fn cells(&self) -> Vec<String> {
        let spread = Spread::of(&self.micros);
        let mut cells = vec![spread.count.to_string()];
        cells.extend(spread.cells());
        cells.extend([self.sending, self.receiving].map(|micros| Figure(micros).to_string()));
        cells.push(self.answered.to_string());
        cells
    }
}

fn row(condition: Condition, program: &str, errors: &Errors) -> Vec<String> {
    [vec![condition.name().to_owned(), program.to_owned()], errors.cells()].concat()
}

fn interval(options: &Options) -> Duration {
    Duration::from_millis(options.pick(250, 1000))
}

fn time(options: &Options) -> Duration {
    options.seconds(2, 30)
}

fn measure_agent(condition: Condition, options: &Options) -> Result<[(&'static str, Errors); 2]> {
    let path = Path::delayed(TARGETS)?;
    let pressure = condition.impose(&path.node)?;
    let capture = path.capture()?;
    let plan = Plan { targets: path.targets(), interval: interval(options), record: true, ..Plan::default() };
    let mut agent = plan.start(&path.node, &pressure)?;
    pass(time(options));
    agent.stop(Deadline::after(THE_END))?;
    Ok(errors(&capture.stop()?, &agent.records()?))
}

/// The agent's errors for each protocol, packet by packet.
pub(crate) fn errors(captured: &[Captured], records: &[Record]) -> [(&'static str, Errors); 2] {
    let wire = Wire::new(captured);
    ["icmp", "tcp"].map(|protocol| {
        let is_answered = |key: &ProbeKey| match key {
            ProbeKey::Echo { .. } => protocol == "icmp",
            ProbeKey::Syn { .. } => protocol == "tcp",
        };
        let answered = wire.probes().iter().filter(|probe| is_answered(&probe.key) && probe.replies > 0);
        let observed = records.iter().filter(|record| record.protocol == protocol && is_observed(record));
        let mut errors = Errors::new(Vec::new(), answered.count());
        for record in observed {
            errors.compare(record, wire.find(record));
        }
        (protocol, errors)
    })
}

/// Whether the agent puts this probe's round trip into its histogram: both stamps are the kernel's.
fn is_observed(record: &Record) -> bool {
    let Stamp { tx, rx } = &record.stamp;
    record.is_answered()
        && matches!(tx.as_deref(), Some("software" | "sched"))
        && rx.as_deref() == Some("software")
}

fn measure_fping(condition: Condition, options: &Options) -> Result<Errors> {
    let path = Path::delayed(TARGETS)?;
    let pressure = condition.impose(&path.node)?;
    let capture = path.capture()?;
    let count = (time(options).as_millis() / interval(options).as_millis()) as u64;
    let mut fping = fping(&path.node, options, &path.addresses(), interval(options), Some(count), &pressure)?;
    fping.wait(Deadline::after(time(options) * 2 + THE_END))?;
    let wire = Wire::new(&capture.stop()?);
    let answered = wire.probes().iter().filter(|probe| probe.replies > 0).count();
    let lines = fping.all_output(soon())?;
    let pings: Vec<Ping> = lines.iter().filter_map(|line| fping_line(line)).collect();
    Ok(Errors::new(compare_pings(&pings, &wire).filter_map(|(_, micros)| micros).collect(), answered))
}

/// Pings with their requests on the wire, and by how many microseconds the round trips differ, where both have one. The
/// n-th ping of a target is its n-th request.
pub(crate) fn compare_pings<'a>(
    pings: &'a [Ping],
    wire: &'a Wire,
) -> impl Iterator<Item = (&'a WireProbe, Option<f64>)> {
    let mut sent: HashMap<IpAddr, Vec<&WireProbe>> = HashMap::new();
    for probe in wire.probes() {
        if let ProbeKey::Echo { address, .. } = probe.key {
            sent.entry(address).or_default().push(probe);
        }
    }
    pings.iter().filter_map(move |ping| {
        let probe = *sent.get(&ping.target)?.get(ping.number)?;
        let both = ping.seconds.zip(probe.rtt());
        Some((probe, both.map(|(seconds, rtt)| (seconds - rtt.as_secs_f64()).abs() * 1e6)))
    })
}

fn measure_smokeping(condition: Condition, options: &Options) -> Result<Errors> {
    let path = Path::delayed(TARGETS)?;
    let pressure = condition.impose(&path.node)?;
    let capture = path.capture()?;
    let smokeping =
        Smokeping::start(&path.node, options, &path.addresses(), Duration::from_secs(1), &pressure)?;
    pass(time(options));
    let reported = smokeping::means(&smokeping.scrape()?)?;
    let wire = Wire::new(&capture.stop()?);
    Ok(compare_means(&reported, &wire))
}

/// By how much reported means differ from the wire's, target by target.
pub(crate) fn compare_means(reported: &HashMap<IpAddr, f64>, wire: &Wire) -> Errors {
    let mut seconds: HashMap<IpAddr, Vec<f64>> = HashMap::new();
    for probe in wire.probes() {
        if let (ProbeKey::Echo { address, .. }, Some(rtt)) = (&probe.key, probe.rtt()) {
            seconds.entry(*address).or_default().push(rtt.as_secs_f64());
        }
    }
    let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let micros = reported
        .iter()
        .filter_map(|(address, reported)| Some((reported - mean(seconds.get(address)?)).abs() * 1e6));
    Errors::new(micros.collect(), seconds.len())
}
