//! The scrape is a contract: golden files hold all of it, and the table of metrics comes from the declarations.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Book, clock, outcome, planned, report};
use podsonar::discovery::watch::{Health, TroubleKind};
use podsonar::ledger::TickReport;
use podsonar::metrics::accept::Format;
use podsonar::metrics::mesh::{PeerState, Watched};
use podsonar::metrics::scrape::Scrape;
use podsonar::metrics::{ALL, MetricType, markdown_table};
use podsonar_core::config::Buckets;
use podsonar_core::engine::{Baseline, Boost, PathMtuFinding};
use podsonar_core::health::Throttling;
use podsonar_core::outcome::{LateHint, ProbeResult, Rtt, SendError, Stray, Unreachable, Void};
use podsonar_core::target::{Kind, Protocol, StreamId, Target};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as model;
use prost::Message;

#[test]
fn the_text_scrape_is_the_golden_file() {
    compare("agent/tests/golden/scrape.txt", &without_process(&fed().scrape(Format::Text)));
}

#[test]
fn the_open_metrics_scrape_is_the_golden_file() {
    compare(
        "agent/tests/golden/scrape.openmetrics.txt",
        &without_process(&fed().scrape(Format::OpenMetrics)),
    );
}

#[test]
fn the_page_of_metrics_has_the_table_of_the_declarations() {
    compare_table("docs/metrics.md", "metrics", &markdown_table());
}

#[test]
fn every_declared_metric_is_scraped_and_no_other() {
    let families = families(&fed().scrape(Format::Protobuf));
    let names: Vec<_> = families.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(names, ALL.iter().map(|metric| metric.name).collect::<Vec<_>>());
    for (family, metric) in families.iter().zip(ALL) {
        assert_eq!(family.help, metric.help);
        assert!(!family.metric.is_empty(), "{}", metric.name);
        for sample in &family.metric {
            let labels = sample.label.iter().map(|label| label.name.as_str());
            assert!(
                labels.clone().all(|label| metric.labels.contains(&label)),
                "{}: {sample:?}",
                metric.name
            );
            let (counter, gauge, histogram) =
                (sample.counter.is_some(), sample.gauge.is_some(), sample.histogram.is_some());
            let expected = match metric.kind {
                MetricType::Counter => (true, false, false),
                MetricType::Gauge => (false, true, false),
                MetricType::Histogram | MetricType::NativeHistogram => (false, false, true),
            };
            assert_eq!((counter, gauge, histogram), expected, "{}", metric.name);
        }
    }
}

#[test]
fn protobuf_says_the_same_as_text() {
    let book = fed();
    let text = without_process(&book.scrape(Format::Text));
    let mut from_text: BTreeMap<String, f64> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        from_text.insert(series.into(), value.parse().unwrap());
    }
    for family in families(&book.scrape(Format::Protobuf)) {
        for sample in family.metric.iter().filter(|_| !family.name.starts_with("process_")) {
            if let Some(counter) = &sample.counter {
                assert_eq!(from_text.remove(&series(&family.name, sample, None)), Some(counter.value));
            } else if let Some(gauge) = &sample.gauge {
                assert_eq!(from_text.remove(&series(&family.name, sample, None)), Some(gauge.value));
            } else if let Some(histogram) = &sample.histogram {
                let mut check = |suffix: &str, le: Option<&str>, value: f64| {
                    let name = series(&format!("{}{suffix}", family.name), sample, le);
                    assert_eq!(from_text.remove(&name), Some(value), "{name}");
                };
                for bucket in &histogram.bucket {
                    let le = bucket.upper_bound.to_string().replace("inf", "+Inf");
                    check("_bucket", Some(&le), bucket.cumulative_count as f64);
                }
                check("_count", None, histogram.sample_count as f64);
                check("_sum", None, histogram.sample_sum);
            }
        }
    }
    from_text.retain(|series, _| !series.starts_with("process_"));
    assert!(from_text.is_empty(), "only in text: {from_text:#?}");
}

