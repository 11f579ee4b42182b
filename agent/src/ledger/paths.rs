//! Which series a stream's results go to: its own path's, as long as the budget lasts; its zone's where that is wanted.
//!
//! Fixed and named targets are what the user wrote: they are outside the budget.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::target::{Family, Kind, Protocol, Stream, Target};
use podsonar_core::time::Instant;

use super::budget::{Budget, OTHER};
use crate::metrics::state::{Metrics, Path, Shown, counter_series};

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

/// Where a stream is shown.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its path.
    pub(super) path: Arc<Path>,
    /// Whether that is the path of `other` nodes.
    folded: bool,
}

/// The paths of all streams.
#[derive(Debug, Default)]
pub(super) struct Paths {
    used: HashMap<Labels, Use>,
    /// Histograms of whole zones, by the labels that they show.
    zones: HashMap<Labels, Use>,
}

impl Paths {
    /// The path of a stream that is probed from now on.
    pub(super) fn join(
        &mut self,
        budget: &mut Budget,
        metrics: &Metrics,
        stream: &Stream,
        now: Instant,
    ) -> Place {
        if let Some(path) = self.again(stream) {
            return Place { path, folded: false };
        }
        let folded = !Self::admit(budget, metrics, stream);
        if !folded {
            return Place { path: self.begin(budget, metrics, stream.clone(), now), folded };
        }
        // A family may be the second one of some nodes alone: they are shown together all the same.
        let other = |secondary| {
            let (destination, zone) = (OTHER.into(), Arc::default());
            let target = Target { destination, zone, secondary, ..(*stream.target).clone() };
            Stream { target: Arc::new(target), protocol: stream.protocol }
        };
        let secondary = stream.target.secondary;
        let path = self.again(&other(secondary)).or_else(|| self.again(&other(!secondary)));
        let path = path.unwrap_or_else(|| self.begin(budget, metrics, other(secondary), now));
        Place { path, folded }
    }

    /// A stream is probed no more. Returns its path if it was the last there.
    pub(super) fn leave(
        &mut self,
        budget: &mut Budget,
        metrics: &Metrics,
        (stream, place): (&Stream, &Place),
        now: Instant,
    ) -> Option<Arc<Path>> {
        if place.folded {
            budget.unfold(metrics, &stream.target.destination);
        }
        let used = self.used.get_mut(&Labels::of(&place.path.stream))?;
        used.streams = used.streams.saturating_sub(1);
        used.unused_since = now;
        (used.streams == 0).then(|| Arc::clone(&used.path))
    }

    /// Forgets what has been unused for `retain`.
    pub(super) fn expire(&mut self, budget: &mut Budget, metrics: &Metrics, now: Instant, retain: Duration) {
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
            match whose(&path.stream, metrics) {
                Whose::Node(node) => budget.release(metrics, node, path.series()),
                Whose::Own => budget.refund(path.series()),
                Whose::Other | Whose::User => {}
            }
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
                budget.refund_zone(metrics, &used.path.stream.target.zone, used.path.series());
                expired.push(Arc::clone(&used.path));
            }
            stays
        });
        if !expired.is_empty() {
            metrics.drop_retired_paths();
        }
    }

    /// The path that such streams have already.
    fn again(&mut self, stream: &Stream) -> Option<Arc<Path>> {
        let used = self.used.get_mut(&Labels::of(stream))?;
        used.streams += 1;
        Some(Arc::clone(&used.path))
    }

    /// Whether there is room for a new path of its own name.
    fn admit(budget: &mut Budget, metrics: &Metrics, stream: &Stream) -> bool {
        let histogram = metrics.histogram_series(stream);
        let (cost, zone) = match round_trips_of(stream, metrics) {
            RoundTrips::Own => (histogram + counter_series(stream), None),
            RoundTrips::Nowhere => (counter_series(stream), None),
            RoundTrips::Zone(_) => (counter_series(stream), Some(&stream.target.zone)),
        };
        match whose(stream, metrics) {
            Whose::Node(node) => budget.admit(metrics, node, cost, zone),
            Whose::Own => {
                budget.charge(cost);
                true
            }
            Whose::Other | Whose::User => true,
        }
    }

    /// A path that no stream had before.
    fn begin(&mut self, budget: &mut Budget, metrics: &Metrics, stream: Stream, now: Instant) -> Arc<Path> {
        let labels = Labels::of(&stream);
        let path = Arc::new(match round_trips_of(&stream, metrics) {
            RoundTrips::Own => metrics.path(stream, Shown::All),
            RoundTrips::Nowhere => metrics.path(stream, Shown::Counters(None)),
            RoundTrips::Zone(zone) => {
                let zone = self.join_zone(budget, metrics, zone, now);
                metrics.path(stream, Shown::Counters(Some(zone)))
            }
        });
        metrics.add_path(Arc::clone(&path));
        self.used.insert(labels, Use { path: Arc::clone(&path), streams: 1, unused_since: now });
        path
    }

    fn join_zone(
        &mut self,
        budget: &mut Budget,
        metrics: &Metrics,
        stream: Stream,
        now: Instant,
    ) -> Arc<Path> {
        let used = self.zones.entry(Labels::of(&stream)).or_insert_with(|| {
            let path = Arc::new(metrics.path(stream, Shown::Histogram));
            metrics.add_path(Arc::clone(&path));
            budget.charge_zone(metrics, &path.stream.target.zone, path.series());
            Use { path, streams: 0, unused_since: now }
        });
        used.streams += 1;
        Arc::clone(&used.path)
    }
}

/// Whom a path's series count for.
enum Whose<'a> {
    /// A node of the cluster, by name.
    Node(&'a Arc<str>),
    /// This node.
    Own,
    /// Nodes that there is no room for.
    Other,
    /// Nobody: the user wrote it.
    User,
}

fn whose<'a>(stream: &'a Stream, metrics: &Metrics) -> Whose<'a> {
    let Target { destination, zone, kind, .. } = &*stream.target;
    if !is_budgeted(*kind) {
        Whose::User
    } else if **destination == *metrics.source() {
        Whose::Own
    } else if (&**destination, &**zone) == (OTHER, "") {
        Whose::Other
    } else {
        Whose::Node(destination)
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
