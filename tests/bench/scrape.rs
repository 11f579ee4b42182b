//! CPU per scrape, and what scraping does to probing.

use crate::Options;
use crate::accuracy::{MAX_MICROS, P99_MICROS, errors};
use crate::agent::{Plan, THE_END};
use crate::limit::target;
use crate::load::{Pressure, pass};
use crate::path::Path;
use crate::peers::Smokeping;
use crate::report::{Report, Table};
use crate::stats::{Figure, Spread, median, paired_ratio};
use anyhow::Result;
use podsonar_lab::clock::Deadline;
use podsonar_lab::{Agent, Lab, Process};
use std::net::IpAddr;
use std::time::Duration;

const TARGETS: u32 = 10_000;
/// `smokeping_prober` wakes ten times a second for each target: with 10,000 it uses up two cores and does not finish
/// starting in minutes. What it needs for a scrape is proportional to its targets, so it gets a part of them and its
/// figure is multiplied.
const SHARE: u32 = 50;
/// Slow, so that probing costs little beside scraping; what it costs is taken off.
const INTERVAL: Duration = Duration::from_secs(10);

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("scrape", options.short);
    if options.wants("cpu") {
        costs(options, &mut report)?;
    }
    if options.wants("accuracy") {
        accuracy(options, &mut report)?;
    }
    Ok(report)
}

/// One program's costs.
#[derive(Debug, Default)]
struct Costs {
    /// CPU-milliseconds per scrape, a value for each round.
    millis: Vec<f64>,
    bytes: usize,
}

fn costs(options: &Options, report: &mut Report) -> Result<()> {
    let (scrapes, rounds) = (options.pick(3, 10), options.pick(2, 5));
    let targets: Vec<IpAddr> = (0..TARGETS).map(|number| target(false, number)).collect();
    let few: Vec<IpAddr> = targets.iter().take((TARGETS / SHARE) as usize).copied().collect();
    let lab = Lab::new()?;
    let (ours, theirs) = (lab.host("agent")?, lab.host("smokeping_prober")?);
    let plan = Plan {
        targets: targets.iter().map(IpAddr::to_string).collect(),
        interval: INTERVAL,
        protocols: "icmp",
        ..Plan::default()
    };
    eprintln!("scrape: {TARGETS} targets");
    let agent = plan.start(&ours, &Pressure::none())?;
    let smokeping = Smokeping::start(&theirs, options, &few, INTERVAL, &Pressure::none())?;
    let scrape_agent = || Ok(agent.get("/metrics", &[])?.body.len());
    let scrape_smokeping = || Ok(smokeping.scrape()?.len());
    // The first scrape of a program finds no buffers.
    let mut costs = [
        Costs { bytes: scrape_agent()?, ..Costs::default() },
        Costs { bytes: scrape_smokeping()? * SHARE as usize, ..Costs::default() },
    ];
    for _ in 0..rounds {
        let [ours, theirs] = &mut costs;
        ours.millis.push(cpu_per_scrape(&agent.process, scrapes, &scrape_agent)?);
        let millis = cpu_per_scrape(&smokeping.process, scrapes * SHARE / 2, &scrape_smokeping)?;
        theirs.millis.push(millis * f64::from(SHARE));
    }
    let mut table = Table::new(
        format!("CPU-ms of the server per scrape, {TARGETS} targets, text, no compression"),
        ["program", "CPU-ms", "least", "most", "MB"],
    );
    for (program, costs) in
        ["agent".to_owned(), format!("smokeping_prober, with 1/{SHARE} of the targets, times {SHARE}")]
            .into_iter()
            .zip(&costs)
    {
        let extreme =
            |pick: fn(f64, f64) -> f64| costs.millis.iter().copied().reduce(pick).unwrap_or(f64::NAN);
        let figures = [median(&costs.millis), extreme(f64::min), extreme(f64::max), costs.bytes as f64 / 1e6];
        table.row([program].into_iter().chain(figures.map(|figure| Figure(figure).to_string())));
    }
    report.table(table);
    let [ours, theirs] = &costs;
    report.at_most("agent / smokeping_prober", paired_ratio(&ours.millis, &theirs.millis), 0.2, "");
    Ok(())
}

/// CPU of the server for one scrape, without what it uses unscraped in the same time.
fn cpu_per_scrape(server: &Process, scrapes: u32, scrape: &dyn Fn() -> Result<usize>) -> Result<f64> {
    let clock = podsonar_lab::clock::now;
    let (start, cpu) = (clock(), server.cpu_time()?);
    for _ in 0..scrapes {
        scrape()?;
    }
    let (time, busy) = (clock() - start, server.cpu_time()?.saturating_sub(cpu));
    let cpu = server.cpu_time()?;
    pass(time);
    let idle = server.cpu_time()?.saturating_sub(cpu);
    Ok(busy.saturating_sub(idle).as_secs_f64() * 1e3 / f64::from(scrapes))
}

/// Accuracy over the 500 µs path while everything is scraped each second.
fn accuracy(options: &Options, report: &mut Report) -> Result<()> {
    eprintln!("scrape: accuracy while scraped");
    let path = Path::delayed(TARGETS)?;
    let capture = path.capture()?;
    let interval = Duration::from_secs(5);
    let plan = Plan { targets: path.targets(), interval, record: true, ..Plan::default() };
    let mut agent = plan.start(&path.node, &Pressure::none())?;
    let scrapes = scrape_each_second(&agent, options.seconds(8, 30))?;
    agent.stop(Deadline::after(THE_END))?;
    let title =
        format!("|reported − wire| in µs, {TARGETS} targets each 5 s, scraped each second ({scrapes} times)");
    let mut table = Table::new(
        title,
        ["protocol", "compared", "p50", "p99", "max", "max sending", "max receiving", "of the wire's"],
    );
    for (protocol, errors) in errors(&capture.stop()?, &agent.records()?) {
        let spread = Spread::of(&errors.micros);
        table.row([vec![protocol.to_owned()], errors.cells()].concat());
        report.at_most(format!("scraped each second: {protocol} p99"), spread.p99, P99_MICROS, " µs");
        report.at_most(format!("scraped each second: {protocol} max"), spread.max, MAX_MICROS, " µs");
    }
    report.table(table);
    Ok(())
}

fn scrape_each_second(agent: &Agent, time: Duration) -> Result<u32> {
    let end = Deadline::after(time);
    let mut scrapes = 0;
    while !end.passed() {
        let next = Deadline::after(Duration::from_secs(1));
        agent.get("/metrics", &[])?;
        scrapes += 1;
        pass(next.left().min(end.left()));
    }
    Ok(scrapes)
}
