//! Other agents' echo requests, and what they say of ours.

use std::net::IpAddr;

use super::Engine;
use crate::direction::inbound::{Edge, News, Source};
use crate::direction::ways::Ways;
use crate::outcome::Outcome;
use crate::target::{Family, Protocol};
use crate::time::WallTime;
use crate::wire::request::{Refusal, Request};

impl Engine {
    /// Echo requests of this IP version are seen from now on.
    pub fn listen(&mut self, family: Family) {
        self.inbound.listen(family);
    }

    /// Replaces the agents whose echo requests count, and who are told what was heard of them.
    pub fn set_sources(&mut self, sources: &[Source]) {
        self.inbound.set_sources(sources);
    }

    /// How this tick's drain of an IP version's requests ended: whether all that waited was taken, and the socket's count
    /// of dropped packets. To be called before the requests that it brought are handed over.
    pub fn handle_requests_drained(&mut self, family: Family, emptied: bool, dropped: u64) {
        self.inbound.handle_drain(self.clock.now().mono, family, emptied, dropped);
    }

    /// An echo request came from `from`, stamped by the kernel unless `stamp` is `None`.
    pub fn handle_request(
        &mut self,
        from: IpAddr,
        request: Result<Request, Refusal>,
        stamp: Option<WallTime>,
    ) {
        let request = match request {
            Ok(request) => request,
            Err(refusal) => return self.inbound.handle_refused(refusal),
        };
        let clock = self.clock.now();
        let now = clock.mono;
        // It came between the last drain and this one, whatever a clock that was set makes of its stamp.
        let at = stamp.map_or(now, |stamp| clock.to_mono(stamp).clamp(self.drained.min(now), now));
        if let Some(accepted) = self.inbound.handle_request((at, now), from, &request) {
            self.sequences.report(accepted.from, accepted.epoch, accepted.heard);
        }
    }

    /// What has changed about what is heard since it was last asked.
    pub fn take_inbound(&mut self) -> Vec<News> {
        if self.inbound.has_news() { self.inbound.take_news() } else { Vec::new() }
    }

    /// Echo requests that did not count so far, in the order of [`Refusal::ALL`].
    pub fn refused_requests(&self) -> [u64; Refusal::ALL.len()] {
        self.inbound.refused()
    }

    /// Which way our probes to each agent were lost, by its IP versions: of those that are probed.
    pub fn ways_of_sources(&self) -> Vec<(Edge, Ways)> {
        let addresses = self.inbound.addresses();
        addresses.filter_map(|(edge, address)| Some((edge, *self.sequences.ways(address)?))).collect()
    }

    /// A probe that fell due has its result: if it went to an agent, that agent's reports will tell which way it was
    /// lost.
    pub(super) fn note_ways(&mut self, outcome: &Outcome) {
        let Some(sent) = &outcome.sent else { return };
        let Some(state) = self.streams.get(outcome.stream) else { return };
        if state.planned.stream.protocol == Protocol::Icmp {
            self.sequences.note(state.destination, sent.sequence as u16, outcome.result);
        }
    }
}
