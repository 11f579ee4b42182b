//! What each peer told last: kept between two fetches, so that the second can ask whether it still holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use podsonar_core::engine::{self, PlannedFetch};
use podsonar_core::health::Fault;

use super::accept::Rules;
use super::fetch::{FetchRequest, Known, fetch};
use crate::metrics::state::Metrics;

/// The last lists of all peers that are asked.
#[derive(Debug)]
pub struct Lists {
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: Arc<Rules>,
    /// The zone of each peer: where what its answers are counts.
    zones: HashMap<Arc<str>, Arc<str>>,
    known: HashMap<Arc<str>, Known>,
}

impl Lists {
    /// Nobody has told anything yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, state: Mutex::default() }
    }

    /// Takes the peers that are asked from now on, by node and zone, and what of their lists is believed.
    pub fn configure(&self, rules: Rules, zones: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) {
        let zones: HashMap<_, _> = zones.into_iter().collect();
        for zone in zones.values() {
            self.metrics.expect_zone(zone);
        }
        self.with(|state| {
            state.known.retain(|node, _| zones.contains_key(node));
            (state.rules, state.zones) = (Arc::new(rules), zones);
        });
    }

    /// The zone that a peer is counted under.
    pub fn zone(&self, node: &str) -> Arc<str> {
        self.with(|state| state.zones.get(node).cloned()).unwrap_or_default()
    }

    /// Asks a peer for its list, and what became of that.
    pub async fn fetch(&self, planned: &PlannedFetch) -> engine::Fetched {
        let PlannedFetch { node, addresses, port, timeout, .. } = planned;
        let (node, addresses) = (Arc::clone(node), addresses.clone());
        let request = FetchRequest { node, addresses, port: *port, timeout: *timeout };
        let (known, rules) =
            self.with(|state| (state.known.get(&request.node).cloned(), Arc::clone(&state.rules)));
        let fetched = fetch(&request, known.as_ref(), &rules).await;
        let trusted = !self.metrics.own_faults().any(|fault| fault == Fault::Control);
        self.metrics.fetched(&self.zone(&request.node), &fetched, trusted);
        let view = fetched.known.as_ref().map(|known| Arc::clone(known.view()));
        if let Some(known) = fetched.known {
            self.with(|state| {
                if state.zones.contains_key(&request.node) {
                    state.known.insert(Arc::clone(&request.node), known);
                }
            });
        }
        engine::Fetched { result: fetched.result, view }
    }

    /// Nothing here is left half changed, so a panic elsewhere does not spoil it.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
