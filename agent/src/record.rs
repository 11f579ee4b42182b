//! `--record FILE`: one JSON line for each finished probe, so that anyone can check a number against a capture.
//!
//! The driver's thread puts results into a bounded queue and never waits; a thread of its own writes them. What
//! does not fit the queue, or cannot be written, is counted.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use podsonar_core::engine::Boost;
use podsonar_core::outcome::{Outcome, Rtt, StampSource};
use podsonar_core::target::{Protocol, Stream};
use podsonar_core::time::{ClockReading, WallTime};
use serde::Serialize;

use crate::metrics::state::Metrics;

/// Results that may wait for the disk: 0.8 s at 20,000 probes a second.
const QUEUE: usize = 16_384;

/// The most lines written for one outcome that stands for many skipped probes; the rest counts as dropped.
const MAX_REPEAT: u64 = 10_000;

/// Why a probe was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It fell due: it counts in `probes_total` or `probes_void_total`.
    Due,
    /// To see whether a flow, or the port, is silent again.
    Flow,
    /// To see whether a closed port of a silent target answers.
    Listener,
    /// To see whether large packets pass.
    Large,
}

impl From<Boost> for Purpose {
    fn from(boost: Boost) -> Self {
        match boost {
            Boost::Flow => Self::Flow,
            Boost::Listener => Self::Listener,
        }
    }
}

/// The driver's end: takes results, never waits.
#[derive(Debug)]
pub struct Recorder {
    queue: SyncSender<Finished>,
    metrics: Arc<Metrics>,
    icmp_id: u16,
}

/// The writing thread. It ends when the [`Recorder`] is dropped and everything queued is written.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<io::Result<()>>,
}

/// Opens `path` for appending.
///
/// # Errors
/// If it cannot be opened or created.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Starts the writing thread. Echo requests carry `icmp_id`.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(file: File, icmp_id: u16, metrics: Arc<Metrics>) -> io::Result<(Recorder, Writer)> {
    let (queue, finished) = sync_channel(QUEUE);
    let counted = Arc::clone(&metrics);
    let thread =
        thread::Builder::new().name("record".into()).spawn(move || write_all(file, &finished, &counted))?;
    Ok((Recorder { queue, metrics, icmp_id }, Writer { thread }))
}

impl Writer {
    /// Waits until everything is written.
    ///
    /// # Errors
    /// The first error that writing met; all lines since then were dropped and counted.
    pub fn finish(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the record's thread panicked")))
    }
}

impl Recorder {
    /// Queues an outcome of a probe of `stream`, whose probes are `interval` apart.
    pub fn record(
        &self,
        purpose: Purpose,
        stream: &Stream,
        interval: Duration,
        outcome: &Outcome,
        clock: &ClockReading,
    ) {
        let finished = Finished {
            purpose,
            stream: stream.clone(),
            interval,
            outcome: *outcome,
            due: clock.to_wall(outcome.due),
            icmp_id: self.icmp_id,
        };
        match self.queue.try_send(finished) {
            Ok(()) => {}
            Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) => {
                self.metrics.record_dropped.inc_by(lost.outcome.count);
            }
        }
    }
}

/// An outcome on its way to the file.
#[derive(Debug)]
struct Finished {
    purpose: Purpose,
    stream: Stream,
    interval: Duration,
    outcome: Outcome,
    due: WallTime,
    icmp_id: u16,
}

/// One line. The field names are a contract.
#[derive(Debug, Serialize)]
struct Line<'a> {
    purpose: Purpose,
    kind: &'static str,
    target: &'a str,
    address: IpAddr,
    port: Option<u16>,
    protocol: &'static str,
    due_ns: i64,
    sent_ns: Option<i64>,
    rtt_ns: Option<u64>,
    result: &'static str,
    reason: Option<&'static str>,
    stamp: Stamp,
    icmp_id: Option<u16>,
    sequence: Option<u32>,
    cookie: Option<String>,
    source_port: Option<u16>,
}

/// Who took the time stamps.
#[derive(Debug, Serialize)]
struct Stamp {
    tx: Option<&'static str>,
    rx: Option<&'static str>,
}

