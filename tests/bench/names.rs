//! CPU of the whole agent for asking for names, beside the same agent without any.

use crate::Options;
use crate::load::pass;
use crate::report::{Report, Table};
use crate::stats::Figure;
use anyhow::Result;
use podsonar_lab::agent::Launch;
use podsonar_lab::clock::now;
use podsonar_lab::server::dns::{Dns, Zone};
use podsonar_lab::{Agent, Host, Lab};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

const NAMES: u32 = 500;
/// Each name is asked for A and for AAAA so often.
const INTERVAL: Duration = Duration::from_secs(30);
const MAX_QPS: u32 = 50;
/// What asking may cost, in percent of a core.
const CORE_PERCENT: f64 = 0.2;
/// Under /run, which is the host's own and vanishes with it.
const FILE: &str = "/run/podsonar.yaml";

/// An agent and what it had done when it was last looked at.
struct Watched {
    agent: Agent,
    cpu: Duration,
    exchanges: f64,
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("names", options.short);
    let lab = Lab::new()?;
    let names = lab.host("names")?;
    let zone = (0..NAMES).fold(Zone::new("lab.test"), |zone, number| {
        zone.record(&format!("name-{number}"), 30, "A 10.77.0.1")
    });
    // Both run at once, so that the machine is the same for both.
    let (with, without) = (lab.host("with")?, lab.host("without")?);
    let roads = [lab.veth(&with, &names)?, lab.veth(&without, &names)?];
    let [server, neighbour] = roads.map(|road| IpAddr::from(road.right.v4));
    let _dns = Dns::start(&names, &[server], &[zone])?;
    let mut idle = Watched::start(&without, neighbour, None)?;
    let mut asking = Watched::start(&with, server, Some(server))?;
    // At first all are asked, as fast as the ceiling allows.
    pass(options.seconds(25, 60));
    let start = now();
    idle.spend()?;
    asking.spend()?;
    let window = options.seconds(25, 120);
    pass(window.saturating_sub(now() - start));
    let (idle_cpu, _) = idle.spend()?;
    let (asking_cpu, exchanges) = asking.spend()?;
    let took = (now() - start).as_secs_f64();

    let percent = |cpu: f64| cpu / took * 100.0;
    let micros = (asking_cpu - idle_cpu) * 1e6 / exchanges;
    let nominal = f64::from(NAMES) * 2.0 / INTERVAL.as_secs_f64();
    let mut table = Table::new(
        format!(
            "CPU of the agent in {took:.0} s: one target, and the same with {NAMES} names, A and AAAA, each 30 s"
        ),
        [
            "exchanges/s",
            "idle, % of a core",
            "with names",
            "CPU-µs per exchange",
            "% of a core for the exchanges",
        ],
    );
    let share = micros * nominal / 1e4;
    let figures = [exchanges / took, percent(idle_cpu), percent(asking_cpu), micros, share];
    table.row(figures.map(|figure| Figure(figure).to_string()));
    report.table(table);
    let scrape = asking.agent.scrape()?;
    let others = ["timeout", "servfail", "not_sent", "malformed", "unreachable"];
    let failed =
        others.map(|result| scrape.sum("podsonar_dns_queries_total", &[("result", result)]).unwrap_or(0.0));
    report.at_most(format!("exchanges of {NAMES} names each 30 s"), share, CORE_PERCENT, " %");
    report.at_most("questions that failed", failed.iter().sum(), 0.0, "");
    Ok(report)
}

impl Watched {
    /// An agent with one target and, where there is a name server, all names.
    fn start(host: &Host, target: IpAddr, server: Option<IpAddr>) -> Result<Self> {
        let mut text = format!("targets: [{target}]\n");
        if let Some(server) = server {
            let seconds = INTERVAL.as_secs();
            write!(
                text,
                "dns:\n  interval: {seconds}s\n  max_qps: {MAX_QPS}\n  servers: [{server}]\n  names:\n"
            )?;
            for number in 0..NAMES {
                writeln!(text, "  - {{ name: name-{number}.lab.test., protocols: [] }}")?;
            }
        }
        host.write_file(Path::new(FILE), text.as_bytes(), 0o644)?;
        let agent = Launch::on(host).arguments(&["--config", FILE]).start()?;
        Ok(Self { agent, cpu: Duration::ZERO, exchanges: 0.0 })
    }

    /// CPU in seconds and exchanges since this was last asked.
    fn spend(&mut self) -> Result<(f64, f64)> {
        // A scrape costs CPU too: it is taken outside of what is measured.
        let cpu = self.agent.process.cpu_time()?;
        let exchanges = self.agent.scrape()?.sum("podsonar_dns_exchanges_total", &[]).unwrap_or(0.0);
        let spent = (cpu.saturating_sub(self.cpu).as_secs_f64(), exchanges - self.exchanges);
        (self.cpu, self.exchanges) = (self.agent.process.cpu_time()?, exchanges);
        Ok(spent)
    }
}
