//! What the metrics count: written by the driver's thread through the [`Ledger`](crate::ledger::Ledger), read by
//! scrapes. Neither waits for the other longer than it takes to copy one path's histogram.

use std::array;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use podsonar_core::config::Buckets;
use podsonar_core::exchange::FetchResult;
use podsonar_core::outcome::{LateHint, ProbeResult, StampSource, Void};
use podsonar_core::target::{Family, Kind, Protocol, Stream};
use podsonar_core::time::WallTime;
use podsonar_core::wire::{Channel, Reject};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};

use crate::condition::State;
use crate::degrade::MeansByChannel;
use crate::glance::Glance;

use super::dns::Dns;
use super::exchange::Exchange;
use super::faults::{Extras, PathFaults, Unhealthy};
use super::health::Wellbeing;
use super::inbound::{EDGE_SERIES, Inbound};
use super::labels::Label;
use super::list::List;
use super::local::LocalAnswers;
use super::mesh::MeshMetrics;
use super::places::Places;
use super::reload::Reloads;
use super::shape::{GroupShape, PathShape};
use super::{LAG_BOUNDS, NATIVE_FACTOR};

/// Nothing that is counted here falls below zero.
pub(crate) type Gauge<N = u64> = gauge::Gauge<N, AtomicU64>;

/// All that a scrape shows.
#[derive(Debug)]
pub struct Metrics {
    pub(super) facts: Facts,
    pub(super) started: WallTime,
    /// The paths that are shown.
    paths: List<Path>,
    pub(super) groups: [[[Group; Kind::ALL.len()]; Family::ALL.len()]; Protocol::ALL.len()],
    pub(crate) stamps: [Stamps; Channel::ALL.len()],
    /// By kind and state.
    pub(crate) targets: [[Gauge; State::ALL.len()]; Kind::ALL.len()],
    pub(crate) unresolved: Gauge,
    /// Destinations that the budget shows as one.
    pub(crate) folded: Gauge,
    pub(crate) unhealthy: Unhealthy,
    pub(crate) places: Places,
    /// What happened since somebody last looked.
    pub glance: Glance,
    /// Handshakes that were answered while the control was bad, so that their duration says nothing.
    pub(crate) connects_unobserved: Counter,
    pub(crate) drops: [Counter; Channel::ALL.len()],
    pub(crate) rejects: [Counter; Reject::ALL.len()],
    pub(crate) clock_jumps: Counter,
    pub(crate) health: Wellbeing,
    pub(crate) in_flight: Gauge,
    pub(crate) held: Gauge,
    pub(crate) probes_per_second: Gauge<f64>,
    pub(crate) schedule_lag: Histogram,
    /// The last tick on the monotonic clock in nanoseconds; zero before the first.
    pub(crate) heartbeat: Gauge,
    pub(crate) record_dropped: Counter,
    pub(crate) scrapes_in_progress: Gauge,
    pub(crate) scrapes_refused: Counter,
    pub(crate) reloads: Reloads,
    pub(crate) dns: Dns,
    pub(crate) exchange: Exchange,
    pub(crate) inbound: Inbound,
    pub(crate) local: LocalAnswers,
    pub(crate) mesh: MeshMetrics,
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
    /// Bounds of the histograms.
    pub buckets: Buckets,
    /// Most series; fixed targets and names are exempt.
    pub max_series: u32,
    /// Whether round trips to pods and agents are shown by zone instead of by node.
    pub by_zone: bool,
    /// How each channel is probed, by [`Channel::index`]; `None` where it is not needed.
    pub means: MeansByChannel,
}

impl Facts {
    pub(super) fn has_socket(&self, channel: Channel) -> bool {
        self.receive_buffers.get(channel.index()).is_some_and(Option::is_some)
    }
}

