//! What makes an agent one of many: peers, pods, and how many of them are probed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

use super::origin::{At, Origin};
use super::problem::Fault;
use super::resolve::Resolving;
use super::target;
use super::written::Item;
use super::{DEFAULT_MESH_PORT, Mesh, setting};
use crate::mesh::Peer;
use crate::target::Family;

/// The longest name of a node or zone (RFC 1123, as Kubernetes has it).
const MAX_NAME: usize = 253;

/// Most networks of a list.
const MAX_NETWORKS: usize = 256;

/// One entry of the list of peers.
struct Entry {
    node: String,
    zone: String,
    address: IpAddr,
    port: u16,
}

impl Resolving<'_> {
    /// Whether there can be peers or pods, as far as it is known before all is read.
    pub(super) fn has_mesh(&self) -> bool {
        let written = |setting: &'static setting::Setting| {
            self.written.values.get(setting.key).is_some_and(|given| !given.items.is_empty())
        };
        self.uses_kubernetes() || written(&setting::MESH_PEERS) || written(&setting::PODS_FILE)
    }

    fn uses_kubernetes(&self) -> bool {
        let on = self.written.get(&setting::KUBERNETES).is_some_and(|(word, _)| word != "off");
        on && self.host.downward.service_host.is_some()
    }

    pub(super) fn mesh(&mut self) -> Option<Mesh> {
        let (enabled, kubernetes) = (self.has_mesh(), self.uses_kubernetes());
        let listen = self.listen(&setting::MESH_LISTEN, DEFAULT_MESH_PORT);
        let peers = self.peers();
        let networks = (MAX_NETWORKS, Fault::NotNetwork, &[][..]);
        let allowed = self.items(&setting::ALLOW_CIDRS, network, &networks);
        let pod_networks = self.items(&setting::POD_CIDRS, network, &networks);
        let [fetch_interval, fetch_timeout] = [&setting::FETCH_INTERVAL, &setting::FETCH_TIMEOUT]
            .map(|setting| self.duration(setting).map(|time| time.value));
        let pods_file = self.one(&setting::PODS_FILE).map(|(text, _)| PathBuf::from(text));
        let [max_peers, max_observers, max_targets] =
            [&setting::MAX_PEERS, &setting::MAX_OBSERVERS, &setting::MAX_TARGETS]
                .map(|setting| self.whole(setting).and_then(|number| usize::try_from(number).ok()));
        let [agents, pods, own_pods] =
            [&setting::AGENTS_INTERVAL, &setting::PODS_INTERVAL, &setting::OWN_PODS_INTERVAL]
                .map(|setting| self.duration(setting).map(|interval| interval.value));
        let settle = self.duration(&setting::SETTLE).map(|settle| settle.value);
        Some(Mesh {
            enabled,
            kubernetes,
            listen: listen?,
            peers: peers?,
            pods_file,
            max_peers: max_peers?,
            max_observers: max_observers?,
            max_targets: max_targets?,
            agents_interval: agents?,
            pods_interval: pods?,
            own_pods_interval: own_pods?,
            settle: settle?,
            fetch_interval: fetch_interval?,
            fetch_timeout: fetch_timeout?,
            allowed: allowed?,
            pod_networks: pod_networks?,
        })
    }

    /// The peers in the order written; entries of one node are one peer.
    fn peers(&mut self) -> Option<Vec<Peer>> {
        let Some(given) = self.written.values.get(setting::MESH_PEERS.key) else { return Some(Vec::new()) };
        let own = self.written.get(&setting::SOURCE).map(|(text, _)| text).or_else(|| self.host.name.clone());
        let mut peers: Vec<Peer> = Vec::new();
        let mut complete = true;
        for Item { text, origin } in given.items.iter().filter(|item| !item.text.is_empty()) {
            let added = match parse(text) {
                None => Err(Fault::NotPeer),
                Some(entry) if own.as_ref() == Some(&entry.node) => Err(Fault::PeerIsSelf(entry.node)),
                Some(entry) => add(&mut peers, entry),
            };
            if let Err(fault) = added {
                complete = false;
                self.note_peer(origin, text, fault);
            }
        }
        for peer in &mut peers {
            peer.addresses.sort_by_key(|address| Family::of(*address));
        }
        complete.then_some(peers)
    }

    fn note_peer(&mut self, origin: &Origin, text: &str, fault: Fault) {
        self.note(At::new(setting::MESH_PEERS.key, origin.clone()), Some(text), fault);
    }
}

/// A network as its first address and the length of its prefix; a bare address is one of that address alone.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().map(IpNet::from).ok())
}

fn add(peers: &mut Vec<Peer>, entry: Entry) -> Result<(), Fault> {
    let Entry { node, zone, address, port } = entry;
    let Some(peer) = peers.iter_mut().find(|peer| *peer.node == node) else {
        peers.push(Peer {
            node: node.into(),
            zone: zone.into(),
            uid: Arc::default(),
            addresses: vec![address],
            mesh_port: port,
            terminating: false,
        });
        return Ok(());
    };
    if *peer.zone != zone || peer.mesh_port != port {
        return Err(Fault::PeerDiffers(node));
    }
    if peer.addresses.iter().any(|known| Family::of(*known) == Family::of(address)) {
        return Err(Fault::PeerTwice(node));
    }
    peer.addresses.push(address);
    Ok(())
}

/// `NODE[@ZONE]=ADDRESS[:PORT]`.
fn parse(text: &str) -> Option<Entry> {
    let (name, at) = text.split_once('=')?;
    let (node, zone) = name.split_once('@').unwrap_or((name, ""));
    let is_name = |name: &str| name.len() <= MAX_NAME && !name.chars().any(|c| c.is_control() || c == ',');
    if node.is_empty() || !is_name(node) || !is_name(zone) {
        return None;
    }
    let bare = at.strip_prefix('[').and_then(|at| at.strip_suffix(']')).unwrap_or(at);
    let (address, port) = match bare.parse::<IpAddr>() {
        Ok(address) => (address, DEFAULT_MESH_PORT),
        Err(_) => at.parse::<SocketAddr>().map(|at| (at.ip(), at.port())).ok()?,
    };
    let usable = port > 0 && (address.is_loopback() || target::check(address).is_ok());
    usable.then(|| Entry { node: node.into(), zone: zone.into(), address, port })
}
