//! The agent's own health: its faults, its stalls, and what a CPU quota does to it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use podsonar_core::health::{Fault, Health, Throttling};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::{ConstCounter, Counter};

use super::encode::sample;
use super::state::{Gauge, Metrics};

/// What is known of the agent's health.
#[derive(Debug, Default)]
pub(crate) struct Wellbeing {
    faults: [Gauge; Fault::ALL.len()],
    stalls: Counter,
    stall_seconds: Gauge<f64>,
    /// The last reading of the cgroup; `None` where there is none.
    throttling: Mutex<Option<Throttling>>,
}

impl Wellbeing {
    /// Shows the health as it is at a tick.
    pub(crate) fn show(&self, health: &Health) {
        for (fault, gauge) in Fault::ALL.into_iter().zip(&self.faults) {
            gauge.set(u64::from(health.has(fault)));
        }
        self.stalls.inc_by(health.stalls().saturating_sub(self.stalls.get()));
        self.stall_seconds.set(health.stalled().as_secs_f64());
    }
}

impl Metrics {
    /// What is wrong with the agent itself now.
    pub(crate) fn own_faults(&self) -> impl Iterator<Item = Fault> {
        let faults = Fault::ALL.into_iter().zip(&self.health.faults);
        faults.filter(|(_, gauge)| gauge.get() > 0).map(|(fault, _)| fault)
    }

    /// The last reading of the cgroup's throttling.
    pub fn throttling(&self) -> Option<Throttling> {
        *self.health.throttling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the reading of the cgroup's throttling; `None` if it cannot be read.
    pub fn set_throttling(&self, read: Option<Throttling>) {
        *self.health.throttling.lock().unwrap_or_else(PoisonError::into_inner) = read;
    }
}

pub(super) fn faults(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (fault, gauge) in Fault::ALL.into_iter().zip(&metrics.health.faults) {
        sample(&mut family, &[&[("reason", fault.label())]], gauge)?;
    }
    Ok(())
}

pub(super) fn stalls(metrics: &Metrics, family: MetricEncoder<'_>) -> fmt::Result {
    metrics.health.stalls.encode(family)
}

pub(super) fn stall_seconds(metrics: &Metrics, family: MetricEncoder<'_>) -> fmt::Result {
    ConstCounter::new(metrics.health.stall_seconds.get()).encode(family)
}

pub(super) fn throttled_seconds(metrics: &Metrics, family: MetricEncoder<'_>) -> fmt::Result {
    super::counter(metrics.throttling().map(|read| read.time.as_secs_f64()), family)
}

pub(super) fn throttled_periods(metrics: &Metrics, family: MetricEncoder<'_>) -> fmt::Result {
    super::counter(metrics.throttling().map(|read| read.periods), family)
}
