//! What the engine finds out beyond results: silent flows, small paths, targets in trouble.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use podsonar_core::engine::{Baseline, Boost, Fetched, PathMtuFinding, Question};
use podsonar_core::outcome::Outcome;
use podsonar_core::query::QueryResult;
use podsonar_core::target::{Stream, StreamId};
use podsonar_core::time::ClockReading;

use super::{Entry, Ledger, find};
use crate::condition::{Heard, State};
use crate::metrics::faults::Extra;
use crate::metrics::state::Gauge;
use crate::record::Purpose;

impl Ledger {
    /// A SYN that was sent to explain a silence has ended.
    pub fn boost(&mut self, boost: Boost, outcome: &Outcome, clock: &ClockReading) {
        let Some(entry) = find(&mut self.live, outcome.stream) else { return };
        let counts =
            self.metrics.group(&entry.stream).and_then(|group| group.extras.boosts.get(boost as usize));
        if let Some(count) = counts.and_then(|counts| counts.get(Extra::from(outcome.result) as usize)) {
            count.inc();
        }
        self.record(Purpose::from(boost), outcome, clock);
    }

    /// A large echo request has ended.
    pub fn large(&mut self, outcome: &Outcome, clock: &ClockReading) {
        let Some(entry) = find(&mut self.live, outcome.stream) else { return };
        let group = self.metrics.group(&entry.stream);
        if let Some(count) =
            group.and_then(|group| group.extras.large.get(Extra::from(outcome.result) as usize))
        {
            count.inc();
        }
        self.record(Purpose::Large, outcome, clock);
    }

    /// A flow is black-holed from now on, or no longer. `source_of` tells from where packets to an address leave.
    pub fn flow(
        &mut self,
        stream: StreamId,
        source_port: u16,
        dead: bool,
        source_of: impl FnOnce(IpAddr) -> Option<IpAddr>,
    ) {
        let Some(entry) = find(&mut self.live, stream) else { return };
        let target = &entry.stream.target;
        let to = SocketAddr::new(target.address, target.port.unwrap_or(0));
        let from = source_of(target.address).map_or_else(|| "?".into(), |from| from.to_string());
        let destination = &*target.destination;
        if dead {
            entry.dead_flows += 1;
            entry.place.path.faults.dead_flows.fetch_add(1, Relaxed);
            tracing::warn!(
                destination,
                flow = %format_args!("tcp {from} port {source_port} to {to}"),
                "black-holed flow: five SYNs lost in a row while other flows to the target were answered"
            );
        } else {
            entry.dead_flows = entry.dead_flows.saturating_sub(1);
            entry.place.path.faults.dead_flows.fetch_sub(1, Relaxed);
            tracing::info!(
                destination,
                flow = %format_args!("tcp {from} port {source_port} to {to}"),
                "the flow is no longer black-holed, or no longer used"
            );
        }
    }

    /// What is known of the largest packet to a target has changed.
    pub fn path_mtu(&mut self, stream: StreamId, finding: PathMtuFinding) {
        let Some(entry) = find(&mut self.live, stream) else { return };
        let before = entry.finding.replace(finding);
        let was_blackholed = before.is_some_and(|before| before.blackholed);
        let destination = &*entry.stream.target.destination;
        let address = entry.stream.target.address;
        match (was_blackholed, finding.blackholed) {
            (false, true) => {
                entry.place.path.faults.blackholes.fetch_add(1, Relaxed);
                tracing::warn!(
                    destination,
                    %address,
                    "MTU black hole: large packets vanish without an ICMP error while small ones are answered"
                );
            }
            (true, false) => {
                entry.place.path.faults.blackholes.fetch_sub(1, Relaxed);
                tracing::info!(destination, %address, "the MTU black hole is gone");
            }
            (true, true) | (false, false) => {}
        }
        if let Some(bytes) = finding.path_mtu {
            tracing::debug!(destination, %address, bytes, "path MTU");
        }
        let path = Arc::clone(&entry.place.path);
        self.show_path_mtu(&path);
    }

