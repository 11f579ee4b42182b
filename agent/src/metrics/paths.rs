//! What a path shows: how its probes ended, and how long their answers took.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use podsonar_core::target::Protocol;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::counter::ConstCounter;

use super::encode::sample;
use super::state::{Answer, Metrics, Path, Shown};

pub(super) fn rtt(path: &Path, metrics: &Metrics, family: &mut MetricEncoder<'_>) -> fmt::Result {
    match path.stream.protocol {
        Protocol::Icmp | Protocol::Tcp => histogram(path, metrics, family),
        Protocol::Connect => Ok(()),
    }
}

pub(super) fn connect_duration(
    path: &Path,
    metrics: &Metrics,
    family: &mut MetricEncoder<'_>,
) -> fmt::Result {
    match path.stream.protocol {
        Protocol::Icmp | Protocol::Tcp => Ok(()),
        Protocol::Connect => histogram(path, metrics, family),
    }
}

fn histogram(path: &Path, metrics: &Metrics, family: &mut MetricEncoder<'_>) -> fmt::Result {
    match path.shown {
        Shown::All | Shown::Histogram => sample(family, &[&path.labels(&metrics.facts)], &path.rtt),
        Shown::Counters(_) => Ok(()),
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
