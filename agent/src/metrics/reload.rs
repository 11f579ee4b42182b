//! How reading the configuration again went.

use std::fmt;

use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::counter::Counter;

use super::encode::sample;
use super::state::{Gauge, Metrics};

/// What is counted of reloads.
#[derive(Debug)]
pub(crate) struct Reloads {
    ok: Counter,
    failed: Counter,
    pub(super) last_successful: Gauge,
}

impl Default for Reloads {
    /// The start itself was successful.
    fn default() -> Self {
        let last_successful = Gauge::default();
        last_successful.set(1);
        Self { ok: Counter::default(), failed: Counter::default(), last_successful }
    }
}

impl Reloads {
    pub(crate) fn succeeded(&self) {
        self.ok.inc();
        self.last_successful.set(1);
    }

    pub(crate) fn failed(&self) {
        self.failed.inc();
        self.last_successful.set(0);
    }
}

pub(super) fn total(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (result, count) in [("ok", &metrics.reloads.ok), ("failed", &metrics.reloads.failed)] {
        sample(&mut family, &[&[("result", result)]], count)?;
    }
    Ok(())
}
