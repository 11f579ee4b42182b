//! The agent's life: open sockets, start the driver, serve, and end in order.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::engine::{Engine, Identity, Secret};
use podsonar_core::target::{Family, Planned};
use podsonar_core::wire::{Channel, icmp};
use podsonar_net::{Mode, OpenError, ProbeSockets};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant as Deadline, interval, timeout_at};

use crate::clock::{self, Clocks, SystemClocks};
use crate::degrade::{self, Means, MeansByChannel};
use crate::driver::{self, Driver};
use crate::http::{self, Limits, Site};
use crate::ledger::{Ledger, RETAIN};
use crate::metrics::state::{Facts, Metrics};
use crate::preflight;
use crate::record;
use crate::settings::Settings;

/// Source ports for SYNs in each family: one flow each.
const FLOWS: u16 = 32;

/// What a small packet costs in a receive buffer, in bytes.
const PACKET_COST: u64 = 832;

/// The largest echo request that is ever sent, in bytes: jumbo frames and a little.
const LARGEST_MESSAGE: usize = 9_216;

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
    let mut agent = Agent::start(settings)?;
    let mut watch = interval(WATCH);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = watch.tick() => if agent.driver.is_finished() { return Err(RunError::DriverEnded) },
            _ = &mut agent.http => return Err(RunError::HttpEnded),
        }
    }
    tracing::info!("stopping");
    agent.stop().await
}

/// Everything that runs.
#[derive(Debug)]
struct Agent {
    driver: driver::Handle,
    http: JoinHandle<()>,
    stop_http: watch::Sender<bool>,
    writer: Option<record::Writer>,
}

impl Agent {
    fn start(settings: Settings) -> Result<Self, RunError> {
        let Settings { probing, listen, record: record_path, source, zone, .. } = settings;
        let listener =
            http::bind(listen).map_err(|(address, source)| RunError::Listen { address, source })?;
        let record_file = match record_path {
            None => None,
            Some(path) => Some(record::open(&path).map_err(|source| RunError::Record { path, source })?),
        };
        let random = Random::draw()?;
        let buffer = receive_buffer(&probing.planned);
        let mut sockets = ProbeSockets::open(&podsonar_net::Settings {
            channels: channels(&probing.planned),
            icmp_id: random.icmp_id,
            flows: FLOWS,
            receive_buffer: buffer,
            message_size: icmp::HEADER + probing.size,
            largest_message: LARGEST_MESSAGE,
        });
        let means = means(&sockets);
        let planned = possible(probing.planned, means, &mut sockets)?;
        let channels: Vec<Channel> =
            Channel::ALL.into_iter().filter(|channel| sockets.is_open(*channel)).collect();
        preflight::log(&preflight::report(&channels, buffer));
        let icmp_id = sockets.icmp_id();
        let clock = SystemClocks.read();
        let facts = facts(source.clone(), zone, means, &sockets);
        let metrics = Arc::new(Metrics::new(facts, clock.wall));
        let site = Site {
            metrics: Arc::clone(&metrics),
            now: clock::now,
            started: clock.mono,
            limits: Limits::default(),
        };
        announce(&listener, &planned, &channels, &sockets)?;

        let (recorder, writer) = match record_file {
            None => (None, None),
            Some(file) => {
                let (recorder, writer) = record::start(file, icmp_id, Arc::clone(&metrics))?;
                (Some(recorder), Some(writer))
            }
        };
        let identity = Identity {
            source,
            epoch: random.epoch,
            key: random.key,
            icmp_id,
            source_ports_v4: sockets.source_ports(Family::V4).to_vec(),
            source_ports_v6: sockets.source_ports(Family::V6).to_vec(),
            size: probing.size,
            max_pps: probing.max_pps,
        };
        let driver = driver::spawn(Driver::new(
            Engine::new(identity, clock),
            sockets,
            SystemClocks,
            Ledger::new(metrics, recorder, RETAIN, clock.mono),
            driver::Settings { channels, icmp_id, size: probing.size },
        ))?;
        driver.probe(planned);
        let (stop_http, stop) = watch::channel(false);
        let http = tokio::spawn(http::serve(listener, Arc::new(site), stop));
        Ok(Self { driver, http, stop_http, writer })
    }

    /// Ends everything in order: no new probes, the answers in flight, the last scrapes, the record.
    async fn stop(self) -> Result<(), RunError> {
        let Self { driver, http, stop_http, writer } = self;
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

/// What each channel got.
fn means(sockets: &ProbeSockets) -> MeansByChannel {
    Channel::ALL.map(|channel| sockets.mode(channel).map(|mode| Means::of(channel, mode)))
}

/// The streams that can be probed with these means; what is not as it should be is logged.
///
/// # Errors
/// Nothing can be probed: the first reason.
fn possible(
    planned: Vec<Planned>,
    means: MeansByChannel,
    sockets: &mut ProbeSockets,
) -> Result<Vec<Planned>, RunError> {
    let (probed, unprobed) = degrade::degrade(planned, means);
    if probed.is_empty()
        && let Some(error) = Channel::ALL.into_iter().find_map(|channel| sockets.take_error(channel))
    {
        return Err(error.into());
    }
    let modes: Vec<(Channel, &Mode)> = Channel::ALL
        .into_iter()
        .filter_map(|channel| sockets.mode(channel).map(|mode| (channel, mode)))
        .collect();
    degrade::tell(&modes, &unprobed);
    Ok(probed)
}

fn facts(source: String, zone: String, means: MeansByChannel, sockets: &ProbeSockets) -> Facts {
    let granted = |channel| sockets.is_open(channel).then(|| sockets.granted_buffer(channel) as u64);
    let receive_buffers = Channel::ALL.map(granted);
    Facts { source, zone, version: env!("CARGO_PKG_VERSION"), receive_buffers, means }
}

/// One line that says what goes on, and a warning where the kernel does not stamp.
fn announce(
    listener: &TcpListener,
    planned: &[Planned],
    channels: &[Channel],
    sockets: &ProbeSockets,
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
    use podsonar_core::config::{Place, Written, WrittenTarget};

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
        let written = Written {
            targets: targets
                .iter()
                .map(|text| WrittenTarget { text: (*text).into(), place: Place::Flag })
                .collect(),
            interval: "1s".into(),
            timeout: "800ms".into(),
            protocols: "icmp,tcp".into(),
            max_pps: "20000".into(),
            size: "56".into(),
        };
        written.resolve().unwrap().planned
    }
}
