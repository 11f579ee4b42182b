//! The way here: what other agents send to us and what of it arrives, and which way our own probes to them were lost.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use podsonar_core::direction::inbound::{self, Counts};
use podsonar_core::direction::ways::{Verdict, Ways};
use podsonar_core::target::Family;
use podsonar_core::wire::request::Refusal;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;

use super::encode::sample;
use super::labels::Label;
use super::list::List;
use super::state::{Facts, Metrics, lock};

/// Series of a way: four counters, and the gauge that tells of silence.
pub(crate) const EDGE_SERIES: usize = 5;

/// All that is known of ways, by peer and IP version.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// The ways that are known.
    pub(crate) edges: List<Edge>,
    /// What is shown of them.
    pub(crate) series: List<Series>,
    pub(crate) refused: [Counter; Refusal::ALL.len()],
    /// By [`Family::ALL`]; `None` while that family's requests are not listened to.
    drops: Mutex<[Option<u64>; Family::ALL.len()]>,
}

/// The way from one peer to this node, by one IP version, as long as the peer is known.
#[derive(Debug)]
pub(crate) struct Edge {
    whose: inbound::Edge,
    /// Where it is shown.
    series: Arc<Series>,
    /// What is its own, if it is shown together with others.
    own: Option<Tally>,
    silent: AtomicBool,
    ways: Mutex<Option<Ways>>,
}

/// What is shown of one way, or of several together: it outlives the peer by the retain period.
#[derive(Debug)]
pub(crate) struct Series {
    whose: inbound::Edge,
    tally: Tally,
    /// How many of its ways are silent.
    silent: AtomicU64,
}

/// [`Counts`] that scrapes may read meanwhile.
#[derive(Debug, Default)]
struct Tally {
    probes: AtomicU64,
    lost: AtomicU64,
    unknown: AtomicU64,
    outages: AtomicU64,
}

impl Tally {
    fn add(&self, counts: Counts) {
        let Counts { probes, lost, unknown, outages } = counts;
        self.probes.fetch_add(probes, Relaxed);
        self.lost.fetch_add(lost, Relaxed);
        self.unknown.fetch_add(unknown, Relaxed);
        self.outages.fetch_add(outages, Relaxed);
    }

    fn counts(&self) -> Counts {
        Counts {
            probes: self.probes.load(Relaxed),
            lost: self.lost.load(Relaxed),
            unknown: self.unknown.load(Relaxed),
            outages: self.outages.load(Relaxed),
        }
    }
}

impl Edge {
    /// Shown by these series: by its own, or `together` with others.
    pub(crate) fn new(whose: inbound::Edge, series: Arc<Series>, together: bool) -> Self {
        let own = together.then(Tally::default);
        Self { whose, series, own, silent: AtomicBool::new(false), ways: Mutex::new(None) }
    }

    pub(crate) fn count(&self, counts: Counts) {
        self.series.tally.add(counts);
        if let Some(own) = &self.own {
            own.add(counts);
        }
    }

    fn counts(&self) -> Counts {
        self.own.as_ref().unwrap_or(&self.series.tally).counts()
    }

    /// Returns whether it was silent before.
    pub(crate) fn set_silent(&self, silent: bool) -> bool {
        let before = self.silent.swap(silent, Relaxed);
        match (before, silent) {
            (false, true) => self.series.silent.fetch_add(1, Relaxed),
            (true, false) => self.series.silent.fetch_sub(1, Relaxed),
            (true, true) | (false, false) => 0,
        };
        before
    }

    fn is_silent(&self) -> bool {
        self.silent.load(Relaxed)
    }

    pub(crate) fn set_ways(&self, ways: Ways) {
        *lock(&self.ways) = Some(ways);
    }
}

impl Series {
    /// Nothing has been counted yet.
    pub(crate) fn new(whose: inbound::Edge) -> Self {
        Self { whose, tally: Tally::default(), silent: AtomicU64::new(0) }
    }

