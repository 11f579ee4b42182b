//! From what was written to what it means.
//!
//! [`Written`] collects text from flags, environment and files, each with its place; [`setting::ALL`] says what may
//! be set. [`Written::resolve`] turns it into a complete [`Configuration`] or reports every problem at once, each
//! with its place and its fix. [`Written::print`] shows what is in force and where it comes from.

mod cluster;
mod dns;
mod duration;
mod file;
mod mesh;
mod origin;
mod print;
mod problem;
mod resolve;
mod selector;
pub mod setting;
mod target;
mod values;
mod whom;
mod written;
mod yaml;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use self::cluster::{Downward, Identity, Wanted};
pub use self::origin::{At, Origin};
pub use self::problem::{Fault, Problem};
pub use self::selector::{PodChoice, Selector};
pub use self::target::TargetProblem;
pub use self::written::Written;

use crate::mesh::Peer;
use crate::target::{Kind, Planned, Protocol, Stream, Target};

/// The port of `/v1/node`: what agents tell each other.
pub const DEFAULT_MESH_PORT: u16 = 19989;

/// The port of `/metrics`. Prometheus' list of default ports has 9100 to 9999 taken, all of them.
pub const DEFAULT_PORT: u16 = 19988;

/// Targets send a SYN-ACK again after one second (RFC 6298 §2), so a longer timeout would take the second for the
/// first. 50 ms are for the way and for clocks.
pub const TCP_TIMEOUT_LIMIT: Duration = Duration::from_millis(950);

/// At most four SYNs a second to a target: one whose way back is dead keeps each for a minute.
pub const TCP_MIN_INTERVAL: Duration = Duration::from_millis(250);

/// What this machine says where nothing is written.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The kernel's host name.
    pub name: Option<String>,
    /// What `/etc/resolv.conf` says.
    pub resolver: Resolver,
    /// What Kubernetes says in the environment.
    pub downward: Downward,
}

/// Whom this machine asks for names (`resolv.conf(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// Name servers in order.
    pub servers: Vec<SocketAddr>,
    /// Search domains in order.
    pub search: Vec<String>,
    /// Names with fewer dots are first tried with the search domains.
    pub ndots: u8,
    /// How long an answer is waited for.
    pub timeout: Duration,
}

impl Default for Resolver {
    /// What resolv.conf(5) says for an empty file, but for its timeout of 5 s: the next asking should not be close.
    fn default() -> Self {
        let timeout = Duration::from_secs(2);
        Self { servers: vec![([127, 0, 0, 1], 53).into()], search: Vec::new(), ndots: 1, timeout }
    }
}

/// Everything that can be set: complete and valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// The process itself; it takes a restart to change.
    pub agent: Agent,
    /// What is to be probed and how.
    pub probing: Probing,
}

/// Settings of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The label `source`.
    pub source: String,
    /// The label `source_zone`.
    pub zone: String,
    /// Who the agent is in its cluster; `None` outside of one, or if Kubernetes is not to be asked.
    pub identity: Option<Identity>,
    /// The agents' headless Service.
    pub mesh_service: String,
    /// Where metrics are served.
    pub listen: Listen,
    /// Where finished probes are recorded.
    pub record: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_level: LogLevel,
}

/// Where metrics are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// On every address of the host, IPv6 and IPv4, or IPv4 where that is all there is.
    Everywhere {
        /// The port.
        port: u16,
    },
    /// On the address that the user chose.
    At(SocketAddr),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least severe log lines that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words themselves")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What is to be probed and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Probing {
    /// Every stream to a fixed address with its settings.
    pub planned: Vec<Planned>,
    /// Names whose addresses are probed; each is asked for too.
    pub named: Vec<NamePlan>,
    /// Which pods of the own node may be probed.
    pub pods: PodChoice,
    /// Names and whom to ask for them.
    pub dns: Dns,
    /// Other agents and pods.
    pub mesh: Mesh,
    /// Time between two large packets to a destination; `None`: no such packets.
    pub mtu: Option<Duration>,
    /// Ceiling on all probes together, per second.
    pub max_pps: u32,
    /// Payload of echo requests, in bytes.
    pub size: usize,
    /// Source ports of SYNs in each family.
    pub flows: u16,
    /// The port that nobody is believed to listen on.
    pub closed_port: u16,
    /// Whether interception is tested for at the start.
    pub interception: bool,
    /// How long series of a removed target stay.
    pub retain: Duration,
    /// Most series.
    pub max_series: u32,
    /// Whether round trips to pods and agents are shown by zone instead of by node.
    pub by_zone: bool,
    /// Bounds of histograms.
    pub buckets: Buckets,
}

impl Probing {
    /// How many targets there are, names included.
    pub fn targets(&self) -> usize {
        let mut targets: Vec<_> = self.planned.iter().map(|each| Arc::as_ptr(&each.stream.target)).collect();
        targets.dedup();
        targets.len() + self.named.len()
    }
}

