//! Other agents' echo requests, and what they say of ours.
//!
//! Who is silent may have chosen others to probe, and says so when it is asked for its list. So a silence is told once a
//! list that was asked for since says otherwise, or none can be had.

use std::net::IpAddr;

use super::Engine;
use super::confirm::PATIENCE;
use crate::direction::inbound::{Edge, News, Source};
use crate::direction::ways::Ways;
use crate::outcome::Outcome;
use crate::target::{Family, Protocol};
use crate::time::{Instant, WallTime};
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

    /// Closes gaps, and tells who is silent.
    pub(super) fn look_at_inbound(&mut self, now: Instant) {
        let Self { inbound, owners, fetches, verdicts, .. } = self;
        inbound.look(now, *verdicts, |node, heard| {
            let told = owners.told_since(node, heard);
            let waited = fetches.under_way(node).is_some_and(|begun| now.since(begun.max(heard)) >= PATIENCE);
            match told {
                Some(view) => view.probes_us != Some(false),
                None if !fetches.asks(node) || owners.failed_since(node, heard) || waited => true,
                None => {
                    fetches.hasten(node, now);
                    false
                }
            }
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{at, engine, planned_fetch, reading, view};
    use crate::engine::{FetchId, Fetched, Poll};
    use crate::exchange::FetchResult;
    use crate::mesh::NodeView;
    use crate::wire::payload::{Heard, Payload, SizeClass};

    /// The agent of node `a` is asked for its list each minute, and probes us each 100 ms until 4 s.
    #[test]
    fn a_silence_is_told_once_its_agent_says_that_it_probes_us_or_does_not_answer() {
        for (answer, silent_at) in [
            (Answer::Probes(Some(true)), Some(4_800)),
            // An agent of a release that does not say.
            (Answer::Probes(None), Some(4_800)),
            (Answer::Probes(Some(false)), None),
            (Answer::Failure, Some(4_800)),
            // It is asked when it has been silent for long enough, and waited for.
            (Answer::Nothing, Some(5_800)),
        ] {
            let mut engine = heard_until_4_s();
            let mut asked = Vec::new();
            let mut silent = None;
            for millis in (4_010..9_000).step_by(10) {
                engine.handle_clock(reading(millis));
                engine.handle_requests_drained(Family::V4, true, 0);
                engine.handle_deadlines(at(millis));
                if silent.is_none() && engine.take_inbound().iter().any(|news| news.silent) {
                    silent = Some(millis);
                }
                while let Some(Poll::Fetch(id)) = engine.poll_fetch(at(millis)) {
                    asked.push(millis);
                    answer.give(&mut engine, id, millis);
                }
            }
            // The schedule is a long one: this was asked for because of the silence.
            assert!(asked.first().is_some_and(|first| (4_700..4_800).contains(first)), "{asked:?}");
            let difference = silent.zip(silent_at).map(|(told, meant): (u64, u64)| told.abs_diff(meant));
            assert_eq!(silent.is_some(), silent_at.is_some(), "{answer:?} {silent:?}");
            assert!(difference.is_none_or(|difference| difference <= 150), "{answer:?} {silent:?}");
        }
    }

    #[test]
    fn who_is_not_asked_for_a_list_is_called_silent_at_once() {
        let mut engine = heard_until_4_s();
        engine.set_fetches(at(4_000), &[]);
        engine.handle_clock(reading(4_800));
        engine.handle_requests_drained(Family::V4, true, 0);
        engine.handle_deadlines(at(4_800));
        assert!(engine.take_inbound().iter().any(|news| news.silent));
    }

    /// What comes of asking.
    #[derive(Debug, Clone, Copy)]
    enum Answer {
        Probes(Option<bool>),
        Failure,
        Nothing,
    }

    impl Answer {
        fn give(self, engine: &mut Engine, id: FetchId, millis: u64) {
            let fetched = match self {
                Self::Probes(probes_us) => {
                    let view = NodeView { probes_us, ..view(millis, &[]) };
                    Fetched { result: FetchResult::Ok, view: Some(view.into()) }
                }
                Self::Failure => Fetched::failed(FetchResult::Timeout),
                Self::Nothing => return,
            };
            engine.handle_fetched(id, at(millis), fetched);
        }
    }

    fn heard_until_4_s() -> Engine {
        let mut engine = engine();
        engine.listen(Family::V4);
        let from = IpAddr::from([10, 0, 1, 1]);
        let (node, zone) = ("a".into(), "".into());
        engine.set_sources(&[Source { node, zone, epoch: 9, addresses: vec![from], also_from: vec![] }]);
        let mut fetch = planned_fetch("a");
        fetch.interval = std::time::Duration::from_mins(1);
        engine.set_fetches(at(0), &[fetch]);
        for sequence in 1..=40 {
            engine.handle_clock(reading(sequence * 100));
            let heard = Heard::default();
            let (length, class, cookie) = (56, SizeClass::Normal, sequence);
            let payload = Payload { length, class, epoch: 9, sequence, cookie, period_ms: 100, heard };
            engine.handle_request(from, Ok(Request { to: [10, 0, 0, 1].into(), payload }), None);
        }
        engine.take_inbound();
        engine
    }
}
