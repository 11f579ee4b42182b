//! What of a peer's list is believed. The list must name the node that was asked; then each pod is looked at by itself,
//! so that one that cannot be probed takes no other with it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use podsonar_core::exchange::address::forbidden;
use podsonar_core::exchange::{FetchResult, Refusal};
use podsonar_core::mesh::{NodeView, Pod};
use podsonar_core::target::{Family, PodId};
use podsonar_core::time::Instant;

use super::payload::{self, ListIn, PodIn, Text, Unread};

/// What else a pod must be: `exchange.pod_cidrs`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Where pods' addresses lie; empty: anywhere.
    pub pod_cidrs: Vec<IpNet>,
}

/// How many pods, and addresses of nodes, were refused, by [`Refusal::ALL`].
pub type Refused = [u32; Refusal::ALL.len()];

/// A list that is believed.
#[derive(Debug)]
pub(super) struct Accepted {
    /// What it says; its times are the reader's to fill in.
    pub(super) view: NodeView,
    /// When each pod of the view became Running, on the peer's clock.
    pub(super) running: Vec<Option<u64>>,
    pub(super) refused: Refused,
}

/// The longest label value and DNS name.
const MAX_NAME: usize = 253;

/// A workload is a kind, a slash and a name.
const MAX_WORKLOAD: usize = MAX_NAME + 64;

/// Reads and checks the body of an answer of the node that was asked.
///
/// # Errors
/// Why nothing of it is used: malformed, another version, another node.
pub(super) fn accept(body: &[u8], asked: &str, rules: &Rules) -> Result<Accepted, FetchResult> {
    let list = payload::decode(body).map_err(|unread| match unread {
        Unread::Version => FetchResult::OtherVersion,
        Unread::Malformed => FetchResult::Malformed,
    })?;
    if list.node.0 != asked {
        return Err(FetchResult::WrongNode);
    }
    if !list.zone.0.is_empty() && !is_name(&list.zone, MAX_NAME) {
        return Err(FetchResult::Malformed);
    }
    let epoch = u64::from_str_radix(&list.epoch.0, 16).map_err(|_| FetchResult::Malformed)?;
    let mut refused = Refused::default();
    let addresses = of_the_node(&list, &mut refused);
    let mut told = Told::default();
    let mut pods = Vec::with_capacity(list.pods.kept.len());
    for said in &list.pods.kept {
        match believe(said, rules).and_then(|pod| told.first(pod)) {
            Ok(pod) => pods.push((pod, said.running_ms)),
            Err(reason) => count(&mut refused, reason, 1),
        }
    }
    count(&mut refused, Refusal::TooMany, u32::try_from(list.pods.beyond).unwrap_or(u32::MAX));
    pods.sort_unstable_by(|(one, _), (other, _)| one.id.uid.cmp(&other.id.uid));
    let (pods, running) = pods.into_iter().unzip();
    let view = NodeView {
        node: list.node.0.into(),
        zone: list.zone.0.into(),
        epoch,
        addresses,
        leaving: list.leaving,
        asked_at: Instant::default(),
        watch_age: None,
        probes_us: None,
        pods,
    };
    Ok(Accepted { view, running, refused })
}

fn count(refused: &mut Refused, reason: Refusal, by: u32) {
    if let Some(count) = refused.get_mut(reason as usize) {
        *count = count.saturating_add(by);
    }
}

/// The node's own addresses, v4 first: those that may be probed, one of each family.
fn of_the_node(list: &ListIn<'_>, refused: &mut Refused) -> Vec<IpAddr> {
    let mut allowed: Vec<IpAddr> = Vec::new();
    for text in &list.addresses.kept {
        match text.0.parse() {
            Ok(address) if forbidden(address).is_none() => allowed.push(address),
            Ok(_) => count(refused, Refusal::Forbidden, 1),
            Err(_) => count(refused, Refusal::Address, 1),
        }
    }
    let first = |family| allowed.iter().copied().find(|&address| Family::of(address) == family);
    Family::ALL.into_iter().filter_map(first).collect()
}

/// What a pod is, if it may be probed.
fn believe(said: &PodIn<'_>, rules: &Rules) -> Result<Pod, Refusal> {
    let named = [&said.uid, &said.namespace, &said.name].into_iter().all(|text| is_name(text, MAX_NAME));
    if !named || !(said.workload.0.is_empty() || is_name(&said.workload, MAX_WORKLOAD)) {
        return Err(Refusal::Name);
    }
    let addresses = addresses(said)?;
    if addresses.iter().any(|&address| forbidden(address).is_some()) {
        return Err(Refusal::Forbidden);
    }
    let inside = |address: &IpAddr| rules.pod_cidrs.iter().any(|cidr| cidr.contains(address));
    if !rules.pod_cidrs.is_empty() && !addresses.iter().all(inside) {
        return Err(Refusal::Outside);
    }
    let port = match said.port {
        None => None,
        Some(0) => return Err(Refusal::Port),
        Some(port) => Some(u16::try_from(port).map_err(|_| Refusal::Port)?),
    };
    let id = Arc::new(PodId {
        uid: (*said.uid.0).into(),
        namespace: (*said.namespace.0).into(),
        name: (*said.name.0).into(),
        workload: (*said.workload.0).into(),
    });
    Ok(Pod { id, addresses, port, running_since: None, local: said.local() })
}

/// A pod's addresses, v4 first: one or two, of different families.
fn addresses(said: &PodIn<'_>) -> Result<Vec<IpAddr>, Refusal> {
    let texts = &said.ips.kept;
    let mut addresses = texts
        .iter()
        .map(|text| text.0.parse())
        .collect::<Result<Vec<IpAddr>, _>>()
        .map_err(|_| Refusal::Address)?;
    addresses.sort_by_key(|&address| Family::of(address));
    match addresses.as_slice() {
        [_] => Ok(addresses),
        [one, other] if Family::of(*one) != Family::of(*other) => Ok(addresses),
        _ => Err(Refusal::Address),
    }
}

/// Text as Kubernetes has it in names: printable, no spaces, ASCII.
fn is_name(text: &Text<'_>, longest: usize) -> bool {
    (1..=longest).contains(&text.0.len()) && text.0.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What the list has said already.
#[derive(Default)]
struct Told {
    uids: HashSet<Arc<str>>,
    addresses: HashSet<IpAddr>,
}

impl Told {
    /// The pod, if it is the first with its UID and addresses.
    fn first(&mut self, pod: Pod) -> Result<Pod, Refusal> {
        if self.uids.contains(&pod.id.uid) || pod.addresses.iter().any(|each| self.addresses.contains(each)) {
            return Err(Refusal::Duplicate);
        }
        self.uids.insert(Arc::clone(&pod.id.uid));
        self.addresses.extend(&pod.addresses);
        Ok(pod)
    }
}

#[cfg(test)]
mod tests;
