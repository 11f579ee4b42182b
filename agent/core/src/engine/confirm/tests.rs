use std::time::Duration;

use super::*;
use crate::engine::fetches::Ended;
use crate::engine::testing::{
    at, engine, events, loss, node_stream, planned_fetch, pod_stream, reading, results, set, view,
};
use crate::engine::{Event, FetchId, Fetched, Poll};
use crate::exchange::FetchResult;
use crate::mesh::Peer;
use crate::outcome::Unreachable;
use crate::target::{Planned, Protocol, StreamId};

const DISCARDED: ProbeResult = ProbeResult::Void(Void::Discarded);
const UNKNOWN: ProbeResult = ProbeResult::Void(Void::Unknown);

#[test]
fn a_list_asked_for_late_enough_confirms_and_one_that_lacks_the_pod_discards_at_once() {
    for (told, pods, expected) in [
        (9_000, &[1, 2][..], None),
        (9_000, &[][..], None),
        (10_500, &[1, 2], None),
        (10_500, &[2], Some(DISCARDED)),
        (12_100, &[1, 2], Some(ProbeResult::Lost)),
        (12_100, &[], Some(DISCARDED)),
    ] {
        let (mut engine, stream) = one_pod();
        lose(&mut engine, stream, 10_000);
        tell(&mut engine, view(told, pods), 12_200);
        assert_eq!(results(&mut engine).first().copied(), expected, "{told} {pods:?}");
    }
}

#[test]
fn another_address_is_another_pod() {
    let (mut engine, stream) = one_pod();
    lose(&mut engine, stream, 10_000);
    let mut moved = view(10_500, &[1]);
    moved.pods[0].addresses = vec![[10, 0, 0, 99].into()];
    tell(&mut engine, moved, 10_600);
    assert_eq!(results(&mut engine), [DISCARDED]);
}

#[test]
fn a_stale_watch_confirms_nothing() {
    let (mut engine, stream) = one_pod();
    lose(&mut engine, stream, 10_000);
    tell(&mut engine, NodeView { watch_age: Some(Duration::from_secs(6)), ..view(12_200, &[1]) }, 12_200);
    assert_eq!(results(&mut engine), [UNKNOWN]);
}

#[test]
fn an_agent_that_has_not_listed_its_pods_yet_says_nothing_of_them() {
    let (mut engine, stream) = one_pod();
    lose(&mut engine, stream, 10_000);
    tell(&mut engine, NodeView { watch_age: None, ..view(12_200, &[]) }, 12_200);
    assert!(results(&mut engine).is_empty());
    tell(&mut engine, view(13_200, &[1]), 13_200);
    assert_eq!(results(&mut engine), [ProbeResult::Lost]);
}

#[test]
fn an_icmp_error_is_held_like_a_silence() {
    for (pods, expected) in [(&[1][..], ProbeResult::Unreachable(Unreachable::Host)), (&[], DISCARDED)] {
        let (mut engine, stream) = one_pod();
        let error = Outcome { result: ProbeResult::Unreachable(Unreachable::Host), ..loss(stream, 10_000) };
        engine.finish(error);
        assert!(results(&mut engine).is_empty());
        tell(&mut engine, view(12_200, pods), 12_200);
        assert_eq!(results(&mut engine), [expected]);
    }
}

#[test]
fn a_node_of_which_nothing_answers_is_lost_once_a_fetch_failed_or_was_waited_for_long_enough() {
    for reported in [true, false] {
        let (mut engine, stream) = one_pod();
        lose(&mut engine, stream, 10_000);
        let fetch = begin(&mut engine, 11_000);
        if reported {
            engine.handle_fetched(fetch, at(11_500), Fetched::failed(FetchResult::Timeout));
        }
        tick(&mut engine, 12_000);
        assert!(results(&mut engine).is_empty());
        tick(&mut engine, 12_100);
        assert_eq!(results(&mut engine), [ProbeResult::Lost]);
    }
}

#[test]
fn while_something_of_the_node_answers_the_list_is_asked_for_again_until_nobody_can_say() {
    let (mut engine, stream) = one_pod();
    lose(&mut engine, stream, 10_000);
    let mut begun = Vec::new();
    for millis in (10_900..20_000).step_by(50) {
        tick(&mut engine, millis);
        engine.owner_alive(engine.owners.by_node["a"], at(millis));
        while let Some(Poll::Fetch(id)) = engine.poll_fetch(at(millis)) {
            begun.push(millis);
            engine.handle_fetched(id, at(millis), Fetched::failed(FetchResult::Timeout));
        }
    }
    assert!(results(&mut engine).is_empty());
    assert!((8..=10).contains(&begun.len()), "{begun:?}");
    tick(&mut engine, 20_200);
    assert_eq!(results(&mut engine), [UNKNOWN]);
}

