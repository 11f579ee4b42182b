//! `blackbox_exporter`: it probes a target when it is scraped for it, so somebody must: here as a Prometheus would, each
//! target in turn at its own phase of the interval, with the interval as the scrape's timeout.

use super::wait_until_served;
use crate::Options;
use crate::load::{Pressure, pass};
use anyhow::Result;
use podsonar_lab::clock::{Deadline, unix_ns};
use podsonar_lab::scrape::{self, Scrape};
use podsonar_lab::{Host, LabError, Process};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const LISTEN: &str = "127.0.0.1:9115";
/// Under /run, which is the host's own and vanishes with it.
const CONFIG: &str = "/run/blackbox.yml";
const MODULES: &str = "modules:
  icmp: {prober: icmp, timeout: 800ms, icmp: {preferred_ip_protocol: ip4}}
  tcp: {prober: tcp, timeout: 800ms, tcp: {preferred_ip_protocol: ip4}}
";

/// A running one.
#[derive(Debug)]
pub(crate) struct Blackbox {
    pub(crate) process: Process,
    host: Host,
    listen: SocketAddr,
}

/// A way of probing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Module {
    /// An echo request.
    Icmp,
    /// A full connection to this port.
    Tcp(u16),
}

/// A scrape for a target.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// The target.
    pub(crate) target: IpAddr,
    /// From when to when, Unix time in nanoseconds.
    pub(crate) from_ns: i64,
    /// See `from_ns`.
    pub(crate) to_ns: i64,
    /// The round trip in seconds, or that there was none; nothing if the scrape was not answered in time.
    pub(crate) result: Option<Result<f64, Lost>>,
}

/// A target is reported as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost;

/// Scrapes going on, one thread for each target.
#[derive(Debug)]
pub(crate) struct Driver {
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Probe>>>,
}

impl Blackbox {
    /// Starts it and waits until it serves.
    pub(crate) fn start(host: &Host, options: &Options, pressure: &Pressure) -> Result<Self> {
        host.write_file(Path::new(CONFIG), MODULES.as_bytes(), 0o644)?;
        let mut command = Command::new(options.peer("blackbox_exporter")?);
        command.arg(format!("--config.file={CONFIG}")).arg(format!("--web.listen-address={LISTEN}"));
        command.args(["--log.level=error", "--log.prober=error"]);
        let process = host.spawn(pressure.command(command))?;
        let blackbox = Self { process, host: host.clone(), listen: LISTEN.parse()? };
        let healthy = || scrape::get(host, blackbox.listen, "/-/healthy", &[]).map(drop);
        wait_until_served(&blackbox.process, || Ok(healthy()?))?;
        Ok(blackbox)
    }

    /// Scrapes it for each target once an interval, until [`Driver::stop`].
    pub(crate) fn drive(&self, module: Module, targets: &[IpAddr], interval: Duration) -> Driver {
        let stopping = Arc::new(AtomicBool::new(false));
        let apart = interval / targets.len().max(1) as u32;
        let threads = (0..).zip(targets).map(|(number, target)| {
            let (host, listen, target) = (self.host.clone(), self.listen, *target);
            let stopping = Arc::clone(&stopping);
            thread::spawn(move || {
                pass(apart * number);
                let mut probes = Vec::new();
                while !stopping.load(Ordering::Relaxed) {
                    let next = Deadline::after(interval);
                    probes.push(module.probe(&host, listen, target, interval));
                    pass(next.left());
                }
                probes
            })
        });
        Driver { threads: threads.collect(), stopping }
    }

    /// What it answers about a target, as text.
    pub(crate) fn page(&self, module: Module, target: IpAddr) -> Result<String> {
        Ok(scrape::get(&self.host, self.listen, &module.path(target), &[])?.text())
    }
}

impl Driver {
    /// Ends all scrapes and returns what they told.
    pub(crate) fn stop(self) -> Vec<Probe> {
        self.stopping.store(true, Ordering::Relaxed);
        let join = |thread: JoinHandle<Vec<Probe>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        self.threads.into_iter().flat_map(join).collect()
    }
}

impl Module {
    fn path(self, target: IpAddr) -> String {
        match self {
            Self::Icmp => format!("/probe?module=icmp&target={target}"),
            Self::Tcp(port) => format!("/probe?module=tcp&target={}", SocketAddr::new(target, port)),
        }
    }

    fn probe(self, host: &Host, listen: SocketAddr, target: IpAddr, timeout: Duration) -> Probe {
        let from_ns = unix_ns();
        let answer = scrape::get_within(host, listen, &self.path(target), &[], timeout);
        let result = answer.and_then(|response| self.result(&Scrape::parse(&response.text())?));
        Probe { target, from_ns, to_ns: unix_ns(), result: result.ok() }
    }

    /// What a scrape says. For TCP it is the time of the whole probe, since there is no other.
    fn result(self, scrape: &Scrape) -> Result<Result<f64, Lost>, LabError> {
        let (name, labels): (_, &[_]) = match self {
            Self::Icmp => ("probe_icmp_duration_seconds", &[("phase", "rtt")]),
            Self::Tcp(_) => ("probe_duration_seconds", &[]),
        };
        let value = |name: &'static str, labels| {
            let lacking = LabError::Malformed { what: "blackbox_exporter's answer", text: name.to_owned() };
            scrape.sum(name, labels).ok_or(lacking)
        };
        let succeeded = value("probe_success", &[])? > 0.0;
        Ok(if succeeded { Ok(value(name, labels)?) } else { Err(Lost) })
    }
}
