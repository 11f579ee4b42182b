//! What the metrics count: written by the driver's thread through the [`Ledger`](crate::ledger::Ledger), read by
//! scrapes. Neither waits for the other longer than it takes to copy one path's numbers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use podsonar_core::outcome::{LateHint, ProbeResult, StampSource, Void};
use podsonar_core::target::{Kind, Stream};
use podsonar_core::time::WallTime;
use podsonar_core::wire::{Channel, Reject};

use super::RTT_BOUNDS;
use super::encode::Label;
use super::histogram::{Bound, Classic, Native};

/// Buckets of `podsonar_schedule_lag_seconds`.
pub(super) const LAG_BOUNDS: [Bound; 7] = [
    Bound { nanos: 1_000_000, le: "0.001" },
    Bound { nanos: 5_000_000, le: "0.005" },
    Bound { nanos: 10_000_000, le: "0.01" },
    Bound { nanos: 50_000_000, le: "0.05" },
    Bound { nanos: 100_000_000, le: "0.1" },
    Bound { nanos: 500_000_000, le: "0.5" },
    Bound { nanos: 2_500_000_000, le: "2.5" },
];

/// All that a scrape shows.
#[derive(Debug)]
pub struct Metrics {
    pub(super) facts: Facts,
    pub(super) started: WallTime,
    /// Copied only when a path comes or goes while a scrape holds the list.
    paths: Mutex<Arc<Vec<Arc<Path>>>>,
    pub(super) groups: [[Group; Kind::ALL.len()]; Channel::ALL.len()],
    pub(crate) stamps: [Stamps; Channel::ALL.len()],
    pub(crate) targets: [Count; Kind::ALL.len()],
    pub(crate) drops: [Count; Channel::ALL.len()],
    pub(crate) rejects: [Count; Reject::ALL.len()],
    pub(crate) clock_jumps: Count,
    pub(crate) in_flight: Count,
    pub(crate) probes_per_second: Level,
    lag: Mutex<Classic<{ LAG_BOUNDS.len() }>>,
    /// The last tick on the monotonic clock in nanoseconds; zero before the first.
    pub(crate) heartbeat: Count,
    pub(crate) record_dropped: Count,
    pub(crate) scrapes_in_progress: Count,
    pub(crate) scrapes_refused: Count,
}

/// What is known when the agent starts and never changes.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The agent's node: label `source`.
    pub source: String,
    /// Its zone: label `source_zone`.
    pub zone: String,
    /// The agent's version.
    pub version: &'static str,
    /// Receive buffer granted to each channel's socket, in bytes, by [`Channel::index`]; `None` without socket.
    pub receive_buffers: [Option<u64>; Channel::ALL.len()],
}

impl Facts {
    pub(super) fn has_socket(&self, channel: Channel) -> bool {
        self.receive_buffers.get(channel.index()).is_some_and(Option::is_some)
    }
}

impl Metrics {
    /// Metrics of an agent that starts at `started`.
    pub fn new(facts: Facts, started: WallTime) -> Self {
        Self {
            facts,
            started,
            paths: Mutex::default(),
            groups: Default::default(),
            stamps: Default::default(),
            targets: Default::default(),
            drops: Default::default(),
            rejects: Default::default(),
            clock_jumps: Count::default(),
            in_flight: Count::default(),
            probes_per_second: Level::default(),
            lag: Mutex::default(),
            heartbeat: Count::default(),
            record_dropped: Count::default(),
            scrapes_in_progress: Count::default(),
            scrapes_refused: Count::default(),
        }
    }

    /// How many targets are probed now.
    pub fn targets(&self) -> u64 {
        self.targets.iter().map(Count::get).sum()
    }

    /// The paths as they are now.
    pub(super) fn paths(&self) -> Arc<Vec<Arc<Path>>> {
        Arc::clone(&lock(&self.paths))
    }

    /// Shows a further path.
    pub(crate) fn add_path(&self, path: Arc<Path>) {
        Arc::make_mut(&mut lock(&self.paths)).push(path);
    }

    /// Shows retired paths no longer.
    pub(crate) fn drop_retired_paths(&self) {
        Arc::make_mut(&mut lock(&self.paths)).retain(|path| !path.retired.load(Relaxed));
    }

    pub(crate) fn group(&self, channel: Channel, kind: Kind) -> Option<&Group> {
        self.groups.get(channel.index())?.get(kind as usize)
    }

    pub(crate) fn observe_lag(&self, nanos: u64) {
        lock(&self.lag).observe(&LAG_BOUNDS, nanos);
    }

    pub(super) fn schedule_lag(&self) -> Classic<{ LAG_BOUNDS.len() }> {
        lock(&self.lag).clone()
    }
}

