//! An engine for tests, and what goes into it.

use std::sync::Arc;
use std::time::Duration;

use super::{Engine, Event, Identity, PlannedFetch, Secret};
use crate::mesh::{Answers, Local, NodeView, Pod};
use crate::outcome::{Outcome, ProbeResult};
use crate::target::{Kind, Planned, PodId, Protocol, Stream, StreamId, Target};
use crate::time::{ClockReading, Instant, WallTime};

pub(super) fn engine() -> Engine {
    let identity = Identity {
        source: "test".into(),
        epoch: 1,
        key: Secret([1; 16]),
        icmp_id: 1,
        source_ports_v4: vec![],
        source_ports_v6: vec![],
        closed_port: 1,
        size: 56,
        large_interval: None,
        max_pps: 100,
    };
    Engine::new(identity, reading(0))
}

/// The clocks so many milliseconds after the start.
pub(super) fn reading(millis: u64) -> ClockReading {
    ClockReading {
        mono: at(millis),
        wall: WallTime::from_nanos(0),
        suspended: Duration::ZERO,
        uncertainty: Duration::ZERO,
    }
}

pub(super) fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// A pod `number` of node `a` by one protocol, each second.
pub(super) fn pod_stream(number: u8, protocol: Protocol) -> Planned {
    let target = Target::new(Kind::Pod, "a".into(), [10, 0, 0, number].into(), Some(80));
    let target = Arc::new(Target { pod: Some(pod_id(number)), ..target });
    Planned {
        stream: Stream { target, protocol },
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(800),
        presumed: false,
    }
}

/// Node `a` or its agent.
pub(super) fn node_stream(kind: Kind) -> Planned {
    let target = Arc::new(Target::new(kind, "a".into(), [10, 0, 1, 1].into(), None));
    Planned { stream: Stream { target, protocol: Protocol::Icmp }, ..pod_stream(1, Protocol::Icmp) }
}

pub(super) fn pod_id(number: u8) -> Arc<PodId> {
    let uid = number.to_string().into();
    Arc::new(PodId { uid, namespace: "ns".into(), name: "pod".into(), workload: "".into() })
}

/// What the agent of node `a` tells when it is asked at this time: of these pods.
pub(super) fn view(millis: u64, pods: &[u8]) -> NodeView {
    let pod = |number: &u8| Pod {
        id: pod_id(*number),
        addresses: vec![[10, 0, 0, *number].into()],
        port: None,
        running_since: None,
        local: Local { icmp: Answers::Never, tcp: Answers::Never },
    };
    NodeView {
        node: "a".into(),
        zone: "".into(),
        epoch: 1,
        addresses: Vec::new(),
        leaving: false,
        asked_at: at(millis),
        watch_age: Some(Duration::ZERO),
        probes_us: None,
        pods: pods.iter().map(pod).collect(),
    }
}

pub(super) fn planned_fetch(node: &str) -> PlannedFetch {
    PlannedFetch {
        node: node.into(),
        addresses: vec![[10, 0, 1, 1].into()],
        port: 19_989,
        interval: Duration::from_secs(3),
        timeout: Duration::from_secs(2),
    }
}

/// A loss of a stream's probe that was due at this time.
pub(super) fn loss(stream: StreamId, millis: u64) -> Outcome {
    Outcome { stream, number: 0, due: at(millis), result: ProbeResult::Lost, count: 1, sent: None }
}

/// Probes these streams, and returns the names of those that are new, in the same order.
pub(super) fn set(engine: &mut Engine, millis: u64, planned: &[Planned]) -> Vec<StreamId> {
    engine.set_streams(at(millis), planned);
    let added = |event| if let Event::Added(id, plan) = event { Some((id, plan)) } else { None };
    let added: Vec<_> = events(engine).into_iter().filter_map(added).collect();
    let name = |plan: &Planned| added.iter().find(|(_, each)| each == plan).map(|(id, _)| *id);
    planned.iter().filter_map(name).collect()
}

pub(super) fn events(engine: &mut Engine) -> Vec<Event> {
    std::iter::from_fn(|| engine.poll_event()).collect()
}

/// The results that have been told.
pub(super) fn results(engine: &mut Engine) -> Vec<ProbeResult> {
    let result = |event| if let Event::Outcome(outcome) = event { Some(outcome.result) } else { None };
    events(engine).into_iter().filter_map(result).collect()
}
