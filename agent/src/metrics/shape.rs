//! The shape of loss: what it counts, for each path and for each group, and how a scrape shows it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use podsonar_core::config::Buckets;
use podsonar_core::shape::{Finding, Floor};
use podsonar_core::target::{Kind, Protocol, Stream};
use podsonar_core::time::Instant;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;

use super::encode::sample;
use super::groups;
use super::state::{Metrics, Path};

/// Bounds of `podsonar_loss_ratio`, as shares of one.
pub const RATIO_BOUNDS: [f64; 7] = [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.99];

/// What one path has of the shape of loss. Pods and nodes' addresses have no series of their own here: their agent's
/// path has, and there are many of them.
#[derive(Debug)]
pub(crate) struct PathShape {
    episodes: Option<AtomicU64>,
    floor: Option<Box<Mutex<Floor>>>,
}

impl PathShape {
    /// All that a stream of this kind has: nothing over loopback, and a floor if it is ICMP.
    pub(super) fn of(stream: &Stream) -> Option<Self> {
        let floor = || (stream.protocol == Protocol::Icmp).then(Box::default);
        if stream.target.is_pods_name() {
            return Some(Self { episodes: None, floor: None });
        }
        match stream.target.kind {
            Kind::Agent | Kind::Name | Kind::Fixed => {
                Some(Self { episodes: Some(AtomicU64::new(0)), floor: floor() })
            }
            Kind::Pod | Kind::Node => Some(Self { episodes: None, floor: None }),
            Kind::Control => None,
        }
    }

    /// How many series it has. Who has a floor has a path MTU, too.
    pub(super) fn series(&self) -> usize {
        usize::from(self.episodes.is_some()) + 2 * usize::from(self.floor.is_some())
    }

    /// A run of losses began.
    pub(crate) fn count_episode(&self) {
        if let Some(episodes) = &self.episodes {
            episodes.fetch_add(1, Relaxed);
        }
    }

    /// A round trip that the kernel stamped became known at `now`.
    pub(crate) fn note_rtt(&self, rtt: Duration, now: Instant) {
        self.with_floor(|floor| floor.note(rtt, now));
    }

    /// Forgets the floor: nothing goes over the path any more.
    pub(crate) fn leave(&self) {
        self.with_floor(|floor| *floor = Floor::default());
    }

    /// A floor is never left half written, so a panic elsewhere does not spoil it.
    fn with_floor<T>(&self, work: impl FnOnce(&mut Floor) -> T) -> Option<T> {
        let floor = self.floor.as_ref()?;
        Some(work(&mut floor.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What a group has of the shape of loss.
#[derive(Debug)]
pub(crate) struct GroupShape {
    ratio: Histogram,
    bursts: Histogram,
}

impl GroupShape {
    pub(super) fn new(buckets: &Buckets) -> Self {
        let bursts = Histogram::new(buckets.loss_burst.iter().copied());
        Self { ratio: Histogram::new(RATIO_BOUNDS), bursts }
    }
}

impl Metrics {
    /// Counts what a path's results show.
    pub(crate) fn count_finding(&self, path: &Path, finding: Finding) {
        let group = || self.group(&path.stream).map(|group| &group.shape);
        match finding {
            Finding::Episode => {
                if let Some(shape) = &path.shape {
                    shape.count_episode();
                }
            }
            Finding::Burst(probes) => {
                if let Some(group) = group() {
                    group.bursts.observe(probes as f64);
                }
            }
            Finding::Ratio(ratio) => {
                if let Some(group) = group() {
                    group.ratio.observe(ratio);
                }
            }
        }
    }
}

/// They start at zero, so that rates see their first step.
pub(super) fn episodes(path: &Path, metrics: &Metrics, family: &mut MetricEncoder<'_>) -> fmt::Result {
    let Some(episodes) = path.shape.as_ref().and_then(|shape| shape.episodes.as_ref()) else { return Ok(()) };
    let count = ConstCounter::new(episodes.load(Relaxed));
    sample(family, &[&path.labels(&metrics.facts)], &count)
}

/// As of the driver's last tick; absent until there is a round trip.
pub(super) fn rtt_floor(path: &Path, metrics: &Metrics, family: &mut MetricEncoder<'_>) -> fmt::Result {
    let now = Instant::from_nanos(metrics.heartbeat.get());
    let floor = path.shape.as_ref().and_then(|shape| shape.with_floor(|floor| floor.at(now)).flatten());
    let Some(floor) = floor else { return Ok(()) };
    sample(family, &[&path.labels(&metrics.facts)], &ConstGauge::new(floor.as_secs_f64()))
}

pub(super) fn ratio(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    groups::each(metrics, |kind, group, labels| match kind {
        Kind::Control => Ok(()),
        Kind::Agent | Kind::Pod | Kind::Node | Kind::Name | Kind::Fixed => {
            sample(&mut family, &[labels], &group.shape.ratio)
        }
    })
}

pub(super) fn bursts(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    groups::each(metrics, |kind, group, labels| match kind {
        Kind::Control => Ok(()),
        Kind::Agent | Kind::Pod | Kind::Node | Kind::Name | Kind::Fixed => {
            sample(&mut family, &[labels], &group.shape.bursts)
        }
    })
}
