//! Books what the engine tells: each outcome into the metrics and, if asked for, into the record.
//!
//! The driver's thread owns the ledger. Nothing here waits: numbers are behind locks that nobody holds for longer
//! than a copy, and the record's queue drops what does not fit.

mod budget;
mod faults;
mod inbound;
mod paths;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::engine::{Fetched, PathMtuFinding, Question};
use podsonar_core::health::{Health, Signs};
use podsonar_core::outcome::{LateHint, Outcome, Rtt, Sent, StampSource, Stray};
use podsonar_core::query::QueryResult;
use podsonar_core::shape::Shape;
use podsonar_core::target::{Kind, Planned, Protocol, Stream, StreamId, Target};
use podsonar_core::time::{ClockReading, Instant};
use podsonar_core::wire::{Channel, Reject};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc::UnboundedSender;

use self::budget::Budget;
use self::inbound::Edges;
use self::paths::{Paths, Place};
use crate::condition::{Condition, Heard, Streak};
use crate::metrics::state::{Metrics, verdict};
use crate::record::{Purpose, Recorder};

/// How often removed streams' series are looked through.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);

/// What the driver says about itself once a tick.
#[derive(Debug, Clone, PartialEq)]
pub struct TickReport {
    /// The time of the tick.
    pub now: Instant,
    /// How late the latest probe of this tick was; `None` if nothing was due.
    pub lag: Option<Duration>,
    /// Time since the last tick that the driver did not mean to sleep.
    pub overslept: Duration,
    /// Probes sent and without result.
    pub in_flight: usize,
    /// Losses that wait for their confirmation.
    pub held: usize,
    /// Probes that fall due each second.
    pub probes_per_second: f64,
    /// Packets dropped by each channel's socket since it was opened, by [`Channel::index`].
    pub drops: [u64; Channel::ALL.len()],
    /// Packets rejected so far, by [`Reject::ALL`].
    pub rejects: [u64; Reject::ALL.len()],
    /// Jumps of the wall clock so far.
    pub clock_jumps: u64,
}

/// The driver's book of results.
#[derive(Debug)]
pub struct Ledger {
    metrics: Arc<Metrics>,
    recorder: Option<Recorder>,
    retain: Duration,
    now: Instant,
    next_expiry: Instant,
    health: Health,
    /// The streams by [`StreamId::slot`].
    live: Vec<Option<Entry>>,
    /// Where results of questions to name servers go, a tick's together.
    queries: Option<UnboundedSender<Vec<Queried>>>,
    queried: Vec<Queried>,
    /// Where the ends of fetches go.
    fetches: Option<UnboundedSender<FetchedFrom>>,
    budget: Budget,
    paths: Paths,
    targets: HashMap<Arc<Target>, Condition>,
    edges: Edges,
}

/// A question that has ended, and how.
pub type Queried = (Arc<Question>, QueryResult);

/// A fetch that has ended: of which node, and how.
pub type FetchedFrom = (Arc<str>, Fetched);

/// A stream that is probed.
#[derive(Debug)]
struct Entry {
    id: StreamId,
    stream: Stream,
    /// What each result needs to know of the stream, here because the target itself is far away in memory.
    kind: Kind,
    channel: Option<Channel>,
    place: Place,
    interval: Duration,
    shape: Shape,
    streak: Streak,
    finding: Option<PathMtuFinding>,
    dead_flows: u32,
}

impl Ledger {
    /// A ledger without streams, at the time of `now`. Series of a removed stream stay for `retain`: a counter that
    /// vanishes between two scrapes loses its last step.
    pub fn new(metrics: Arc<Metrics>, recorder: Option<Recorder>, retain: Duration, now: Instant) -> Self {
        Self {
            metrics,
            recorder,
            retain,
            now,
            next_expiry: now + EXPIRE_EVERY,
            health: Health::new(now),
            live: Vec::new(),
            queries: None,
            queried: Vec::new(),
            fetches: None,
            budget: Budget::default(),
            paths: Paths::default(),
            targets: HashMap::new(),
            edges: Edges::default(),
        }
    }

    /// Results of questions to name servers go there.
    #[must_use]
    pub fn with_queries(self, queries: UnboundedSender<Vec<Queried>>) -> Self {
        Self { queries: Some(queries), ..self }
    }

    /// The ends of fetches go there: each that fell due once.
    #[must_use]
    pub fn with_fetches(self, fetches: UnboundedSender<FetchedFrom>) -> Self {
        Self { fetches: Some(fetches), ..self }
    }

    /// The agent's own health as of the last tick: whether it may name culprits, and what is wrong with it.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// A stream is probed from now on: its series appear, or go on if they were here lately.
    pub fn added(&mut self, id: StreamId, planned: &Planned) {
        let stream = &planned.stream;
        let entry = Entry {
            id,
            stream: stream.clone(),
            kind: stream.target.kind,
            channel: stream.channel(),
            place: self.paths.join(&mut self.budget, &self.metrics, stream, self.now),
            interval: planned.interval,
            shape: Shape::default(),
            streak: Streak::default(),
            finding: None,
            dead_flows: 0,
        };
        if let Some(group) = self.metrics.group(stream) {
            group.mark_used();
        }
        if self.live.len() <= id.slot() {
            self.live.resize_with(id.slot() + 1, || None);
        }
        if let Some(place) = self.live.get_mut(id.slot()) {
            *place = Some(entry);
        }
        self.set_condition(&stream.clone(), Some(Heard::Nothing));
    }

