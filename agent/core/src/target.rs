//! What is probed: targets, and the labels that say how.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::wire::{Channel, Transport};

/// How a target is asked. The text form is the metric label `protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// ICMP echo (RFC 792, RFC 4443) over a raw socket.
    Icmp,
    /// A half-open TCP SYN (RFC 9293 §3.5): the application accepts nothing.
    Tcp,
    /// A full TCP handshake by the host's own stack, timed by this process.
    Connect,
}

impl Protocol {
    /// Every protocol, in label order.
    pub const ALL: [Self; 3] = [Self::Icmp, Self::Tcp, Self::Connect];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Connect => "connect",
        }
    }
}

/// IP version. The text form is the metric label `family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V6 => "6",
        }
    }
}

/// Why a target is probed. The text form is the metric label `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Another node's agent.
    Agent,
    /// A pod: of another node, or of the own one.
    Pod,
    /// An address of another node itself.
    Node,
    /// An address of a name: one that the user wrote, or a pod's.
    Name,
    /// Written by the user as an address.
    Fixed,
    /// Loopback: shows what this agent and its host add by themselves.
    Control,
}

impl Kind {
    /// Every kind, in label order.
    pub const ALL: [Self; 6] = [Self::Agent, Self::Pod, Self::Node, Self::Name, Self::Fixed, Self::Control];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Pod => "pod",
            Self::Node => "node",
            Self::Fixed => "fixed",
            Self::Name => "name",
            Self::Control => "control",
        }
    }
}

/// Something to probe, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The metric label `destination`: what the user wrote; the node of an agent, a pod or a node's address; `pod` for
    /// the name of a pod.
    pub destination: Arc<str>,
    /// The metric label `destination_zone`: the zone of that node.
    pub zone: Arc<str>,
    /// Where probes go.
    pub address: IpAddr,
    /// The TCP port; SYNs need it.
    pub port: Option<u16>,
    /// Why it is probed.
    pub kind: Kind,
    /// Whether it is the second address of what it is: counted, but without a histogram of its own.
    pub secondary: bool,
    /// Which pod it is. A pod that takes over another one's address is another target.
    pub pod: Option<Arc<PodId>>,
}

impl Target {
    /// A target that belongs to no node.
    pub fn new(kind: Kind, destination: Arc<str>, address: IpAddr, port: Option<u16>) -> Self {
        Self { destination, zone: Arc::default(), address, port, kind, secondary: false, pod: None }
    }
}

impl Target {
    /// Whether it is the address behind a pod's name: probed once each time, it has no state of its own. The pod has one.
    pub fn is_pods_name(&self) -> bool {
        self.kind == Kind::Name && self.pod.is_some()
    }
}

/// A pod by its names. No metric but `podsonar_unhealthy_target` shows them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// The controller that made it (`Deployment/web`), empty without one.
    pub workload: Arc<str>,
}

/// One protocol to one target: what has a schedule, a path in the metrics, and one result for each due probe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stream {
    /// Whom it asks.
    pub target: Arc<Target>,
    /// How it asks.
    pub protocol: Protocol,
}

impl Stream {
    /// The IP version of its packets.
    pub fn family(&self) -> Family {
        Family::of(self.target.address)
    }

    /// The raw socket that it needs, if any.
    pub fn channel(&self) -> Option<Channel> {
        Some(Channel { protocol: Transport::of(self.protocol)?, family: self.family() })
    }
}

/// A stream and its settings: what the engine is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Planned {
    /// Whom to ask and how.
    pub stream: Stream,
    /// Time between two probes.
    pub interval: Duration,
    /// A probe without an answer after this time is lost.
    pub timeout: Duration,
    /// Whether podsonar added it by itself: then its silence says nothing until it has answered once.
    pub presumed: bool,
}

/// Names a stream inside one engine. A removed stream's number is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

impl StreamId {
    /// Its place among the streams that are there: dense, so that a list finds it without hashing. Another stream
    /// takes the place once this one is gone.
    pub const fn slot(self) -> usize {
        (self.0 & u32::MAX as u64) as usize
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
