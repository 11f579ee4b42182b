//! Every metric of the agent is declared here, in [`ALL`]: name, type, labels, meaning, and where its samples
//! come from. The table in docs/metrics.md is generated from the declarations, and a golden file holds the whole scrape.

pub mod accept;
pub mod dns;
mod encode;
pub(crate) mod exchange;
pub(crate) mod faults;
mod groups;
mod health;
pub mod inbound;
mod labels;
mod list;
pub(crate) mod local;
pub mod mesh;
mod paths;
pub(crate) mod places;
mod process;
mod reload;
pub mod scrape;
mod shape;
mod sockets;
pub mod state;
mod table;

use std::fmt;

use prometheus_client::encoding::{EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;

use self::dns::AskedName;
use self::encode::sample;
use self::state::{Metrics, Path};

pub use self::shape::RATIO_BOUNDS;
pub use self::table::markdown_table;

/// Bounds of native buckets grow by no more than this factor, so schema 3.
const NATIVE_FACTOR: f64 = 1.1;

/// Bounds of `podsonar_schedule_lag_seconds`, in seconds; no integers (`le="1"` and `le="1.0"` differ).
pub const LAG_BOUNDS: [f64; 7] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 2.5];

/// One metric family.
#[derive(Debug)]
pub struct Metric {
    /// Full name; counters end in `_total`.
    pub name: &'static str,
    /// What it is to Prometheus.
    pub kind: MetricType,
    /// Label names, in the order of exposition.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
    samples: Samples,
}

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Classic buckets.
    Histogram,
    /// Classic buckets everywhere, native ones too in the protobuf format.
    NativeHistogram,
}

impl Metric {
    /// The name as prometheus-client and `OpenMetrics` have it: they add a counter's suffix themselves.
    fn family(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }
}

impl From<MetricType> for prometheus_client::metrics::MetricType {
    fn from(kind: MetricType) -> Self {
        match kind {
            MetricType::Counter => Self::Counter,
            MetricType::Gauge => Self::Gauge,
            MetricType::Histogram | MetricType::NativeHistogram => Self::Histogram,
        }
    }
}

