//! Both ways between this node and each peer: which way probes were lost.

use std::fmt;

use podsonar_core::direction::inbound::Counts;
use podsonar_core::direction::ways::{Verdict, Ways};
use serde::Serialize;

use super::faults::Scope;
use crate::metrics::inbound::BothWays;
use crate::metrics::state::Metrics;

/// What went lost between this node and a peer since this agent or the peer's probing started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The peer's node.
    pub node: String,
    /// IP version: 4 or 6.
    pub family: &'static str,
    /// Its probes that arrived here.
    pub arrived: u64,
    /// Those that were lost on the way here.
    pub lost_on_the_way_here: u64,
    /// Those that did not arrive, or that this host dropped.
    pub unknown: u64,
    /// Gaps too long to be counted.
    pub outages: u64,
    /// Nothing of it arrives now.
    pub silent: bool,
    /// Our probes to it that have a result.
    pub sent: u64,
    /// Those that were lost, whichever way.
    pub lost: u64,
    /// Those that it says it never got.
    pub lost_on_the_way_there: u64,
    /// Those that it got, and we no answer to.
    pub lost_on_the_way_back: u64,
}

impl Lost {
    fn of(both: &BothWays) -> Self {
        let Counts { probes, lost, unknown, outages } = both.inbound;
        let ways = both.ways.unwrap_or_default();
        Self {
            node: both.edge.node.to_string(),
            family: both.edge.family.label(),
            arrived: probes,
            lost_on_the_way_here: lost,
            unknown,
            outages,
            silent: both.silent,
            sent: ways.sent,
            lost: ways.lost,
            lost_on_the_way_there: ways.there,
            lost_on_the_way_back: ways.back,
        }
    }

    /// Whether there is anything to be said to people.
    pub(super) fn is_worth_a_line(&self) -> bool {
        self.lost_on_the_way_here + self.unknown + self.outages + self.lost > 0
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, family, lost, sent, lost_on_the_way_here: here, arrived, .. } = self;
        let (there, back) = (self.lost_on_the_way_there, self.lost_on_the_way_back);
        write!(f, "{node} (IPv{family}): {lost} of {sent} lost, {there} on the way there, {back} back; ")?;
        write!(f, "of its own {here} of {} lost on the way here", here + arrived)?;
        match self.outages {
            0 => Ok(()),
            outages => write!(f, ", and {outages} outages"),
        }
    }
}

/// Each peer by each IP version, in order.
pub(super) fn of(metrics: &Metrics) -> Vec<Lost> {
    metrics.both_ways().iter().map(Lost::of).collect()
}

/// Peers that are dead one way. Those that are dead altogether are found without this.
pub(super) fn faults(metrics: &Metrics, find: &mut impl FnMut(Scope, &str, String)) {
    for both in metrics.both_ways() {
        let family = both.edge.family.label();
        let what = match (both.verdict(), both.silent) {
            (Some(Verdict::In), _) => "it is heard, but nothing that is sent there arrives",
            (None, true) if both.ways.is_some_and(|ways: Ways| ways.sent > 0) => {
                "it answers, but nothing that it sends itself arrives"
            }
            (Some(Verdict::OutOrDown) | None, _) => continue,
        };
        find(Scope::Way, &both.edge.node, format!("{what} (IPv{family})"));
    }
}
