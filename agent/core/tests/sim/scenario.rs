//! A situation as a TOML file: who is there, what the path does, what happens when, and what must come out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::outcome::StampSource;
use podsonar_core::target::{Kind, Planned, Protocol, Stream, Target};
use serde::Deserialize;

use super::mesh::{Mesh, Node, Role};

/// One file of `tests/scenarios`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Says what the file shows.
    pub(crate) claim: String,
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    #[serde(default = "one_second")]
    pub(crate) interval_ms: u64,
    #[serde(default = "default_timeout")]
    pub(crate) timeout_ms: u64,
    #[serde(default = "default_ceiling")]
    pub(crate) max_pps: u32,
    #[serde(default)]
    pub(crate) path: Path,
    pub(crate) targets: Vec<Host>,
    /// Nodes whose agents tell of their pods. The one named `sim` is our own.
    #[serde(default)]
    pub(crate) nodes: BTreeMap<String, Node>,
    #[serde(default)]
    at: Vec<Timed>,
    /// For each result or stray: the least and the most. What is not named must not appear.
    pub(crate) expect: BTreeMap<String, (u64, u64)>,
    /// The least and the most answered probes without an observed round trip.
    #[serde(default)]
    pub(crate) unobserved: (u64, u64),
    /// The most probes that one tick may hand out.
    #[serde(default)]
    pub(crate) largest_tick: Option<u64>,
    /// Large probes go out as well.
    #[serde(default)]
    pub(crate) large: bool,
    /// Verdicts on flows: `flow_dead`, `flow_healed`, and `boosts`. The first two must not appear if not named.
    #[serde(default)]
    pub(crate) verdicts: BTreeMap<String, (u64, u64)>,
    /// What must be known in the end of each path's largest packet, and whether it is a black hole.
    #[serde(default)]
    pub(crate) path_mtu: Option<(u32, bool)>,
    /// The first loss must be told by then.
    #[serde(default)]
    pub(crate) lost_by_ms: Option<u64>,
    /// The most fetches that may be begun.
    #[serde(default)]
    pub(crate) fetches: Option<u64>,
    /// Nobody can say what becomes of some probes: `unknown` is right.
    #[serde(default)]
    pub(crate) vague: bool,
    /// The least time between two SYNs with back-off, if it is less than its own: something ends it early.
    #[serde(default)]
    pub(crate) back_off_ms: Option<u64>,
    #[serde(skip)]
    removed: BTreeSet<String>,
}

/// What the path does to packets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Path {
    pub(crate) delay_us: u64,
    pub(crate) jitter_us: u64,
    pub(crate) loss_there: f64,
    pub(crate) loss_back: f64,
    pub(crate) duplicate: f64,
    /// This share of answers takes `slow_by_ms` longer: overtaken by others, or too late.
    pub(crate) slow: f64,
    pub(crate) slow_by_ms: u64,
    /// This share of answers comes with forged ones before it.
    pub(crate) forge: f64,
    /// Larger packets do not pass, and whether an ICMP error says so.
    pub(crate) mtu: Option<u32>,
    pub(crate) mtu_told: bool,
    /// Segments from these source ports vanish.
    pub(crate) dead_flows: Vec<u16>,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            delay_us: 500,
            jitter_us: 0,
            loss_there: 0.0,
            loss_back: 0.0,
            duplicate: 0.0,
            slow: 0.0,
            slow_by_ms: 0,
            forge: 0.0,
            mtu: None,
            mtu_told: false,
            dead_flows: Vec::new(),
        }
    }
}

/// A host that may answer; `count` makes that many with consecutive addresses.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "facts of a host, which the files name")]
pub(crate) struct Host {
    pub(crate) address: IpAddr,
    #[serde(default)]
    pub(crate) port: Option<u16>,
    /// On which node it is, and as what.
    #[serde(default)]
    pub(crate) node: Option<String>,
    #[serde(default, rename = "is")]
    pub(crate) kind: Option<Role>,
    /// A pod's UID, if it is not its address.
    #[serde(default)]
    pub(crate) uid: Option<String>,
    /// Its owner, or whoever plans, does not have it.
    #[serde(default)]
    pub(crate) unlisted: bool,
    /// It is going away: its silence is no loss.
    #[serde(default)]
    pub(crate) going: bool,
    #[serde(default)]
    pub(crate) presumed: bool,
    #[serde(default)]
    pub(crate) answers_owner: bool,
    #[serde(default)]
    pub(crate) running_since_ms: Option<u64>,
    #[serde(default)]
    pub(crate) interval_ms: Option<u64>,
    #[serde(default = "one")]
    count: u32,
    #[serde(default)]
    pub(crate) behaviour: Behaviour,
}

impl Host {
    pub(crate) fn is_on(&self, node: &str) -> bool {
        self.node.as_deref() == Some(node)
    }

    pub(crate) fn is_planned(&self) -> bool {
        !self.unlisted
    }
}

