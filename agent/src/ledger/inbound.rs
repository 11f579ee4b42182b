//! What arrives from other agents, booked by peer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use podsonar_core::direction::inbound::{self, News};
use podsonar_core::direction::ways::Ways;
use podsonar_core::target::Family;
use podsonar_core::time::Instant;
use podsonar_core::wire::request::Refusal;

use super::{Ledger, raise};
use crate::metrics::inbound::Edge;
use crate::metrics::state::{Metrics, lock};

/// Edges that are shown, and since when those are without a peer that are.
pub(super) type Edges = HashMap<inbound::Edge, (Arc<Edge>, Option<Instant>)>;

impl Ledger {
    /// Something has changed about what arrives from a peer. Its counters stay for the retain period after it is gone,
    /// and go on if it comes back; its gauge goes at once.
    pub fn inbound(&mut self, news: &News) {
        let News { edge: whose, counts, silent, gone } = news;
        let (edge, gone_since) = match self.edges.entry(whose.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let edge = Arc::new(Edge::new(whose.clone()));
                self.metrics.inbound.add(Arc::clone(&edge));
                new.insert((edge, None))
            }
        };
        edge.count(*counts);
        let was_silent = edge.silent.swap(*silent, Relaxed);
        edge.gone.store(*gone, Relaxed);
        if *gone {
            *lock(&edge.ways) = None;
        }
        *gone_since = gone.then_some(self.now);
        match (was_silent, *silent) {
            (false, true) => tracing::warn!(
                node = &*whose.node,
                family = whose.family.label(),
                "nothing arrives from this agent any more"
            ),
            (true, false) if !gone => {
                tracing::info!(node = &*whose.node, family = whose.family.label(), "it is heard again");
            }
            (true | false, _) => {}
        }
    }

    /// Which way our probes to a peer were lost so far.
    pub fn ways(&mut self, whose: &inbound::Edge, ways: &Ways) {
        if let Some((edge, None)) = self.edges.get(whose) {
            *lock(&edge.ways) = Some(*ways);
        }
    }

    /// Echo requests so far that did not count, by [`Refusal::ALL`].
    pub fn refused_requests(&mut self, totals: [u64; Refusal::ALL.len()]) {
        for (count, total) in self.metrics.inbound.refused.iter().zip(totals) {
            raise(count, total);
        }
    }

    /// Echo requests of this IP version so far that our socket dropped.
    pub fn request_drops(&mut self, family: Family, dropped: u64) {
        self.metrics.inbound.set_drops(family, dropped);
    }
}

/// Drops the edges whose peer is gone for long enough.
pub(super) fn expire(edges: &mut Edges, metrics: &Metrics, now: Instant, retain: Duration) {
    let mut dropped = Vec::new();
    edges.retain(|_, (edge, gone_since)| {
        let expired = gone_since.is_some_and(|since| now.since(since) >= retain);
        if expired {
            dropped.push(Arc::clone(edge));
        }
        !expired
    });
    if !dropped.is_empty() {
        metrics.inbound.drop_edges(&dropped);
    }
}
