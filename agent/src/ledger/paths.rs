//! Which series a stream's results go to: its own path's, as long as the budget lasts; its zone's where that is wanted.
//!
//! Fixed and named targets are what the user wrote: they are outside the budget. The rest is counted by destination:
//! a node that comes when the budget is used up is shown as `other`, with all its streams, until it leaves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::target::{Family, Kind, Protocol, Stream, Target};
use podsonar_core::time::Instant;

use crate::metrics::state::{Metrics, Path, Shown};

/// The destination of all that the budget has no room for.
const OTHER: &str = "other";

/// Series of an agent besides its paths', with a margin; a test of the golden scrape holds it.
pub(crate) const BASE_SERIES: usize = 600;

/// What tells paths apart. All addresses of a name are one path, and all pods of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Labels {
    destination: Arc<str>,
    zone: Arc<str>,
    kind: Kind,
    protocol: Protocol,
    family: Family,
    secondary: bool,
}

impl Labels {
    fn of(stream: &Stream) -> Self {
        let Target { destination, zone, kind, secondary, .. } = &*stream.target;
        let (protocol, family) = (stream.protocol, stream.family());
        let (destination, zone) = (Arc::clone(destination), Arc::clone(zone));
        Self { destination, zone, kind: *kind, protocol, family, secondary: *secondary }
    }
}

/// A path, and how many streams go over it.
#[derive(Debug)]
struct Use {
    path: Arc<Path>,
    streams: u32,
    unused_since: Instant,
}

/// The paths of all streams.
#[derive(Debug, Default)]
pub(super) struct Paths {
    used: HashMap<Labels, Use>,
    /// Histograms of whole zones, by the labels that they show.
    zones: HashMap<Labels, Use>,
    /// Streams of each node in the budget, and of each that is not.
    admitted: HashMap<Arc<str>, u32>,
    folded: HashMap<Arc<str>, u32>,
    /// Series that the paths within the budget may have.
    series: usize,
}

impl Paths {
    /// The path of a stream that is probed from now on.
    pub(super) fn join(&mut self, metrics: &Metrics, stream: &Stream, now: Instant) -> Arc<Path> {
        let shown = self.shown_stream(metrics, stream, true);
        let labels = Labels::of(&shown);
        if let Some(used) = self.used.get_mut(&labels) {
            used.streams += 1;
            return Arc::clone(&used.path);
        }
        let path = Arc::new(match round_trips_of(&shown, metrics) {
            RoundTrips::Own => metrics.path(shown, Shown::All),
            RoundTrips::Nowhere => metrics.path(shown, Shown::Counters(None)),
            RoundTrips::Zone(zone) => {
                let zone = self.join_zone(metrics, zone, now);
                metrics.path(shown, Shown::Counters(Some(zone)))
            }
        });
        metrics.add_path(Arc::clone(&path));
        self.series += cost(&path);
        self.used.insert(labels, Use { path: Arc::clone(&path), streams: 1, unused_since: now });
        path
    }

    /// A stream is probed no more. Returns its path if it was the last there.
    pub(super) fn leave(&mut self, metrics: &Metrics, stream: &Stream, now: Instant) -> Option<Arc<Path>> {
        let shown = self.shown_stream(metrics, stream, false);
        let used = self.used.get_mut(&Labels::of(&shown))?;
        used.streams = used.streams.saturating_sub(1);
        used.unused_since = now;
        (used.streams == 0).then(|| Arc::clone(&used.path))
    }

    /// Forgets what has been unused for `retain`.
    pub(super) fn expire(&mut self, metrics: &Metrics, now: Instant, retain: Duration) {
        let mut expired = Vec::new();
        self.used.retain(|_, used| {
            let gone = used.streams == 0 && now.since(used.unused_since) >= retain;
            if gone {
                expired.push(Arc::clone(&used.path));
            }
            !gone
        });
        for path in &expired {
            path.retire();
            self.series = self.series.saturating_sub(cost(path));
            let zone = path.zone().map(|zone| Labels::of(&zone.stream));
            if let Some(used) = zone.and_then(|labels| self.zones.get_mut(&labels)) {
                used.streams = used.streams.saturating_sub(1);
                used.unused_since = now;
            }
        }
        self.zones.retain(|_, used| {
            let stays = used.streams > 0;
            if !stays {
                used.path.retire();
                self.series = self.series.saturating_sub(cost(&used.path));
                expired.push(Arc::clone(&used.path));
            }
            stays
        });
        if !expired.is_empty() {
            metrics.drop_retired_paths();
        }
    }

    fn join_zone(&mut self, metrics: &Metrics, stream: Stream, now: Instant) -> Arc<Path> {
        let used = self.zones.entry(Labels::of(&stream)).or_insert_with(|| {
            let path = Arc::new(metrics.path(stream, Shown::Histogram));
            metrics.add_path(Arc::clone(&path));
            self.series += cost(&path);
            Use { path, streams: 0, unused_since: now }
        });
        used.streams += 1;
        Arc::clone(&used.path)
    }

    /// The stream as it is shown: under its own destination, or under `other`.
    fn shown_stream(&mut self, metrics: &Metrics, stream: &Stream, joins: bool) -> Stream {
        let target = &stream.target;
        if !is_budgeted(target.kind) || *target.destination == *metrics.source() {
            return stream.clone();
        }
        let (admitted, folded) = (&mut self.admitted, &mut self.folded);
        let is_folded = if folded.contains_key(&target.destination) {
            true
        } else if admitted.contains_key(&target.destination) {
            false
        } else {
            self.series + BASE_SERIES + metrics.destination_cost() > metrics.max_series()
        };
        let counts = if is_folded { folded } else { admitted };
        let streams = counts.entry(Arc::clone(&target.destination)).or_default();
        *streams = if joins { *streams + 1 } else { streams.saturating_sub(1) };
        if *streams == 0 {
            counts.remove(&target.destination);
        }
        metrics.folded.set(self.folded.len() as u64);
        if !is_folded {
            return stream.clone();
        }
        let target = Target { destination: OTHER.into(), zone: Arc::default(), ..(**target).clone() };
        Stream { target: Arc::new(target), protocol: stream.protocol }
    }
}

/// Whether a kind of target counts against the budget: what the cluster brings, not what the user writes.
const fn is_budgeted(kind: Kind) -> bool {
    match kind {
        Kind::Agent | Kind::Pod | Kind::Node => true,
        Kind::Name | Kind::Fixed | Kind::Control => false,
    }
}

/// Where a stream's round trips are shown.
enum RoundTrips {
    /// On its own path.
    Own,
    /// In the histogram of its zone.
    Zone(Stream),
    /// Nowhere: a second family has counters only.
    Nowhere,
}

fn round_trips_of(stream: &Stream, metrics: &Metrics) -> RoundTrips {
    let target = &stream.target;
    if !is_budgeted(target.kind) {
        RoundTrips::Own
    } else if target.secondary {
        RoundTrips::Nowhere
    } else if metrics.is_by_zone() {
        let target = Target { destination: Arc::default(), pod: None, ..(**target).clone() };
        RoundTrips::Zone(Stream { target: Arc::new(target), protocol: stream.protocol })
    } else {
        RoundTrips::Own
    }
}

/// The series of a path within the budget.
fn cost(path: &Path) -> usize {
    if is_budgeted(path.stream.target.kind) { path.series() } else { 0 }
}
