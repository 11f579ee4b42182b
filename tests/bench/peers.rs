//! The programs that podsonar is compared with, in a host of the lab.

use crate::Options;
use crate::load::{Pressure, pass};
use anyhow::{Context, Result, bail};
use podsonar_lab::clock::Deadline;
use podsonar_lab::{Host, Process, scrape};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

const LISTEN: &str = "127.0.0.1:9374";

/// A running `smokeping_prober`, unprivileged: a datagram socket for each target, as its package runs it.
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
        let deadline = Deadline::after(Duration::from_mins(2));
        while let Err(error) = smokeping.scrape() {
            if deadline.passed() {
                bail!(
                    "smokeping_prober does not serve ({error}); it said:\n{}",
                    smokeping.process.lines().join("\n")
                );
            }
            pass(Duration::from_millis(100));
        }
        Ok(smokeping)
    }

    /// Scrapes `/metrics` in the text format.
    pub(crate) fn scrape(&self) -> Result<String> {
        Ok(scrape::get(&self.host, self.listen, "/metrics", &[]).context("scrape smokeping_prober")?.text())
    }

    /// The mean round trip that it reports for each target, in seconds.
    pub(crate) fn means(&self) -> Result<HashMap<IpAddr, f64>> {
        let scrape = self.scrape()?;
        let of = |suffix: &str| -> HashMap<IpAddr, f64> {
            let metric = format!("smokeping_response_duration_seconds_{suffix}{{");
            scrape.lines().filter_map(|line| address_and_value(line.strip_prefix(&metric)?)).collect()
        };
        let (sums, counts) = (of("sum"), of("count"));
        let mean = |(address, sum): (IpAddr, f64)| Some((address, sum / counts.get(&address)?));
        Ok(sums.into_iter().filter_map(mean).filter(|(_, mean)| mean.is_finite()).collect())
    }
}

fn address_and_value(sample: &str) -> Option<(IpAddr, f64)> {
    let (_, after) = sample.split_once("ip=\"")?;
    let (address, _) = after.split_once('"')?;
    Some((address.parse().ok()?, sample.rsplit(' ').next()?.parse().ok()?))
}

/// Starts fping: `count` echo requests to each target, `interval` apart, evenly spread, a line for each.
pub(crate) fn fping(
    host: &Host,
    options: &Options,
    targets: &[IpAddr],
    interval: Duration,
    count: u64,
    pressure: &Pressure,
) -> Result<Process> {
    let mut command = Command::new(options.peer("fping")?);
    let apart = interval.as_millis() as f64 / targets.len().max(1) as f64;
    command.arg(format!("-c{count}")).arg(format!("-p{}", interval.as_millis())).arg(format!("-i{apart:.3}"));
    command.args(["-t", "800"]).args(targets.iter().map(IpAddr::to_string));
    Ok(host.spawn(pressure.command(command))?)
}

/// The round trip that a line of fping reports: target, number of the ping, seconds. Other lines are none.
pub(crate) fn fping_line(line: &str) -> Option<(IpAddr, usize, f64)> {
    let (target, rest) = line.split_once(" : [")?;
    let (number, rest) = rest.split_once("], ")?;
    let (_, rest) = rest.split_once(" bytes, ")?;
    let (millis, _) = rest.split_once(" ms")?;
    Some((target.trim().parse().ok()?, number.parse().ok()?, millis.parse::<f64>().ok()? / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_fping_tells_target_number_and_round_trip() {
        let line = "10.1.0.7 : [3], 64 bytes, 0.587 ms (0.55 avg, 0% loss)";
        assert_eq!(fping_line(line), Some(("10.1.0.7".parse().unwrap(), 3, 0.000_587)));
        assert_eq!(fping_line("10.1.0.7 : [3], timed out (0.55 avg, 25% loss)"), None);
        assert_eq!(fping_line("10.1.0.7 : xmt/rcv/%loss = 4/4/0%"), None);
    }
}