#[test]
fn protobuf_has_classic_and_native_buckets_and_when_they_began() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    for micros in [100, 100, 1_000_000] {
        book.outcome(1, ProbeResult::Reply(Rtt::Observed(Duration::from_micros(micros))));
    }
    let families = families(&book.scrape(Format::Protobuf));
    let rtt = families[0].metric[0].histogram.as_ref().unwrap();
    let bounds: Vec<_> = rtt.bucket.iter().map(|bucket| bucket.upper_bound).collect();
    assert_eq!(bounds, Buckets::default().rtt.iter().copied().chain([f64::INFINITY]).collect::<Vec<_>>());
    assert_eq!(rtt.bucket[0].cumulative_count, 2, "a bound belongs to its own bucket");
    assert!(rtt.start_timestamp.is_some());
    // Bucket i ends at 2^(i/2^schema): 1 s is the end of bucket 0, and 100 µs lie in (2^-13.375, 2^-13.25].
    assert_eq!(rtt.schema, 3);
    assert_eq!(native_buckets(rtt), [(-106, 2), (0, 1)]);
}

#[test]
fn a_path_that_appears_during_a_scrape_waits_for_the_next_one() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    let scrape = Scrape::new(book.metrics.clone(), Format::Text);
    book.add(2, "192.0.2.2", Protocol::Icmp);
    let text = String::from_utf8(scrape.flatten().collect()).unwrap();
    assert!(text.contains("192.0.2.1") && !text.contains("192.0.2.2"));
    assert_eq!(book.lines(&["192.0.2.2", "rtt_seconds_count"]).len(), 1);
}

#[test]
fn many_paths_come_in_pieces_of_bounded_size() {
    let mut book = Book::new();
    for number in 0..1_000 {
        book.add(number, &format!("10.0.{}.{}", number / 250, number % 250 + 1), Protocol::Icmp);
    }
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let scrape = Scrape::new(book.metrics.clone(), format);
        let pieces: Vec<_> = scrape.map(|piece| piece.len()).collect();
        assert!(pieces.len() > 1, "{format:?}");
        assert!(pieces.iter().all(|length| (1..128 * 1024).contains(length)), "{format:?} {pieces:?}");
    }
    assert_eq!(families(&book.scrape(Format::Protobuf))[0].metric.len(), 1_000);
    assert_eq!(book.lines(&["rtt_seconds_count"]).len(), 1_000);
    for format in [Format::Text, Format::OpenMetrics] {
        let text = String::from_utf8(book.scrape(format)).unwrap();
        for comment in ["# HELP ", "# TYPE "] {
            assert_eq!(
                text.lines().filter(|line| line.starts_with(comment)).count(),
                ALL.len(),
                "{format:?}"
            );
        }
    }
}

/// An agent that has seen a bit of everything.
fn fed() -> Book {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    book.add(2, "192.0.2.1:443", Protocol::Icmp);
    book.add(3, "192.0.2.1:443", Protocol::Tcp);
    book.add(4, "[2001:db8::1]:80", Protocol::Tcp);
    for micros in [90, 180, 181, 420, 1_700, 300_000] {
        book.outcome(1, ProbeResult::Reply(Rtt::Observed(Duration::from_micros(micros))));
    }
    book.outcome(1, ProbeResult::Lost);
    book.outcome(1, ProbeResult::Void(Void::NotSent(SendError::Firewall)));
    book.outcome(1, ProbeResult::Reply(Rtt::Unmeasured));
    book.outcome(3, ProbeResult::Reset(Rtt::Observed(Duration::from_nanos(123_456))));
    book.outcome(3, ProbeResult::Reply(Rtt::Unmeasured));
    book.outcome(4, ProbeResult::Unreachable(Unreachable::Prohibited));
    for second in 0..61 {
        book.outcome_at(2, ProbeResult::Reply(Rtt::Observed(Duration::from_micros(200 + second))), second);
    }
    // A name with two addresses is one path; one of its ports takes no connections.
    for (id, address) in [(5, "10.0.0.5"), (6, "10.0.0.6")] {
        let mut planned = planned(&format!("{address}:80"), Protocol::Tcp);
        planned.stream.target = Arc::new(Target {
            destination: "web.test:80".into(),
            kind: Kind::Name,
            ..(*planned.stream.target).clone()
        });
        book.ledger.added(StreamId(id), &planned);
    }
    book.outcome(5, ProbeResult::Reply(Rtt::Observed(Duration::from_micros(250))));
    book.outcome(6, ProbeResult::Listener);
    book.add(7, "192.0.2.7:5432", Protocol::Connect);
    book.outcome(7, ProbeResult::Reply(Rtt::Estimated(Duration::from_millis(3))));
    for _ in 0..3 {
        book.outcome(4, ProbeResult::Lost);
    }
    // A new pod, and one that answers the agent of its own node only.
    book.add_pod(8, "10.1.0.8", Protocol::Icmp);
    book.ledger.first_reply(StreamId(8), Some(Duration::from_millis(2_250)));
    book.outcome(8, ProbeResult::Reply(Rtt::Observed(Duration::from_micros(350))));
    book.add_pod(9, "10.1.0.9", Protocol::Icmp);
    book.ledger.baseline(StreamId(9), Baseline::NeverReachable);
    book.ledger.first_reply(StreamId(9), None);
    book.ledger.boost(Boost::Flow, &outcome(6, ProbeResult::Lost), &clock(0));
    book.ledger.boost(Boost::Listener, &outcome(6, ProbeResult::Reset(Rtt::Unmeasured)), &clock(0));
    book.ledger.flow(StreamId(5), 40_001, true, |_| None);
    book.ledger.large(&outcome(1, ProbeResult::Lost), &clock(0));
    let finding = PathMtuFinding { path_mtu: Some(1_372), blackholed: true };
    book.ledger.path_mtu(StreamId(1), finding);
    let throttling = Throttling { at: clock(1).mono, time: Duration::from_millis(1_234), periods: 17 };
    book.metrics.set_throttling(Some(throttling));
    book.ledger.stray(StreamId(3), Stray::Late(LateHint::WayBack));
    book.ledger.stray(StreamId(1), Stray::Duplicate);
    crate::names::feed(&book);
    crate::exchange::feed(&book);
    crate::inbound::feed(&mut book);
    feed_mesh(&book);
    book.ledger.tick(&TickReport {
        overslept: Duration::from_millis(1_500),
        drops: [4, 0, 1, 0],
        rejects: [1, 2, 3, 4, 5, 6],
        clock_jumps: 1,
        ..report(61)
    });
    book
}

