//! Faults by place. A fault of a wide place explains those of what is in it: a silent node's pods are not named.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use podsonar_core::query::QueryResult;
use podsonar_core::query::pods::{BARE_POD_NAMES, POD_NAMES};
use podsonar_core::target::Kind;
use serde::Serialize;

use crate::condition::State;
use crate::metrics::places::Place;
use crate::metrics::state::Metrics;

/// States in which nothing is answered any more.
const SILENT: [State; 1] = [State::Silent];

/// What a cluster brings.
const CLUSTER: [Kind; 3] = [Kind::Agent, Kind::Pod, Kind::Node];

/// How wide a fault is, the widest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This agent or its host.
    Agent,
    /// A name server.
    NameServer,
    /// Another node, with all that is on it.
    Node,
    /// The way to a peer, or from it.
    Way,
    /// A pod, or what the user wrote.
    Target,
    /// Large packets to a destination.
    Mtu,
    /// Some of the ways to a destination.
    Flow,
    /// One name.
    Name,
}

impl Scope {
    /// The word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Agent => "this agent",
            Self::NameServer => "name server",
            Self::Node => "node",
            Self::Way => "way",
            Self::Target => "target",
            Self::Mtu => "mtu",
            Self::Flow => "flow",
            Self::Name => "name",
        }
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How wide.
    pub scope: Scope,
    /// Where.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

/// Everything that is wrong as far as the metrics know.
pub(super) fn of(metrics: &Metrics) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |scope, place: &str, what: String| {
        findings.push(Finding { scope, place: place.into(), what });
    };
    for fault in metrics.own_faults() {
        find(Scope::Agent, metrics.source(), format!("{}; results say little now", fault.words()));
    }
    name_servers(metrics, &mut find);
    let places = metrics.places.all();
    let silent: Vec<&str> =
        places.iter().filter(|(_, place)| is_silent(place)).map(|(name, _)| &**name).collect();
    for (name, place) in &places {
        if is_silent(place) {
            let targets = place.count(&CLUSTER, &State::ALL);
            find(Scope::Node, name, format!("nothing answers, of {targets} targets there{}", zone(place)));
        } else if place.count(&[Kind::Agent], &SILENT) > 0 {
            find(Scope::Node, name, format!("its agent does not answer, others there do{}", zone(place)));
        }
    }
    super::ways::faults(metrics, &mut find);
    for trouble in metrics.unhealthy.all() {
        let target = &trouble.target;
        let of_cluster = CLUSTER.contains(&target.kind);
        if of_cluster && (silent.contains(&&*target.destination) || target.kind == Kind::Agent) {
            continue;
        }
        let at = target.port.map_or_else(
            || target.address.to_string(),
            |port| SocketAddr::new(target.address, port).to_string(),
        );
        let place = match &target.pod {
            Some(pod) => format!("pod {}/{} ({at}) on {}", pod.namespace, pod.name, target.destination),
            None if of_cluster => format!("{at} of {}", target.destination),
            None if *target.destination == *at => at,
            None => format!("{} ({at})", target.destination),
        };
        find(Scope::Target, &place, format!("by {}: {}", trouble.protocol.label(), trouble.state.words()));
    }
    for path in metrics.paths().iter() {
        let (destination, family) = (&path.stream.target.destination, path.stream.family().label());
        let (blackholes, flows) =
            (path.faults.blackholes.load(Relaxed), path.faults.dead_flows.load(Relaxed));
        if blackholes > 0 {
            let passes = match path.faults.path_mtu.load(Relaxed) {
                0 => String::new(),
                bytes => format!("; {bytes} bytes pass"),
            };
            find(
                Scope::Mtu,
                destination,
                format!("large IPv{family} packets vanish without an ICMP error{passes}"),
            );
        }
        if flows > 0 {
            let what = format!(
                "{flows} IPv{family} flows are dead while others are answered: one of several ways is"
            );
            find(Scope::Flow, destination, what);
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

fn zone(place: &Place) -> String {
    if place.zone.is_empty() { String::new() } else { format!(" (zone {})", place.zone) }
}

/// A node whose agent and all else is silent.
fn is_silent(place: &Place) -> bool {
    let silent = place.count(&CLUSTER, &SILENT);
    let ever_heard = place.count(&CLUSTER, &State::ALL) - place.count(&CLUSTER, &[State::NeverAnswered]);
    silent > 0 && silent == ever_heard && place.count(&[Kind::Agent], &SILENT) > 0
}

/// A server that answers nothing properly is one fault, a name that one does not answer another.
fn name_servers(metrics: &Metrics, find: &mut impl FnMut(Scope, &str, String)) {
    let names = metrics.dns.names();
    let mut servers: BTreeMap<&str, Vec<(&str, QueryResult)>> = BTreeMap::new();
    for (server, name, result) in names.iter().map(|name| name.last()) {
        if let Some(result) = result {
            servers.entry(server).or_default().push((name, result));
        }
    }
    for (server, names) in servers {
        let failed = names.iter().filter(|(_, result)| is_failure(*result)).count();
        if failed == names.len() {
            let result = names.first().map_or("", |(_, result)| result.label());
            find(
                Scope::NameServer,
                server,
                format!("no name is answered ({result}), of {failed} that were asked"),
            );
            continue;
        }
        for (name, result) in names.iter().filter(|(name, result)| is_wrong(name, *result)) {
            find(Scope::Name, words(name), format!("{} from {server}", result.label()));
        }
    }
}

/// A bare pod name is none in DNS: the only wrong answer is one.
fn is_wrong(name: &str, result: QueryResult) -> bool {
    is_failure(result) || (name == BARE_POD_NAMES && result == QueryResult::NoError)
}

fn words(name: &str) -> &str {
    match name {
        POD_NAMES => "a pod's name",
        BARE_POD_NAMES => "a bare pod name, which must not resolve",
        name => name,
    }
}

const fn is_failure(result: QueryResult) -> bool {
    match result {
        QueryResult::NoError | QueryResult::NxDomain | QueryResult::NoData | QueryResult::NotSent => false,
        QueryResult::ServFail
        | QueryResult::Refused
        | QueryResult::OtherRcode
        | QueryResult::Malformed
        | QueryResult::Mismatch
        | QueryResult::Timeout
        | QueryResult::Unreachable => true,
    }
}
