//! CPU per probe and memory.
//!
//! Targets are addresses of loopback, so the kernel's work of the far end is in every figure alike. A program's CPU is
//! read from its process clock (user and kernel) at both ends of a window, its probes from the kernel's own counters.

use crate::Options;
use crate::agent::{Plan, resident_bytes};
use crate::limit::{FIRST_V6, Limit, Mode, PORT, target};
use crate::load::{Pressure, pass};
use crate::peers::Smokeping;
use crate::report::{Report, Table};
use crate::stats::{Figure, median, paired_ratio};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use podsonar_lab::{Host, Lab, Process};
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

const SCRAPE_EVERY: Duration = Duration::from_secs(15);
const MIB: f64 = 1024.0 * 1024.0;

/// A load that the agent and the limit can both carry.
#[derive(Debug, Clone, Copy)]
struct Load {
    name: &'static str,
    mode: Mode,
    targets: u32,
    interval: Duration,
    /// Probes per wake-up of the limit.
    batch: u32,
    /// The agent's cost in costs of the limit.
    bound: f64,
}

const EACH_SECOND: Duration = Duration::from_secs(1);
const LOADS: [Load; 4] = [
    Load {
        name: "icmp-10000",
        mode: Mode::Icmp4,
        targets: 10_000,
        interval: EACH_SECOND,
        batch: 64,
        bound: 1.3,
    },
    Load {
        name: "icmp-1000",
        mode: Mode::Icmp4,
        targets: 1_000,
        interval: EACH_SECOND,
        batch: 10,
        bound: 1.5,
    },
    Load {
        name: "syn-10000",
        mode: Mode::Syn4,
        targets: 10_000,
        interval: EACH_SECOND,
        batch: 64,
        bound: 1.3,
    },
    Load {
        name: "icmp6-10000",
        mode: Mode::Icmp6,
        targets: 10_000,
        interval: EACH_SECOND,
        batch: 64,
        bound: 1.3,
    },
];

/// Costs of one program under one load, a value for each round.
#[derive(Debug, Default, Clone)]
struct Costs {
    micros: Vec<f64>,
    rates: Vec<f64>,
    resident: Vec<f64>,
}

/// How long to warm up and to measure.
#[derive(Debug, Clone, Copy)]
struct Window {
    warm_up: Duration,
    measured: Duration,
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let rounds = options.pick(1, 3);
    let agent = Window { warm_up: options.seconds(2, 30), measured: options.seconds(2, 30) };
    let other = Window { warm_up: options.seconds(1, 5), measured: options.seconds(2, 20) };
    let mut report = Report::new("cost", options.short);
    let title = "CPU per probe (median of the rounds; the agent with everything on and a scrape each 15 s)";
    let columns = ["load", "program", "probes/s", "CPU-µs per probe", "ratio", "VmRSS MiB"];
    let mut table = Table::new(title, columns);
    for load in
        LOADS.iter().filter(|load| options.wants(load.name) && !(options.short && load.mode == Mode::Icmp6))
    {
        let [mut ours, mut limit, mut smokeping, mut slow] = <[Costs; 4]>::default();
        for round in 0..rounds {
            eprintln!("cost: {}, round {} of {rounds}", load.name, round + 1);
            ours.push(load.measure_agent(agent)?);
            limit.push(load.measure_limit(other)?);
            if load.name == "icmp-10000" {
                smokeping.push(load.measure_smokeping(options, other)?);
            }
            if load.name == "icmp-1000" {
                slow.push(load.tenfold().measure_agent(agent)?);
            }
        }
        let ratio = ours.ratio(&limit);
        table.row(ours.cells(load.name, "agent", ratio));
        table.row(limit.cells("", &format!("limit, {} per wake", load.batch), 1.0));
        report.at_most(format!("{}: agent / limit", load.name), ratio, load.bound, "");
        if !smokeping.micros.is_empty() {
            table.row(smokeping.cells("", "smokeping_prober", smokeping.ratio(&limit)));
            report.at_most("icmp-10000: agent / smokeping_prober", ours.ratio(&smokeping), 0.1, "");
            report.at_most("VmRSS at 10,000 targets", median(&ours.resident), 30.0, " MiB");
        }
        if !slow.micros.is_empty() {
            table.row(slow.cells("", "agent, 10,000 targets each 10 s", slow.ratio(&limit)));
            let name = "10,000 targets each 10 s / 1,000 each 1 s";
            report.at_most(name, slow.ratio(&ours), 1.2, "");
            report.at_most("VmRSS at 1,000 targets", median(&ours.resident), 8.0, " MiB");
        }
        let slowest = ours.rates.iter().copied().fold(f64::INFINITY, f64::min);
        report.at_most(format!("{}: probes left out", load.name), 1.0 - slowest / load.rate(), 0.02, "");
    }
    report.table(table);
    Ok(report)
}

