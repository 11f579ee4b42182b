//! What is counted about the exchange: each fetch by its result, what of lists is refused, who was served.

use std::fmt;
use std::sync::{Arc, Mutex};

use podsonar_core::exchange::{FetchResult, Refusal};
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};

use super::NATIVE_FACTOR;
use super::encode::sample;
use super::labels::Label;
use super::state::{Facts, Metrics, lock};
use crate::exchange::Fetched;
use crate::exchange::server::ServeResult;

/// Zones that have series of their own; further ones are counted as `other`, so that nobody can make more.
const MAX_ZONES: usize = 32;

/// The series of the exchange, as a scrape sees them.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    zones: Mutex<Vec<Arc<Zone>>>,
    refusals: [Counter; Refusal::ALL.len()],
    served: [Counter; ServeResult::ALL.len()],
}

/// The fetches to one zone.
#[derive(Debug)]
struct Zone {
    name: Arc<str>,
    duration: Histogram,
    results: [Counter; FetchResult::ALL.len()],
}

impl Zone {
    fn new(name: &str, facts: &Facts) -> Self {
        let native = NativeHistogramConfig::new(NATIVE_FACTOR);
        let duration = Histogram::new_classic_and_native(facts.buckets.http.iter().copied(), native);
        Self { name: name.into(), duration, results: Default::default() }
    }

    fn labels<'a>(&'a self, facts: &'a Facts) -> [Label<'a>; 3] {
        [("source", &facts.source), ("source_zone", &facts.zone), ("destination_zone", &self.name)]
    }
}

impl Exchange {
    /// A request to our own listener was answered so.
    pub(crate) fn served(&self, result: ServeResult) {
        if let Some(count) = self.served.get(result as usize) {
            count.inc();
        }
    }

    /// How many zones have series.
    pub(super) fn zones(&self) -> usize {
        lock(&self.zones).len()
    }

    /// The zone's series: they appear with the first peer of it, and stay.
    fn zone(&self, name: &str, facts: &Facts) -> Arc<Zone> {
        let mut zones = lock(&self.zones);
        let known = |zones: &[Arc<Zone>], name: &str| zones.iter().find(|zone| &*zone.name == name).cloned();
        if let Some(zone) = known(&zones, name) {
            return zone;
        }
        let name = if zones.len() < MAX_ZONES { name } else { "other" };
        known(&zones, name).unwrap_or_else(|| {
            let zone = Arc::new(Zone::new(name, facts));
            zones.push(Arc::clone(&zone));
            zone
        })
    }
}

impl Metrics {
    /// There is a peer in this zone: its series begin at zero.
    pub fn expect_zone(&self, zone: &str) {
        self.exchange.zone(zone, &self.facts);
    }

    /// A fetch that fell due ended so. `zone` is that of the peer.
    pub fn fetch_result(&self, zone: &str, result: FetchResult) {
        if let Some(count) = self.exchange.zone(zone, &self.facts).results.get(result as usize) {
            count.inc();
        }
    }

    /// What a fetch brought beside its result, which is counted apart. Its duration is not observed while this agent
    /// itself is at fault.
    pub fn fetched(&self, zone: &str, fetched: &Fetched, observe: bool) {
        if let Some(took) = fetched.took.filter(|_| observe) {
            self.exchange.zone(zone, &self.facts).duration.observe(took.as_secs_f64());
        }
        for (count, refused) in self.exchange.refusals.iter().zip(fetched.refused) {
            count.inc_by(refused.into());
        }
    }
}

pub(super) fn duration(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    let zones = lock(&metrics.exchange.zones).clone();
    zones.iter().try_for_each(|zone| sample(&mut family, &[&zone.labels(&metrics.facts)], &zone.duration))
}

/// What alerts need is there from the start, so that rates see its first step.
pub(super) fn results(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    let from_start = [FetchResult::Ok, FetchResult::NotModified, FetchResult::Refused, FetchResult::Timeout];
    let zones = lock(&metrics.exchange.zones).clone();
    for zone in &zones {
        let labels = zone.labels(&metrics.facts);
        for (result, count) in FetchResult::ALL.into_iter().zip(&zone.results) {
            if count.get() > 0 || from_start.contains(&result) {
                sample(&mut family, &[&labels, &[("result", result.label())]], count)?;
            }
        }
    }
    Ok(())
}

pub(super) fn refusals(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    let mut counts = Refusal::ALL.into_iter().zip(&metrics.exchange.refusals);
    counts.try_for_each(|(reason, count)| sample(&mut family, &[&[("reason", reason.label())]], count))
}

pub(super) fn served(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    let mut counts = ServeResult::ALL.into_iter().zip(&metrics.exchange.served);
    counts.try_for_each(|(result, count)| sample(&mut family, &[&[("result", result.label())]], count))
}
