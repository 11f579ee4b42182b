//! The agent's life: open sockets, start the driver, serve, and end in order.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::config::{self, Configuration, Probing};
use podsonar_core::engine::{Engine, Identity, Secret};
use podsonar_core::target::{Family, Planned};
use podsonar_core::wire::{Channel, icmp};
use podsonar_net::{OpenError, RawSockets};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant as Deadline, interval, timeout_at};

use crate::clock::{self, Clocks, SystemClocks};
use crate::driver::{self, Driver};
use crate::http::{self, Limits, Site};
use crate::ledger::Ledger;
use crate::metrics::state::{Facts, Metrics};
use crate::record;
use crate::reload::Reloader;
use crate::settings::Settings;
use crate::throttle;

/// What a small packet costs in a receive buffer, in bytes.
const PACKET_COST: u64 = 832;

/// The longest time for which the agent may not run without its receive buffers overflowing.
const LONGEST_STALL: Duration = Duration::from_secs(2);

/// Receive buffers are not smaller than this, in bytes.
const MIN_BUFFER: u64 = 256 * 1024;

/// Nor larger than this: the kernel's sizes are signed 32-bit numbers, and it doubles what it is asked for.
const MAX_BUFFER: u64 = 512 * 1024 * 1024;

/// How long an orderly end may take. Kubernetes kills after 30 s.
const SHUTDOWN: Duration = Duration::from_secs(8);

/// How often it is checked that the driver still runs.
const WATCH: Duration = Duration::from_secs(1);

/// Why the agent could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Raw sockets.
    #[error(transparent)]
    Sockets(#[from] OpenError),
    /// The HTTP server's address.
    #[error("--listen {address}: {}", describe_bind(.source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The record.
    #[error("--record {}: {source}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Threads, timers, random numbers, signals.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// The driver's thread ended by itself.
    #[error("the driver stopped by itself; this is a defect of podsonar")]
    DriverEnded,
    /// The HTTP server ended by itself.
    #[error("the HTTP server stopped by itself; this is a defect of podsonar")]
    HttpEnded,
    /// The record could not be written to its end.
    #[error("--record: {0}")]
    Write(io::Error),
    /// Something did not end in time.
    #[error("not everything ended within {SHUTDOWN:?}")]
    Shutdown,
}

fn describe_bind(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        "the port is in use; choose another one".into()
    } else {
        error.to_string()
    }
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting or going on.
pub fn run(settings: Settings) -> Result<(), RunError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let result = runtime.block_on(live(settings));
    runtime.shutdown_background();
    result
}

async fn live(settings: Settings) -> Result<(), RunError> {
    // First of all, so that a signal during the start leads to an orderly end too.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let Settings { configuration, read, sources } = settings;
    let mut reloader = Reloader::new(sources, read, &configuration.probing)?;
    let mut agent = Agent::start(configuration)?;
    let mut watch = interval(WATCH);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = watch.tick() => if agent.driver.is_finished() { return Err(RunError::DriverEnded) },
            _ = &mut agent.http => return Err(RunError::HttpEnded),
            probing = reloader.next(&agent.metrics, &agent.channels) => agent.driver.probe(probing.planned),
        }
    }
    tracing::info!("stopping");
    agent.stop().await
}

/// Everything that runs.
#[derive(Debug)]
struct Agent {
    driver: driver::Handle,
    metrics: Arc<Metrics>,
    channels: Vec<Channel>,
    http: JoinHandle<()>,
    stop_http: watch::Sender<bool>,
    writer: Option<record::Writer>,
}

impl Agent {
    fn start(configuration: Configuration) -> Result<Self, RunError> {
        let Configuration { agent, probing } = configuration;
        let config::Agent { source, zone, listen, record: record_path, .. } = agent;
        let listener =
            http::bind(listen).map_err(|(address, source)| RunError::Listen { address, source })?;
        let record_file = match record_path {
            None => None,
            Some(path) => Some(record::open(&path).map_err(|source| RunError::Record { path, source })?),
        };
        let random = Random::draw()?;
        let channels = channels(&probing.planned);
        let sockets = RawSockets::open(&podsonar_net::Settings {
            channels: channels.clone(),
            icmp_id: random.icmp_id,
            flows: probing.flows,
            receive_buffer: receive_buffer(&probing.planned),
            message_size: icmp::HEADER + probing.size,
        })?;
        let clock = SystemClocks.read();
        let metrics =
            Arc::new(Metrics::new(facts(source.clone(), zone, &probing, &channels, &sockets), clock.wall));
        let site = Site {
            metrics: Arc::clone(&metrics),
            now: clock::now,
            started: clock.mono,
            limits: Limits::default(),
        };
        announce(&listener, &probing.planned, &channels, &sockets)?;

        let (recorder, writer) = match record_file {
            None => (None, None),
            Some(file) => {
                let (recorder, writer) = record::start(file, random.icmp_id, Arc::clone(&metrics))?;
                (Some(recorder), Some(writer))
            }
        };
        let identity = Identity {
            source,
            epoch: random.epoch,
            key: random.key,
            icmp_id: random.icmp_id,
            source_ports_v4: sockets.source_ports(Family::V4).to_vec(),
            source_ports_v6: sockets.source_ports(Family::V6).to_vec(),
            size: probing.size,
            max_pps: probing.max_pps,
        };
        // It ends with the runtime.
        tokio::spawn(throttle::watch(Arc::clone(&metrics)));
        let driver = driver::spawn(Driver::new(
            Engine::new(identity, clock),
            sockets,
            SystemClocks,
            Ledger::new(Arc::clone(&metrics), recorder, probing.retain, clock.mono),
            driver::Settings { channels: channels.clone(), icmp_id: random.icmp_id, size: probing.size },
        ))?;
        driver.probe(probing.planned);
        let (stop_http, stop) = watch::channel(false);
        let http = tokio::spawn(http::serve(listener, Arc::new(site), stop));
        Ok(Self { driver, metrics, channels, http, stop_http, writer })
    }

