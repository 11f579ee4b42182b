//! Every metric of the agent is declared here, in [`ALL`]: name, type, labels, meaning, and where its samples
//! come from. The README's table is generated from the declarations, and a golden file holds the whole scrape.

pub mod accept;
mod encode;
pub mod histogram;
mod process;
pub mod scrape;
pub mod state;
mod table;

use podsonar_core::outcome::{LateHint, StampSource};
use podsonar_core::target::Kind;
use podsonar_core::wire::{Channel, Reject};

use self::encode::{Encoder, HistogramView, Label, Value};
use self::histogram::Bound;
use self::state::{Answer, Group, LAG_BOUNDS, Metrics, Path, VoidReason};

pub use self::table::readme_table;

/// Buckets of `podsonar_rtt_seconds`: dense where pod networks live, no integers (`le="1"` and `le="1.0"` differ).
pub const RTT_BOUNDS: [Bound; 9] = [
    Bound { nanos: 100_000, le: "0.0001" },
    Bound { nanos: 250_000, le: "0.00025" },
    Bound { nanos: 500_000, le: "0.0005" },
    Bound { nanos: 1_000_000, le: "0.001" },
    Bound { nanos: 2_000_000, le: "0.002" },
    Bound { nanos: 5_000_000, le: "0.005" },
    Bound { nanos: 10_000_000, le: "0.01" },
    Bound { nanos: 50_000_000, le: "0.05" },
    Bound { nanos: 250_000_000, le: "0.25" },
];

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

/// Where samples come from.
#[derive(Debug)]
enum Samples {
    /// From each path.
    Path(fn(&Path, &Metrics, &mut Encoder)),
    /// From the agent as a whole.
    Agent(fn(&Metrics, &mut Encoder)),
}

const PATH: &[&str] =
    &["protocol", "family", "kind", "source", "source_zone", "destination", "destination_zone"];
const PATH_RESULT: &[&str] =
    &["protocol", "family", "kind", "source", "source_zone", "destination", "destination_zone", "result"];
const CHANNEL: &[&str] = &["protocol", "family"];

/// Every metric, in the order of exposition.
pub static ALL: [Metric; 24] = [
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
        samples: Samples::Agent(|metrics, out| {
            out.sample(&[], Value::Number(metrics.probes_per_second.get()));
        }),
    },
    Metric {
        name: "podsonar_schedule_lag_seconds",
        kind: MetricType::Histogram,
        labels: &[],
        help: "How late the latest probe of each tick was sent.",
        samples: Samples::Agent(schedule_lag),
    },
    Metric {
        name: "podsonar_probes_in_flight",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Probes that were sent and have no result yet.",
        samples: Samples::Agent(|metrics, out| out.sample(&[], Value::Whole(metrics.in_flight.get()))),
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
        samples: Samples::Agent(|metrics, out| out.sample(&[], Value::Whole(metrics.clock_jumps.get()))),
    },
    Metric {
        name: "podsonar_record_lines_dropped_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "Lines that --record could not write.",
        samples: Samples::Agent(|metrics, out| out.sample(&[], Value::Whole(metrics.record_dropped.get()))),
    },
    Metric {
        name: "podsonar_scrapes_in_progress",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Scrapes being answered, this one included.",
        samples: Samples::Agent(|metrics, out| {
            out.sample(&[], Value::Whole(metrics.scrapes_in_progress.get()));
        }),
    },
    Metric {
        name: "podsonar_scrapes_refused_total",
        kind: MetricType::Counter,
        labels: &[],
        help: "Scrapes refused because too many were in progress.",
        samples: Samples::Agent(|metrics, out| out.sample(&[], Value::Whole(metrics.scrapes_refused.get()))),
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
        samples: Samples::Agent(|_, out| out.optional(process::cpu_seconds())),
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Resident memory.",
        samples: Samples::Agent(|_, out| out.optional(process::resident_bytes())),
    },
    Metric {
        name: "process_virtual_memory_bytes",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Virtual memory.",
        samples: Samples::Agent(|_, out| out.optional(process::virtual_bytes())),
    },
    Metric {
        name: "process_open_fds",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Open file descriptors.",
        samples: Samples::Agent(|_, out| out.optional(process::open_fds())),
    },
    Metric {
        name: "process_max_fds",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Limit of open file descriptors.",
        samples: Samples::Agent(|_, out| out.optional(process::max_fds())),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: MetricType::Gauge,
        labels: &[],
        help: "Unix time at which the agent started.",
        samples: Samples::Agent(|metrics, out| {
            out.sample(&[], Value::Number(metrics.started.as_nanos() as f64 / 1e9));
        }),
    },
];

fn rtt(path: &Path, metrics: &Metrics, out: &mut Encoder) {
    path.read(|tallies| {
        let view = HistogramView::new(&RTT_BOUNDS, &tallies.rtt, Some(&tallies.native));
        out.sample(&[&path.labels(&metrics.facts)], Value::Histogram(view));
    });
}

