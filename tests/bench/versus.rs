//! The same targets under podsonar and under other probers, one after the other: what each costs, how true its figures
//! are, how many losses it reports that the network did not have.

mod stage;

use crate::Options;
use crate::accuracy::{MAX_MICROS, P99_MICROS};
use crate::limit::PORT;
use crate::load::Condition;
use crate::peers::blackbox::Module;
use crate::report::{Report, Table};
use crate::stats::{Figure, Spread};
use anyhow::{Context, Result};
use stage::{Stage, interval};

const TARGETS: u32 = 100;
/// The agent's cost and memory in those of the cheapest other exporter.
const COST_BOUND: f64 = 0.25;
const MEMORY_BOUND: f64 = 0.5;

/// Who probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    /// podsonar by ICMP or SYN.
    Agent(&'static str),
    Fping,
    Oping,
    Smokeping,
    Blackbox(Module),
}

const PROGRAMS: [Program; 7] = [
    Program::Agent("icmp"),
    Program::Fping,
    Program::Oping,
    Program::Smokeping,
    Program::Blackbox(Module::Icmp),
    Program::Agent("tcp"),
    Program::Blackbox(Module::Tcp(PORT)),
];

/// What was found about a program under a condition.
#[derive(Debug, Default)]
struct Found {
    /// Probes a second, the most of them within 10 ms, and CPU for each.
    rate: f64,
    burst: usize,
    cpu_micros: f64,
    /// Differences of reported and captured round trips in microseconds.
    errors: Vec<f64>,
    /// Reported as lost, though answered in time on the wire, or never sent.
    false_losses: usize,
    /// Sent, but nothing was reported of them.
    unreported: usize,
    resident: f64,
    /// Bytes and series of a scrape of all targets.
    scrape: Option<(usize, usize)>,
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("peers", options.short);
    let columns = [
        "condition",
        "program",
        "probes/s",
        "in 10 ms",
        "CPU-µs per probe",
        "compared",
        "p50",
        "p99",
        "max",
        "false losses",
        "unreported",
        "VmRSS MiB",
        "scrape kB",
        "series",
    ];
    let title = format!(
        "{TARGETS} targets each {} s, 500 µs path without loss; p50, p99, max: |reported − wire| in µs",
        interval(options).as_secs_f64()
    );
    let mut table = Table::new(title, columns);
    for condition in [Condition::Idle, Condition::Quota] {
        let mut found = Vec::new();
        for program in PROGRAMS.into_iter().filter(|program| options.wants(program.name())) {
            eprintln!("peers: {}, {}", condition.name(), program.name());
            let one = Stage::new(options, condition)?.measure(program).context(program.name())?;
            table.row(one.cells(condition, program));
            found.push((program, one));
        }
        bounds(&mut report, condition, &found);
    }
    report.table(table);
    Ok(report)
}

fn bounds(report: &mut Report, condition: Condition, found: &[(Program, Found)]) {
    for (program, one) in found.iter().filter(|(program, _)| matches!(program, Program::Agent(_))) {
        let name = format!("{}, {}", condition.name(), program.name());
        let spread = Spread::of(&one.errors);
        report.at_most(format!("{name}: p99"), spread.p99, P99_MICROS, " µs");
        report.at_most(format!("{name}: max"), spread.max, MAX_MICROS, " µs");
        report.at_most(format!("{name}: false losses"), one.false_losses as f64, 0.0, "");
        let others =
            || found.iter().filter(|(other, _)| other.is_exporter_like(*program)).map(|(_, other)| other);
        let cheapest = others().map(|other| other.cpu_micros).fold(f64::NAN, f64::min);
        let smallest = others().map(|other| other.resident).fold(f64::NAN, f64::min);
        report.at_most(format!("{name}: CPU / cheapest exporter"), one.cpu_micros / cheapest, COST_BOUND, "");
        report.at_most(
            format!("{name}: VmRSS / smallest exporter"),
            one.resident / smallest,
            MEMORY_BOUND,
            "",
        );
    }
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Agent("tcp") => "podsonar, SYN",
            Self::Agent(_) => "podsonar, ICMP",
            Self::Fping => "fping",
            Self::Oping => "oping",
            Self::Smokeping => "smokeping_prober, means",
            Self::Blackbox(Module::Icmp) => "blackbox_exporter, ICMP",
            Self::Blackbox(Module::Tcp(_)) => "blackbox_exporter, connect",
        }
    }

    /// Whether it is an exporter that does what an agent with one protocol does.
    fn is_exporter_like(self, agent: Self) -> bool {
        match self {
            Self::Agent(_) | Self::Fping | Self::Oping => false,
            Self::Blackbox(Module::Tcp(_)) => agent == Self::Agent("tcp"),
            Self::Smokeping | Self::Blackbox(Module::Icmp) => agent == Self::Agent("icmp"),
        }
    }
}

impl Found {
    fn cells(&self, condition: Condition, program: Program) -> Vec<String> {
        let mut cells = vec![condition.name().to_owned(), program.name().to_owned()];
        cells.push(Figure(self.rate).to_string());
        cells.push(self.burst.to_string());
        cells.push(Figure(self.cpu_micros).to_string());
        cells.push(self.errors.len().to_string());
        cells.extend(Spread::of(&self.errors).cells());
        cells.extend([self.false_losses, self.unreported].map(|count| count.to_string()));
        cells.push(Figure(self.resident).to_string());
        let scrape =
            self.scrape.map(|(bytes, series)| [Figure(bytes as f64 / 1e3).to_string(), series.to_string()]);
        cells.extend(scrape.unwrap_or(["–".to_owned(), "–".to_owned()]));
        cells
    }
}