/// Where samples come from.
#[derive(Debug)]
enum Samples {
    /// From each path.
    Path(fn(&Path, &Metrics, &mut MetricEncoder<'_>) -> fmt::Result),
    /// From each path that has this histogram.
    PathTimes(fn(&Path) -> Option<&Histogram>),
    /// From each name at each of its servers.
    Name(fn(&AskedName, &Metrics, &mut MetricEncoder<'_>) -> fmt::Result),
    /// From the agent as a whole.
    Agent(fn(&Metrics, MetricEncoder<'_>) -> fmt::Result),
}

const PATH: &[&str] =
    &["protocol", "family", "kind", "source", "source_zone", "destination", "destination_zone"];
const PATH_RESULT: &[&str] =
    &["protocol", "family", "kind", "source", "source_zone", "destination", "destination_zone", "result"];
const EDGE: &[&str] = &["family", "source", "source_zone", "destination", "destination_zone"];
const SERVER: &[&str] = &["source", "source_zone", "server"];
const ZONE: &[&str] = &["source", "source_zone", "destination_zone"];
const ZONE_RESULT: &[&str] = &["source", "source_zone", "destination_zone", "result"];
const CHANNEL: &[&str] = &["protocol", "family"];

/// Every metric, in the order of exposition.
pub static ALL: &[Metric] = &[
    Metric {
        name: "podsonar_rtt_seconds",
        kind: MetricType::NativeHistogram,
        labels: PATH,
        help: "Round trips between kernel stamps; a reply without them is counted, not observed.",
        samples: Samples::PathTimes(paths::rtt),
    },
    Metric {
        name: "podsonar_connect_duration_seconds",
        kind: MetricType::NativeHistogram,
        labels: PATH,
        help: "Full TCP handshakes, by this process' clock; none while the control is bad.",
        samples: Samples::PathTimes(paths::connect_duration),
    },
    Metric {
        name: "podsonar_connects_unobserved_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "Handshakes whose duration was not observed because the control was bad.",
        samples: Samples::Agent(|metrics, family| metrics.connects_unobserved.encode(family)),
    },
    Metric {
        name: "podsonar_probes_total",
        kind: MetricType::Counter,
        labels: PATH_RESULT,
        help: "Probes by what the network did: reply, reset (a closed port answered), lost (silence until the timeout), \
               unreachable (an ICMP error), listener (the application was silent, the network was not).",
        samples: Samples::Path(paths::probes),
    },
    Metric {
        name: "podsonar_probes_void_total",
        kind: MetricType::Counter,
        labels: &["protocol", "family", "kind", "source", "reason"],
        help: "Due probes that say nothing about the network: not_sent, skipped, unknown, discarded, \
               intercepted (something on this host answers for everybody). \
               With probes_total this is every probe that fell due.",
        samples: Samples::Agent(groups::probes_void),
    },
    Metric {
        name: "podsonar_late_replies_total",
        kind: MetricType::Counter,
        labels: &["protocol", "family", "kind", "source", "hint"],
        help: "Answers after the timeout, whose probes stay lost. way_back: a SYN-ACK sent again, so the first was \
               lost on its way back.",
        samples: Samples::Agent(groups::late_replies),
    },
    Metric {
        name: "podsonar_duplicate_replies_total",
        kind: MetricType::Counter,
        labels: &["protocol", "family", "kind", "source"],
        help: "Further answers to answered probes.",
        samples: Samples::Agent(groups::duplicate_replies),
    },
    Metric {
        name: "podsonar_loss_episodes_total",
        kind: MetricType::Counter,
        labels: PATH,
        help: "Runs of losses (lost or unreachable), counted at their start. A probe that says nothing ends no run.",
        samples: Samples::Path(shape::episodes),
    },
    Metric {
        name: "podsonar_loss_burst_probes",
        kind: MetricType::Histogram,
        labels: &["protocol", "family", "kind", "source"],
        help: "Length of the runs of losses that have ended, in probes.",
        samples: Samples::Agent(shape::bursts),
    },
    Metric {
        name: "podsonar_loss_ratio",
        kind: MetricType::Histogram,
        labels: &["protocol", "family", "kind", "source"],
        help: "Share of probes lost or unreachable, by target and window: 60 s or longer, until there are 30 results, \
               at most 5 min.",
        samples: Samples::Agent(shape::ratio),
    },
    Metric {
        name: "podsonar_first_reply_seconds",
        kind: MetricType::Histogram,
        labels: &["protocol", "family", "kind", "source"],
        help: "From a new pod running with an address, as its own node's agent saw it, to its first answer here; by \
               the protocol that it answered first.",
        samples: Samples::Agent(groups::first_replies),
    },
    Metric {
        name: "podsonar_first_reply_timeouts_total",
        kind: MetricType::Counter,
        labels: &["protocol", "family", "kind", "source"],
        help: "New pods that did not answer for a minute after they ran.",
        samples: Samples::Agent(groups::first_reply_timeouts),
    },
    Metric {
        name: "podsonar_rtt_floor_seconds",
        kind: MetricType::Gauge,
        labels: PATH,
        help: "10th percentile of a path's ICMP round trips of the last 60 s, of at most one of each second.",
        samples: Samples::Path(shape::rtt_floor),
    },
    Metric {
        name: "podsonar_dns_duration_seconds",
        kind: MetricType::NativeHistogram,
        labels: SERVER,
        help: "Time that a name server took to answer by UDP, between kernel stamps, whatever it answered; an answer \
               without them is counted, not observed.",
        samples: Samples::Agent(dns::duration),
    },
    Metric {
        name: "podsonar_dns_queries_total",
        kind: MetricType::Counter,
        labels: &["source", "source_zone", "server", "name", "result"],
        help: "Names asked of name servers, by what became of the whole search: noerror, nxdomain, nodata, servfail \
               (also a referral), refused, other_rcode, malformed, mismatch (not the expected address), timeout, \
               unreachable (an ICMP error), not_sent. The names pod and bare_pod are those of pods together.",
        samples: Samples::Name(dns::queries),
    },
    Metric {
        name: "podsonar_dns_exchanges_total",
        kind: MetricType::Counter,
        labels: &["source", "source_zone", "server", "form", "result"],
        help: "Questions to name servers: names as_written, and searched, with a domain of the search list behind them.",
        samples: Samples::Agent(dns::exchanges),
    },
    Metric {
        name: "podsonar_dns_ignored_packets_total",
        kind: MetricType::Counter,
        labels: &["source", "source_zone", "server", "reason"],
        help: "Packets passed over while waiting for a name server's answer: other_address, wrong_id, wrong_question, \
               not_an_answer, garbage, late (after the timeout).",
        samples: Samples::Agent(dns::ignored),
    },
    Metric {
        name: "podsonar_http_duration_seconds",
        kind: MetricType::NativeHistogram,
        labels: ZONE,
        help: "Time from connecting to a peer to the headers of its answer, by this process' clock; none while the \
               control is bad.",
        samples: Samples::Agent(exchange::duration),
    },
    Metric {
        name: "podsonar_exchange_total",
        kind: MetricType::Counter,
        labels: ZONE_RESULT,
        help: "Fetches of peers' lists of pods by what became of them: ok, not_modified, refused (an HTTP status), \
               redirected, malformed, broken (cut off), too_large, wrong_node, other_version, timeout, reset, \
               unreachable (an ICMP error), not_sent.",
        samples: Samples::Agent(exchange::results),
    },
    Metric {
        name: "podsonar_exchange_refusals_total",
        kind: MetricType::Counter,
        labels: &["reason"],
        help: "Pods in new lists of peers, and addresses of their nodes, that are not probed: too_many, name, address, \
               forbidden (no pod's address), outside (exchange.pod_cidrs), port, duplicate.",
        samples: Samples::Agent(exchange::refusals),
    },
    Metric {
        name: "podsonar_exchange_served_total",
        kind: MetricType::Counter,
        labels: &["result"],
        help: "Requests for this node's list: ok, not_modified, forbidden (no known agent's address), bad_request, \
               not_ready, turned_away (too many connections).",
        samples: Samples::Agent(exchange::served),
    },
    Metric {
        name: "podsonar_targets",
        kind: MetricType::Gauge,
        labels: &["kind", "state"],
        help: "Targets by state: new (nothing known yet), answering, icmp_filtered (TCP is answered, ICMP is not), \
               tcp_filtered, listener (the application takes no connections), silent, never_answered (to nobody as far \
               as is known: its silence is no loss), never_reachable (for a minute to its own node's agent, and never \
               here).",
        samples: Samples::Agent(faults::targets),
    },
    Metric {
        name: "podsonar_unresolved_names",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Names to be probed that have no address now.",
        samples: Samples::Agent(|metrics, family| metrics.unresolved.encode(family)),
    },
    Metric {
        name: "podsonar_peers",
        kind: MetricType::Gauge,
        labels: &["state"],
        help: "Other agents: told (its list is here), untold (it has not told one yet), stale (its list could not be had \
               for a while), leaving, not_chosen (others probe it). Only of an agent that may have peers.",
        samples: Samples::Agent(mesh::peers),
    },
    Metric {
        name: "podsonar_pods_left_out",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Pods of other nodes that this agent should observe and does not, because pods.max has no room for them.",
        samples: Samples::Agent(|metrics, family| metrics.mesh.pods_left_out.encode(family)),
    },
    Metric {
        name: "podsonar_contested_addresses",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Addresses in peers' lists that two nodes claim, or that are not theirs: probed for neither.",
        samples: Samples::Agent(|metrics, family| metrics.mesh.contested.encode(family)),
    },
    Metric {
        name: "podsonar_watch_age_seconds",
        kind: MetricType::Gauge,
        labels: &["watch"],
        help: "How old what is known by a watch is: 0 while it is whole, else the time since it broke. Absent before the \
               first list.",
        samples: Samples::Agent(mesh::watch_age),
    },
    Metric {
        name: "podsonar_watch_failures_total",
        kind: MetricType::Counter,
        labels: &["watch", "reason"],
        help: "Failures of the watches of the Kubernetes API: busy, expired, forbidden, garbled, missing, refused, server, \
               silent, unauthorized, unreachable.",
        samples: Samples::Agent(mesh::watch_failures),
    },
    Metric {
        name: "podsonar_folded_destinations",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Nodes that are shown together as the destination, and the source, other: series.max has no room for them, or not \
               for all of them.",
        samples: Samples::Agent(|metrics, family| metrics.folded.encode(family)),
    },
    Metric {
        name: "podsonar_unhealthy_target",
        kind: MetricType::Gauge,
        labels: &[
            "source",
            "source_zone",
            "destination",
            "destination_zone",
            "destination_namespace",
            "destination_workload",
            "destination_pod",
            "destination_ip",
            "protocol",
            "family",
            "state",
        ],
        help: "Always 1: a target in trouble by this protocol. At most 20 are named, the longest in trouble first.",
        samples: Samples::Agent(faults::unhealthy_targets),
    },
    Metric {
        name: "podsonar_unhealthy_targets_overflow",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Targets in trouble, by protocol, that podsonar_unhealthy_target does not name.",
        samples: Samples::Agent(faults::unhealthy_targets_overflow),
    },
    Metric {
        name: "podsonar_edges_in_fault",
        kind: MetricType::Gauge,
        labels: &["fault"],
        help: "Paths with a fault beyond loss: flow (black-holed flows), inbound_silent (a peer from which nothing \
               arrives any more), mtu (large packets vanish).",
        samples: Samples::Agent(faults::edges_in_fault),
    },
    Metric {
        name: "podsonar_blackholed_flows",
        kind: MetricType::Gauge,
        labels: EDGE,
        help: "Flows (TCP source ports) that are silent while others to the target are answered: one of several ways \
               there is dead. The log names them. Exists only above zero.",
        samples: Samples::Path(faults::blackholed_flows),
    },
    Metric {
        name: "podsonar_mtu_blackholed",
        kind: MetricType::Gauge,
        labels: EDGE,
        help: "Addresses to which large packets vanish without an ICMP error while small ones pass. Exists only \
               above zero.",
        samples: Samples::Path(faults::mtu_blackholed),
    },
    Metric {
        name: "podsonar_path_mtu_bytes",
        kind: MetricType::Gauge,
        labels: EDGE,
        help: "The largest packet known to pass, with its IP header; of several addresses the least. Over IPv4 on \
               the way there only.",
        samples: Samples::Path(faults::path_mtu),
    },
    Metric {
        name: "podsonar_mtu_probes_total",
        kind: MetricType::Counter,
        labels: &["protocol", "family", "kind", "source", "result"],
        help: "Large echo requests: answered, lost, too_big (an ICMP error), void. Not in probes_total.",
        samples: Samples::Agent(faults::mtu_probes),
    },
    Metric {
        name: "podsonar_boost_probes_total",
        kind: MetricType::Counter,
        labels: &["protocol", "family", "kind", "source", "purpose", "result"],
        help: "SYNs beyond the schedule that explain a silence, of a flow or of a listener. Not in probes_total.",
        samples: Samples::Agent(faults::boost_probes),
    },
    Metric {
        name: "podsonar_inbound_probes_total",
        kind: MetricType::Counter,
        labels: EDGE,
        help: "Probes of another agent (source) that arrived here (destination).",
        samples: Samples::Agent(inbound::probes),
    },
    Metric {
        name: "podsonar_inbound_lost_total",
        kind: MetricType::Counter,
        labels: EDGE,
        help: "Probes of another agent that did not arrive while later ones did: lost on the way here. What our answers \
               to the others met is not in it.",
        samples: Samples::Agent(inbound::lost),
    },
    Metric {
        name: "podsonar_inbound_unknown_total",
        kind: MetricType::Counter,
        labels: EDGE,
        help: "Probes of another agent that did not arrive, or that this host dropped because our buffer was full.",
        samples: Samples::Agent(inbound::unknown),
    },
    Metric {
        name: "podsonar_inbound_outages_total",
        kind: MetricType::Counter,
        labels: EDGE,
        help: "Gaps that are not counted as loss because they are known only when they are over: more than 64 probes, \
               or 8 and more while nothing else came for 5 periods.",
        samples: Samples::Agent(inbound::outages),
    },
    Metric {
        name: "podsonar_inbound_silent",
        kind: MetricType::Gauge,
        labels: EDGE,
        help: "1 while nothing arrives from an agent that was heard before, for 5 of its periods: what it sends is lost, \
               or it sends nothing. Exists only then.",
        samples: Samples::Agent(inbound::silent),
    },
    Metric {
        name: "podsonar_inbound_rejected_total",
        kind: MetricType::Counter,
        labels: &["reason"],
        help: "Echo requests of agents that do not count: checksum, implausible (a sequence that cannot be), malformed, \
               truncated, unknown_epoch (not an agent that we know, or not yet), version, wrong_address (a known epoch \
               from elsewhere).",
        samples: Samples::Agent(inbound::refused),
    },
    Metric {
        name: "podsonar_inbound_drops_total",
        kind: MetricType::Counter,
        labels: &["family"],
        help: "Copies of agents' echo requests that the kernel dropped because our buffer was full.",
        samples: Samples::Agent(inbound::drops),
    },
    Metric {
        name: "podsonar_scheduled_probes_per_second",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Probes that fall due each second.",
        samples: Samples::Agent(|metrics, family| metrics.probes_per_second.encode(family)),
    },
    Metric {
        name: "podsonar_schedule_lag_seconds",
        kind: MetricType::Histogram,
        labels: &[],
        help: "How late the latest probe of each tick was sent; a tick without probes is not observed.",
        samples: Samples::Agent(|metrics, family| metrics.schedule_lag.encode(family)),
    },
    Metric {
        name: "podsonar_probes_in_flight",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Probes that were sent and have no result yet.",
        samples: Samples::Agent(|metrics, family| metrics.in_flight.encode(family)),
    },
    Metric {
        name: "podsonar_held_losses",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Losses of agents, pods and nodes' addresses that wait until it is clear that their target is still there.",
        samples: Samples::Agent(|metrics, family| metrics.held.encode(family)),
    },
    Metric {
        name: "podsonar_stamp_source_total",
        kind: MetricType::Counter,
        labels: &["protocol", "family", "direction", "stamp"],
        help: "Time stamps of probes (tx) and answers (rx) by who took them; a user stamp is not observed.",
        samples: Samples::Agent(sockets::stamp_source),
    },
    Metric {
        name: "podsonar_socket_drops_total",
        kind: MetricType::Counter,
        labels: CHANNEL,
        help: "Packets that the kernel dropped because a raw socket's buffer was full.",
        samples: Samples::Agent(sockets::socket_drops),
    },
    Metric {
        name: "podsonar_probe_mode",
        kind: MetricType::Gauge,
        labels: &["protocol", "family", "mode"],
        help: "Always 1. How a protocol is probed: raw, or what this process may do instead: datagram (ICMP, measured \
               alike), connect (full handshakes instead of SYNs), none.",
        samples: Samples::Agent(sockets::probe_mode),
    },
    Metric {
        name: "podsonar_receive_buffer_bytes",
        kind: MetricType::Gauge,
        labels: CHANNEL,
        help: "Receive buffer of a raw socket, as the kernel granted it.",
        samples: Samples::Agent(sockets::receive_buffer),
    },
    Metric {
        name: "podsonar_rejected_packets_total",
        kind: MetricType::Counter,
        labels: &["reason"],
        help: "Received packets that answer no probe.",
        samples: Samples::Agent(sockets::rejected_packets),
    },
    Metric {
        name: "podsonar_clock_jumps_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "Steps of the wall clock and suspends; probes in flight then are not observed.",
        samples: Samples::Agent(|metrics, family| metrics.clock_jumps.encode(family)),
    },
    Metric {
        name: "podsonar_agent_fault",
        kind: MetricType::Gauge,
        labels: &["reason"],
        help: "1 while the agent itself is at fault, and for 15 s more: control (loss over loopback, or slow), lag \
               (probes skipped), drops (a socket's buffer was full), throttled (by a CPU quota, 5 % of the time or \
               more), stalled, clock (it was set). Then it blames nobody.",
        samples: Samples::Agent(health::faults),
    },
    Metric {
        name: "podsonar_stalls_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "Times that the agent did not run for half a second or more when it should have.",
        samples: Samples::Agent(health::stalls),
    },
    Metric {
        name: "podsonar_stall_seconds_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "How long these stalls were, together.",
        samples: Samples::Agent(health::stall_seconds),
    },
    Metric {
        name: "podsonar_cpu_throttled_seconds_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "Time for which a CPU quota stopped the agent's own cgroup, added up over processors; absent without a \
               cgroup that tells.",
        samples: Samples::Agent(health::throttled_seconds),
    },
    Metric {
        name: "podsonar_cpu_throttled_periods_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "Periods of the quota in which it was stopped.",
        samples: Samples::Agent(health::throttled_periods),
    },
    Metric {
        name: "podsonar_record_lines_dropped_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "Lines that --record could not write.",
        samples: Samples::Agent(|metrics, family| metrics.record_dropped.encode(family)),
    },
    Metric {
        name: "podsonar_config_reloads_total",
        kind: MetricType::Counter,
        labels: &["result"],
        help: "Readings of the configuration while the agent ran: ok (in force) or failed (the old one stays).",
        samples: Samples::Agent(reload::total),
    },
    Metric {
        name: "podsonar_config_last_reload_successful",
        kind: MetricType::Gauge,
        labels: &[],
        help: "1 if the configuration that was read last is in force, 0 if it was wrong.",
        samples: Samples::Agent(|metrics, family| metrics.reloads.last_successful.encode(family)),
    },
    Metric {
        name: "podsonar_scrapes_in_progress",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Scrapes being answered, this one included.",
        samples: Samples::Agent(|metrics, family| metrics.scrapes_in_progress.encode(family)),
    },
    Metric {
        name: "podsonar_scrapes_refused_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "Scrapes refused because too many were in progress.",
        samples: Samples::Agent(|metrics, family| metrics.scrapes_refused.encode(family)),
    },
    Metric {
        name: "podsonar_build_info",
        kind: MetricType::Gauge,
        labels: &["source", "source_zone", "version"],
        help: "Always 1.",
        samples: Samples::Agent(build_info),
    },
    Metric {
        name: "process_cpu_seconds_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "CPU time of the process, user and system.",
        samples: Samples::Agent(|_, family| counter(process::cpu_seconds(), family)),
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Resident memory.",
        samples: Samples::Agent(|_, family| gauge(process::resident_bytes(), family)),
    },
    Metric {
        name: "process_virtual_memory_bytes",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Virtual memory.",
        samples: Samples::Agent(|_, family| gauge(process::virtual_bytes(), family)),
    },
    Metric {
        name: "process_open_fds",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Open file descriptors.",
        samples: Samples::Agent(|_, family| gauge(process::open_fds(), family)),
    },
    Metric {
        name: "process_max_fds",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Limit of open file descriptors.",
        samples: Samples::Agent(|_, family| gauge(process::max_fds(), family)),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Unix time at which the agent started.",
        samples: Samples::Agent(|metrics, family| {
            gauge(Some(metrics.started.as_nanos() as f64 / 1e9), family)
        }),
    },
];

fn build_info(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    let facts = &metrics.facts;
    let labels = [("source", &*facts.source), ("source_zone", &facts.zone), ("version", facts.version)];
    sample(&mut family, &[&labels], &ConstGauge::new(1_u64))
}

/// A counter without labels, if its value is known.
fn counter(value: Option<impl EncodeCounterValue>, family: MetricEncoder<'_>) -> fmt::Result {
    value.map_or(Ok(()), |value| ConstCounter::new(value).encode(family))
}

/// A gauge without labels, if its value is known.
fn gauge(value: Option<impl EncodeGaugeValue>, family: MetricEncoder<'_>) -> fmt::Result {
    value.map_or(Ok(()), |value| ConstGauge::new(value).encode(family))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_label_is_one_that_scraping_adds() {
        let reserved = ["namespace", "pod", "node", "instance", "job", "container", "endpoint", "cluster"];
        for metric in ALL {
            assert!(metric.labels.iter().all(|label| !reserved.contains(label)), "{}", metric.name);
        }
    }

    #[test]
    fn names_are_unique_and_say_what_they_are() {
        let names: HashSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == MetricType::Counter,
                "{}",
                metric.name
            );
            assert!(
                metric.name.starts_with("podsonar_") || metric.name.starts_with("process_"),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn bounds_ascend_and_are_no_integers() {
        for bounds in [LAG_BOUNDS.as_slice(), &RATIO_BOUNDS] {
            assert!(bounds.is_sorted());
            assert!(bounds.iter().all(|bound| bound.fract() > 0.0), "{bounds:?}");
        }
    }
}
