//! Every setting there is: its name in the file, its flag, what it may be, and what it is if nobody says.
//!
//! Whatever lists settings reads this table: the file's reader, `print-config`, docs/configuration.md.

use std::fmt::Write;
use std::time::Duration;

use super::duration;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file, with its sections before it.
    pub key: &'static str,
    /// The flag that also sets it.
    pub flag: Option<&'static str>,
    /// The variable of the environment that also sets it.
    pub variable: Option<&'static str>,
    /// What it may be.
    pub kind: Kind,
    /// What it is if nobody says.
    pub fallback: Fallback,
    /// Whether a running agent takes a new value; else it needs a restart.
    pub live: bool,
    /// What it does.
    pub help: &'static str,
}

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "a smallest and a largest value need no more words")]
pub enum Kind {
    /// Text for a label.
    Text,
    /// A file.
    Path,
    /// An address and port.
    Listen,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
    /// A number with a unit.
    Duration { min: Duration, max: Duration },
    /// A whole number, and what it counts.
    Whole { min: u64, max: u64, unit: &'static str },
    /// A number, its bounds as text, and what it counts.
    Decimal { min: &'static str, max: &'static str, unit: &'static str },
    /// A list of `icmp`, `tcp`, `connect`.
    Protocols,
    /// A list of addresses with or without port.
    Servers,
    /// A list of domains.
    Domains,
    /// A list of namespaces.
    Namespaces,
    /// A label selector.
    Selector,
    /// Upper bounds of a histogram's buckets, and their unit.
    Bounds(&'static str),
    /// A list of other agents.
    Peers,
    /// A list of networks.
    Networks,
    /// What to probe.
    Targets,
    /// Names to ask for and to probe.
    Names,
}

impl Kind {
    /// Whether it has several values.
    pub(super) fn is_list(self) -> bool {
        matches!(
            self,
            Self::Protocols
                | Self::Servers
                | Self::Domains
                | Self::Namespaces
                | Self::Bounds(_)
                | Self::Peers
                | Self::Networks
                | Self::Targets
                | Self::Names
        )
    }

    /// Type and unit for people.
    fn describe(self) -> String {
        let up_to = |min: &dyn std::fmt::Display, max: &dyn std::fmt::Display| format!("{min} to {max}");
        match self {
            Self::Text => "text".into(),
            Self::Path => "file".into(),
            Self::Listen => "address and port".into(),
            Self::Choice(words) => words.join(", "),
            Self::Switch => "true, false".into(),
            Self::Duration { min, max } => {
                format!("duration, {}", up_to(&duration::text(min), &duration::text(max)))
            }
            Self::Whole { min, max, unit } => format!("{}, {}", unit, up_to(&min, &max)),
            Self::Decimal { min, max, unit } => format!("{}, {}", unit, up_to(&min, &max)),
            Self::Protocols => "list of icmp, tcp, connect".into(),
            Self::Servers => "list of addresses".into(),
            Self::Domains => "list of domains".into(),
            Self::Namespaces => "list of namespaces".into(),
            Self::Selector => "label selector".into(),
            Self::Bounds(unit) => format!("list of 1 to 30 bounds, {unit}"),
            Self::Peers => "list of NODE=ADDRESS".into(),
            Self::Networks => "list of networks".into(),
            Self::Targets => "list of targets".into(),
            Self::Names => "list of names".into(),
        }
    }
}

/// What a setting is if nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// This text; a list's entries have commas between them.
    Value(&'static str),
    /// Not set, and what that means.
    Unset(&'static str),
}

/// Declares settings as statics, and [`ALL`] of them in order.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $key:literal, $flag:expr, $variable:expr, $kind:expr, $fallback:expr, $live:literal;)+) => {
        $($(#[doc = $doc])+ pub static $name: Setting = Setting {
            key: $key,
            flag: $flag,
            variable: $variable,
            kind: $kind,
            fallback: $fallback,
            live: $live,
            help: first(&[$($doc),+]),
        };)+

        /// Every setting, in the order in which it is shown.
        pub static ALL: &[&Setting] = &[$(&$name),+];
    };
}

/// The text of a one-line documentation comment.
const fn first(lines: &[&'static str]) -> &'static str {
    match lines {
        [line, ..] => line.trim_ascii(),
        [] => "",
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

use Fallback::{Unset, Value};

settings! {
    /// Name of this host: the label `source`.
    SOURCE: "source", Some("--source"), Some("NODE_NAME"), Kind::Text, Unset("the host name"), false;
    /// Zone of this host: the label `source_zone`.
    ZONE: "zone", Some("--zone"), None, Kind::Text, Value(""), false;
    /// Whether pods and peers are found by the Kubernetes API; auto: in a cluster.
    KUBERNETES: "kubernetes", Some("--kubernetes"), None, Kind::Choice(&["auto", "off"]), Value("auto"), false;
    /// Where `/metrics`, `/livez` and `/readyz` are served.
    LISTEN: "listen", Some("--listen"), None, Kind::Listen, Unset("[::]:19988, or 0.0.0.0:19988 without IPv6"), false;
    /// Which log lines are written.
    LOG_LEVEL: "log.level", None, Some("PODSONAR_LOG"), Kind::Choice(&["error", "warn", "info", "debug", "trace"]), Value("info"), false;
    /// How log lines look; they go to stderr.
    LOG_FORMAT: "log.format", Some("--log-format"), None, Kind::Choice(&["text", "json"]), Value("text"), false;
    /// A file to which one JSON line is appended for each finished probe.
    RECORD: "record", Some("--record"), None, Kind::Path, Unset("nothing is recorded"), false;
    /// Time between two probes of a target by one protocol; with tcp and connect not below 250ms.
    INTERVAL: "probes.interval", Some("--interval"), None, Kind::Duration { min: Duration::from_millis(10), max: DAY }, Value("1s"), true;
    /// No answer by then is loss; with tcp below 950ms, since targets send a SYN-ACK again after 1 s.
    TIMEOUT: "probes.timeout", Some("--timeout"), None, Kind::Duration { min: Duration::from_millis(1), max: Duration::from_mins(1) }, Value("800ms"), true;
    /// Which to use where a target allows them; tcp and connect need a port.
    PROTOCOLS: "probes.protocols", Some("--protocols"), None, Kind::Protocols, Value("icmp,tcp"), true;
    /// Payload of an echo request.
    SIZE: "probes.size", Some("--size"), None, Kind::Whole { min: 56, max: 65_507, unit: "bytes" }, Value("56"), false;
    /// Ceiling on all probes; settings that need more are refused.
    MAX_PPS: "probes.max_pps", Some("--max-pps"), None, Kind::Whole { min: 1, max: 4_294_967_295, unit: "probes per second" }, Value("20000"), false;
    /// Source ports of SYNs in each family: one flow each.
    FLOWS: "probes.flows", None, None, Kind::Whole { min: 2, max: 1024, unit: "ports" }, Value("32"), false;
    /// Where a SYN goes that must find no listener.
    CLOSED_PORT: "probes.closed_port", None, None, Kind::Whole { min: 1, max: 65_535, unit: "TCP port" }, Value("1"), false;
    /// Time between two probes of another agent.
    AGENTS_INTERVAL: "probes.agents_interval", None, None, Kind::Duration { min: Duration::from_millis(100), max: DAY }, Value("1s"), true;
    /// Time between two probes of a pod on another node, and of another node's own address.
    PODS_INTERVAL: "probes.pods_interval", None, None, Kind::Duration { min: SECOND, max: DAY }, Value("5s"), true;
    /// Time between two probes of a pod on this node.
    OWN_PODS_INTERVAL: "probes.own_pods_interval", None, None, Kind::Duration { min: SECOND, max: DAY }, Value("10s"), true;
    /// How long an agent may take to learn that one of its pods goes: a list asked for so much later confirms a loss.
    SETTLE: "confirm.settle", None, None, Kind::Duration { min: Duration::from_millis(500), max: Duration::from_secs(10) }, Value("2s"), true;
    /// What to probe: text, or `target` with own interval, timeout, protocols and, for a name, the addresses to `expect`.
    TARGETS: "targets", Some("--target"), None, Kind::Targets, Value(""), true;
    /// A file with further targets, one a line; `#` begins a comment.
    TARGETS_FILE: "targets_file", Some("--targets-file"), None, Kind::Path, Unset("no such file"), true;
    /// Names to ask for and to probe: text, or `name` with the same as a target; with `protocols: []` only asked for.
    NAMES: "dns.names", Some("--name"), None, Kind::Names, Value(""), true;
    /// How often each name is asked for.
    DNS_INTERVAL: "dns.interval", None, None, Kind::Duration { min: SECOND, max: DAY }, Value("30s"), true;
    /// No answer of a name server by then is a timeout.
    DNS_TIMEOUT: "dns.timeout", None, None, Kind::Duration { min: Duration::from_millis(10), max: Duration::from_secs(30) }, Unset("`timeout` in /etc/resolv.conf, else 2s"), true;
    /// Ceiling on all queries; names that need more, at worst, are refused.
    MAX_QPS: "dns.max_qps", None, None, Kind::Decimal { min: "0.001", max: "10000", unit: "queries per second" }, Value("1"), true;
    /// The name servers to ask, each by itself.
    SERVERS: "dns.servers", None, None, Kind::Servers, Unset("those of /etc/resolv.conf"), true;
    /// Domains that are appended to names with few dots.
    SEARCH: "dns.search", None, None, Kind::Domains, Unset("those of /etc/resolv.conf"), true;
    /// A name with fewer dots is first tried with the search domains.
    NDOTS: "dns.ndots", None, None, Kind::Whole { min: 0, max: 15, unit: "dots" }, Unset("that of /etc/resolv.conf"), true;
    /// Whether pods' names are asked for, and their bare names, which must not resolve.
    POD_NAMES: "dns.pods", None, None, Kind::Switch, Value("true"), true;
    /// The domain of the cluster, behind `pod` in pods' names.
    CLUSTER_DOMAIN: "dns.cluster_domain", None, None, Kind::Text, Unset("that of the search list in /etc/resolv.conf"), true;
    /// Whether the pods of the cluster's name server are asked, each by itself, instead of its service address.
    ENDPOINTS: "dns.endpoints", None, None, Kind::Switch, Value("false"), true;
    /// Which pods these are: NAMESPACE/KIND/NAME of what makes them, and perhaps :PORT.
    ENDPOINTS_WORKLOAD: "dns.endpoints_workload", None, None, Kind::Text, Value("kube-system/Deployment/coredns"), true;
    /// Where `/v1/node` is served to other agents.
    MESH_LISTEN: "mesh.listen", Some("--mesh-listen"), None, Kind::Listen, Unset("[::]:19989, or 0.0.0.0:19989 without IPv6"), false;
    /// The agents' headless Service, in their own namespace: its endpoint slices tell the peers.
    MESH_SERVICE: "mesh.service", None, None, Kind::Text, Value("podsonar"), false;
    /// Other agents, without Kubernetes: NODE=ADDRESS or NODE=ADDRESS:PORT, with a zone NODE@ZONE=ADDRESS; one more entry for a second address.
    MESH_PEERS: "mesh.peers", Some("--peer"), None, Kind::Peers, Value(""), true;
    /// Time between two fetches of a peer's list.
    FETCH_INTERVAL: "exchange.interval", None, None, Kind::Duration { min: SECOND, max: Duration::from_mins(1) }, Value("3s"), true;
    /// No whole list by then is none.
    FETCH_TIMEOUT: "exchange.timeout", None, None, Kind::Duration { min: Duration::from_millis(100), max: Duration::from_secs(10) }, Value("2s"), true;
    /// Networks from which `/v1/node` may be read, besides agents, their nodes and this host.
    ALLOW_CIDRS: "exchange.allow_cidrs", None, None, Kind::Networks, Value(""), false;
    /// Where pods' addresses lie; others in peers' lists are not probed. Empty: anywhere.
    POD_CIDRS: "exchange.pod_cidrs", None, None, Kind::Networks, Value(""), true;
    /// Most peers that this agent probes: up to one more node all agents probe each other.
    MAX_PEERS: "peers.max", None, None, Kind::Whole { min: 2, max: 256, unit: "peers" }, Value("32"), true;
    /// Agents that probe a pod, besides its own node's.
    MAX_OBSERVERS: "observers.max", None, None, Kind::Whole { min: 1, max: 64, unit: "agents" }, Value("8"), true;
    /// Most pods that this agent probes on other nodes.
    MAX_TARGETS: "pods.max", None, None, Kind::Whole { min: 1, max: 10_000, unit: "pods" }, Value("500"), true;
    /// Pods of this host, without Kubernetes: a file of Pod manifests, watched for changes.
    PODS_FILE: "pods.file", Some("--pods-file"), None, Kind::Path, Unset("no such file"), false;
    /// If there are any, only pods of these namespaces are probed.
    PODS_INCLUDE: "pods.namespaces.include", None, None, Kind::Namespaces, Value(""), true;
    /// Pods of these namespaces are not probed.
    PODS_EXCLUDE: "pods.namespaces.exclude", None, None, Kind::Namespaces, Value(""), true;
    /// Only pods whose labels match are probed.
    PODS_SELECTOR: "pods.selector", None, None, Kind::Selector, Value(""), true;
    /// Whether pods without the annotation `podsonar.io/probe` are probed.
    PODS_DEFAULT: "pods.default", None, None, Kind::Choice(&["in", "out"]), Value("in"), true;
    /// Whether large packets are sent to find black holes of the path MTU.
    MTU_ENABLED: "mtu.enabled", None, None, Kind::Switch, Value("true"), false;
    /// Time between two large packets to a destination.
    MTU_INTERVAL: "mtu.interval", None, None, Kind::Duration { min: SECOND, max: DAY }, Value("10s"), false;
    /// Whether it is tested at the start if something on the way answers for everybody.
    INTERCEPTION: "preflight.interception", None, None, Kind::Switch, Value("true"), false;
    /// How long counters and histograms stay after their target left.
    RETAIN: "metrics.retain", None, None, Kind::Duration { min: SECOND, max: DAY }, Value("15m"), false;
    /// Whether round trips to agents and pods are shown by node, or by zone: fewer series, of large clusters.
    DETAIL: "metrics.detail", None, None, Kind::Choice(&["node", "zone"]), Value("node"), false;
    /// Buckets of `podsonar_rtt_seconds`.
    RTT_BOUNDS: "metrics.buckets.rtt_seconds", None, None, Kind::Bounds("seconds"), Value("0.0001,0.00025,0.0005,0.001,0.002,0.005,0.01,0.05,0.25"), false;
    /// Buckets of `podsonar_connect_duration_seconds`.
    CONNECT_BOUNDS: "metrics.buckets.connect_duration_seconds", None, None, Kind::Bounds("seconds"), Value("0.0001,0.00025,0.0005,0.001,0.002,0.005,0.01,0.05,0.25"), false;
    /// Buckets of `podsonar_dns_duration_seconds`.
    DNS_BOUNDS: "metrics.buckets.dns_duration_seconds", None, None, Kind::Bounds("seconds"), Value("0.0005,0.001,0.0025,0.005,0.01,0.025,0.05,0.1,0.5,2.5"), false;
    /// Buckets of `podsonar_http_duration_seconds`.
    HTTP_BOUNDS: "metrics.buckets.http_duration_seconds", None, None, Kind::Bounds("seconds"), Value("0.0005,0.001,0.0025,0.005,0.01,0.025,0.05,0.1,0.5,2.5"), false;
    /// Buckets of `podsonar_loss_burst_probes`.
    BURST_BOUNDS: "metrics.buckets.loss_burst_probes", None, None, Kind::Bounds("probes"), Value("1.5,2.5,3.5,5.5,10.5,30.5,100.5"), false;
    /// Buckets of `podsonar_first_reply_seconds`.
    FIRST_REPLY_BOUNDS: "metrics.buckets.first_reply_seconds", None, None, Kind::Bounds("seconds"), Value("0.5,1.5,2.5,5.5,10.5,30.5"), false;
    /// Most series of an agent; fixed targets and names are exempt.
    MAX_SERIES: "series.max", None, None, Kind::Whole { min: 100, max: 1_000_000, unit: "series" }, Value("4000"), false;
}

/// The setting of that name.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    ALL.iter().copied().find(|setting| setting.key == key)
}

/// Whether settings lie under that name.
pub(super) fn is_section(key: &str) -> bool {
    ALL.iter().any(|setting| setting.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// The table of settings in Markdown: docs/configuration.md has it.
pub fn markdown_table() -> String {
    let mut table = String::from(
        "| setting | flag, variable | type, unit | default | meaning |\n|---|---|---|---|---|\n",
    );
    for setting in ALL {
        let variable = setting.variable.map(|variable| format!("`${variable}`"));
        let flag = setting.flag.map(|flag| format!("`{flag}`"));
        let also: Vec<_> = flag.into_iter().chain(variable).collect();
        let default = match setting.fallback {
            Value("") => String::new(),
            Value(text) => format!("`{}`", text.replace(',', ", ")),
            Unset(meaning) => meaning.into(),
        };
        let restart = if setting.live { "" } else { " \u{21bb}" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| `{}`{restart} | {} | {} | {default} | {} |",
            setting.key,
            also.join(", "),
            setting.kind.describe(),
            setting.help
        );
    }
    table
}
