//! What can be wrong with what was written: one thing each, with its place and its fix.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use super::cluster::Wanted;
use super::duration;
use super::origin::{At, Origin};
use super::target::TargetProblem;

/// One thing that is wrong. Its text names the place and the fix.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Where; `None` where nothing is what is wrong.
    pub at: Option<At>,
    /// The value as written, if it is one.
    pub text: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

impl Problem {
    pub(super) fn new(at: At, text: Option<&str>, fault: Fault) -> Self {
        Self { at: Some(at), text: text.map(Into::into), fault }
    }

    /// Puts them into the order in which people read them: flags, environment, then files by line; each once.
    pub fn in_order(problems: &mut Vec<Self>) {
        let origin = |problem: &Self| problem.at.as_ref().map(|at| at.origin.clone());
        problems.sort_by_key(|problem| origin(problem).filter(|origin| !matches!(origin, Origin::Flag(_))));
        let mut told = HashSet::new();
        problems.retain(|problem| told.insert(problem.to_string()));
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.at, &self.text) {
            (None, _) => self.fault.fmt(f),
            (Some(at), None) => write!(f, "{at}: {}", self.fault),
            (Some(at), Some(text)) if matches!(at.origin, Origin::Variable(_)) => {
                write!(f, "{at}={text}: {}", self.fault)
            }
            (Some(at), Some(text)) => write!(f, "{at} {text}: {}", self.fault),
        }
    }
}

impl std::error::Error for Problem {}

/// What is wrong, and how to mend it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the message beside each says what it is")]
pub enum Fault {
    #[error("nothing to probe: name a target, for example --target 192.0.2.1 or --target 192.0.2.1:443")]
    NoTargets,
    #[error(
        "not a peer; write for example node-2=10.0.0.2, node-2@zone-b=10.0.0.2:19989 or node-2=[2001:db8::2]:19989"
    )]
    NotPeer,
    #[error("two addresses of one family for the node {0}: a peer has at most one of each")]
    PeerTwice(String),
    #[error("zones or ports of the node {0} differ: write the same in all its entries")]
    PeerDiffers(String),
    #[error("this is the node's own name ({0}): a peer is another node")]
    PeerIsSelf(String),
    #[error("this host has no name; give it one, for example --source node-1")]
    NoSource,
    #[error("`{text}` {problem}")]
    Target { text: String, problem: TargetProblem },
    #[error("`{0}` is left without a protocol: add a port for tcp and connect, or use icmp")]
    NoProtocol(String),
    #[error("`{0}` is an address, not a name: write it as a target")]
    NotName(String),
    #[error("`{0}` is an address: only a name can have addresses that are expected")]
    ExpectOfAddress(String),
    #[error("other addresses of this name are expected at {0}: write them in one place")]
    ExpectTwice(Origin),

    #[error("{0}")]
    Unreadable(String),
    #[error("larger than {0} MiB; is it the right file?")]
    TooLarge(u64),
    #[error("not text: line {0} is not UTF-8")]
    NotText(usize),
    #[error("not YAML: {0}; text with `[`, `*`, `: ` or ` #` in it needs quotes")]
    NotYaml(String),
    #[error("anchors and aliases are not read: write the value out")]
    Alias,
    #[error("tags are not read: leave the `!` word out, or quote the value")]
    Tag,
    #[error("a second document begins here: write all settings in one, without `---`")]
    SecondDocument,
    #[error("nested too deeply: no setting has so many parts")]
    TooDeep,
    #[error("a setting's name must be a word")]
    NotKey,
    #[error("says nothing: write at least one setting, or do not name the file")]
    EmptyFile,
    #[error("unknown{}", .0.as_ref().map_or_else(String::new, |near| format!("; did you mean {near}?")))]
    Unknown(Option<String>),
    #[error("given twice, first on line {0}; remove one")]
    Twice(u32),
    #[error("has no value; write one after the colon, or remove the line")]
    NoValue,
    #[error("must be settings by name, for example `{0}`")]
    NotSection(String),
    #[error("must be one value, not {0}")]
    NotValue(&'static str),
    #[error("must be a list, for example `{0}`")]
    NotList(&'static str),
    #[error("must be text such as `{0}`, or settings by name with `{1}`")]
    NotTarget(&'static str, &'static str),
    #[error("`{0}` is missing: write whom to probe")]
    NoWhom(&'static str),

    #[error("not a duration; write a number and a unit, for example 1s, 250ms or 1m")]
    NotDuration,
    #[error("must be from {} to {}", duration::text(*min), duration::text(*max))]
    DurationRange { min: Duration, max: Duration },
    #[error("must be a whole number from {min} to {max}")]
    NumberRange { min: u64, max: u64 },
    #[error("must be a number from {min} to {max}")]
    DecimalRange { min: &'static str, max: &'static str },
    #[error("must be true or false")]
    NotSwitch,
    #[error("must be one of {0}")]
    NotChoice(String),
    #[error("must be text without control characters, at most 253 bytes")]
    NotPlainText,
    #[error("not an address and port; write for example 127.0.0.1:19988 or [::]:19988")]
    NotListen,
    #[error("not a list of icmp, tcp and connect; write for example icmp or icmp,tcp")]
    NotProtocols,
    #[error("not an address of a name server; write for example 10.96.0.10 or [2001:db8::53]:53")]
    NotServer,
    #[error("not an IP address; write for example 10.96.0.1")]
    NotAddress,
    #[error("not a network; write for example 10.244.0.0/16 or fd00:10:244::/56")]
    NotNetwork,
    #[error("not a domain; write for example svc.cluster.local")]
    NotDomain,
    #[error(
        "not what makes pods; write for example kube-system/Deployment/coredns or openshift-dns/DaemonSet/dns-default:5353"
    )]
    NotWorkload,
    #[error("not the name of a namespace; write for example kube-system")]
    NotNamespace,
    #[error("not a label selector; write for example app=web or tier in (front, back)")]
    NotSelector,
    #[error("not the name of a Service; write for example podsonar")]
    NotService,
    #[error(
        "is not set, and this runs in a Kubernetes cluster: set it to {0} by the downward API in the pod's manifest, \
         or set kubernetes to off"
    )]
    NoVariable(Wanted),
    #[error("must be {0}, as the downward API sets it in the pod's manifest")]
    NotVariable(Wanted),
    #[error("must have an entry; without the line it is the default")]
    EmptyList,
    #[error("must have at most {0} entries")]
    TooMany(usize),
    #[error("must have 1 to 30 bounds")]
    BoundCount,
    #[error("not a bound; write a positive number such as 0.005 or 2.5")]
    NotBound,
    #[error(
        "a bound must not be a whole number, since le=\"1\" and le=\"1.0\" differ; write for example {}",
        .0 + 0.5
    )]
    WholeBound(f64),
    #[error("bounds must ascend: it follows {0}")]
    BoundOrder(String),

    #[error(
        "must be below 950ms for tcp, because targets send a SYN-ACK again after 1 s; \
         use the default 800ms, or the protocols icmp and connect"
    )]
    TcpTimeout,
    #[error(
        "must be at least 250ms for tcp and connect, at most 4 SYN/s to a target; \
         raise it, or use the protocol icmp"
    )]
    TcpInterval,
    #[error("the targets need {0} probes per second; set {0} or more, or raise the interval")]
    MaxPps(u64),
    #[error(
        "the names need {needed} queries per second (names with each search domain: {tried}, record types: 2, \
         name servers: {servers}, every {}); set {needed} or more, or raise dns.interval",
        duration::text(*interval)
    )]
    MaxQps { needed: String, tried: usize, servers: usize, interval: Duration },
}
