//! Probes that fall due once: of an address that was learned this moment, and may never be probed again.
//!
//! Each is a stream of its own for as long as its one probe takes, so that it is judged as all others are and its
//! answers, late ones too, are known for what they are. It goes through the same ceilings, and is skipped, as all
//! others are, where these leave it too late.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::outcome::Outcome;
use crate::target::{Planned, StreamId};
use crate::time::Instant;

/// So long after its outcome a stream that was probed once goes: its answer may come late or twice until then.
const LINGER: Duration = Duration::from_millis(2_500);

/// Those that would go so soon go along: going through all that is in flight is done once for many.
const TOGETHER: Duration = Duration::from_millis(500);

/// The streams that have had their one outcome, by when they go.
#[derive(Debug, Default)]
pub(super) struct Spent(VecDeque<(Instant, StreamId)>);

impl Spent {
    /// When the first goes.
    pub(super) fn first(&self) -> Option<Instant> {
        self.0.front().map(|(at, _)| *at)
    }
}

impl Engine {
    /// Probes each of these addresses of a pod of `node` once, in the next tick. The interval tells only how often somebody
    /// else probes the same address: it is what the payload states, since its receiver waits for the next by that.
    ///
    /// A loss is confirmed by the agent of the node, as any of a pod. Each becomes a stream with one outcome, and is removed some seconds after it. Equal ones may be under way
    /// together; [`Engine::set_streams`] does not touch them.
    pub fn probe_once(&mut self, now: Instant, node: &Arc<str>, planned: &[Planned]) {
        for plan in planned {
            self.add_once(now, node, plan);
        }
    }

    /// Ends all probing: every stream is removed, those that are probed once too, and the probes in flight end as
    /// `discarded`. So do silences that are held: what they were would be known only after the end, and nothing is called
    /// lost that was not confirmed. Each probe that fell due has its one result all the same.
    pub fn end(&mut self, now: Instant) {
        self.set_streams(now, &[]);
        let all = self.streams.once().collect();
        self.remove(now, all);
    }

    /// An outcome is told: if it was its stream's only one, the stream goes soon.
    pub(super) fn note_outcome(&mut self, outcome: &Outcome) {
        if self.streams.get(outcome.stream).is_some_and(|state| state.is_once()) {
            self.spent.0.push_back((self.clock.now().mono + LINGER, outcome.stream));
        }
    }