/// Reply and lost are there from the start, so that rates see their first step.
fn probes(path: &Path, metrics: &Metrics, out: &mut Encoder) {
    let counts = path.read(|tallies| tallies.answers);
    let labels = path.labels(&metrics.facts);
    for (answer, count) in Answer::ALL.into_iter().zip(counts) {
        if count > 0 || answer.starts_at_zero() {
            out.sample(&[&labels, &[("result", answer.label())]], Value::Whole(count));
        }
    }
}

fn probes_void(metrics: &Metrics, out: &mut Encoder) {
    groups(metrics, |group, labels| {
        for (reason, count) in VoidReason::ALL.into_iter().zip(&group.void) {
            out.sample(&[labels, &[("reason", reason.label())]], Value::Whole(count.get()));
        }
    });
}

fn late_replies(metrics: &Metrics, out: &mut Encoder) {
    groups(metrics, |group, labels| {
        for (hint, count) in LateHint::ALL.into_iter().zip(&group.late) {
            out.sample(&[labels, &[("hint", hint.label())]], Value::Whole(count.get()));
        }
    });
}

fn duplicate_replies(metrics: &Metrics, out: &mut Encoder) {
    groups(metrics, |group, labels| out.sample(&[labels], Value::Whole(group.duplicates.get())));
}

fn targets(metrics: &Metrics, out: &mut Encoder) {
    for (kind, count) in Kind::ALL.into_iter().zip(&metrics.targets) {
        out.sample(&[&[("kind", kind.label()), ("state", "probed")]], Value::Whole(count.get()));
    }
}

fn schedule_lag(metrics: &Metrics, out: &mut Encoder) {
    let lag = metrics.schedule_lag();
    out.sample(&[], Value::Histogram(HistogramView::new(&LAG_BOUNDS, &lag, None)));
}

fn stamp_source(metrics: &Metrics, out: &mut Encoder) {
    for (channel, stamps) in Channel::ALL.into_iter().zip(&metrics.stamps) {
        if metrics.facts.has_socket(channel) {
            for (direction, counts) in [("tx", &stamps.tx), ("rx", &stamps.rx)] {
                for (source, count) in StampSource::ALL.into_iter().zip(counts) {
                    let stamp = [("direction", direction), ("stamp", source.label())];
                    out.sample(&[&channel_labels(channel), &stamp], Value::Whole(count.get()));
                }
            }
        }
    }
}

fn socket_drops(metrics: &Metrics, out: &mut Encoder) {
    for (channel, drops) in Channel::ALL.into_iter().zip(&metrics.drops) {
        if metrics.facts.has_socket(channel) {
            out.sample(&[&channel_labels(channel)], Value::Whole(drops.get()));
        }
    }
}

fn receive_buffer(metrics: &Metrics, out: &mut Encoder) {
    for (channel, granted) in Channel::ALL.into_iter().zip(metrics.facts.receive_buffers) {
        if let Some(bytes) = granted {
            out.sample(&[&channel_labels(channel)], Value::Whole(bytes));
        }
    }
}

fn rejected_packets(metrics: &Metrics, out: &mut Encoder) {
    for (reason, count) in Reject::ALL.into_iter().zip(&metrics.rejects) {
        out.sample(&[&[("reason", reason.label())]], Value::Whole(count.get()));
    }
}

fn build_info(metrics: &Metrics, out: &mut Encoder) {
    let facts = &metrics.facts;
    let labels = [("source", &*facts.source), ("source_zone", &facts.zone), ("version", facts.version)];
    out.sample(&[&labels], Value::Whole(1));
}

/// Calls `each` for every protocol, family and kind that ever had a stream.
fn groups(metrics: &Metrics, mut each: impl FnMut(&Group, &[Label<'_>])) {
    for (channel, kinds) in Channel::ALL.into_iter().zip(&metrics.groups) {
        for (kind, group) in Kind::ALL.into_iter().zip(kinds) {
            if group.is_used() {
                let [protocol, family] = channel_labels(channel);
                each(group, &[protocol, family, ("kind", kind.label()), ("source", &metrics.facts.source)]);
            }
        }
    }
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
        for metric in &ALL {
            assert!(metric.labels.iter().all(|label| !reserved.contains(label)), "{}", metric.name);
        }
    }

    #[test]
    fn names_are_unique_and_say_what_they_are() {
        let names: HashSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in &ALL {
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
    fn bounds_ascend_are_no_integers_and_mean_what_they_say() {
        for bound in RTT_BOUNDS.iter().chain(&LAG_BOUNDS) {
            let seconds: f64 = bound.le.parse().unwrap();
            assert_eq!((seconds * 1e9).round() as u64, bound.nanos);
            assert!(seconds.fract() > 0.0, "{}", bound.le);
        }
        assert!(RTT_BOUNDS.is_sorted_by_key(|bound| bound.nanos));
        assert!(LAG_BOUNDS.is_sorted_by_key(|bound| bound.nanos));
    }
}