#[test]
fn a_refusal_or_a_reset_of_the_agent_is_a_sign_of_life_and_a_wrong_node_is_none() {
    for (result, expected) in [
        (FetchResult::Refused, None),
        (FetchResult::Reset, None),
        (FetchResult::WrongNode, Some(ProbeResult::Lost)),
        (FetchResult::Unreachable, Some(ProbeResult::Lost)),
    ] {
        let (mut engine, stream) = one_pod();
        lose(&mut engine, stream, 10_000);
        let fetch = begin(&mut engine, 11_000);
        engine.handle_fetched(fetch, at(11_001), Fetched::failed(result));
        tick(&mut engine, 12_200);
        assert_eq!(results(&mut engine).first().copied(), expected, "{result:?}");
    }
}

#[test]
fn who_announced_its_leave_is_discarded() {
    let leaving = NodeView { leaving: true, ..view(9_000, &[1]) };
    for kind in [Kind::Agent, Kind::Node] {
        let (mut engine, stream) = one(node_stream(kind));
        tell(&mut engine, leaving.clone(), 9_000);
        lose(&mut engine, stream, 10_000);
        tick(&mut engine, 10_900);
        assert_eq!(results(&mut engine), [DISCARDED]);
    }
    // Its pods stay: only when nothing of the node answers they have gone with it.
    let (mut engine, stream) = one_pod();
    tell(&mut engine, leaving, 9_000);
    lose(&mut engine, stream, 10_000);
    begin(&mut engine, 11_000);
    tick(&mut engine, 11_900);
    assert!(results(&mut engine).is_empty());
    tick(&mut engine, 12_200);
    assert_eq!(results(&mut engine), [DISCARDED]);
}

#[test]
fn an_agent_that_is_gone_terminating_or_elsewhere_is_discarded() {
    let peer = Peer {
        node: "a".into(),
        zone: "".into(),
        uid: "".into(),
        addresses: vec![[10, 0, 1, 1].into()],
        mesh_port: 1,
        terminating: false,
    };
    let elsewhere = Peer { addresses: vec![[10, 0, 1, 2].into()], ..peer.clone() };
    for (peers, agent, node) in [
        (vec![peer.clone()], None, None),
        (vec![Peer { terminating: true, ..peer }], Some(DISCARDED), Some(DISCARDED)),
        (vec![elsewhere], Some(DISCARDED), None),
        (vec![], Some(DISCARDED), Some(DISCARDED)),
    ] {
        for (kind, expected) in [(Kind::Agent, agent), (Kind::Node, node)] {
            let (mut engine, stream) = one(node_stream(kind));
            lose(&mut engine, stream, 10_000);
            engine.handle_peers(at(10_950), &peers);
            tick(&mut engine, 11_000);
            assert_eq!(results(&mut engine).first().copied(), expected, "{kind:?} {peers:?}");
        }
    }
}

#[test]
fn an_agents_list_or_a_later_answer_of_its_own_confirms_its_loss_whatever_its_watch_does() {
    let (mut engine, stream) = one(node_stream(Kind::Agent));
    lose(&mut engine, stream, 10_000);
    tell(&mut engine, NodeView { watch_age: None, ..view(12_200, &[]) }, 12_200);
    assert_eq!(results(&mut engine), [ProbeResult::Lost]);
    let (mut engine, stream) = one(node_stream(Kind::Agent));
    lose(&mut engine, stream, 10_000);
    engine.note_answer(stream, at(12_000));
    tick(&mut engine, 12_200);
    assert!(results(&mut engine).is_empty());
    engine.note_answer(stream, at(13_000));
    tick(&mut engine, 13_000);
    assert_eq!(results(&mut engine), [ProbeResult::Lost]);
}

#[test]
fn our_own_list_is_always_of_now_unless_our_watch_is_broken() {
    let broken = Some(Duration::from_secs(1));
    for (age, expected) in [(Some(Duration::ZERO), ProbeResult::Lost), (broken, UNKNOWN), (None, UNKNOWN)] {
        let mut engine = engine();
        engine.handle_view(at(1_000), Arc::new(NodeView { watch_age: age, ..view(1_000, &[1]) }));
        let stream = set(&mut engine, 1_000, &[pod_stream(1, Protocol::Icmp)])[0];
        lose(&mut engine, stream, 10_000);
        tick(&mut engine, 12_000);
        assert!(results(&mut engine).is_empty());
        tick(&mut engine, 12_100);
        assert_eq!(results(&mut engine), [expected]);
    }
}

#[test]
fn nobody_to_ask_is_nobody_to_wait_for() {
    for (alive, expected) in [(true, UNKNOWN), (false, ProbeResult::Lost)] {
        let mut engine = engine();
        let stream = set(&mut engine, 0, &[pod_stream(1, Protocol::Icmp)])[0];
        lose(&mut engine, stream, 10_000);
        if alive {
            engine.owner_alive(engine.owners.by_node["a"], at(10_500));
        }
        tick(&mut engine, 12_100);
        assert_eq!(results(&mut engine), [expected]);
    }
}

