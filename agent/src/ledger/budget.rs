//! How many series what the cluster brings may have, node by node.
//!
//! A node that comes while there is room is shown by its own name: what is sent to it, and what arrives from it. The room
//! for all of that is set aside at once, since its pods are told later than its agent. A node that comes too late is shown
//! as [`OTHER`] until it leaves. So is whatever a node brings beyond twice that room, as one would that says another
//! zone with each list: it takes no room of others.

use std::collections::HashMap;
use std::sync::Arc;

use crate::metrics::state::Metrics;

/// The name of all that there is no room for.
pub(super) const OTHER: &str = "other";

/// Series of an agent besides those of nodes and of zones' fetches, with a margin.
pub(crate) const BASE_SERIES: usize = 730;

/// A node may take so many times the room that is set aside for one: a second family, and another zone some time.
const MOST: usize = 2;

/// The series that nodes have, and those that are set aside for them.
#[derive(Debug, Default)]
pub(super) struct Budget {
    nodes: HashMap<Arc<str>, Node>,
    /// Series of the histograms of each zone, where these are shown instead of nodes'.
    zones: HashMap<Arc<str>, usize>,
    used: usize,
}

/// What is shown of a node.
#[derive(Debug, Default)]
struct Node {
    /// Series by its own name; those of what left are among them until they go.
    series: usize,
    /// Streams to it and ways from it that are shown as [`OTHER`] now.
    folded: usize,
}

impl Budget {
    /// Something of a node is to be shown that costs so many series, and perhaps a histogram of this zone. Whether it is
    /// by the node's own name; else it is folded, until [`Budget::unfold`].
    pub(super) fn admit(
        &mut self,
        metrics: &Metrics,
        node: &Arc<str>,
        cost: usize,
        zone: Option<&Arc<str>>,
    ) -> bool {
        let room = metrics.node_series();
        let fixed = BASE_SERIES + metrics.fetch_series() + metrics.other_series();
        let new_zone = zone.is_some_and(|zone| !self.zones.contains_key(zone));
        let of_zone = if new_zone { metrics.zone_series() } else { 0 };
        let known = self.nodes.entry(Arc::clone(node)).or_default();
        let series = known.series + cost;
        let used = self.used - weight(known.series, room) + weight(series, room);
        // What was set aside holds, whatever came since.
        let fits = used + of_zone <= self.used || fixed + used + of_zone <= metrics.max_series();
        let admitted = known.folded == 0 && series <= MOST * room && fits;
        if admitted {
            (known.series, self.used) = (series, used);
        } else {
            known.folded += 1;
            self.show(metrics);
        }
        admitted
    }

    /// Series of a node are shown no longer.
    pub(super) fn release(&mut self, metrics: &Metrics, node: &Arc<str>, cost: usize) {
        let Some(known) = self.nodes.get_mut(node) else { return };
        change(&mut self.used, &mut known.series, metrics.node_series(), |series| {
            series.saturating_sub(cost)
        });
        self.forget(node);
    }

    /// Something of a node that was folded is gone.
    pub(super) fn unfold(&mut self, metrics: &Metrics, node: &Arc<str>) {
        let Some(known) = self.nodes.get_mut(node) else { return };
        known.folded = known.folded.saturating_sub(1);
        self.forget(node);
        self.show(metrics);
    }

    /// Series of a zone appear.
    pub(super) fn charge_zone(&mut self, metrics: &Metrics, zone: &Arc<str>, cost: usize) {
        let series = self.zones.entry(Arc::clone(zone)).or_default();
        change(&mut self.used, series, metrics.zone_series(), |series| series + cost);
    }

    /// Series of a zone are gone.
    pub(super) fn refund_zone(&mut self, metrics: &Metrics, zone: &Arc<str>, cost: usize) {
        let Some(series) = self.zones.get_mut(zone) else { return };
        change(&mut self.used, series, metrics.zone_series(), |series| series.saturating_sub(cost));
        if *series == 0 {
            self.zones.remove(zone);
        }
    }

    /// Series of the own node appear, whatever there is room for.
    pub(super) fn charge(&mut self, cost: usize) {
        self.used += cost;
    }

    /// Series of the own node are gone.
    pub(super) fn refund(&mut self, cost: usize) {
        self.used = self.used.saturating_sub(cost);
    }

    fn forget(&mut self, node: &Arc<str>) {
        if self.nodes.get(node).is_some_and(|known| known.series == 0 && known.folded == 0) {
            self.nodes.remove(node);
        }
    }

    fn show(&self, metrics: &Metrics) {
        let folded = self.nodes.values().filter(|node| node.folded > 0).count();
        metrics.folded.set(folded as u64);
    }
}

/// The series that count: at least what is set aside, as soon as there are any.
const fn weight(series: usize, room: usize) -> usize {
    match series {
        0 => 0,
        series if series < room => room,
        series => series,
    }
}

fn change(used: &mut usize, series: &mut usize, room: usize, by: impl FnOnce(usize) -> usize) {
    let before = weight(*series, room);
    *series = by(*series);
    *used = *used - before + weight(*series, room);
}