impl Metrics {
    /// Metrics of an agent that starts at `started`.
    pub fn new(facts: Facts, started: WallTime) -> Self {
        let group = |_| Group::new(&facts.buckets);
        Self {
            groups: array::from_fn(|_| array::from_fn(|_| array::from_fn(group))),
            facts,
            started,
            paths: List::default(),
            stamps: Default::default(),
            targets: Default::default(),
            unresolved: Gauge::default(),
            folded: Gauge::default(),
            unhealthy: Unhealthy::default(),
            places: Places::default(),
            glance: Glance::default(),
            connects_unobserved: Counter::default(),
            drops: Default::default(),
            rejects: Default::default(),
            clock_jumps: Counter::default(),
            health: Wellbeing::default(),
            in_flight: Gauge::default(),
            held: Gauge::default(),
            probes_per_second: Gauge::default(),
            schedule_lag: Histogram::new(LAG_BOUNDS),
            heartbeat: Gauge::default(),
            record_dropped: Counter::default(),
            scrapes_in_progress: Gauge::default(),
            scrapes_refused: Counter::default(),
            reloads: Reloads::default(),
            dns: Dns::default(),
            exchange: Exchange::default(),
            inbound: Inbound::default(),
            local: LocalAnswers::default(),
            mesh: MeshMetrics::default(),
        }
    }

    /// So many names to be probed have no address.
    pub(crate) fn set_unresolved(&self, names: usize) {
        self.unresolved.set(names as u64);
    }

    /// Targets by state, in words: only states that some target is in.
    pub fn targets_in_words(&self) -> String {
        let count = |state: State| {
            let by_kind = self.targets.iter().zip(Kind::ALL).filter(|(_, kind)| *kind != Kind::Control);
            by_kind.filter_map(|(states, _)| states.get(state as usize)).map(Gauge::get).sum::<u64>()
        };
        let states = State::ALL.map(|state| (count(state), state.label()));
        let unresolved = (self.unresolved.get(), "unresolved");
        let words = states.into_iter().chain([unresolved]).filter(|(count, _)| *count > 0);
        words.map(|(count, label)| format!("{count} {label}")).collect::<Vec<_>>().join(", ")
    }

    /// The paths as they are now.
    pub(crate) fn paths(&self) -> Arc<Vec<Arc<Path>>> {
        self.paths.all()
    }

    /// A path without observations, not listed yet.
    pub(crate) fn path(&self, stream: Stream, shown: Shown) -> Path {
        Path::new(stream, shown, &self.facts.buckets)
    }

    /// What is known of the mesh.
    pub fn mesh(&self) -> &MeshMetrics {
        &self.mesh
    }

    /// The label `source`.
    pub(crate) fn source(&self) -> &str {
        &self.facts.source
    }

    /// The label `source_zone`.
    pub(crate) fn zone(&self) -> &str {
        &self.facts.zone
    }

    /// Whether histograms are those of zones, not of nodes.
    pub(crate) fn is_by_zone(&self) -> bool {
        self.facts.by_zone
    }

    /// The most series.
    pub(crate) fn max_series(&self) -> usize {
        self.facts.max_series as usize
    }

    /// The series of one more node, about: ICMP to agent, node and pods, and TCP to pods; and the way from it.
    pub(crate) fn node_series(&self) -> usize {
        self.other_series() - if self.facts.by_zone { self.zone_series() } else { 0 }
    }

    /// The series of all nodes that are shown as one.
    pub(crate) fn other_series(&self) -> usize {
        self.zone_series() + 3 * ICMP_COUNTERS + TCP_COUNTERS + AGENT_SHAPE + EDGE_SERIES
    }

    /// The series of a node's histograms, or of a zone's.
    pub(crate) fn zone_series(&self) -> usize {
        4 * (self.facts.buckets.rtt.len() + HISTOGRAM)
    }

    /// The series of fetches, which are by zone.
    pub(crate) fn fetch_series(&self) -> usize {
        self.exchange.zones() * (self.facts.buckets.http.len() + HISTOGRAM + FetchResult::ALL.len())
    }

    /// The series of a histogram of a stream's round trips.
    pub(crate) fn histogram_series(&self, stream: &Stream) -> usize {
        rtt_bounds(stream, &self.facts.buckets).len() + HISTOGRAM
    }