#[test]
fn what_is_held_of_a_removed_stream_is_discarded() {
    let (mut engine, stream) = one_pod();
    lose(&mut engine, stream, 10_000);
    engine.set_streams(at(10_950), &[]);
    let told = events(&mut engine);
    let outcome =
        told.iter().position(|event| matches!(event, Event::Outcome(each) if each.result == DISCARDED));
    let removed = told.iter().position(|event| *event == Event::Removed(stream));
    assert!(outcome.is_some() && outcome < removed, "{told:?}");
    assert_eq!(engine.held(), 0);
}

#[test]
fn no_more_is_held_than_there_is_room_for() {
    let (mut engine, stream) = one_pod();
    for _ in 0..MOST_HELD {
        lose(&mut engine, stream, 10_000);
    }
    assert!(results(&mut engine).is_empty());
    lose(&mut engine, stream, 10_001);
    assert_eq!((results(&mut engine), engine.held()), (vec![ProbeResult::Lost], MOST_HELD));
}

#[test]
fn a_silence_that_was_confirmed_is_not_asked_about_early_again_until_it_ends() {
    let (mut engine, stream) = one_pod();
    lose(&mut engine, stream, 10_000);
    let fetch = begin(&mut engine, 12_200);
    let fetched = Fetched { result: FetchResult::Ok, view: Some(Arc::new(view(12_200, &[1]))) };
    engine.handle_fetched(fetch, at(12_210), fetched);
    tick(&mut engine, 12_300);
    assert_eq!(results(&mut engine), [ProbeResult::Lost]);
    let before = engine.fetches.first(at(12_300));
    lose(&mut engine, stream, 12_100);
    tick(&mut engine, 13_000);
    assert_eq!(engine.fetches.first(at(13_000)), before);
    engine.note_answer(stream, at(13_500));
    lose(&mut engine, stream, 13_600);
    tick(&mut engine, 14_500);
    assert_eq!(engine.fetches.first(at(14_500)), Some(at(14_500)));
}

#[test]
fn what_has_no_owner_is_lost_at_once() {
    let mut engine = engine();
    let mut planned = pod_stream(1, Protocol::Icmp);
    planned.stream.target = Arc::new(Target { kind: Kind::Fixed, ..(*planned.stream.target).clone() });
    let stream = set(&mut engine, 0, &[planned])[0];
    lose(&mut engine, stream, 10_000);
    assert_eq!(results(&mut engine), [ProbeResult::Lost]);
    assert!(engine.owners.by_node.is_empty());
}

#[test]
fn nodes_that_nothing_goes_to_are_forgotten() {
    let (mut engine, _) = one_pod();
    engine.set_streams(at(2_000), &[]);
    assert_eq!(engine.owners.by_node.len(), 1, "it is still asked for its list");
    engine.set_fetches(at(2_000), &[]);
    engine.set_streams(at(2_000), &[]);
    assert!(engine.owners.by_node.is_empty());
    let stream = set(&mut engine, 3_000, &[pod_stream(1, Protocol::Icmp)])[0];
    lose(&mut engine, stream, 10_000);
    assert_eq!((engine.owners.all.len(), engine.held()), (1, 1));
}

fn one_pod() -> (Engine, StreamId) {
    one(pod_stream(1, Protocol::Icmp))
}

/// An engine with one stream, that asks its node for its list.
fn one(planned: Planned) -> (Engine, StreamId) {
    let mut engine = engine();
    engine.set_fetches(at(0), &[planned_fetch("a")]);
    let stream = set(&mut engine, 0, &[planned])[0];
    (engine, stream)
}

/// A probe is lost that was due then; it shows 0.9 s later.
fn lose(engine: &mut Engine, stream: StreamId, due: u64) {
    engine.handle_clock(reading(due + 900));
    engine.finish(loss(stream, due));
}

fn tick(engine: &mut Engine, millis: u64) {
    engine.handle_clock(reading(millis));
    engine.handle_deadlines(at(millis));
}

fn tell(engine: &mut Engine, view: NodeView, millis: u64) {
    let ended = Ended { node: "a".into(), begun: view.asked_at, current: true };
    let fetched = Fetched { result: FetchResult::Ok, view: Some(Arc::new(view)) };
    engine.owner_fetched(&ended, at(millis), &fetched);
    tick(engine, millis);
}

/// The fetch that is due by then begins.
fn begin(engine: &mut Engine, millis: u64) -> FetchId {
    tick(engine, millis);
    match engine.poll_fetch(at(millis)) {
        Some(Poll::Fetch(id)) => id,
        other => panic!("{other:?}"),
    }
}
