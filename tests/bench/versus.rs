//! The same targets under podsonar and under other probers, one after the other: what each costs, how true its figures
//! are, how many losses it reports that the network did not have.

use crate::Options;
use crate::accuracy::{MAX_MICROS, P99_MICROS, compare_means, compare_pings, errors};
use crate::agent::{Plan, THE_END, resident_bytes};
use crate::limit::PORT;
use crate::load::{Condition, Pressure, pass};
use crate::path::Path;
use crate::peers::blackbox::{Blackbox, Module, Probe};
use crate::peers::{Ping, Smokeping, fping, fping_line, oping, oping_line, smokeping};
use crate::report::{Report, Table};
use crate::stats::{Figure, Spread};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use podsonar_lab::Process;
use podsonar_lab::capture::{Capture, Captured};
use podsonar_lab::clock::{Deadline, soon, unix_ns};
use podsonar_lab::fault::Loss;
use podsonar_lab::packet::Body;
use podsonar_lab::record::Record;
use podsonar_lab::wire::{ProbeKey, Wire, WireProbe};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

const TARGETS: u32 = 100;
/// What all programs are told.
const TIMEOUT: Duration = Duration::from_millis(800);
const MIB: f64 = 1024.0 * 1024.0;

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
    /// Probes a second, and CPU for each.
    rate: f64,
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

/// The part of a measurement that is the same for all programs.
struct Stage<'a> {
    options: &'a Options,
    path: Path,
    pressure: Pressure,
    capture: Capture,
    interval: Duration,
    window: Duration,
}

/// CPU used in a window, and when that was.
struct Spent {
    cpu: Duration,
    from_ns: i64,
    to_ns: i64,
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("peers", options.short);
    let columns = [
        "condition",
        "program",
        "probes/s",
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
        let peers = found.iter().filter(|(peer, _)| peer.is_rival_of(*program));
        let cheapest = peers.map(|(_, peer)| peer.cpu_micros).fold(f64::NAN, f64::min);
        report.at_most(format!("{name}: CPU / cheapest other"), one.cpu_micros / cheapest, 1.0, "");
    }
}

fn interval(options: &Options) -> Duration {
    Duration::from_millis(options.pick(500, 1000))
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

    /// Whether it does what an agent with one protocol does.
    fn is_rival_of(self, agent: Self) -> bool {
        match self {
            Self::Agent(_) => false,
            Self::Blackbox(Module::Tcp(_)) => agent == Self::Agent("tcp"),
            Self::Fping | Self::Oping | Self::Smokeping | Self::Blackbox(Module::Icmp) => {
                agent == Self::Agent("icmp")
            }
        }
    }
}