impl Load {
    fn rate(&self) -> f64 {
        f64::from(self.targets) / self.interval.as_secs_f64()
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v6 = self.mode == Mode::Icmp6;
        (0..self.targets).map(move |number| target(v6, number))
    }

    /// The same rate with ten times as many targets.
    fn tenfold(self) -> Self {
        Self { targets: self.targets * 10, interval: self.interval * 10, ..self }
    }

    fn measure_agent(&self, window: Window) -> Result<Sample> {
        let lab = Lab::new()?;
        let host = self.host(&lab)?;
        let _server = self.server(&host)?;
        let is_syn = self.mode == Mode::Syn4;
        let written = |address: IpAddr| {
            if is_syn { SocketAddr::new(address, PORT).to_string() } else { address.to_string() }
        };
        let plan = Plan {
            targets: self.addresses().map(written).collect(),
            interval: self.interval,
            protocols: if is_syn { "tcp" } else { "icmp" },
            ..Plan::default()
        };
        let agent = plan.start(&host, &Pressure::none())?;
        let scrape = || Ok(agent.get("/metrics", &[]).map(drop)?);
        self.measure(&host, &agent.process, window, &scrape)
    }

    fn measure_limit(&self, window: Window) -> Result<Sample> {
        let lab = Lab::new()?;
        let host = self.host(&lab)?;
        let _server = self.server(&host)?;
        let seconds = (window.warm_up + window.measured).as_secs() as u32 + 5;
        let limit = Limit {
            mode: self.mode,
            targets: self.targets,
            rate: self.rate() as u32,
            batch: self.batch,
            seconds,
        };
        let process = limit.spawn(&host)?;
        self.measure(&host, &process, window, &|| Ok(()))
    }

    fn measure_smokeping(&self, options: &Options, window: Window) -> Result<Sample> {
        let lab = Lab::new()?;
        let host = self.host(&lab)?;
        // It starts its targets one after the other: a tenth of them, ten times as often, are there in seconds, and
        // cost it less for each probe.
        let targets: Vec<IpAddr> = self.addresses().take(self.targets as usize / 10).collect();
        let smokeping = Smokeping::start(&host, options, &targets, self.interval / 10, &Pressure::none())?;
        let scrape = || smokeping.scrape().map(drop);
        self.measure(&host, &smokeping.process, window, &scrape)
    }

    fn host(&self, lab: &Lab) -> Result<Host> {
        let host = lab.host("cost")?;
        if self.mode == Mode::Icmp6 {
            host.answer_for(&format!("{FIRST_V6}/64"))?;
        }
        Ok(host)
    }