    /// A question to a name server that fell due has its result.
    pub fn query(&mut self, question: Arc<Question>, result: QueryResult) {
        self.queried.push((question, result));
    }

    /// Hands over the questions that ended in this tick: one wake-up for all.
    pub(super) fn hand_over(&mut self) {
        let queried = std::mem::take(&mut self.queried);
        if let Some(queries) = self.queries.as_ref().filter(|_| !queried.is_empty()) {
            // Nobody listens only while the agent ends.
            let _ = queries.send(queried);
        }
    }

    /// A fetch that fell due has ended.
    pub fn fetched(&mut self, node: Arc<str>, fetched: Fetched) {
        if let Some(fetches) = &self.fetches {
            // Nobody listens only while the agent ends.
            let _ = fetches.send((node, fetched));
        }
    }

    /// A stream that has never answered is seen so from now on.
    pub fn baseline(&mut self, stream: StreamId, baseline: Baseline) {
        let Some(entry) = find(&mut self.live, stream) else { return };
        let news = entry.streak.note_baseline(baseline);
        let stream = entry.stream.clone();
        if let Some(heard) = news {
            self.set_condition(&stream, Some(heard));
        }
    }

    /// A new pod has answered for the first time, so long after it ran with an address; `None`: not for a minute.
    pub fn first_reply(&mut self, stream: StreamId, took: Option<Duration>) {
        let Some(entry) = find(&mut self.live, stream) else { return };
        let Some(group) = self.metrics.group(&entry.stream) else { return };
        match took {
            Some(took) => group.first_replies.observe(took.as_secs_f64()),
            None => {
                group.first_reply_timeouts.inc();
            }
        }
    }

    /// A stream leaves, and what was at fault on it.
    pub(super) fn forget_faults(&mut self, entry: &Entry) {
        let faults = &entry.place.path.faults;
        faults.dead_flows.fetch_sub(u64::from(entry.dead_flows), Relaxed);
        let blackholed = entry.finding.is_some_and(|finding| finding.blackholed);
        faults.blackholes.fetch_sub(u64::from(blackholed), Relaxed);
        if entry.finding.is_some() {
            self.show_path_mtu(&entry.place.path);
        }
    }

    /// A stream's target is heard otherwise, or no longer: its state, and its place among those in trouble.
    pub(super) fn set_condition(&mut self, stream: &Stream, heard: Option<Heard>) {
        let target = &stream.target;
        if target.is_pods_name() {
            return;
        }
        self.metrics.local.note(self.metrics.source(), stream, heard);
        let kind = target.kind as usize;
        let gauge =
            |state: State| self.metrics.targets.get(kind).and_then(|states| states.get(state as usize));
        let condition = self.targets.entry(Arc::clone(target)).or_default();
        let before = condition.has_streams().then(|| condition.state());
        condition.set(stream.protocol, heard);
        let after = condition.has_streams().then(|| condition.state());
        if before != after {
            // In this order: a scrape in between sees a target twice rather than one too few.
            after.and_then(gauge).map(Gauge::inc);
            before.and_then(gauge).map(Gauge::dec);
            self.metrics.places.change(target, before, after);
        }
        let healthy = |state: Option<State>| {
            state.is_none_or(|state| matches!(state, State::New | State::NeverAnswered | State::Answering))
        };
        if !healthy(before) || !healthy(after) {
            let state = after.unwrap_or(State::New);
            let trouble = condition.in_trouble().filter(|_| after.is_some());
            self.metrics.unhealthy.set(target, state, trouble);
        }
        if after.is_none() {
            self.targets.remove(target);
        }
    }

    /// The smallest of a path's addresses is the path's.
    fn show_path_mtu(&self, path: &Arc<crate::metrics::state::Path>) {
        let same = |entry: &&Entry| Arc::ptr_eq(&entry.place.path, path);
        let findings = self.live.iter().flatten().filter(same).filter_map(|entry| entry.finding?.path_mtu);
        path.faults.path_mtu.store(findings.min().map_or(0, u64::from), Relaxed);
    }
}
