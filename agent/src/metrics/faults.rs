//! What is found out beyond the ordinary probes: black-holed flows and paths, and targets in trouble.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use podsonar_core::engine::Boost;
use podsonar_core::outcome::{ProbeResult, Unreachable};
use podsonar_core::target::{Family, Kind, PodId, Protocol, Target};
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::encode::sample;
use super::groups;
use super::labels::Label;
use super::state::{Gauge, Metrics, Path, lock};
use crate::condition::State;

/// Targets in trouble that are named one by one.
pub(super) const NAMED: usize = 20;

/// What an extra probe came to: the label `result` of `podsonar_boost_probes_total` and `podsonar_mtu_probes_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    Answered,
    Lost,
    TooBig,
    Void,
}

impl Extra {
    pub(crate) const ALL: [Self; 4] = [Self::Answered, Self::Lost, Self::TooBig, Self::Void];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Lost => "lost",
            Self::TooBig => "too_big",
            Self::Void => "void",
        }
    }
}

impl From<ProbeResult> for Extra {
    fn from(result: ProbeResult) -> Self {
        match result {
            ProbeResult::Reply(_) | ProbeResult::Reset(_) => Self::Answered,
            ProbeResult::Lost | ProbeResult::Listener => Self::Lost,
            ProbeResult::Unreachable(Unreachable::TooBig) => Self::TooBig,
            ProbeResult::Unreachable(_) | ProbeResult::Void(_) => Self::Void,
        }
    }
}

/// Extra probes of a group.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// By [`Boost::ALL`] and [`Extra::ALL`].
    pub(crate) boosts: [[Counter; Extra::ALL.len()]; Boost::ALL.len()],
    /// By [`Extra::ALL`].
    pub(crate) large: [Counter; Extra::ALL.len()],
}

/// What is at fault on one path. Zero is no fault, and no series.
#[derive(Debug, Default)]
pub(crate) struct PathFaults {
    pub(crate) dead_flows: AtomicU64,
    /// Addresses of the path to which large packets vanish.
    pub(crate) blackholes: AtomicU64,
    /// The largest packet known to pass, in bytes.
    pub(crate) path_mtu: AtomicU64,
}

/// Targets in trouble, the longest in trouble first, and what they are like.
#[derive(Debug, Default)]
pub(crate) struct Unhealthy {
    all: Mutex<Vec<Trouble>>,
    overflow: Gauge,
}

/// A target in trouble by one protocol.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) target: Arc<Target>,
    pub(crate) protocol: Protocol,
    pub(crate) state: State,
}

impl Unhealthy {
    /// All of them as they are now, the longest in trouble first.
    pub(crate) fn all(&self) -> Vec<Trouble> {
        lock(&self.all).clone()
    }

    /// A target is in this state now, and in trouble by these protocols: maybe none.
    pub(crate) fn set(&self, target: &Arc<Target>, state: State, protocols: impl Iterator<Item = Protocol>) {
        let mut all = lock(&self.all);
        let protocols: Vec<Protocol> = protocols.collect();
        all.retain(|trouble| trouble.target != *target || protocols.contains(&trouble.protocol));
        for protocol in protocols {
            match all.iter_mut().find(|trouble| trouble.target == *target && trouble.protocol == protocol) {
                Some(trouble) => trouble.state = state,
                None => all.push(Trouble { target: Arc::clone(target), protocol, state }),
            }
        }
        self.overflow.set(all.len().saturating_sub(NAMED) as u64);
    }
}

pub(super) fn boost_probes(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    groups::each(metrics, |_, group, labels| {
        for (boost, counts) in Boost::ALL.into_iter().zip(&group.extras.boosts) {
            for (extra, count) in Extra::ALL.into_iter().zip(counts).filter(|(_, count)| count.get() > 0) {
                let more = [("purpose", boost.label()), ("result", extra.label())];
                sample(&mut family, &[labels, &more], count)?;
            }
        }
        Ok(())
    })
}

pub(super) fn mtu_probes(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    groups::each(metrics, |_, group, labels| {
        for (extra, count) in Extra::ALL.into_iter().zip(&group.extras.large) {
            if count.get() > 0 {
                sample(&mut family, &[labels, &[("result", extra.label())]], count)?;
            }
        }
        Ok(())
    })
}

pub(super) fn path_mtu(path: &Path, metrics: &Metrics, family: &mut MetricEncoder<'_>) -> fmt::Result {
    positive(path, metrics, family, &path.faults.path_mtu)
}

pub(super) fn mtu_blackholed(path: &Path, metrics: &Metrics, family: &mut MetricEncoder<'_>) -> fmt::Result {
    positive(path, metrics, family, &path.faults.blackholes)
}

pub(super) fn blackholed_flows(
    path: &Path,
    metrics: &Metrics,
    family: &mut MetricEncoder<'_>,
) -> fmt::Result {
    positive(path, metrics, family, &path.faults.dead_flows)
}

/// A gauge of a path without its protocol and kind, while it is above zero.
fn positive(
    path: &Path,
    metrics: &Metrics,
    family: &mut MetricEncoder<'_>,
    value: &AtomicU64,
) -> fmt::Result {
    let value = value.load(Relaxed);
    if value == 0 {
        return Ok(());
    }
    let [_, ip, _, place @ ..] = path.labels(&metrics.facts);
    sample(family, &[&[ip], &place], &ConstGauge::new(value))
}

pub(super) fn edges_in_fault(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    let paths = metrics.paths();
    let count = |of: fn(&PathFaults) -> &AtomicU64| {
        paths.iter().filter(|path| of(&path.faults).load(Relaxed) > 0).count() as u64
    };
    for (fault, edges) in [
        ("flow", count(|faults| &faults.dead_flows)),
        ("inbound_silent", metrics.inbound.silent()),
        ("mtu", count(|faults| &faults.blackholes)),
    ] {
        sample(&mut family, &[&[("fault", fault)]], &ConstGauge::new(edges))?;
    }
    Ok(())
}

pub(super) fn targets(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (kind, states) in Kind::ALL.into_iter().zip(&metrics.targets) {
        for (state, count) in State::ALL.into_iter().zip(states) {
            sample(&mut family, &[&[("kind", kind.label()), ("state", state.label())]], count)?;
        }
    }
    Ok(())
}

pub(super) fn unhealthy_targets(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for Trouble { target, protocol, state } in lock(&metrics.unhealthy.all).iter().take(NAMED) {
        let address = target.address.to_string();
        let pod = target.pod.as_deref();
        let of_pod = |part: fn(&PodId) -> &str| pod.map_or("", part);
        let labels: [Label<'_>; 11] = [
            ("source", &metrics.facts.source),
            ("source_zone", &metrics.facts.zone),
            ("destination", &target.destination),
            ("destination_zone", &target.zone),
            ("destination_namespace", of_pod(|pod| &pod.namespace)),
            ("destination_workload", of_pod(|pod| &pod.workload)),
            ("destination_pod", of_pod(|pod| &pod.name)),
            ("destination_ip", &address),
            ("protocol", protocol.label()),
            ("family", Family::of(target.address).label()),
            ("state", state.label()),
        ];
        sample(&mut family, &[&labels], &ConstGauge::new(1_u64))?;
    }
    Ok(())
}

pub(super) fn unhealthy_targets_overflow(metrics: &Metrics, family: MetricEncoder<'_>) -> fmt::Result {
    use prometheus_client::encoding::EncodeMetric;
    metrics.unhealthy.overflow.encode(family)
}
