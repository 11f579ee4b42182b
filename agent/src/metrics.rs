//! Every metric of the agent is declared here, in [`ALL`]: name, type, labels, meaning, and where its samples
//! come from. The README's table is generated from the declarations, and a golden file holds the whole scrape.

pub mod accept;
pub mod dns;
mod encode;
mod process;
pub mod scrape;
pub mod state;
mod table;

use std::fmt;

use podsonar_core::outcome::{LateHint, StampSource};
use podsonar_core::target::{Family, Kind, Protocol};
use podsonar_core::wire::{Channel, Reject};
use prometheus_client::encoding::{EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use self::dns::AskedName;
use self::encode::{Label, sample};
use self::state::{Answer, Group, Metrics, Path, VoidReason};

pub use self::table::readme_table;

/// Bounds of `podsonar_rtt_seconds`, in seconds: dense where pod networks live, no integers (`le="1"` and `le="1.0"`
/// differ).
pub const RTT_BOUNDS: [f64; 9] = [0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25];

/// Bounds of its native buckets grow by no more than this factor, so schema 3.
const NATIVE_FACTOR: f64 = 1.1;

/// Bounds of `podsonar_schedule_lag_seconds`, in seconds.
pub const LAG_BOUNDS: [f64; 7] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 2.5];

/// Bounds of `podsonar_dns_duration_seconds`, in seconds.
pub const DNS_BOUNDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

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
    /// From each name at each of its servers.
    Name(fn(&AskedName, &Metrics, &mut MetricEncoder<'_>) -> fmt::Result),
    /// From the agent as a whole.
    Agent(fn(&Metrics, MetricEncoder<'_>) -> fmt::Result),
}

const PATH: &[&str] =
    &["protocol", "family", "kind", "source", "source_zone", "destination", "destination_zone"];
const PATH_RESULT: &[&str] =
    &["protocol", "family", "kind", "source", "source_zone", "destination", "destination_zone", "result"];
const SERVER: &[&str] = &["source", "source_zone", "server"];
const CHANNEL: &[&str] = &["protocol", "family"];

/// Every metric, in the order of exposition.
pub static ALL: &[Metric] = &[
    Metric {
        name: "podsonar_rtt_seconds",
        kind: MetricType::NativeHistogram,
        labels: PATH,
        help: "Round trips between kernel stamps; a reply without them is counted, not observed.",
        samples: Samples::Path(rtt),
    },
    Metric {
        name: "podsonar_probes_total",
        kind: MetricType::Counter,
        labels: PATH_RESULT,
        help: "Probes by what the network did: reply, reset (a closed port answered), lost (silence until the timeout), \
               unreachable (an ICMP error).",
        samples: Samples::Path(probes),
    },
    Metric {
        name: "podsonar_probes_void_total",
        kind: MetricType::Counter,
        labels: &["protocol", "family", "kind", "source", "reason"],
        help: "Due probes that say nothing about the network: not_sent, skipped, unknown, discarded. \
               With probes_total this is every probe that fell due.",
        samples: Samples::Agent(probes_void),
    },
    Metric {
        name: "podsonar_late_replies_total",
        kind: MetricType::Counter,
        labels: &["protocol", "family", "kind", "source", "hint"],
        help: "Answers after the timeout, whose probes stay lost. way_back: a SYN-ACK sent again, so the first was \
               lost on its way back.",
        samples: Samples::Agent(late_replies),
    },
    Metric {
        name: "podsonar_duplicate_replies_total",
        kind: MetricType::Counter,
        labels: &["protocol", "family", "kind", "source"],
        help: "Further answers to answered probes.",
        samples: Samples::Agent(duplicate_replies),
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
               unreachable (an ICMP error), not_sent.",
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
        name: "podsonar_targets",
        kind: MetricType::Gauge,
        labels: &["kind", "state"],
        help: "Targets by state.",
        samples: Samples::Agent(targets),
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
        name: "podsonar_stamp_source_total",
        kind: MetricType::Counter,
        labels: &["protocol", "family", "direction", "stamp"],
        help: "Time stamps of probes (tx) and answers (rx) by who took them; a user stamp is not observed.",
        samples: Samples::Agent(stamp_source),
    },
    Metric {
        name: "podsonar_socket_drops_total",
        kind: MetricType::Counter,
        labels: CHANNEL,
        help: "Packets that the kernel dropped because a raw socket's buffer was full.",
        samples: Samples::Agent(socket_drops),
    },
    Metric {
        name: "podsonar_receive_buffer_bytes",
        kind: MetricType::Gauge,
        labels: CHANNEL,
        help: "Receive buffer of a raw socket, as the kernel granted it.",
        samples: Samples::Agent(receive_buffer),
    },
    Metric {
        name: "podsonar_rejected_packets_total",
        kind: MetricType::Counter,
        labels: &["reason"],
        help: "Received packets that answer no probe.",
        samples: Samples::Agent(rejected_packets),
    },
    Metric {
        name: "podsonar_clock_jumps_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "Steps of the wall clock and suspends; probes in flight then are not observed.",
        samples: Samples::Agent(|metrics, family| metrics.clock_jumps.encode(family)),
    },
    Metric {
        name: "podsonar_record_lines_dropped_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "Lines that --record could not write.",
        samples: Samples::Agent(|metrics, family| metrics.record_dropped.encode(family)),
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

fn rtt(path: &Path, metrics: &Metrics, family: &mut MetricEncoder<'_>) -> fmt::Result {
    sample(family, &[&path.labels(&metrics.facts)], &path.rtt)
}

/// Reply and lost are there from the start, so that rates see their first step.
fn probes(path: &Path, metrics: &Metrics, family: &mut MetricEncoder<'_>) -> fmt::Result {
    let labels = path.labels(&metrics.facts);
    for (answer, count) in Answer::ALL.into_iter().zip(&path.answers) {
        if count.get() > 0 || answer.starts_at_zero() {
            sample(family, &[&labels, &[("result", answer.label())]], count)?;
        }
    }
    Ok(())
}

fn probes_void(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    groups(metrics, |group, labels| {
        for (reason, count) in VoidReason::ALL.into_iter().zip(&group.void) {
            sample(&mut family, &[labels, &[("reason", reason.label())]], count)?;
        }
        Ok(())
    })
}

fn late_replies(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    groups(metrics, |group, labels| {
        for (hint, count) in LateHint::ALL.into_iter().zip(&group.late) {
            sample(&mut family, &[labels, &[("hint", hint.label())]], count)?;
        }
        Ok(())
    })
}

fn duplicate_replies(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    groups(metrics, |group, labels| sample(&mut family, &[labels], &group.duplicates))
}

fn targets(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (kind, count) in Kind::ALL.into_iter().zip(&metrics.targets) {
        sample(&mut family, &[&[("kind", kind.label()), ("state", "probed")]], count)?;
    }
    Ok(())
}

fn stamp_source(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (channel, stamps) in Channel::ALL.into_iter().zip(&metrics.stamps) {
        if metrics.facts.has_socket(channel) {
            for (direction, counts) in [("tx", &stamps.tx), ("rx", &stamps.rx)] {
                for (source, count) in StampSource::ALL.into_iter().zip(counts) {
                    let stamp = [("direction", direction), ("stamp", source.label())];
                    sample(&mut family, &[&channel_labels(channel), &stamp], count)?;
                }
            }
        }
    }
    Ok(())
}

fn socket_drops(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (channel, drops) in Channel::ALL.into_iter().zip(&metrics.drops) {
        if metrics.facts.has_socket(channel) {
            sample(&mut family, &[&channel_labels(channel)], drops)?;
        }
    }
    Ok(())
}

fn receive_buffer(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (channel, granted) in Channel::ALL.into_iter().zip(metrics.facts.receive_buffers) {
        if let Some(bytes) = granted {
            sample(&mut family, &[&channel_labels(channel)], &ConstGauge::new(bytes))?;
        }
    }
    Ok(())
}

fn rejected_packets(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (reason, count) in Reject::ALL.into_iter().zip(&metrics.rejects) {
        sample(&mut family, &[&[("reason", reason.label())]], count)?;
    }
    Ok(())
}

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

/// Calls `each` for every protocol, family and kind that ever had a stream.
fn groups(metrics: &Metrics, mut each: impl FnMut(&Group, &[Label<'_>]) -> fmt::Result) -> fmt::Result {
    for (protocol, families) in Protocol::ALL.into_iter().zip(&metrics.groups) {
        for (family, kinds) in Family::ALL.into_iter().zip(families) {
            for (kind, group) in Kind::ALL.into_iter().zip(kinds).filter(|(_, group)| group.is_used()) {
                let labels = [
                    ("protocol", protocol.label()),
                    ("family", family.label()),
                    ("kind", kind.label()),
                    ("source", metrics.facts.source.as_str()),
                ];
                each(group, &labels)?;
            }
        }
    }
    Ok(())
}

fn channel_labels(channel: Channel) -> [Label<'static>; 2] {
    [("protocol", channel.protocol.label()), ("family", channel.family.label())]
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
        for bounds in [RTT_BOUNDS.as_slice(), &LAG_BOUNDS] {
            assert!(bounds.is_sorted());
            assert!(bounds.iter().all(|bound| bound.fract() > 0.0), "{bounds:?}");
        }
    }
}