    /// Ends everything in order: no new probes, the answers in flight, the last scrapes, the record.
    async fn stop(self) -> Result<(), RunError> {
        let Self { driver, http, stop_http, writer, .. } = self;
        let deadline = Deadline::now() + SHUTDOWN;
        let in_time = |_| RunError::Shutdown;
        let driven = timeout_at(deadline, spawn_blocking(move || driver.stop())).await.map_err(in_time)?;
        // The server may be gone already; then there is nothing to stop.
        let _ = stop_http.send(true);
        let served = timeout_at(deadline, http).await.map_err(in_time)?;
        if let Some(writer) = writer {
            let written =
                timeout_at(deadline, spawn_blocking(move || writer.finish())).await.map_err(in_time)?;
            written.map_err(io::Error::other)?.map_err(RunError::Write)?;
        }
        match driven {
            Ok(Ok(())) => served.map_err(|_| RunError::HttpEnded),
            Ok(Err(_)) | Err(_) => Err(RunError::DriverEnded),
        }
    }
}

/// The channels that the streams need: each raw socket costs every packet of the host a little.
fn channels(planned: &[Planned]) -> Vec<Channel> {
    let used: HashSet<Channel> = planned.iter().filter_map(|each| each.stream.channel()).collect();
    Channel::ALL.into_iter().filter(|channel| used.contains(channel)).collect()
}

/// Room for each probe's reply and transmit stamp: those in flight, and those of the longest stall.
fn receive_buffer(planned: &[Planned]) -> usize {
    let packets: f64 = planned
        .iter()
        .map(|each| (each.timeout + LONGEST_STALL).as_secs_f64() / each.interval.as_secs_f64())
        .sum();
    let bytes = (packets.ceil() as u64).saturating_mul(2 * PACKET_COST);
    usize::try_from(bytes.clamp(MIN_BUFFER, MAX_BUFFER)).unwrap_or(usize::MAX)
}

fn facts(
    source: String,
    zone: String,
    probing: &Probing,
    channels: &[Channel],
    sockets: &RawSockets,
) -> Facts {
    let granted = |channel| channels.contains(&channel).then(|| sockets.granted_buffer(channel) as u64);
    let (version, buckets) = (env!("CARGO_PKG_VERSION"), probing.buckets.clone());
    Facts { source, zone, version, receive_buffers: Channel::ALL.map(granted), buckets }
}

/// One line that says what goes on, and a warning where the kernel does not stamp.
fn announce(
    listener: &TcpListener,
    planned: &[Planned],
    channels: &[Channel],
    sockets: &RawSockets,
) -> io::Result<()> {
    let targets: HashSet<_> = planned.iter().map(|each| &each.stream.target).collect();
    let per_second: f64 = planned.iter().map(|each| each.interval.as_secs_f64().recip()).sum();
    let buffers: Vec<_> = channels
        .iter()
        .map(|&channel| {
            let (protocol, family) = (channel.protocol.label(), channel.family.label());
            format!("{protocol}/{family} {} KiB", sockets.granted_buffer(channel) / 1024)
        })
        .collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        targets = targets.len(),
        streams = planned.len(),
        probes_per_second = per_second,
        metrics = %format_args!("http://{}/metrics", listener.local_addr()?),
        receive_buffers = %buffers.join(", "),
        "probing"
    );
    for channel in channels.iter().filter(|channel| !sockets.has_stamps(**channel)) {
        let (protocol, family) = (channel.protocol.label(), channel.family.label());
        tracing::warn!(
            protocol,
            family,
            "the kernel does not stamp packets; round trips are counted, not observed"
        );
    }
    Ok(())
}

/// What an agent draws at its start.
#[derive(Debug)]
struct Random {
    epoch: u64,
    key: Secret,
    icmp_id: u16,
}

impl Random {
    fn draw() -> io::Result<Self> {
        Ok(Self {
            epoch: u64::from_ne_bytes(random()?),
            key: Secret(random()?),
            icmp_id: u16::from_ne_bytes(random()?),
        })
    }
}

/// Random bytes from the kernel (`getrandom(2)`), which gives so few at once and whole.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use podsonar_core::config::{Host, Origin, Written, setting};

    use super::*;

    #[test]
    fn only_the_channels_in_use_are_opened() {
        let labels = |targets: &[&str]| {
            let channels = channels(&planned(targets));
            channels.into_iter().map(|each| (each.protocol.label(), each.family.label())).collect::<Vec<_>>()
        };
        assert_eq!(labels(&["127.0.0.1"]), [("icmp", "4")]);
        assert_eq!(labels(&["[::1]:80"]), [("icmp", "6"), ("tcp", "6")]);
    }

    #[test]
    fn a_buffer_holds_what_is_in_flight_and_a_stall_within_bounds() {
        assert_eq!(receive_buffer(&planned(&["127.0.0.1"])), 256 * 1024);
        let many: Vec<_> =
            (1..=10_000).map(|host| format!("10.0.{}.{}", host / 250, host % 250 + 1)).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(receive_buffer(&planned(&many)), 28_000 * 2 * 832);
    }

    fn planned(targets: &[&str]) -> Vec<Planned> {
        let mut written = Written::default();
        for target in targets {
            written.set(&setting::TARGETS, Origin::Flag("--target"), target);
        }
        let host = Host { name: Some("host".into()), ..Host::default() };
        written.resolve(&host).unwrap().probing.planned
    }
}