    /// Shows a further path.
    pub(crate) fn add_path(&self, path: Arc<Path>) {
        self.paths.add(path);
    }

    /// Shows retired paths no longer.
    pub(crate) fn drop_retired_paths(&self) {
        self.paths.retain(|path| !path.retired.load(Relaxed));
    }

    /// A handshake took so long by this process' clock; unless that clock is not to be trusted.
    pub(crate) fn observe_connect(&self, path: &Path, took: Duration, trusted: bool) {
        if trusted {
            path.observe(took);
        } else {
            self.connects_unobserved.inc();
        }
    }

    /// The group that a stream belongs to.
    pub(crate) fn group(&self, stream: &Stream) -> Option<&Group> {
        let families = self.groups.get(stream.protocol as usize)?;
        families.get(stream.family() as usize)?.get(stream.target.kind as usize)
    }
}

/// Series of a histogram besides its bounds: the last bucket, sum and count.
const HISTOGRAM: usize = 3;

/// Counters of a path by ICMP: reply, lost, unreachable.
const ICMP_COUNTERS: usize = 3;

/// Counters of a path by TCP, about: beside these also reset and listener.
const TCP_COUNTERS: usize = 4;

/// Episodes, floor and path MTU of a path to an agent.
const AGENT_SHAPE: usize = 3;

/// The bounds of a stream's round trips, or of its handshakes.
fn rtt_bounds<'a>(stream: &Stream, buckets: &'a Buckets) -> &'a [f64] {
    match stream.protocol {
        Protocol::Icmp | Protocol::Tcp => &buckets.rtt,
        Protocol::Connect => &buckets.connect,
    }
}

/// The series of a path besides its round trips, about.
pub(crate) fn counter_series(stream: &Stream) -> usize {
    let counters = match stream.protocol {
        Protocol::Icmp => ICMP_COUNTERS,
        Protocol::Tcp | Protocol::Connect => TCP_COUNTERS,
    };
    counters + PathShape::of(stream).map_or(0, |shape| shape.series())
}

/// What a path shows.
#[derive(Debug)]
pub(crate) enum Shown {
    /// Counters, gauges and round trips.
    All,
    /// No round trips; they are observed on another path, or nowhere.
    Counters(Option<Arc<Path>>),
    /// Round trips alone: those of all paths to a zone.
    Histogram,
}

/// One stream's series: they outlive the stream by the retain period.
#[derive(Debug)]
pub(crate) struct Path {
    pub(super) shown: Shown,
    pub(crate) stream: Stream,
    pub(super) answers: [AtomicU64; Answer::ALL.len()],
    /// Round trips; of handshakes how long they took.
    pub(super) rtt: Histogram,
    rtt_bounds: usize,
    pub(crate) faults: PathFaults,
    /// What is shown of its losses and its floor; `None` for control.
    pub(crate) shape: Option<PathShape>,
    retired: AtomicBool,
}