/// What a host does with a probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Behaviour {
    /// Answers echo requests and SYNs.
    #[default]
    Answer,
    /// Answers SYNs with RST.
    Closed,
    /// Answers nothing.
    Silent,
    /// Answers with an ICMP error.
    Reject,
    /// Its application is stopped and its accept queue full: silent on its port, RST on others.
    Stopped,
    /// Answers echo requests, and no SYN on any port.
    NoTcp,
    /// A SYN-ACK lost on its way back is sent again after 1.03 s.
    SynAckAgain,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Timed {
    ms: u64,
    #[serde(rename = "do")]
    action: Action,
}

/// What happens at some time.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Action {
    ClockStep {
        by_ms: i64,
    },
    Suspend {
        for_ms: u64,
    },
    Stall {
        for_ms: u64,
    },
    DropReplies {
        for_ms: u64,
    },
    RefuseSends {
        for_ms: u64,
    },
    Stamps {
        tx: Tx,
        rx: bool,
    },
    Path(Path),
    Behave {
        target: String,
        behaviour: Behaviour,
    },
    Remove {
        target: String,
    },
    /// A pod or an agent begins to go away, and its network ends.
    Go {
        target: String,
    },
    /// Its owner's list, or whoever plans agents, no longer has it.
    Unlist {
        target: String,
    },
    /// Its owner's list has it, with this UID, running from now on.
    List {
        target: String,
        uid: String,
    },
    /// It is heard by its owner from now on.
    AnswerOwner {
        target: String,
    },
    /// A node changes.
    Node {
        name: String,
        to: Node,
    },
    /// All of a node is silent at once.
    PowerCut {
        name: String,
    },
}

/// Which transmit stamp the kernel gives.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tx {
    Software,
    Sched,
    None,
}

impl Tx {
    pub(crate) fn source(self) -> Option<StampSource> {
        match self {
            Self::Software => Some(StampSource::Software),
            Self::Sched => Some(StampSource::Sched),
            Self::None => None,
        }
    }
}

impl Scenario {
    pub(crate) fn planned(&self, mesh: &Mesh) -> Vec<Planned> {
        let mut planned = Vec::new();
        for host in self.targets.iter().filter(|host| host.kind.is_none()) {
            for number in 0..host.count {
                let address = nth(host.address, number);
                if self.removed.contains(&address.to_string()) {
                    continue;
                }
                let written = host.port.map_or(address.to_string(), |port| format!("{address}:{port}"));
                let target = Arc::new(Target::new(Kind::Fixed, written.into(), address, host.port));
                let protocols: &[Protocol] =
                    if host.port.is_some() { &[Protocol::Icmp, Protocol::Tcp] } else { &[Protocol::Icmp] };
                planned.extend(protocols.iter().map(|&protocol| Planned {
                    stream: Stream { target: Arc::clone(&target), protocol },
                    interval: Duration::from_millis(self.interval_ms),
                    timeout: Duration::from_millis(self.timeout_ms),
                    presumed: host.presumed,
                }));
            }
        }
        let target = Arc::new(Target::new(Kind::Fixed, "".into(), [0, 0, 0, 0].into(), None));
        let default = Planned {
            stream: Stream { target, protocol: Protocol::Icmp },
            interval: Duration::from_millis(self.interval_ms),
            timeout: Duration::from_millis(self.timeout_ms),
            presumed: false,
        };
        planned.extend(mesh.planned(&self.targets, &default));
        planned
    }

    pub(crate) fn actions(&self) -> Vec<(u64, Action)> {
        self.at.iter().map(|timed| (timed.ms * 1_000_000, timed.action.clone())).collect()
    }

    pub(crate) fn behaviour(&self, address: IpAddr) -> Behaviour {
        self.targets
            .iter()
            .find(|host| (0..host.count).any(|number| nth(host.address, number) == address))
            .map_or(Behaviour::Silent, |host| host.behaviour)
    }

    pub(crate) fn behave(&mut self, target: &str, behaviour: Behaviour) {
        self.change(target, |host| host.behaviour = behaviour);
    }

    pub(crate) fn change(&mut self, target: &str, change: impl Fn(&mut Host)) {
        self.targets.iter_mut().filter(|host| host.address.to_string() == target).for_each(change);
    }

    /// Each host of a node stands by itself.
    pub(crate) fn spread(&mut self) {
        let spread = self.targets.iter().flat_map(|host| {
            let alone = host.kind.is_some();
            (0..if alone { host.count } else { 1 }).map(move |number| Host {
                address: nth(host.address, number),
                count: if alone { 1 } else { host.count },
                ..host.clone()
            })
        });
        self.targets = spread.collect();
    }

    /// Whether a host is going away.
    pub(crate) fn is_going(&self, address: IpAddr) -> bool {
        self.targets.iter().any(|host| host.address == address && host.going)
    }

    pub(crate) fn remove(&mut self, target: &str) {
        self.removed.insert(target.to_owned());
    }
}

fn nth(first: IpAddr, number: u32) -> IpAddr {
    match first {
        IpAddr::V4(first) => std::net::Ipv4Addr::from(u32::from(first) + number).into(),
        IpAddr::V6(first) => std::net::Ipv6Addr::from(u128::from(first) + u128::from(number)).into(),
    }
}

fn one() -> u32 {
    1
}

fn one_second() -> u64 {
    1_000
}

fn default_timeout() -> u64 {
    800
}

fn default_ceiling() -> u32 {
    20_000
}