/// One stream's series: they outlive the stream by the retain period.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) stream: Stream,
    /// When it was first probed: the created timestamp of its series.
    pub(crate) created: WallTime,
    retired: AtomicBool,
    tallies: Mutex<Tallies>,
}

/// The numbers of a path.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) answers: [u64; Answer::ALL.len()],
    pub(crate) rtt: Classic<{ RTT_BOUNDS.len() }>,
    pub(crate) native: Native,
}

impl Path {
    pub(crate) fn new(stream: Stream, created: WallTime) -> Self {
        Self { stream, created, retired: AtomicBool::new(false), tallies: Mutex::default() }
    }

    /// Its series may go.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    /// Counts an answer of the network, with its round trip in nanoseconds if the kernel stamped it.
    pub(crate) fn count(&self, answer: Answer, rtt: Option<u64>) {
        let mut tallies = lock(&self.tallies);
        if let Some(count) = tallies.answers.get_mut(answer as usize) {
            *count += 1;
        }
        if let Some(nanos) = rtt {
            tallies.rtt.observe(&RTT_BOUNDS, nanos);
            tallies.native.observe(nanos);
        }
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Tallies) -> T) -> T {
        read(&lock(&self.tallies))
    }

    pub(super) fn labels<'a>(&'a self, facts: &'a Facts) -> [Label<'a>; 7] {
        let target = &self.stream.target;
        [
            ("protocol", self.stream.protocol.label()),
            ("family", self.stream.family().label()),
            ("kind", target.kind.label()),
            ("source", &facts.source),
            ("source_zone", &facts.zone),
            ("destination", &target.written),
            ("destination_zone", ""),
        ]
    }
}

/// What the network did with a probe: the label `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Reply,
    Reset,
    Lost,
    Unreachable,
}

impl Answer {
    pub(crate) const ALL: [Self; 4] = [Self::Reply, Self::Reset, Self::Lost, Self::Unreachable];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Reset => "reset",
            Self::Lost => "lost",
            Self::Unreachable => "unreachable",
        }
    }

    pub(crate) const fn starts_at_zero(self) -> bool {
        matches!(self, Self::Reply | Self::Lost)
    }
}

/// Why a probe says nothing: the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VoidReason {
    NotSent,
    Skipped,
    Unknown,
    Discarded,
}

impl VoidReason {
    pub(crate) const ALL: [Self; 4] = [Self::NotSent, Self::Skipped, Self::Unknown, Self::Discarded];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Skipped => "skipped",
            Self::Unknown => "unknown",
            Self::Discarded => "discarded",
        }
    }
}

/// Which of the two counters a result moves.
pub(crate) const fn verdict(result: ProbeResult) -> Result<Answer, VoidReason> {
    match result {
        ProbeResult::Reply(_) => Ok(Answer::Reply),
        ProbeResult::Reset(_) => Ok(Answer::Reset),
        ProbeResult::Lost => Ok(Answer::Lost),
        ProbeResult::Unreachable(_) => Ok(Answer::Unreachable),
        ProbeResult::Void(Void::NotSent(_)) => Err(VoidReason::NotSent),
        ProbeResult::Void(Void::Skipped) => Err(VoidReason::Skipped),
        ProbeResult::Void(Void::Unknown) => Err(VoidReason::Unknown),
        ProbeResult::Void(Void::Discarded) => Err(VoidReason::Discarded),
    }
}

/// What is counted for a protocol, family and kind, without destination.
#[derive(Debug, Default)]
pub(crate) struct Group {
    used: AtomicBool,
    pub(crate) void: [Count; VoidReason::ALL.len()],
    pub(crate) late: [Count; LateHint::ALL.len()],
    pub(crate) duplicates: Count,
}

impl Group {
    pub(crate) fn mark_used(&self) {
        self.used.store(true, Relaxed);
    }

    pub(super) fn is_used(&self) -> bool {
        self.used.load(Relaxed)
    }
}

/// Stamps of a channel's probes and answers, by [`StampSource::ALL`].
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    pub(crate) tx: [Count; StampSource::ALL.len()],
    pub(crate) rx: [Count; StampSource::ALL.len()],
}

/// A whole number that one thread writes and any may read.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    pub(crate) fn subtract(&self, by: u64) {
        self.0.fetch_sub(by, Relaxed);
    }

    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A real number that one thread writes and any may read.
#[derive(Debug, Default)]
pub(crate) struct Level(AtomicU64);

impl Level {
    pub(crate) fn set(&self, to: f64) {
        self.0.store(to.to_bits(), Relaxed);
    }

    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

/// Plain numbers are never left half written, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