    /// What accepts at the targets' port: one listener serves all addresses, and never sees a connection.
    fn server(&self, host: &Host) -> Result<Option<TcpListener>> {
        let bind = || TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, PORT));
        let wanted = self.mode == Mode::Syn4;
        Ok(if wanted { Some(host.enter(bind)?.context("listen for SYNs")?) } else { None })
    }

    /// Warms up, then reads CPU and probes at both ends of the window, scraping in the middle of each 15 s.
    fn measure(
        &self,
        host: &Host,
        process: &Process,
        window: Window,
        scrape: &dyn Fn() -> Result<()>,
    ) -> Result<Sample> {
        pass_scraped(window.warm_up, scrape)?;
        let start = (process.cpu_time()?, self.probes_seen(host)?, podsonar_lab::clock::now());
        pass_scraped(window.measured, scrape)?;
        let (cpu, probes, time) = (process.cpu_time()?, self.probes_seen(host)?, podsonar_lab::clock::now());
        let (cpu, probes, time) = (cpu.saturating_sub(start.0), (probes - start.1) as f64, time - start.2);
        scrape()?;
        let resident = resident_bytes(process)?;
        ensure!(probes > 0.0, "no probe was seen; the program said:\n{}", process.lines().join("\n"));
        Ok(Sample {
            micros: cpu.as_secs_f64() * 1e6 / probes,
            rate: probes / time.as_secs_f64(),
            resident: resident / MIB,
        })
    }

    /// Probes that reached the targets, by the kernel's counters: echo requests received, or resets sent, with which
    /// the prober's kernel answers each SYN-ACK.
    fn probes_seen(&self, host: &Host) -> Result<u64> {
        let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        let (v4, v6) = host.enter(|| (read("snmp"), read("snmp6")))?;
        let count = match self.mode {
            Mode::Icmp4 => snmp_counter(&v4?, "Icmp:", "InEchos"),
            Mode::Syn4 => snmp_counter(&v4?, "Tcp:", "OutRsts"),
            Mode::Icmp6 => {
                v6?.lines().find_map(|line| line.strip_prefix("Icmp6InEchos")?.trim().parse().ok())
            }
        };
        count.context("a counter in /proc/net/snmp")
    }
}

impl Limit {
    /// Starts itself as a program of its own in a host.
    fn spawn(&self, host: &Host) -> Result<Process> {
        let mode = self.mode.to_possible_value().context("a mode without name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["limit", "--mode", mode.get_name()]);
        let numbers = [
            ("--targets", self.targets),
            ("--rate", self.rate),
            ("--batch", self.batch),
            ("--seconds", self.seconds),
        ];
        for (name, value) in numbers {
            command.arg(name).arg(value.to_string());
        }
        Ok(host.spawn(command)?)
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Sample {
    micros: f64,
    rate: f64,
    resident: f64,
}

impl Costs {
    fn push(&mut self, sample: Sample) {
        self.micros.push(sample.micros);
        self.rates.push(sample.rate);
        self.resident.push(sample.resident);
    }

    fn ratio(&self, to: &Self) -> f64 {
        paired_ratio(&self.micros, &to.micros)
    }

    fn cells(&self, load: &str, program: &str, ratio: f64) -> [String; 6] {
        let figure = |values: &[f64]| Figure(median(values)).to_string();
        [
            load.to_owned(),
            program.to_owned(),
            figure(&self.rates),
            figure(&self.micros),
            Figure(ratio).to_string(),
            figure(&self.resident),
        ]
    }
}

/// Lets time pass and scrapes in the middle of each whole 15 s of it.
fn pass_scraped(mut time: Duration, scrape: &dyn Fn() -> Result<()>) -> Result<()> {
    while time >= SCRAPE_EVERY {
        pass(SCRAPE_EVERY / 2);
        let before = podsonar_lab::clock::now();
        scrape()?;
        pass((SCRAPE_EVERY / 2).saturating_sub(before.elapsed()));
        time -= SCRAPE_EVERY;
    }
    pass(time);
    Ok(())
}

/// A counter of /proc/net/snmp: a line of names, then a line of values, both after the protocol.
fn snmp_counter(snmp: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with(protocol));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|word| word == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_protocol_and_name() {
        let snmp = "Ip: A B\nIp: 1 2\nIcmp: A InEchos B\nIcmp: 3 4 5\n";
        assert_eq!(snmp_counter(snmp, "Icmp:", "InEchos"), Some(4));
        assert_eq!(snmp_counter(snmp, "Tcp:", "InEchos"), None);
    }
}