/// Writes what is queued; flushes whenever the queue is empty, so that a reader sees lines soon.
fn write_all(file: File, finished: &Receiver<Finished>, metrics: &Metrics) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, file);
    let mut failed = Ok(());
    loop {
        let next = match finished.try_recv() {
            Ok(next) => next,
            Err(TryRecvError::Empty) => {
                if failed.is_ok() {
                    failed = out.flush();
                }
                match finished.recv() {
                    Ok(next) => next,
                    Err(_) => break,
                }
            }
            Err(TryRecvError::Disconnected) => break,
        };
        if failed.is_ok() {
            failed = write(&mut out, &next, metrics);
            if let Err(error) = &failed {
                tracing::error!(%error, "the record cannot be written; further lines are dropped");
            }
        }
        if failed.is_err() {
            metrics.record_dropped.inc_by(next.outcome.count);
        }
    }
    failed.and_then(|()| out.flush())
}

fn write(out: &mut impl Write, finished: &Finished, metrics: &Metrics) -> io::Result<()> {
    let lines = finished.outcome.count.min(MAX_REPEAT);
    metrics.record_dropped.inc_by(finished.outcome.count - lines);
    let step = i64::try_from(finished.interval.as_nanos()).unwrap_or(i64::MAX);
    let mut line = Line::of(finished);
    for _ in 0..lines {
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
        line.due_ns = line.due_ns.saturating_add(step);
    }
    Ok(())
}

impl<'a> Line<'a> {
    fn of(finished: &'a Finished) -> Self {
        let Finished { purpose, stream, outcome, due, icmp_id, .. } = finished;
        let sent = outcome.sent.as_ref();
        let rtt = match outcome.result.rtt() {
            Some(Rtt::Observed(rtt) | Rtt::Estimated(rtt)) => u64::try_from(rtt.as_nanos()).ok(),
            Some(Rtt::Unmeasured) | None => None,
        };
        let (port, icmp_id) = match stream.protocol {
            Protocol::Icmp => (None, Some(*icmp_id)),
            Protocol::Tcp | Protocol::Connect => {
                (sent.and_then(|sent| sent.destination_port).or(stream.target.port), None)
            }
        };
        Self {
            purpose: *purpose,
            kind: stream.target.kind.label(),
            target: &stream.target.destination,
            address: stream.target.address,
            port,
            protocol: stream.protocol.label(),
            due_ns: due.as_nanos(),
            sent_ns: sent.map(|sent| sent.at.as_nanos()),
            rtt_ns: rtt,
            result: outcome.result.label(),
            reason: outcome.result.reason(),
            stamp: Stamp {
                tx: sent.map(|sent| sent.tx.label()),
                rx: sent.and_then(|sent| sent.rx).map(StampSource::label),
            },
            icmp_id,
            sequence: sent.map(|sent| sent.sequence),
            cookie: sent.map(|sent| format!("{:016x}", sent.cookie)),
            source_port: sent.and_then(|sent| sent.source_port),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use podsonar_core::outcome::ProbeResult;
    use podsonar_core::target::{Kind, StreamId, Target};
    use podsonar_core::time::Instant;

    use super::*;
    use crate::metrics::state::Facts;

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let facts = Facts {
            source: String::new(),
            zone: String::new(),
            version: "",
            receive_buffers: [None; 4],
            buckets: podsonar_core::config::Buckets::default(),
            max_series: 4_000,
            by_zone: false,
            means: [None; 4],
        };
        let metrics = Arc::new(Metrics::new(facts, WallTime::from_nanos(0)));
        let (queue, _held) = sync_channel(2);
        let recorder = Recorder { queue, metrics: Arc::clone(&metrics), icmp_id: 1 };
        let address = Ipv4Addr::LOCALHOST.into();
        let target = Target::new(Kind::Fixed, "a".into(), address, None);
        let stream = Stream { target: Arc::new(target), protocol: Protocol::Icmp };
        let due = Instant::from_nanos(0);
        let outcome =
            Outcome { stream: StreamId(1), number: 0, due, result: ProbeResult::Lost, count: 1, sent: None };
        let clock = ClockReading {
            mono: due,
            wall: WallTime::from_nanos(0),
            suspended: Duration::ZERO,
            uncertainty: Duration::ZERO,
        };
        for _ in 0..5 {
            recorder.record(Purpose::Due, &stream, Duration::from_secs(1), &outcome, &clock);
        }
        assert_eq!(metrics.record_dropped.get(), 3);
    }
}