/// A name whose addresses are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePlan {
    /// As the user wrote it: the label `destination`.
    pub written: Arc<str>,
    /// The name in it; [`Dns::names`] has it once.
    pub name: Arc<str>,
    /// The TCP port.
    pub port: Option<u16>,
    /// How its addresses are asked, in label order.
    pub protocols: Vec<Protocol>,
    /// Whether nobody wrote the ICMP among them: it goes beside the port.
    pub icmp_presumed: bool,
    /// Time between two probes of a stream.
    pub interval: Duration,
    /// A probe without an answer after this time is lost.
    pub timeout: Duration,
}

impl NamePlan {
    /// The streams to the addresses that it has now.
    pub fn planned(&self, addresses: &[IpAddr]) -> Vec<Planned> {
        let mut planned = Vec::with_capacity(addresses.len() * self.protocols.len());
        for &address in addresses {
            let written = Arc::clone(&self.written);
            let target = Arc::new(Target::new(Kind::Name, written, address, self.port));
            planned.extend(self.protocols.iter().map(|&protocol| Planned {
                stream: Stream { target: Arc::clone(&target), protocol },
                interval: self.interval,
                timeout: self.timeout,
                presumed: self.icmp_presumed && protocol == Protocol::Icmp,
            }));
        }
        planned
    }
}

/// What makes this agent one of many.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// Whether there can be peers or pods; else this is a lone prober.
    pub enabled: bool,
    /// Whether pods and peers are learned from the Kubernetes API.
    pub kubernetes: bool,
    /// Where `/v1/node` is served.
    pub listen: Listen,
    /// Peers as written.
    pub peers: Vec<Peer>,
    /// A file of Pod manifests.
    pub pods_file: Option<PathBuf>,
    /// Time between two fetches of a peer's list.
    pub fetch_interval: Duration,
    /// No whole list by then is none.
    pub fetch_timeout: Duration,
    /// Who may read our list, besides agents, their nodes and this host.
    pub allowed: Vec<IpNet>,
    /// Where pods' addresses lie; empty: anywhere.
    pub pod_networks: Vec<IpNet>,
    /// Most peers that are probed.
    pub max_peers: usize,
    /// Agents that probe a pod of another node.
    pub max_observers: usize,
    /// Most pods of other nodes that are probed.
    pub max_targets: usize,
    /// Time between two probes of another agent.
    pub agents_interval: Duration,
    /// Time between two probes of another node's pod or address.
    pub pods_interval: Duration,
    /// Time between two probes of an own pod.
    pub own_pods_interval: Duration,
    /// How long an agent may take to learn that one of its pods goes.
    pub settle: Duration,
}

/// Names and whom to ask for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// Each name once, whatever its port, in the order written.
    pub names: Vec<AskedName>,
    /// How often each name is asked for.
    pub interval: Duration,
    /// No answer of a name server by then is a timeout.
    pub timeout: Duration,
    /// Ceiling on all queries, per second.
    pub max_qps: f64,
    /// Name servers, each asked by itself.
    pub servers: Vec<SocketAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Names with fewer dots are first tried with the search domains.
    pub ndots: u8,
    /// The domain behind pods' names, without a dot at its end; `None`: pods' names are not asked for.
    pub cluster_domain: Option<Arc<str>>,
    /// Whether pods' bare names are asked for.
    pub bare_names: bool,
    /// The pods that are asked instead of [`servers`](Self::servers) where any are known.
    pub endpoints: Option<Endpoints>,
}

/// The pods of the cluster's name server: what makes them, and their port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// `metadata.namespace` of the pods.
    pub namespace: String,
    /// The controller that makes them: `Deployment/coredns`.
    pub workload: String,
    /// The port that they listen on.
    pub port: u16,
}

/// A name that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedName {
    /// As first written; a dot at its end keeps search domains away.
    pub name: Arc<str>,
    /// The only addresses that are right; empty: any.
    pub expect: Vec<IpAddr>,
}

/// Upper bounds of histograms: ascending, positive, none of them whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// Of `podsonar_rtt_seconds`.
    pub rtt: Arc<[f64]>,
    /// Of `podsonar_connect_duration_seconds`.
    pub connect: Arc<[f64]>,
    /// Of `podsonar_dns_duration_seconds`.
    pub dns: Arc<[f64]>,
    /// Of `podsonar_http_duration_seconds`.
    pub http: Arc<[f64]>,
    /// Of `podsonar_loss_burst_probes`.
    pub loss_burst: Arc<[f64]>,
    /// Of `podsonar_first_reply_seconds`.
    pub first_reply: Arc<[f64]>,
}

impl Default for Buckets {
    fn default() -> Self {
        resolve::default_buckets()
    }
}

#[cfg(test)]
mod tests;