/// The figures of the process itself differ from run to run: they read 0 here.
fn without_process(scrape: &[u8]) -> String {
    let text = std::str::from_utf8(scrape).unwrap();
    let normal = |line: &str| match line.split_once(' ') {
        Some((name, _)) if name.starts_with("process_") && name != "process_start_time_seconds" => {
            format!("{name} 0\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(normal).collect()
}

fn families(mut bytes: &[u8]) -> Vec<model::MetricFamily> {
    let mut families = Vec::new();
    while !bytes.is_empty() {
        families.push(model::MetricFamily::decode_length_delimited(&mut bytes).unwrap());
    }
    families
}

/// Index and count of each native bucket that is not empty: short gaps may be encoded as spans or as zeros.
fn native_buckets(histogram: &model::Histogram) -> Vec<(i32, i64)> {
    let mut deltas = histogram.positive_delta.iter();
    let (mut index, mut count, mut buckets) = (0, 0, Vec::new());
    for span in &histogram.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            buckets.push((index, count));
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    buckets.retain(|(_, count)| *count != 0);
    buckets
}

fn series(name: &str, sample: &model::Metric, le: Option<&str>) -> String {
    let labels = sample.label.iter().map(|label| (label.name.as_str(), label.value.as_str()));
    let labels: Vec<_> = le
        .map(|le| ("le", le))
        .into_iter()
        .chain(labels)
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    if labels.is_empty() { name.into() } else { format!("{name}{{{}}}", labels.join(",")) }
}

fn in_repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// An agent of two peers whose watch of pods had to be begun anew.
pub(crate) fn feed_mesh(book: &Book) {
    let mesh = book.metrics.mesh();
    mesh.enable();
    mesh.set_peers(PeerState::Told, 2);
    mesh.set_health(Watched::Pods, Health::lasting(clock(0).mono));
    mesh.count_trouble(Watched::Pods, TroubleKind::Expired);
}

/// Compares with what a page of the repository has between the marks of a table, as [`compare`] does.
pub(crate) fn compare_table(path: &str, name: &str, table: &str) {
    let page = fs::read_to_string(in_repository(path)).unwrap();
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let (before, rest) = page.split_once(&begin).expect("the page has the mark of the table's begin");
    let (_, after) = rest.split_once(&end).expect("the page has the mark of the table's end");
    compare(path, &format!("{before}{begin}{table}{end}{after}"));
}

/// Compares with a file of the repository; with `UPDATE_GOLDEN=1` in the environment, writes it.
fn compare(path: &str, actual: &str) {
    let file = in_repository(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, actual).unwrap();
    }
    let golden = fs::read_to_string(&file).unwrap();
    let difference = golden.lines().zip(actual.lines()).find(|(golden, actual)| golden != actual);
    assert!(
        golden == actual,
        "{path} differs, first at (golden, actual) {difference:?}; if that is meant, run with UPDATE_GOLDEN=1"
    );
}
