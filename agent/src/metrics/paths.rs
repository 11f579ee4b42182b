//! What a path shows: how its probes ended, and how long their answers took.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use podsonar_core::target::Protocol;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::histogram::Histogram;

use super::encode::sample;
use super::state::{Answer, Metrics, Path, Shown};

pub(super) fn rtt(path: &Path) -> Option<&Histogram> {
    match path.stream.protocol {
        Protocol::Icmp | Protocol::Tcp => times(path),
        Protocol::Connect => None,
    }
}

pub(super) fn connect_duration(path: &Path) -> Option<&Histogram> {
    match path.stream.protocol {
        Protocol::Icmp | Protocol::Tcp => None,
        Protocol::Connect => times(path),
    }
}

fn times(path: &Path) -> Option<&Histogram> {
    match path.shown {
        Shown::All | Shown::Histogram => Some(&path.rtt),
        Shown::Counters(_) => None,
    }
}

/// Reply and lost are there from the start, so that rates see their first step.
pub(super) fn probes(path: &Path, metrics: &Metrics, family: &mut MetricEncoder<'_>) -> fmt::Result {
    if matches!(path.shown, Shown::Histogram) {
        return Ok(());
    }
    let labels = path.labels(&metrics.facts);
    for (answer, count) in Answer::ALL.into_iter().zip(&path.answers) {
        let count = count.load(Relaxed);
        if count > 0 || answer.starts_at_zero() {
            sample(family, &[&labels, &[("result", answer.label())]], &ConstCounter::new(count))?;
        }
    }
    Ok(())
}