impl Found {
    fn cells(&self, condition: Condition, program: Program) -> Vec<String> {
        let mut cells = vec![condition.name().to_owned(), program.name().to_owned()];
        cells.extend([self.rate, self.cpu_micros].map(|figure| Figure(figure).to_string()));
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

impl<'a> Stage<'a> {
    fn new(options: &'a Options, condition: Condition) -> Result<Self> {
        let path = Path::delayed(TARGETS)?;
        let (pressure, capture) = (condition.impose(&path.node)?, path.capture()?);
        let window = Duration::from_millis(options.pick(1500, 20_000));
        Ok(Self { options, path, pressure, capture, interval: interval(options), window })
    }

    fn measure(self, program: Program) -> Result<Found> {
        match program {
            Program::Agent(protocol) => self.agent(protocol),
            Program::Fping => {
                let addresses = self.path.addresses();
                let fping =
                    fping(&self.path.node, self.options, &addresses, self.interval, None, &self.pressure)?;
                self.pings(fping, fping_line)
            }
            Program::Oping => {
                let addresses = self.path.addresses();
                let oping = oping(&self.path.node, self.options, &addresses, self.interval, &self.pressure)?;
                self.pings(oping, oping_line)
            }
            Program::Smokeping => self.smokeping(),
            Program::Blackbox(module) => self.blackbox(module),
        }
    }

    fn agent(self, protocols: &'static str) -> Result<Found> {
        let (targets, interval) = (self.path.targets(), self.interval);
        let plan = Plan { targets, interval, protocols, record: true, ..Plan::default() };
        let mut agent = plan.start(&self.path.node, &self.pressure)?;
        let spent = self.spend(&agent.process)?;
        let page = agent.get("/metrics", &[])?.text();
        let resident = resident_bytes(&agent.process)?;
        agent.stop(Deadline::after(THE_END))?;
        let records = agent.records()?;
        let captured = self.capture.stop()?;
        let wire = Wire::new(&captured);
        let is_false = |record: &&Record| {
            matches!(record.result.as_str(), "lost" | "unreachable")
                && !wire.find(record).is_some_and(is_lost)
        };
        let is_reported = |record: &Record| {
            matches!(record.result.as_str(), "reply" | "reset" | "lost" | "unreachable" | "discarded")
        };
        let sent = records.iter().filter(|record| record.sent_ns.is_some());
        Ok(Found {
            errors: errors(&captured, &records).into_iter().flat_map(|(_, errors)| errors.micros).collect(),
            false_losses: records.iter().filter(is_false).count(),
            unreported: sent.filter(|record| !is_reported(record)).count(),
            scrape: Some(size(&page)),
            ..spent.found(&wire, resident)
        })
    }

    /// A program that prints a line for each ping.
    fn pings(self, mut process: Process, read: impl Fn(&str) -> Option<Ping>) -> Result<Found> {
        let spent = self.spend(&process)?;
        let resident = resident_bytes(&process)?;
        process.signal(Signal::SIGINT)?;
        process.wait(Deadline::after(THE_END))?;
        let wire = Wire::new(&self.capture.stop()?);
        let pings: Vec<Ping> = process.all_output(soon())?.iter().filter_map(|line| read(line)).collect();
        let (answered, lost): (Vec<Ping>, Vec<Ping>) =
            pings.into_iter().partition(|ping| ping.seconds.is_some());
        Ok(Found {
            errors: compare_pings(&answered, &wire).filter_map(|(_, micros)| micros).collect(),
            false_losses: compare_pings(&lost, &wire).filter(|(probe, _)| !is_lost(probe)).count(),
            ..spent.found(&wire, resident)
        })
    }

    fn smokeping(self) -> Result<Found> {
        let (node, addresses) = (&self.path.node, self.path.addresses());
        let smokeping = Smokeping::start(node, self.options, &addresses, self.interval, &self.pressure)?;
        let spent = self.spend(&smokeping.process)?;
        // It tells how many were sent and answered, not which. From here on nothing is answered, and what it knows
        // has time to settle: then it should lack as many answers as the wire.
        self.path.lose(Loss::All, Loss::None);
        pass(TIMEOUT);
        let page = smokeping.scrape()?;
        let scraped_ns = unix_ns();
        let resident = resident_bytes(&smokeping.process)?;
        drop(smokeping);
        let wire = Wire::new(&self.capture.stop()?);
        let is_unanswered = |probe: &&WireProbe| probe.sent_ns < scraped_ns && probe.replies == 0;
        let unanswered = wire.probes().iter().filter(is_unanswered).count() as f64;
        Ok(Found {
            errors: compare_means(&smokeping::means(&page)?, &wire).micros,
            false_losses: (smokeping::unanswered(&page)? - unanswered).max(0.0) as usize,
            scrape: Some(size(&page)),
            ..spent.found(&wire, resident)
        })
    }

    fn blackbox(self, module: Module) -> Result<Found> {
        let addresses = self.path.addresses();
        let blackbox = Blackbox::start(&self.path.node, self.options, &self.pressure)?;
        let driver = blackbox.drive(module, &addresses, self.interval);
        let spent = self.spend(&blackbox.process)?;
        let probes = driver.stop();
        let resident = resident_bytes(&blackbox.process)?;
        let page = blackbox.page(module, *addresses.first().context("a target")?)?;
        drop(blackbox);
        let wire = Wire::new(&self.capture.stop()?);
        let mut found = spent.found(&wire, resident);
        found.judge(&probes, &wire);
        let (bytes, series) = size(&page);
        found.scrape = Some((bytes * addresses.len(), series * addresses.len()));
        Ok(found)
    }

    /// Waits until each target was probed, measures the CPU of the window, and lets the last probes end.
    fn spend(&self, process: &Process) -> Result<Spent> {
        let all = |packets: &[Captured]| {
            let targets: HashSet<IpAddr> = packets.iter().filter_map(target).collect();
            (targets.len() == TARGETS as usize).then_some(())
        };
        let waited = self.capture.wait_for(Deadline::after(Duration::from_mins(1)), all);
        waited.with_context(|| process.lines().join("\n"))?;
        let (from_ns, before) = (unix_ns(), process.cpu_time()?);
        pass(self.window);
        let (to_ns, after) = (unix_ns(), process.cpu_time()?);
        pass(TIMEOUT + Duration::from_millis(200));
        Ok(Spent { cpu: after.saturating_sub(before), from_ns, to_ns })
    }
}

impl Found {
    /// Compares what `blackbox_exporter` told with the wire: a scrape's probe is the request to its target meanwhile.
    fn judge(&mut self, probes: &[Probe], wire: &Wire) {
        let mut sent: HashMap<IpAddr, Vec<&WireProbe>> = HashMap::new();
        for probe in wire.probes() {
            let address = match probe.key {
                ProbeKey::Echo { address, .. } => address,
                ProbeKey::Syn { target, .. } => target.ip(),
            };
            sent.entry(address).or_default().push(probe);
        }
        for probe in probes {
            let meanwhile = |sent: &&&WireProbe| (probe.from_ns..=probe.to_ns).contains(&sent.sent_ns);
            let request = sent.get(&probe.target).and_then(|sent| sent.iter().find(meanwhile));
            match probe.result {
                None => self.unreported += 1,
                Some(Err(_)) => self.false_losses += usize::from(!request.is_some_and(|sent| is_lost(sent))),
                Some(Ok(seconds)) => {
                    let rtt = request.and_then(|request| request.rtt());
                    self.errors.extend(rtt.map(|rtt| (seconds - rtt.as_secs_f64()).abs() * 1e6));
                }
            }
        }
    }
}

impl Spent {
    /// What is known when the wire is.
    fn found(&self, wire: &Wire, resident: f64) -> Found {
        let is_within = |probe: &&WireProbe| (self.from_ns..self.to_ns).contains(&probe.sent_ns);
        let probes = wire.probes().iter().filter(is_within).count() as f64;
        let seconds = (self.to_ns - self.from_ns) as f64 / 1e9;
        let cpu_micros = self.cpu.as_secs_f64() * 1e6 / probes;
        Found { rate: probes / seconds, cpu_micros, resident: resident / MIB, ..Found::default() }
    }
}

/// Whether a probe on the wire was not answered in time.
fn is_lost(probe: &WireProbe) -> bool {
    !probe.is_answered_within(TIMEOUT)
}

/// Whom a captured request asks.
fn target(captured: &Captured) -> Option<IpAddr> {
    let packet = captured.packet().filter(|_| captured.outgoing)?;
    let is_request = match packet.body {
        Body::EchoRequest(_) => true,
        Body::Tcp(tcp) => tcp.is_syn(),
        Body::EchoReply(_) | Body::Other(_) => false,
    };
    is_request.then_some(packet.dst)
}

/// Bytes and series of a scrape's text.
fn size(page: &str) -> (usize, usize) {
    (page.len(), page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count())
}
