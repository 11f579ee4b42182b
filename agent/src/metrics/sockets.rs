//! How each protocol is probed, and what its socket had to do.

use std::fmt;

use podsonar_core::outcome::StampSource;
use podsonar_core::wire::{Channel, Reject};
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::gauge::ConstGauge;

use super::encode::sample;
use super::labels::Label;
use super::state::Metrics;

pub(super) fn stamp_source(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (channel, stamps) in Channel::ALL.into_iter().zip(&metrics.stamps) {
        if metrics.facts.has_socket(channel) {
            for (direction, counts) in [("tx", &stamps.tx), ("rx", &stamps.rx)] {
                for (source, count) in StampSource::ALL.into_iter().zip(counts) {
                    let stamp = [("direction", direction), ("stamp", source.label())];
                    sample(&mut family, &[&channel_labels(channel), &stamp], count)?;
                }
            }
        }
    }
    Ok(())
}

pub(super) fn socket_drops(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (channel, drops) in Channel::ALL.into_iter().zip(&metrics.drops) {
        if metrics.facts.has_socket(channel) {
            sample(&mut family, &[&channel_labels(channel)], drops)?;
        }
    }
    Ok(())
}

pub(super) fn probe_mode(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (channel, means) in Channel::ALL.into_iter().zip(metrics.facts.means) {
        if let Some(means) = means {
            let labels: [&[Label<'_>]; 2] = [&channel_labels(channel), &[("mode", means.label())]];
            sample(&mut family, &labels, &ConstGauge::new(1_u64))?;
        }
    }
    Ok(())
}

pub(super) fn receive_buffer(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (channel, granted) in Channel::ALL.into_iter().zip(metrics.facts.receive_buffers) {
        if let Some(bytes) = granted {
            sample(&mut family, &[&channel_labels(channel)], &ConstGauge::new(bytes))?;
        }
    }
    Ok(())
}

pub(super) fn rejected_packets(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (reason, count) in Reject::ALL.into_iter().zip(&metrics.rejects) {
        sample(&mut family, &[&[("reason", reason.label())]], count)?;
    }
    Ok(())
}

fn channel_labels(channel: Channel) -> [Label<'static>; 2] {
    [("protocol", channel.protocol.label()), ("family", channel.family.label())]
}
