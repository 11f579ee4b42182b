//! Whose names are asked for, and whose turn it is: pure state.
//!
//! Each name server has its own place in the round of all pods, so that each is asked about each pod. The round goes by
//! UID, which is random: a pod that comes or goes neither skips another one nor asks for it again.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use podsonar_core::mesh::Pod;
use podsonar_core::query::pods::{Askable, is_bare_name, pod_name};
use podsonar_core::query::{QueryResult, Record};
use podsonar_core::target::PodId;

/// Places in rounds that are remembered: above it, rounds of servers that are asked no more are among them.
const MAX_PLACES: usize = 256;

/// A pod's address, which its name must resolve to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPod {
    /// The pod.
    pub id: Arc<PodId>,
    /// Its node: its agent knows whether the pod is still there.
    pub node: Arc<str>,
    /// One of its addresses.
    pub address: IpAddr,
    /// The TCP port to probe, if any is known.
    pub port: Option<u16>,
    /// Whether it is a pod of this agent's own node.
    pub own: bool,
}

impl NamedPod {
    /// A pod of this node, once for each of its addresses.
    pub fn each(pod: &Pod, node: &Arc<str>, own: bool) -> impl Iterator<Item = Self> {
        pod.addresses.iter().map(move |address| Self {
            id: Arc::clone(&pod.id),
            node: Arc::clone(node),
            address: *address,
            port: pod.port,
            own,
        })
    }

    fn key(&self) -> Key {
        (Arc::clone(&self.id.uid), self.address)
    }
}

/// What tells pods' addresses apart, and orders them.
type Key = (Arc<str>, IpAddr);

/// All pods whose names are asked for: one list, replaced as a whole, that all copies of this share.
#[derive(Debug, Clone, Default)]
pub struct PodNames(Arc<RwLock<Arc<Lists>>>);

/// The pods by what is asked about them, each in order.
#[derive(Debug, Default)]
struct Lists {
    /// By [`Record::ALL`].
    names: [Vec<NamedPod>; Record::ALL.len()],
    /// Each pod once: those of other nodes, and our own.
    bare: [Vec<NamedPod>; 2],
}

impl PodNames {
    /// Other pods than before. What has no name in DNS is left out.
    pub fn replace(&self, mut pods: Vec<NamedPod>) {
        pods.sort_by_cached_key(NamedPod::key);
        pods.dedup_by_key(|pod| pod.key());
        let named = |pod: &&NamedPod| pod_name(pod.address, &pod.id.namespace, "").is_some();
        let names = Record::ALL.map(|record| {
            pods.iter().filter(|pod| record.holds(pod.address)).filter(named).cloned().collect()
        });
        pods.dedup_by(|later, first| later.id.uid == first.id.uid);
        pods.retain(|pod| is_bare_name(&pod.id.name));
        let (own, others) = pods.into_iter().partition(|pod| pod.own);
        let lists = Lists { names, bare: [others, own] };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(lists);
    }

    /// How many there are to be asked for, of so many servers, bare ones in so many search domains.
    pub fn askable(&self, servers: usize, domains: usize) -> Askable {
        let lists = self.lists();
        let bare = lists.bare.iter().map(Vec::len).sum();
        Askable { servers, names: lists.names.each_ref().map(Vec::len), bare, domains }
    }

    /// Whether any pod whose bare name is asked for has an IPv4 address.
    pub fn has_v4(&self) -> bool {
        self.lists().names.first().is_some_and(|pods| !pods.is_empty())
    }

    fn lists(&self) -> Arc<Lists> {
        // Whoever writes only replaces an Arc, so nothing is ever half written.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whose turn it is at each name server.
#[derive(Debug, Default)]
pub struct Rounds {
    pods: PodNames,
    names: HashMap<(SocketAddr, Record), Key>,
    bare: HashMap<SocketAddr, BarePlace>,
}

/// The last bare names that a server was asked for: another node's pod, and an own one.
#[derive(Debug, Default)]
struct BarePlace {
    last: [Option<Key>; 2],
    /// Whether the very last was an own one.
    own: bool,
}

impl Rounds {
    /// Rounds through these pods.
    pub fn new(pods: PodNames) -> Self {
        Self { pods, ..Self::default() }
    }

    /// The pod whose name this server is asked for next, for this record.
    pub fn next_name(&mut self, server: SocketAddr, record: Record) -> Option<NamedPod> {
        let lists = self.pods.lists();
        let pod = after(lists.names.get(record as usize)?, self.names.get(&(server, record)))?;
        if self.names.len() >= MAX_PLACES {
            self.names.clear();
        }
        self.names.insert((server, record), pod.key());
        Some(pod.clone())
    }

    /// The pod whose bare name this server is asked for next: one of this node's and one of others' in turn.
    pub fn next_bare(&mut self, server: SocketAddr) -> Option<NamedPod> {
        let lists = self.pods.lists();
        if self.bare.len() >= MAX_PLACES {
            self.bare.clear();
        }
        let place = self.bare.entry(server).or_default();
        for own in [!place.own, place.own] {
            let last = place.last.get_mut(usize::from(own))?;
            if let Some(pod) = after(lists.bare.get(usize::from(own))?, last.as_ref()) {
                *last = Some(pod.key());
                place.own = own;
                return Some(pod.clone());
            }
        }
        None
    }
}

/// After so many pods' names in a row that do not exist, and none that does, a server is believed to have none.
const UNSERVED: u32 = 10;

/// Which name servers have pods' names at all. `CoreDNS` with `pods disabled` has none, which is no fault of a pod.
#[derive(Debug, Default)]
pub struct Unserved(HashMap<SocketAddr, Option<u32>>);

impl Unserved {
    /// Takes what became of a question about a pod's name; whether it is now, for the first time, clear that its server
    /// has none.
    pub fn note(&mut self, server: SocketAddr, result: QueryResult) -> bool {
        if self.0.len() >= MAX_PLACES && !self.0.contains_key(&server) {
            self.0.clear();
        }
        let missing = self.0.entry(server).or_insert(Some(0));
        match (result, &mut *missing) {
            (QueryResult::NxDomain, Some(count)) => {
                *count = count.saturating_add(1);
                *count == UNSERVED
            }
            (QueryResult::NoError | QueryResult::Mismatch, _) => {
                *missing = None;
                false
            }
            _ => false,
        }
    }
}

/// The pod that follows the last one, and the first behind the end.
fn after<'a>(pods: &'a [NamedPod], last: Option<&Key>) -> Option<&'a NamedPod> {
    let place = last.map_or(0, |last| pods.partition_point(|pod| pod.key() <= *last));
    pods.get(place).or_else(|| pods.first())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_asked_about_each_pod_in_turn() {
        let mut rounds =
            rounds(&[("b", "10.0.0.2"), ("a", "10.0.0.1"), ("c", "10.0.0.3"), ("c", "10.0.0.3")]);
        let one: Vec<_> = (0..4).map(|_| next(&mut rounds, 1)).collect();
        let other: Vec<_> = (0..4).map(|_| next(&mut rounds, 2)).collect();
        assert_eq!(one, ["a", "b", "c", "a"]);
        assert_eq!(one, other);
    }

