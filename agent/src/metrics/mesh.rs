//! What is counted about discovery: peers, watches, and what the ceilings left out.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::encode::sample;
use super::state::{Gauge, Metrics, lock};
use crate::discovery::watch::{Health, TroubleKind};

/// What is watched: the label `watch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// The own node.
    Node,
    /// The other agents.
    Peers,
    /// The pods of the own node.
    Pods,
}

impl Watched {
    /// Each, in label order.
    pub const ALL: [Self; 3] = [Self::Node, Self::Peers, Self::Pods];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Peers => "peers",
            Self::Pods => "pods",
        }
    }
}

/// How a peer is, as far as asking it tells: the label `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// Its list is there.
    Told,
    /// It was asked and has never told anything.
    Untold,
    /// Its list is there, and for a while it could not be had again.
    Stale,
    /// Its list is there, and it goes away.
    Leaving,
    /// Another agent of the cluster, which this one does not probe.
    NotChosen,
}

impl PeerState {
    /// Each, in the order of the enum.
    pub const ALL: [Self; 5] = [Self::Told, Self::Untold, Self::Stale, Self::Leaving, Self::NotChosen];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Untold => "untold",
            Self::Stale => "stale",
            Self::Leaving => "leaving",
            Self::NotChosen => "not_chosen",
        }
    }
}

/// What is known of the mesh.
#[derive(Debug, Default)]
pub struct MeshMetrics {
    /// Whether this agent is one of many; else nothing here is shown.
    enabled: AtomicBool,
    /// By [`Watched::ALL`]; `None`: nothing is watched.
    health: Mutex<[Option<Health>; Watched::ALL.len()]>,
    troubles: [[Counter; TroubleKind::ALL.len()]; Watched::ALL.len()],
    peers: [Gauge; PeerState::ALL.len()],
    pub(crate) pods_left_out: Gauge,
    pub(crate) contested: Gauge,
    /// Whether the own pods were ever known: an agent that does not know them is not ready.
    listed: AtomicBool,
}

impl MeshMetrics {
    /// This agent is one of many.
    pub fn enable(&self) {
        self.enabled.store(true, Relaxed);
    }

    /// A watch failed so.
    pub fn count_trouble(&self, watched: Watched, kind: TroubleKind) {
        let place = TroubleKind::ALL.iter().position(|each| *each == kind);
        let counts = self.troubles.get(watched as usize);
        if let Some(count) = counts.zip(place).and_then(|(counts, place)| counts.get(place)) {
            count.inc();
        }
    }

    /// How current a watch is.
    pub fn set_health(&self, watched: Watched, health: Health) {
        if watched == Watched::Pods && health.is_listed() {
            self.listed.store(true, Relaxed);
        }
        if let Some(place) = lock(&self.health).get_mut(watched as usize) {
            *place = Some(health);
        }
    }

    /// So many other agents are in this state.
    pub fn set_peers(&self, state: PeerState, count: u64) {
        if let Some(gauge) = self.peers.get(state as usize) {
            gauge.set(count);
        }
    }

    /// Whether all is known that must be before probing can be said to have begun.
    pub(crate) fn is_ready(&self) -> bool {
        !self.enabled.load(Relaxed) || self.listed.load(Relaxed)
    }
}

pub(super) fn watch_age(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    let now = podsonar_core::time::Instant::from_nanos(metrics.heartbeat.get());
    let all = *lock(&metrics.mesh.health);
    for (watched, health) in Watched::ALL.into_iter().zip(all) {
        if let Some(age) = health.and_then(|health| health.age(now)) {
            sample(&mut family, &[&[("watch", watched.label())]], &ConstGauge::new(age.as_secs_f64()))?;
        }
    }
    Ok(())
}

pub(super) fn watch_failures(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (watched, counts) in Watched::ALL.into_iter().zip(&metrics.mesh.troubles) {
        for (kind, count) in TroubleKind::ALL.into_iter().zip(counts).filter(|(_, count)| count.get() > 0) {
            let labels = [("watch", watched.label()), ("reason", kind.label())];
            sample(&mut family, &[&labels], count)?;
        }
    }
    Ok(())
}

pub(super) fn peers(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    if !metrics.mesh.enabled.load(Relaxed) {
        return Ok(());
    }
    for (state, count) in PeerState::ALL.into_iter().zip(&metrics.mesh.peers) {
        sample(&mut family, &[&[("state", state.label())]], count)?;
    }
    Ok(())
}