    /// Removes what was probed once, a while ago.
    pub(super) fn forget_spent(&mut self, now: Instant) {
        if self.spent.first().is_none_or(|first| first > now) {
            return;
        }
        let mut gone = Vec::new();
        while let Some((_, stream)) = self.spent.0.pop_front_if(|(at, _)| *at <= now + TOGETHER) {
            gone.extend(self.streams.get(stream).map(|state| state.id()));
        }
        self.remove(now, gone);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::*;
    use crate::engine::testing::{events, pod_id, pod_stream, set, view};
    use crate::engine::{Event, Identity, Poll, Secret, Transmit, TransmitKind};
    use crate::outcome::{ProbeResult, StampSource, Stray, Void};
    use crate::target::{Kind, Protocol, Stream, Target};
    use crate::time::{ClockReading, WallTime};
    use crate::wire::answer::{Answer, Key};
    use crate::wire::{Channel, tcp};

    #[test]
    fn each_has_one_result_and_is_gone_a_while_later() {
        let mut engine = engine(100);
        engine.handle_view(at(1_000), Arc::new(view(1_000, &[1])));
        let planned = [plan(1, Protocol::Icmp), plan(1, Protocol::Tcp), plan(1, Protocol::Icmp)];
        engine.probe_once(at(1_000), &node(), &planned);
        let mut told = Vec::new();
        for millis in (1_010..8_000).step_by(10) {
            for transmit in tick(&mut engine, millis) {
                if let TransmitKind::Echo { payload, .. } = transmit.kind {
                    let (key, sent) = (Key::Echo(payload.cookie), wall(millis));
                    engine.handle_transmitted(key, sent, StampSource::Software);
                    // Twice: the second is known for what it is.
                    for after in [1, 2] {
                        engine.handle_answer(transmit.to, Answer::Echo(payload), Some(wall(millis + after)));
                    }
                }
            }
            told.extend(std::iter::from_fn(|| engine.poll_event()).map(|event| (millis, event)));
        }
        let count = |wanted: fn(&Event) -> bool| told.iter().filter(|(_, event)| wanted(event)).count();
        assert_eq!(count(|event| matches!(event, Event::Added(..))), 3);
        assert_eq!(count(|event| matches!(event, Event::Removed(_))), 3);
        let outcomes: Vec<_> = told
            .iter()
            .filter_map(|(millis, event)| match event {
                Event::Outcome(outcome) => Some((*millis, outcome.number, outcome.result.label())),
                _ => None,
            })
            .collect();
        assert_eq!(outcomes, [(1_010, 0, "reply"), (1_010, 0, "reply"), (3_100, 0, "lost")]);
        assert_eq!(count(|event| matches!(event, Event::Stray(_, Stray::Duplicate))), 2);
        assert_eq!((engine.in_flight(), engine.next_wakeup(at(8_000))), (0, None));
    }

    #[test]
    fn what_is_probed_else_does_not_change_it_and_the_end_discards_it() {
        let mut engine = engine(100);
        let often = Planned { interval: Duration::from_secs(1), ..plan(1, Protocol::Icmp) };
        engine.set_streams(at(1_000), std::slice::from_ref(&often));
        engine.probe_once(at(1_000), &node(), &[plan(1, Protocol::Icmp)]);
        engine.set_streams(at(1_000), &[]);
        assert_eq!(tick(&mut engine, 1_050).len(), 1, "it is sent all the same");
        assert!(engine.probes_per_second() < 1e-9);
        engine.probe_once(at(1_050), &node(), &[plan(1, Protocol::Icmp)]);
        engine.end(at(1_050));
        let discarded =
            |event: &Event| matches!(event, Event::Outcome(outcome) if outcome.result == DISCARDED);
        let events: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
        assert_eq!(events.iter().filter(|event| discarded(event)).count(), 2);
        assert_eq!(events.iter().filter(|event| matches!(event, Event::Removed(_))).count(), 3);
    }

    #[test]
    fn at_the_end_a_silence_that_is_held_is_no_loss_and_each_probe_that_fell_due_has_one_result() {
        let mut engine = engine(100);
        let streams = set(&mut engine, 1_000, &[Protocol::Icmp, Protocol::Tcp].map(|by| pod_stream(1, by)));
        let mut outcomes = Vec::new();
        for millis in (1_010..7_500).step_by(10) {
            for transmit in tick(&mut engine, millis) {
                if millis < 5_000 {
                    engine.handle_answer(transmit.to, answer(&transmit), Some(wall(millis + 1)));
                }
            }
            outcomes.extend(events(&mut engine));
        }
        // A silence waits for the owner's word, one for the next SYN; and others are under way.
        let asked = engine.streams.get(streams[1]).unwrap().inquiry.is_some();
        assert!(engine.held() > 0 && asked && engine.in_flight() >= 2);
        let due: Vec<_> = streams.iter().map(|id| engine.streams.get(*id).unwrap().passed).collect();
        engine.end(at(7_500));
        outcomes.extend(events(&mut engine));
        for (stream, due) in streams.into_iter().zip(due) {
            let of_stream = |event: &Event| match event {
                Event::Outcome(outcome) if outcome.stream == stream => Some(*outcome),
                _ => None,
            };
            let mut told: Vec<Outcome> = outcomes.iter().filter_map(of_stream).collect();
            told.sort_by_key(|outcome| outcome.number);
            assert!(told.iter().map(|outcome| (outcome.number, outcome.count)).eq((0..due).map(|n| (n, 1))));
            let (answered, held) = told.split_at(told.partition_point(|outcome| outcome.due < at(5_000)));
            assert!(answered.iter().all(|outcome| outcome.result.label() == "reply"), "{answered:?}");
            assert!(held.len() >= 2 && held.iter().all(|outcome| outcome.result == DISCARDED), "{held:?}");
        }
        assert_eq!((engine.held(), engine.in_flight()), (0, 0));
    }

    #[test]
    fn the_ceiling_holds_and_what_it_leaves_too_late_is_skipped() {
        let mut engine = engine(1);
        let many: Vec<_> = (0..200).map(|last| plan(last, Protocol::Icmp)).collect();
        engine.probe_once(at(1_000), &node(), &many);
        let mut sent = 0;
        for millis in (1_010..6_000).step_by(10) {
            sent += tick(&mut engine, millis).len();
        }
        let results = std::iter::from_fn(|| engine.poll_event());
        let results: Vec<_> = results
            .filter_map(
                |event| if let Event::Outcome(outcome) = event { Some(outcome.result.label()) } else { None },
            )
            .collect();
        assert_eq!((sent, results.len()), (1, 200));
        assert_eq!(results.iter().filter(|result| **result == "skipped").count(), 199);
    }

    #[test]
    fn a_port_whose_application_stopped_is_no_loss_for_who_asks_once_either() {
        let mut engine = engine(1_000);
        let planned = Planned { interval: Duration::from_hours(1), ..plan(1, Protocol::Tcp) };
        engine.set_streams(at(1_000), &[planned]);
        let mut results = Vec::new();
        let mut stopped = false;
        for millis in (1_010..3_612_000).step_by(10) {
            if millis == 3_602_010 {
                stopped = true;
                results.clear();
                engine.probe_once(at(millis), &node(), &[plan(1, Protocol::Tcp)]);
            }
            for transmit in tick(&mut engine, millis) {
                let TransmitKind::Syn(syn) = transmit.kind else { continue };
                let answer = tcp::Answer {
                    source_port: syn.destination_port,
                    destination_port: syn.source_port,
                    sequence: syn.sequence,
                    reset: syn.destination_port == 1,
                };
                if !stopped || answer.reset {
                    let later = wall(millis + 1);
                    engine.handle_answer(transmit.to, Answer::Segment(answer), Some(later));
                }
            }
            let events = std::iter::from_fn(|| engine.poll_event());
            results.extend(events.filter_map(|event| match event {
                Event::Outcome(outcome) => Some(outcome.result.label()),
                _ => None,
            }));
        }
        assert_eq!(results, ["listener"]);
    }

    #[test]
    fn two_streams_to_one_port_never_use_one_flow_at_a_time_and_both_take_all_ports() {
        let mut engine = engine(1_000);
        engine.identity.source_ports_v4 = (40_000..40_032).collect();
        let pod = Planned { interval: Duration::from_secs(1), ..pod_stream(1, Protocol::Tcp) };
        engine.set_streams(at(1_000), &[pod]);
        // Each flow as it was last used, and the ports that the pod's own stream and the others have used.
        let mut last = std::collections::HashMap::new();
        let mut used = [const { std::collections::BTreeSet::new() }; 2];
        let mut sent = 0_u64;
        for millis in (1_010..401_000).step_by(10) {
            // Its name is asked often, and tells the same address each time.
            if millis % 500 == 10 {
                engine.probe_once(at(millis), &node(), &[plan(1, Protocol::Tcp)]);
            }
            for transmit in tick(&mut engine, millis) {
                let TransmitKind::Syn(syn) = transmit.kind else { continue };
                sent += 1;
                let ago = last.insert(syn.source_port, millis).map(|before| millis - before);
                assert!(ago.is_none_or(|ago| ago >= 1_000), "port {} after {ago:?} ms", syn.source_port);
                let stream = engine.inflight.get(transmit.probe).unwrap().stream;
                let is_once = engine.streams.get(stream).unwrap().is_once();
                used[usize::from(is_once)].insert(syn.source_port);
                engine.handle_answer(transmit.to, answer(&transmit), Some(wall(millis + 1)));
            }
        }
        assert_eq!(sent, 1_200);
        assert_eq!(used.map(|ports| ports.len()), [32, 32]);
    }

    #[test]
    fn a_loss_is_one_only_if_the_node_still_has_the_pod_and_it_has_ever_answered() {
        let presumed = |presumed| Planned { presumed, ..plan(1, Protocol::Icmp) };
        let often = || Planned { stream: pod_stream(1, Protocol::Icmp).stream, ..presumed(true) };
        for (listed, presumed, answers_kin, result) in [
            (true, presumed(false), false, "lost"),
            (false, presumed(false), false, "discarded"),
            (true, presumed(true), false, "unknown"),
            (true, presumed(true), true, "lost"),
        ] {
            let mut engine = engine(100);
            let pods: &[u8] = if listed { &[1] } else { &[] };
            engine.handle_view(at(1_000), Arc::new(view(1_000, pods)));
            engine.set_streams(at(1_000), &[Planned { interval: Duration::from_hours(1), ..often() }]);
            let mut events = std::iter::from_fn(|| engine.poll_event());
            let Some(Event::Added(kin, _)) = events.next() else { panic!("it is probed") };
            if answers_kin {
                engine.note_answer(kin, at(1_000));
            }
            engine.probe_once(at(1_000), &node(), &[presumed]);
            for millis in (1_010..8_000).step_by(10) {
                tick(&mut engine, millis);
            }
            let told: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
            let of_kin = |event: &&Event| matches!(event, Event::Baseline(..) | Event::FirstReply(..));
            assert_eq!(told.iter().find(of_kin), None, "the pod's own stream tells these");
            let outcome = |event: &Event| match event {
                Event::Outcome(outcome) if outcome.stream != kin => Some(outcome.result.label()),
                _ => None,
            };
            let results: Vec<_> = told.iter().filter_map(outcome).collect();
            assert_eq!(results, [result], "{listed} {answers_kin}");
            assert_eq!(engine.held(), 0);
        }
    }

    /// What an idle host says to a probe.
    fn answer(transmit: &Transmit) -> Answer {
        match transmit.kind {
            TransmitKind::Echo { payload, .. } => Answer::Echo(payload),
            TransmitKind::Syn(syn) => Answer::Segment(tcp::Answer {
                source_port: syn.destination_port,
                destination_port: syn.source_port,
                sequence: syn.sequence,
                reset: false,
            }),
        }
    }

    /// One tick in the driver's order; what was sent.
    fn tick(engine: &mut Engine, millis: u64) -> Vec<Transmit> {
        engine.handle_clock(reading(millis));
        for channel in Channel::ALL {
            engine.handle_drain(channel, true, 0);
        }
        engine.handle_deadlines(at(millis));
        let mut sent = Vec::new();
        loop {
            match engine.poll_transmit(at(millis)) {
                Poll::Transmit(transmit) => {
                    engine.handle_sent(transmit.probe, (at(millis), at(millis)), Ok(()));
                    sent.push(transmit);
                }
                Poll::Idle => return sent,
                poll => panic!("{poll:?}"),
            }
        }
    }

    const DISCARDED: ProbeResult = ProbeResult::Void(Void::Discarded);

    fn node() -> Arc<str> {
        "a".into()
    }

    fn plan(last: u8, protocol: Protocol) -> Planned {
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let target = Target::new(Kind::Name, "pod".into(), address, Some(80));
        let target = Arc::new(Target { pod: Some(pod_id(last)), ..target });
        let (interval, timeout) = (Duration::from_secs(5), Duration::from_millis(800));
        Planned { stream: Stream { target, protocol }, interval, timeout, presumed: false }
    }

    fn engine(max_pps: u32) -> Engine {
        let identity = Identity {
            source: "test".into(),
            epoch: 1,
            key: Secret([1; 16]),
            icmp_id: 1,
            source_ports_v4: vec![40_000, 40_001],
            source_ports_v6: vec![],
            closed_port: 1,
            size: 56,
            large_interval: Some(Duration::from_secs(10)),
            max_pps,
        };
        Engine::new(identity, reading(0))
    }

    fn reading(millis: u64) -> ClockReading {
        ClockReading {
            mono: at(millis),
            wall: wall(millis),
            suspended: Duration::ZERO,
            uncertainty: Duration::ZERO,
        }
    }

    fn wall(millis: u64) -> WallTime {
        WallTime::from_nanos(i64::try_from(millis * 1_000_000).unwrap())
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }
}