    /// A stream is no longer probed. Its counters and histograms stay for the retain period, gauges go at once.
    pub fn removed(&mut self, id: StreamId, now: Instant) {
        let place = self.live.get_mut(id.slot());
        let Some(entry) = place.and_then(|place| place.take_if(|entry| entry.id == id)) else { return };
        self.forget_faults(&entry);
        let shown = (&entry.stream, &entry.place);
        let unused = self.paths.leave(&mut self.budget, &self.metrics, shown, now);
        if let Some(shape) = unused.as_ref().and_then(|path| path.shape.as_ref()) {
            shape.leave();
        }
        self.set_condition(&entry.stream, None);
    }

    /// A probe that fell due has its result; `clock` tells where its times lie on the wall clock.
    pub fn outcome(&mut self, outcome: &Outcome, clock: &ClockReading) {
        let Some(entry) = find(&mut self.live, outcome.stream) else { return };
        let stream = &entry.stream;
        self.health.note(entry.kind, outcome);
        if entry.kind != Kind::Control {
            self.metrics.glance.note(outcome.result, outcome.count);
        }
        let news = entry.streak.note(outcome.result, self.health.gives_verdicts());
        match verdict(outcome.result) {
            Ok(answer) => {
                let observed = match outcome.result.rtt() {
                    Some(Rtt::Observed(rtt)) => Some(rtt),
                    Some(Rtt::Estimated(_) | Rtt::Unmeasured) | None => None,
                };
                entry.place.path.count(answer, observed);
                if let (Some(Rtt::Estimated(took)), Protocol::Connect) =
                    (outcome.result.rtt(), stream.protocol)
                {
                    self.metrics.observe_connect(&entry.place.path, took, self.health.control_is_good());
                }
                if let (Some(shape), Some(rtt)) = (&entry.place.path.shape, observed) {
                    shape.note_rtt(rtt, clock.mono);
                }
            }
            Err(reason) => {
                if let Some(group) = self.metrics.group(stream)
                    && let Some(count) = group.void.get(reason as usize)
                {
                    count.inc_by(outcome.count);
                }
            }
        }
        if entry.place.path.shape.is_some() {
            let mut tell = |finding| self.metrics.count_finding(&entry.place.path, finding);
            entry.shape.note(outcome, clock.mono, &mut tell);
        }
        if let (Some(sent), Some(channel)) = (&outcome.sent, entry.channel) {
            count_stamps(&self.metrics, channel, sent);
        }
        if let Some(recorder) = &self.recorder {
            recorder.record(Purpose::Due, stream, entry.interval, outcome, clock);
        }
        if let Some(heard) = news {
            let stream = stream.clone();
            self.set_condition(&stream, Some(heard));
        }
    }

    fn record(&mut self, purpose: Purpose, outcome: &Outcome, clock: &ClockReading) {
        let Some(entry) = find(&mut self.live, outcome.stream) else { return };
        if let Some(recorder) = &self.recorder {
            recorder.record(purpose, &entry.stream, entry.interval, outcome, clock);
        }
    }

    /// An answer came that is no result.
    pub fn stray(&mut self, stream: StreamId, stray: Stray) {
        let Some(entry) = find(&mut self.live, stream) else { return };
        let Some(group) = self.metrics.group(&entry.stream) else { return };
        match stray {
            Stray::Duplicate => {
                group.duplicates.inc();
            }
            Stray::Late(hint) => {
                if let Some(place) = LateHint::ALL.iter().position(|each| *each == hint)
                    && let Some(count) = group.late.get(place)
                {
                    count.inc();
                }
            }
        }
    }

    /// Once a tick: shows that the driver lives, and what it says about itself.
    pub fn tick(&mut self, report: &TickReport) {
        self.hand_over();
        let metrics = &self.metrics;
        self.now = report.now;
        metrics.heartbeat.set(report.now.as_nanos());
        if let Some(lag) = report.lag {
            metrics.schedule_lag.observe(lag.as_secs_f64());
        }
        metrics.in_flight.set(report.in_flight as u64);
        metrics.held.set(report.held as u64);
        metrics.probes_per_second.set(report.probes_per_second);
        raise(&metrics.clock_jumps, report.clock_jumps);
        for (count, total) in metrics.drops.iter().zip(report.drops) {
            raise(count, total);
        }
        for (count, total) in metrics.rejects.iter().zip(report.rejects) {
            raise(count, total);
        }
        self.health.tick(&Signs {
            now: report.now,
            overslept: report.overslept,
            drops: report.drops.iter().sum(),
            clock_jumps: report.clock_jumps,
            throttling: metrics.throttling(),
        });
        metrics.health.show(&self.health);
        if report.now >= self.next_expiry {
            self.next_expiry = report.now + EXPIRE_EVERY;
            self.paths.expire(&mut self.budget, &self.metrics, self.now, self.retain);
            self.edges.expire(&mut self.budget, &self.metrics, self.now, self.retain);
        }
    }
}

/// The stream's entry, unless it was removed.
fn find(live: &mut [Option<Entry>], id: StreamId) -> Option<&mut Entry> {
    live.get_mut(id.slot())?.as_mut().filter(|entry| entry.id == id)
}

fn count_stamps(metrics: &Metrics, channel: Channel, sent: &Sent) {
    let Some(stamps) = metrics.stamps.get(channel.index()) else { return };
    let place = |source: StampSource| StampSource::ALL.iter().position(|each| *each == source);
    if let Some(count) = place(sent.tx).and_then(|place| stamps.tx.get(place)) {
        count.inc();
    }
    if let Some(count) = sent.rx.and_then(place).and_then(|place| stamps.rx.get(place)) {
        count.inc();
    }
}

/// Brings a counter up to a total that somebody else counts.
fn raise(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
