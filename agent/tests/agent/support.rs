//! A ledger that is fed by hand, and what a scrape then shows.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use podsonar::degrade::Means;
use podsonar::ledger::{Ledger, TickReport};
use podsonar::metrics::accept::Format;
use podsonar::metrics::scrape::Scrape;
use podsonar::metrics::state::{Facts, Metrics};
use podsonar_core::config::Buckets;
use podsonar_core::outcome::{Outcome, ProbeResult, Sent, StampSource};
use podsonar_core::target::{Kind, Planned, PodId, Protocol, Stream, StreamId, Target};
use podsonar_core::time::{ClockReading, Instant, WallTime};

/// How long the ledgers of these tests keep series.
pub(crate) const RETAIN: Duration = Duration::from_mins(15);

/// The Unix time at monotonic zero.
pub(crate) const EPOCH: i64 = 1_700_000_000_000_000_000;

pub(crate) struct Book {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ledger: Ledger,
    /// How many outcomes each stream had.
    numbers: HashMap<u64, u64>,
}

impl Book {
    pub(crate) fn new() -> Self {
        Self::with(4_000, false)
    }

    /// With a budget of series, and histograms of nodes or of zones.
    pub(crate) fn with(max_series: u32, by_zone: bool) -> Self {
        Self::of(Buckets::default(), max_series, by_zone)
    }

    pub(crate) fn of(buckets: Buckets, max_series: u32, by_zone: bool) -> Self {
        let facts = Facts {
            source: "node-1".into(),
            zone: "zone-a".into(),
            version: "1.2.3",
            receive_buffers: [Some(425_984), None, Some(262_144), None],
            buckets,
            max_series,
            by_zone,
            means: [Some(Means::Raw), Some(Means::None), Some(Means::Raw), Some(Means::Connect)],
        };
        let clock = clock(0);
        let metrics = Arc::new(Metrics::new(facts, clock.wall));
        let ledger = Ledger::new(Arc::clone(&metrics), None, RETAIN, clock.mono);
        Self { ledger, metrics, numbers: HashMap::new() }
    }

    pub(crate) fn add(&mut self, id: u64, written: &str, protocol: Protocol) {
        self.ledger.added(StreamId(id), &planned(written, protocol));
    }

    /// A pod of node `node-2`.
    pub(crate) fn add_pod(&mut self, id: u64, written: &str, protocol: Protocol) {
        let planned = planned(written, protocol);
        let name = format!("web-{id}");
        let pod = PodId {
            uid: name.as_str().into(),
            namespace: "shop".into(),
            name: name.as_str().into(),
            workload: "Deployment/web".into(),
        };
        let target = Target {
            destination: "node-2".into(),
            zone: "zone-b".into(),
            kind: Kind::Pod,
            pod: Some(Arc::new(pod)),
            ..(*planned.stream.target).clone()
        };
        let stream = Stream { target: Arc::new(target), protocol };
        self.ledger.added(StreamId(id), &Planned { stream, presumed: true, ..planned });
    }

    pub(crate) fn outcome(&mut self, id: u64, result: ProbeResult) {
        self.outcome_at(id, result, 0);
    }

    /// The stream's next outcome becomes known at this second.
    pub(crate) fn outcome_at(&mut self, id: u64, result: ProbeResult, seconds: u64) {
        let next = self.numbers.entry(id).or_default();
        let number = *next;
        *next += 1;
        self.ledger.outcome(&Outcome { number, ..outcome(id, result) }, &clock(seconds));
    }

    pub(crate) fn tick(&mut self, seconds: u64) {
        self.ledger.tick(&report(seconds));
    }

    pub(crate) fn scrape(&self, format: Format) -> Vec<u8> {
        Scrape::new(Arc::clone(&self.metrics), format).flatten().collect()
    }

    /// The lines of a text scrape that contain all of `parts`.
    pub(crate) fn lines(&self, parts: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.scrape(Format::Text)).unwrap();
        let wanted = |line: &&str| !line.starts_with('#') && parts.iter().all(|part| line.contains(part));
        text.lines().filter(wanted).map(Into::into).collect()
    }

    /// Series of a scrape: as classic histograms, and with each histogram as one.
    pub(crate) fn series(&self) -> (usize, usize) {
        let lines = self.lines(&[]);
        let histogram = |line: &str| {
            let (name, rest) = line.split_once('{')?;
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end))?;
            let labels = rest.rsplit_once(' ')?.0;
            let labels: Vec<_> = labels.split(',').filter(|label| !label.starts_with("le=")).collect();
            Some(format!("{name}{{{}", labels.join(",")))
        };
        let one_each: HashSet<String> =
            lines.iter().map(|line| histogram(line).unwrap_or_else(|| line.clone())).collect();
        (lines.len(), one_each.len())
    }

    /// How many targets there are, whatever their state.
    pub(crate) fn targets(&self) -> u64 {
        let value = |line: &String| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        self.lines(&["podsonar_targets{"]).iter().map(value).sum()
    }

    /// The value, as written, of the only sample that contains all of `parts`.
    pub(crate) fn value(&self, parts: &[&str]) -> String {
        let lines = self.lines(parts);
        assert_eq!(lines.len(), 1, "{parts:?} must name one sample: {lines:#?}");
        lines[0].rsplit(' ').next().unwrap().to_owned()
    }
}

pub(crate) fn planned(written: &str, protocol: Protocol) -> Planned {
    let (address, port) = written.parse().map_or_else(
        |_| {
            let socket: SocketAddr = written.parse().unwrap();
            (socket.ip(), Some(socket.port()))
        },
        |address| (address, None),
    );
    let target = Arc::new(Target::new(Kind::Fixed, written.into(), address, port));
    let stream = Stream { target, protocol };
    Planned { stream, interval: Duration::from_secs(1), timeout: Duration::from_millis(800), presumed: false }
}

pub(crate) fn outcome(id: u64, result: ProbeResult) -> Outcome {
    let rx = result.rtt().map(|_| StampSource::Software);
    let sent = Sent {
        at: WallTime::from_nanos(EPOCH + 5_000_123),
        tx: StampSource::Software,
        rx,
        cookie: 0xdead_beef,
        sequence: 7,
        source_port: None,
        destination_port: None,
    };
    let sent = match result {
        ProbeResult::Void(_) => None,
        _ => Some(sent),
    };
    Outcome { stream: StreamId(id), number: 0, due: Instant::from_nanos(5_000_000), result, count: 1, sent }
}

pub(crate) fn report(seconds: u64) -> TickReport {
    TickReport {
        now: clock(seconds).mono,
        lag: Some(Duration::from_micros(120)),
        in_flight: 3,
        held: 2,
        probes_per_second: 2.5,
        overslept: Duration::ZERO,
        drops: [0; 4],
        rejects: [0; 6],
        clock_jumps: 0,
    }
}

pub(crate) fn clock(seconds: u64) -> ClockReading {
    let mono = Instant::from_nanos(seconds * 1_000_000_000);
    ClockReading {
        mono,
        wall: WallTime::from_nanos(EPOCH + mono.as_nanos().cast_signed()),
        suspended: Duration::ZERO,
        uncertainty: Duration::ZERO,
    }
}