impl Path {
    fn new(stream: Stream, shown: Shown, buckets: &Buckets) -> Self {
        let native = NativeHistogramConfig::new(NATIVE_FACTOR);
        let bounds = rtt_bounds(&stream, buckets);
        Self {
            shape: PathShape::of(&stream),
            shown,
            stream,
            answers: Default::default(),
            rtt_bounds: bounds.len(),
            rtt: Histogram::new_classic_and_native(bounds.iter().copied(), native),
            faults: PathFaults::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// The path that its round trips are observed on, if it is another one.
    pub(crate) fn zone(&self) -> Option<&Arc<Self>> {
        match &self.shown {
            Shown::Counters(zone) => zone.as_ref(),
            Shown::All | Shown::Histogram => None,
        }
    }

    /// How many series it has, about.
    pub(crate) fn series(&self) -> usize {
        let histogram = self.rtt_bounds + HISTOGRAM;
        match self.shown {
            Shown::All => histogram + counter_series(&self.stream),
            Shown::Counters(_) => counter_series(&self.stream),
            Shown::Histogram => histogram,
        }
    }

    /// A round trip, or how long a handshake took.
    pub(crate) fn observe(&self, time: Duration) {
        match &self.shown {
            Shown::All | Shown::Histogram => self.rtt.observe(time.as_secs_f64()),
            Shown::Counters(Some(zone)) => zone.observe(time),
            Shown::Counters(None) => {}
        }
    }

    /// Its series may go.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    /// Counts an answer of the network, with its round trip if the kernel stamped it.
    pub(crate) fn count(&self, answer: Answer, rtt: Option<Duration>) {
        if let Some(count) = self.answers.get(answer as usize) {
            count.fetch_add(1, Relaxed);
        }
        if let Some(rtt) = rtt {
            self.observe(rtt);
        }
    }

    pub(super) fn labels<'a>(&'a self, facts: &'a Facts) -> [Label<'a>; 7] {
        let target = &self.stream.target;
        [
            ("protocol", self.stream.protocol.label()),
            ("family", self.stream.family().label()),
            ("kind", target.kind.label()),
            ("source", &facts.source),
            ("source_zone", &facts.zone),
            ("destination", &target.destination),
            ("destination_zone", &target.zone),
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
    Listener,
}

impl Answer {
    pub(crate) const ALL: [Self; 5] =
        [Self::Reply, Self::Reset, Self::Lost, Self::Unreachable, Self::Listener];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Reset => "reset",
            Self::Lost => "lost",
            Self::Unreachable => "unreachable",
            Self::Listener => "listener",
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
    Intercepted,
}

impl VoidReason {
    pub(crate) const ALL: [Self; 5] =
        [Self::NotSent, Self::Skipped, Self::Unknown, Self::Discarded, Self::Intercepted];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Skipped => "skipped",
            Self::Unknown => "unknown",
            Self::Discarded => "discarded",
            Self::Intercepted => "intercepted",
        }
    }
}

/// Which of the two counters a result moves.
pub(crate) const fn verdict(result: ProbeResult) -> Result<Answer, VoidReason> {
    match result {
        ProbeResult::Reply(_) => Ok(Answer::Reply),
        ProbeResult::Reset(_) => Ok(Answer::Reset),
        ProbeResult::Lost => Ok(Answer::Lost),
        ProbeResult::Listener => Ok(Answer::Listener),
        ProbeResult::Unreachable(_) => Ok(Answer::Unreachable),
        ProbeResult::Void(Void::NotSent(_)) => Err(VoidReason::NotSent),
        ProbeResult::Void(Void::Skipped) => Err(VoidReason::Skipped),
        ProbeResult::Void(Void::Unknown) => Err(VoidReason::Unknown),
        ProbeResult::Void(Void::Discarded) => Err(VoidReason::Discarded),
        ProbeResult::Void(Void::Intercepted) => Err(VoidReason::Intercepted),
    }
}

/// What is counted for a protocol, family and kind, without destination.
#[derive(Debug)]
pub(crate) struct Group {
    used: AtomicBool,
    pub(crate) void: [Counter; VoidReason::ALL.len()],
    pub(crate) late: [Counter; LateHint::ALL.len()],
    pub(crate) duplicates: Counter,
    pub(super) shape: GroupShape,
    pub(crate) extras: Extras,
    /// How long new pods took to answer for the first time, and how many did not for a minute.
    pub(crate) first_replies: Histogram,
    pub(crate) first_reply_timeouts: Counter,
}

impl Group {
    fn new(buckets: &Buckets) -> Self {
        Self {
            used: AtomicBool::new(false),
            void: Default::default(),
            late: Default::default(),
            duplicates: Counter::default(),
            shape: GroupShape::new(buckets),
            extras: Extras::default(),
            first_replies: Histogram::new(buckets.first_reply.iter().copied()),
            first_reply_timeouts: Counter::default(),
        }
    }

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
    pub(crate) tx: [Counter; StampSource::ALL.len()],
    pub(crate) rx: [Counter; StampSource::ALL.len()],
}

/// A list is never left half written, so a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