    #[test]
    fn pods_that_come_and_go_neither_skip_nor_repeat_others() {
        let mut rounds = rounds(&[("a", "10.0.0.1"), ("b", "10.0.0.2"), ("d", "10.0.0.4")]);
        assert_eq!([next(&mut rounds, 1), next(&mut rounds, 1)], ["a", "b"]);
        rounds.pods.replace(pods(&[("a", "10.0.0.1"), ("c", "10.0.0.3"), ("d", "10.0.0.4")]));
        assert_eq!([next(&mut rounds, 1), next(&mut rounds, 1), next(&mut rounds, 1)], ["c", "d", "a"]);
        rounds.pods.replace(Vec::new());
        assert_eq!(rounds.next_name(server(1), Record::A), None);
    }

    #[test]
    fn each_record_has_the_pods_of_its_family_and_bare_names_each_pod_once() {
        let rounds = rounds(&[("a", "10.0.0.1"), ("a", "fd00::1"), ("b", "fd00::2"), ("e", "::5")]);
        let askable = rounds.pods.askable(2, 3);
        assert_eq!(askable, Askable { servers: 2, names: [1, 2], bare: 3, domains: 3 });
        assert!(rounds.pods.has_v4());
    }

    #[test]
    fn own_and_other_pods_take_turns_with_their_bare_names() {
        let mut rounds = rounds(&[("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")]);
        let mut list =
            pods(&[("own-a", "10.0.1.1"), ("own-b", "10.0.1.2"), ("b", "10.0.0.2"), ("a", "10.0.0.1")]);
        for pod in &mut list {
            pod.own = pod.id.uid.starts_with("own");
        }
        rounds.pods.replace(list);
        let bare = |rounds: &mut Rounds| rounds.next_bare(server(1)).unwrap().id.uid.to_string();
        let asked: Vec<_> = (0..5).map(|_| bare(&mut rounds)).collect();
        assert_eq!(asked, ["own-a", "a", "own-b", "b", "own-a"]);
        rounds.pods.replace(pods(&[("a", "10.0.0.1")]));
        assert_eq!([bare(&mut rounds), bare(&mut rounds)], ["a", "a"]);
        rounds.pods.replace(Vec::new());
        assert_eq!(rounds.next_bare(server(1)), None);
    }

    #[test]
    fn a_server_has_no_pods_names_if_many_are_missing_and_none_was_ever_there() {
        let mut unserved = Unserved::default();
        let told: Vec<_> = (0..30).filter(|_| unserved.note(server(1), QueryResult::NxDomain)).collect();
        assert_eq!(told, [9]);
        for result in [QueryResult::NxDomain, QueryResult::Timeout, QueryResult::NoError] {
            assert!(!unserved.note(server(2), result));
        }
        assert!((0..100).all(|_| !unserved.note(server(2), QueryResult::NxDomain)));
    }

    #[test]
    fn names_that_are_none_are_not_asked_for() {
        let list = PodNames::default();
        let mut hostile = pods(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]);
        for (pod, (namespace, name)) in hostile.iter_mut().zip([("x.y", "good"), ("good", "evil.example.")]) {
            let id = PodId { namespace: namespace.into(), name: name.into(), ..(*pod.id).clone() };
            pod.id = Arc::new(id);
        }
        list.replace(hostile);
        assert_eq!(list.askable(1, 1), Askable { servers: 1, names: [1, 0], bare: 1, domains: 1 });
    }

    fn next(rounds: &mut Rounds, number: u16) -> String {
        rounds.next_name(server(number), Record::A).unwrap().id.uid.to_string()
    }

    fn rounds(uids: &[(&str, &str)]) -> Rounds {
        let list = PodNames::default();
        list.replace(pods(uids));
        Rounds::new(list)
    }

    fn pods(uids: &[(&str, &str)]) -> Vec<NamedPod> {
        let pod = |(uid, address): &(&str, &str)| NamedPod {
            id: Arc::new(PodId {
                uid: (*uid).into(),
                namespace: "web".into(),
                name: (*uid).into(),
                workload: "".into(),
            }),
            node: "node".into(),
            address: address.parse().unwrap(),
            port: None,
            own: false,
        };
        uids.iter().map(pod).collect()
    }

    fn server(number: u16) -> SocketAddr {
        ([10, 96, 0, 10], number).into()
    }
}
