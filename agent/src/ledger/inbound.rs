//! What arrives from other agents, booked by peer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::direction::inbound::{self, News};
use podsonar_core::direction::ways::Ways;
use podsonar_core::target::Family;
use podsonar_core::time::Instant;
use podsonar_core::wire::request::Refusal;

use super::budget::{Budget, OTHER};
use super::{Ledger, raise};
use crate::metrics::inbound::{EDGE_SERIES, Edge, Series};
use crate::metrics::state::Metrics;

/// The ways here.
#[derive(Debug, Default)]
pub(super) struct Edges {
    /// Those of peers that are known.
    known: HashMap<inbound::Edge, Known>,
    /// What is shown, by its labels.
    shown: HashMap<inbound::Edge, Use>,
}

/// The way from a peer that is known.
#[derive(Debug)]
struct Known {
    edge: Arc<Edge>,
    /// Whether it is shown as `other`.
    folded: bool,
}

/// Series, and how many ways are shown by them.
#[derive(Debug)]
struct Use {
    series: Arc<Series>,
    edges: u32,
    unused_since: Instant,
}

impl Ledger {
    /// Something has changed about what arrives from a peer. Its counters stay for the retain period after it is gone,
    /// and go on if it comes back; its gauge goes at once.
    pub fn inbound(&mut self, news: &News) {
        let News { edge: whose, counts, silent, gone } = news;
        let edge = self.edges.join(&mut self.budget, &self.metrics, whose, self.now);
        edge.count(*counts);
        let was_silent = edge.set_silent(*silent && !gone);
        if *gone {
            self.edges.leave(&mut self.budget, &self.metrics, whose, self.now);
        }
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
        if let Some(known) = self.edges.known.get(whose) {
            known.edge.set_ways(*ways);
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

impl Edges {
    /// The way from a peer, which is shown from now on if it is new.
    fn join(
        &mut self,
        budget: &mut Budget,
        metrics: &Metrics,
        whose: &inbound::Edge,
        now: Instant,
    ) -> Arc<Edge> {
        if let Some(known) = self.known.get(whose) {
            return Arc::clone(&known.edge);
        }
        let folded =
            !self.shown.contains_key(whose) && !budget.admit(metrics, &whose.node, EDGE_SERIES, None);
        let shown = if folded { other(whose.family) } else { whose.clone() };
        let used = self.shown.entry(shown).or_insert_with_key(|shown| {
            let series = Arc::new(Series::new(shown.clone()));
            metrics.inbound.series.add(Arc::clone(&series));
            Use { series, edges: 0, unused_since: now }
        });
        used.edges += 1;
        let edge = Arc::new(Edge::new(whose.clone(), Arc::clone(&used.series), folded));
        metrics.inbound.edges.add(Arc::clone(&edge));
        self.known.insert(whose.clone(), Known { edge: Arc::clone(&edge), folded });
        edge
    }

    /// A peer is known no longer.
    fn leave(&mut self, budget: &mut Budget, metrics: &Metrics, whose: &inbound::Edge, now: Instant) {
        let Some(Known { edge, folded }) = self.known.remove(whose) else { return };
        metrics.inbound.edges.remove(&edge);
        if folded {
            budget.unfold(metrics, &whose.node);
        }
        let shown = if folded { other(whose.family) } else { whose.clone() };
        if let Some(used) = self.shown.get_mut(&shown) {
            (used.edges, used.unused_since) = (used.edges.saturating_sub(1), now);
        }
    }

    /// Drops the series of peers that are gone for long enough.
    pub(super) fn expire(&mut self, budget: &mut Budget, metrics: &Metrics, now: Instant, retain: Duration) {
        self.shown.retain(|whose, used| {
            let expired = used.edges == 0 && now.since(used.unused_since) >= retain;
            if expired {
                metrics.inbound.series.remove(&used.series);
                if *whose != other(whose.family) {
                    budget.release(metrics, &whose.node, EDGE_SERIES);
                }
            }
            !expired
        });
    }
}

/// What there is no room for, by IP version.
fn other(family: Family) -> inbound::Edge {
    inbound::Edge { node: OTHER.into(), zone: Arc::default(), family }
}
