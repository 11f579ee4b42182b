//! One program on the path: started, watched for a window, and judged by the capture.

use super::{Found, Program, TARGETS};
use crate::Options;
use crate::accuracy::{compare_means, compare_pings, errors};
use crate::agent::{Plan, THE_END, resident_bytes};
use crate::load::{Condition, Pressure, pass};
use crate::path::Path;
use crate::peers::blackbox::{Blackbox, Module, Probe};
use crate::peers::{Ping, Smokeping, fping, fping_line, oping, oping_line, smokeping};
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

/// What all programs are told.
const TIMEOUT: Duration = Duration::from_millis(800);
const MIB: f64 = 1024.0 * 1024.0;

/// How often each target is probed.
pub(super) fn interval(options: &Options) -> Duration {
    Duration::from_millis(options.pick(400, 1000))
}

/// The part of a measurement that is the same for all programs.
pub(super) struct Stage<'a> {
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

impl<'a> Stage<'a> {
    pub(super) fn new(options: &'a Options, condition: Condition) -> Result<Self> {
        let path = Path::delayed(TARGETS)?;
        let (pressure, capture) = (condition.impose(&path.node)?, path.capture()?);
        let window = Duration::from_millis(options.pick(1000, 20_000));
        Ok(Self { options, path, pressure, capture, interval: interval(options), window })
    }

    pub(super) fn measure(self, program: Program) -> Result<Found> {
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
        self.wait_for_all(&smokeping.process)?;
        // It tells how many were sent and answered since its start, not which, and never counts the first answers.
        // At the end nothing is answered any more, and what it knows has time to settle: then it should lack as many
        // further answers as the wire.
        let (before, from_ns) = (smokeping::unanswered(&smokeping.scrape()?)?, unix_ns());
        let spent = self.spend(&smokeping.process)?;
        self.path.lose(Loss::All, Loss::None);
        pass(TIMEOUT);
        let (page, to_ns) = (smokeping.scrape()?, unix_ns());
        let resident = resident_bytes(&smokeping.process)?;
        drop(smokeping);
        let wire = Wire::new(&self.capture.stop()?);
        let is_unanswered =
            |probe: &&WireProbe| (from_ns..to_ns).contains(&probe.sent_ns) && probe.replies == 0;
        let on_the_wire = wire.probes().iter().filter(is_unanswered).count() as f64;
        let reported = smokeping::unanswered(&page)? - before;
        Ok(Found {
            errors: compare_means(&smokeping::means(&page)?, &wire).micros,
            false_losses: (reported - on_the_wire).max(0.0) as usize,
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

    /// Waits until each target was probed.
    fn wait_for_all(&self, process: &Process) -> Result<()> {
        let all = |packets: &[Captured]| {
            let targets: HashSet<IpAddr> = packets.iter().filter_map(target).collect();
            (targets.len() == TARGETS as usize).then_some(())
        };
        let waited = self.capture.wait_for(Deadline::after(Duration::from_mins(1)), all);
        waited.with_context(|| process.lines().join("\n"))
    }

    /// Waits until each target was probed, measures the CPU of the window, and lets the last probes end.
    fn spend(&self, process: &Process) -> Result<Spent> {
        self.wait_for_all(process)?;
        let (from_ns, before) = (unix_ns(), process.cpu_time()?);
        pass(self.window);
        let (to_ns, after) = (unix_ns(), process.cpu_time()?);
        pass(TIMEOUT + Duration::from_millis(200));
        Ok(Spent { cpu: after.saturating_sub(before), from_ns, to_ns })
    }
}

impl Found {
    /// Compares what `blackbox_exporter` told with the wire: a scrape's probe is the request to its target meanwhile. If
    /// there are two, one is of a scrape that had been given up before: nothing is compared.
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
            let meanwhile = |sent: &WireProbe| (probe.from_ns..=probe.to_ns).contains(&sent.sent_ns);
            let requests: Vec<&WireProbe> = sent
                .get(&probe.target)
                .into_iter()
                .flatten()
                .filter(|sent| meanwhile(sent))
                .copied()
                .collect();
            match probe.result {
                None => self.unreported += 1,
                Some(Err(_)) => self.false_losses += usize::from(!requests.iter().any(|sent| is_lost(sent))),
                Some(Ok(seconds)) => {
                    let [request] = requests.as_slice() else { continue };
                    self.errors.extend(request.rtt().map(|rtt| (seconds - rtt.as_secs_f64()).abs() * 1e6));
                }
            }
        }
    }
}

impl Spent {
    /// What is known when the wire is.
    fn found(&self, wire: &Wire, resident: f64) -> Found {
        let times = wire.probes().iter().map(|probe| probe.sent_ns);
        let mut times: Vec<i64> =
            times.filter(|sent_ns| (self.from_ns..self.to_ns).contains(sent_ns)).collect();
        times.sort_unstable();
        let until = |from_ns: i64| times.partition_point(|sent_ns| *sent_ns < from_ns + 10_000_000);
        let burst = (0..).zip(&times).map(|(index, from_ns)| until(*from_ns) - index).max();
        let (probes, seconds) = (times.len() as f64, (self.to_ns - self.from_ns) as f64 / 1e9);
        Found {
            rate: probes / seconds,
            burst: burst.unwrap_or(0),
            cpu_micros: self.cpu.as_secs_f64() * 1e6 / probes,
            resident: resident / MIB,
            ..Found::default()
        }
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