    /// The peer is the source, this node the destination.
    fn labels<'a>(&'a self, facts: &'a Facts) -> [Label<'a>; 5] {
        [
            ("family", self.whose.family.label()),
            ("source", &self.whose.node),
            ("source_zone", &self.whose.zone),
            ("destination", &facts.source),
            ("destination_zone", &facts.zone),
        ]
    }
}

impl Inbound {
    /// So many requests of this IP version were dropped so far.
    pub(crate) fn set_drops(&self, family: Family, dropped: u64) {
        if let Some(drops) = lock(&self.drops).get_mut(family as usize) {
            *drops = Some(dropped);
        }
    }

    fn is_listening(&self) -> bool {
        lock(&self.drops).iter().any(Option::is_some)
    }

    /// Edges that are silent.
    pub(super) fn silent(&self) -> u64 {
        self.edges.all().iter().filter(|edge| edge.is_silent()).count() as u64
    }
}

/// What is known of both ways between a peer and this node: for people, since no metric has all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BothWays {
    /// The peer, and the IP version.
    pub edge: inbound::Edge,
    /// What arrived here of what the peer sent, since the agent started.
    pub inbound: Counts,
    /// Whether the peer sends nothing that arrives.
    pub silent: bool,
    /// Which way our own probes to it were lost, since it is probed; `None` if it is not probed.
    pub ways: Option<Ways>,
}

impl BothWays {
    /// Where the peer is at fault, if nothing that we send to it is answered.
    pub fn verdict(&self) -> Option<Verdict> {
        self.ways?.verdict(self.silent)
    }
}

impl Metrics {
    /// Both ways between each known peer and this node, in order of nodes.
    pub fn both_ways(&self) -> Vec<BothWays> {
        let edges = self.inbound.edges.all();
        let mut all: Vec<BothWays> = edges
            .iter()
            .map(|edge| BothWays {
                edge: edge.whose.clone(),
                inbound: edge.counts(),
                silent: edge.is_silent(),
                ways: *lock(&edge.ways),
            })
            .collect();
        all.sort_by(|one, other| one.edge.cmp(&other.edge));
        all
    }
}

pub(super) fn probes(metrics: &Metrics, family: MetricEncoder<'_>) -> fmt::Result {
    counter(metrics, family, |counts| counts.probes)
}

pub(super) fn lost(metrics: &Metrics, family: MetricEncoder<'_>) -> fmt::Result {
    counter(metrics, family, |counts| counts.lost)
}

pub(super) fn unknown(metrics: &Metrics, family: MetricEncoder<'_>) -> fmt::Result {
    counter(metrics, family, |counts| counts.unknown)
}

pub(super) fn outages(metrics: &Metrics, family: MetricEncoder<'_>) -> fmt::Result {
    counter(metrics, family, |counts| counts.outages)
}

fn counter(metrics: &Metrics, mut family: MetricEncoder<'_>, of: fn(Counts) -> u64) -> fmt::Result {
    for series in metrics.inbound.series.all().iter() {
        let value = ConstCounter::new(of(series.tally.counts()));
        sample(&mut family, &[&series.labels(&metrics.facts)], &value)?;
    }
    Ok(())
}

pub(super) fn silent(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for series in metrics.inbound.series.all().iter().filter(|series| series.silent.load(Relaxed) > 0) {
        sample(&mut family, &[&series.labels(&metrics.facts)], &ConstGauge::new(1_u64))?;
    }
    Ok(())
}

pub(super) fn refused(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    if metrics.inbound.is_listening() {
        for (refusal, count) in Refusal::ALL.into_iter().zip(&metrics.inbound.refused) {
            sample(&mut family, &[&[("reason", refusal.label())]], count)?;
        }
    }
    Ok(())
}

pub(super) fn drops(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    let drops = *lock(&metrics.inbound.drops);
    for (ip, dropped) in Family::ALL.into_iter().zip(drops) {
        if let Some(dropped) = dropped {
            sample(&mut family, &[&[("family", ip.label())]], &ConstCounter::new(dropped))?;
        }
    }
    Ok(())
}
