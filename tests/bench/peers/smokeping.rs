//! `smokeping_prober`: an exporter that keeps histograms, with a datagram socket for each target.

use super::wait_until_served;
use crate::Options;
use crate::load::Pressure;
use anyhow::{Context, Result};
use podsonar_lab::scrape::{self, Scrape};
use podsonar_lab::{Host, Process};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

const LISTEN: &str = "127.0.0.1:9374";
const HISTOGRAM: &str = "smokeping_response_duration_seconds";

/// A running one, unprivileged, as its package runs it.
#[derive(Debug)]
pub(crate) struct Smokeping {
    pub(crate) process: Process,
    host: Host,
    listen: SocketAddr,
}

impl Smokeping {
    /// Starts it and waits until it serves metrics.
    pub(crate) fn start(
        host: &Host,
        options: &Options,
        targets: &[IpAddr],
        interval: Duration,
        pressure: &Pressure,
    ) -> Result<Self> {
        host.sysctl("net.ipv4.ping_group_range", "0 2147483647")?;
        let mut command = Command::new(options.peer("smokeping_prober")?);
        command.args(["--config.file=", "--log.level=error"]).arg(format!("--web.listen-address={LISTEN}"));
        command.arg(format!("--ping.interval={}ms", interval.as_millis()));
        command.args(targets.iter().map(IpAddr::to_string));
        let process = host.spawn(pressure.command(command))?;
        let smokeping = Self { process, host: host.clone(), listen: LISTEN.parse()? };
        wait_until_served(&smokeping.process, || smokeping.scrape().map(drop))?;
        Ok(smokeping)
    }

    /// Scrapes `/metrics` in the text format.
    pub(crate) fn scrape(&self) -> Result<String> {
        Ok(scrape::get(&self.host, self.listen, "/metrics", &[]).context("scrape smokeping_prober")?.text())
    }
}

/// The mean round trip that a scrape of it reports for each target, in seconds.
pub(crate) fn means(scrape: &str) -> Result<HashMap<IpAddr, f64>> {
    let scrape = Scrape::parse(scrape)?;
    let (sums, counts) = (format!("{HISTOGRAM}_sum"), format!("{HISTOGRAM}_count"));
    let of = |name| -> HashMap<IpAddr, f64> {
        let samples = scrape.select(name, &[]);
        samples.filter_map(|sample| Some((sample.labels.get("ip")?.parse().ok()?, sample.value))).collect()
    };
    let counts = of(&counts);
    let mean = |(address, sum): (IpAddr, f64)| Some((address, sum / counts.get(&address)?));
    Ok(of(&sums).into_iter().filter_map(mean).filter(|(_, mean)| mean.is_finite()).collect())
}

/// Pings sent without an answer so far, as a scrape of it reports them.
pub(crate) fn unanswered(scrape: &str) -> Result<f64> {
    let scrape = Scrape::parse(scrape)?;
    let sum = |name: &str| scrape.sum(name, &[]).with_context(|| format!("no {name}"));
    Ok(sum("smokeping_requests_total")? - sum(&format!("{HISTOGRAM}_count"))?)
}
