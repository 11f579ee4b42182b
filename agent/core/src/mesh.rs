//! What is known of the other agents and of all pods that matter: meaning only. Discovery makes it of watches and files,
//! the exchange of what peers answer; both have checked it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::target::PodId;
use crate::time::Instant;

/// Another node's agent, as `EndpointSlice`s or a file tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its node: unique among peers, never our own.
    pub node: Arc<str>,
    /// The zone of its node; empty if none is told.
    pub zone: Arc<str>,
    /// `metadata.uid` of the agent's pod; empty without Kubernetes.
    pub uid: Arc<str>,
    /// Its addresses: one of each family at most, v4 first; at least one.
    pub addresses: Vec<IpAddr>,
    /// The port of its `/v1/node`.
    pub mesh_port: u16,
    /// Whether its pod is going away.
    pub terminating: bool,
}

/// A pod that may be probed, as its owner tells: the agent of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its names.
    pub id: Arc<PodId>,
    /// Its addresses: one of each family at most, v4 first; at least one.
    pub addresses: Vec<IpAddr>,
    /// The TCP port to probe; none is known: a closed one is asked, and its RST proves the path.
    pub port: Option<u16>,
    /// When its owner saw it become Running with an address, by our clock; `None` if it was so before the owner looked.
    pub running_since: Option<Instant>,
    /// What the owner's own probing of it says.
    pub local: Local,
}

/// What a pod's owner hears from it, by protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Local {
    /// By ICMP echo.
    pub icmp: Answers,
    /// By TCP SYN to its port.
    pub tcp: Answers,
}

/// Whether something answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answers {
    /// It was not asked, or has never answered.
    #[default]
    Never,
    /// It answered lately.
    Yes,
    /// It has answered before, and is silent now.
    NotNow,
}

/// What a node's agent tells of its node and its pods (`/v1/node`); our own node has one too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// The node.
    pub node: Arc<str>,
    /// Its zone; empty if it has none.
    pub zone: Arc<str>,
    /// Which run of its agent tells it: what the agent's echo requests carry.
    pub epoch: u64,
    /// The node's own addresses: one of each family at most, v4 first.
    pub addresses: Vec<IpAddr>,
    /// The node or its agent goes away.
    pub leaving: bool,
    /// When the question was asked that this answers, by our clock: what it says was true after that.
    pub asked_at: Instant,
    /// How old the owner's own knowledge of its pods was then: zero while its watch is whole, else the time since it
    /// broke or was last heard; `None` before the first list.
    pub watch_age: Option<Duration>,
    /// Whether its agent probes ours, which it tells each caller for itself; `None` if it does not say.
    pub probes_us: Option<bool>,
    /// Its pods, in order of UID.
    pub pods: Vec<Pod>,
}

impl NodeView {
    /// A watch that is broken for longer may have missed what happened; ordinary reconnects take less.
    pub const WATCH_LIVE: Duration = Duration::from_secs(5);

    /// The pod of this UID.
    pub fn pod(&self, uid: &str) -> Option<&Pod> {
        let place = self.pods.binary_search_by(|pod| (*pod.id.uid).cmp(uid)).ok()?;
        self.pods.get(place)
    }

    /// Whether what it says of its pods can be believed to be so now: its owner's watch lives.
    pub fn is_live(&self) -> bool {
        self.watch_age.is_some_and(|age| age <= Self::WATCH_LIVE)
    }
}
