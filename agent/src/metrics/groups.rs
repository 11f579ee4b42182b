//! What is counted for a protocol, family and kind, without destination.

use std::fmt;

use podsonar_core::outcome::LateHint;
use podsonar_core::target::{Family, Kind, Protocol};
use prometheus_client::encoding::MetricEncoder;

use super::encode::sample;
use super::labels::Label;
use super::state::{Group, Metrics, VoidReason};

/// Calls `tell` for every protocol, family and kind that ever had a stream.
pub(super) fn each(
    metrics: &Metrics,
    mut tell: impl FnMut(Kind, &Group, &[Label<'_>]) -> fmt::Result,
) -> fmt::Result {
    for (protocol, families) in Protocol::ALL.into_iter().zip(&metrics.groups) {
        for (family, kinds) in Family::ALL.into_iter().zip(families) {
            for (kind, group) in Kind::ALL.into_iter().zip(kinds).filter(|(_, group)| group.is_used()) {
                let labels = [
                    ("protocol", protocol.label()),
                    ("family", family.label()),
                    ("kind", kind.label()),
                    ("source", metrics.facts.source.as_str()),
                ];
                tell(kind, group, &labels)?;
            }
        }
    }
    Ok(())
}

pub(super) fn probes_void(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    each(metrics, |_, group, labels| {
        for (reason, count) in VoidReason::ALL.into_iter().zip(&group.void) {
            sample(&mut family, &[labels, &[("reason", reason.label())]], count)?;
        }
        Ok(())
    })
}

pub(super) fn late_replies(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    each(metrics, |_, group, labels| {
        for (hint, count) in LateHint::ALL.into_iter().zip(&group.late) {
            sample(&mut family, &[labels, &[("hint", hint.label())]], count)?;
        }
        Ok(())
    })
}

pub(super) fn duplicate_replies(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    each(metrics, |_, group, labels| sample(&mut family, &[labels], &group.duplicates))
}

pub(super) fn first_replies(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    each(metrics, |kind, group, labels| match kind {
        Kind::Pod => sample(&mut family, &[labels], &group.first_replies),
        Kind::Agent | Kind::Node | Kind::Name | Kind::Fixed | Kind::Control => Ok(()),
    })
}

pub(super) fn first_reply_timeouts(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    each(metrics, |kind, group, labels| match kind {
        Kind::Pod => sample(&mut family, &[labels], &group.first_reply_timeouts),
        Kind::Agent | Kind::Node | Kind::Name | Kind::Fixed | Kind::Control => Ok(()),
    })
}
