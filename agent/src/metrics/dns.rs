//! What is counted about name servers: each query by name, each exchange by server.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podsonar_core::engine::Question;
use podsonar_core::query::search::Form;
use podsonar_core::query::{Ignored, QueryResult};
use podsonar_core::time::Instant;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};

use super::NATIVE_FACTOR;
use super::encode::sample;
use super::labels::Label;
use super::state::{Facts, Metrics, lock};
use crate::probe::dns::Answer;

/// The series of so many servers that are asked no more are kept for the retain period: where a cluster's name server is
/// asked pod by pod, its pods may come and go quickly.
const MAX_GONE: usize = 16;

/// The series of name servers and names, as a scrape sees them.
#[derive(Debug, Default)]
pub(crate) struct Dns {
    servers: Mutex<Arc<Vec<Arc<Server>>>>,
    names: Mutex<Arc<Vec<Arc<AskedName>>>>,
}

impl Dns {
    fn servers(&self) -> Arc<Vec<Arc<Server>>> {
        Arc::clone(&lock(&self.servers))
    }

    /// The names as they are now.
    pub(crate) fn names(&self) -> Arc<Vec<Arc<AskedName>>> {
        Arc::clone(&lock(&self.names))
    }
}

/// One name server's series.
#[derive(Debug)]
struct Server {
    label: String,
    duration: Histogram,
    exchanges: [[Counter; QueryResult::ALL.len()]; Form::ALL.len()],
    ignored: [Counter; Ignored::ALL.len()],
}

impl Server {
    fn new(address: SocketAddr, facts: &Facts) -> Self {
        let native = NativeHistogramConfig::new(NATIVE_FACTOR);
        Self {
            label: if address.port() == 53 { address.ip().to_string() } else { address.to_string() },
            duration: Histogram::new_classic_and_native(facts.buckets.dns.iter().copied(), native),
            exchanges: Default::default(),
            ignored: Default::default(),
        }
    }

    fn labels<'a>(&'a self, facts: &'a Facts) -> [Label<'a>; 3] {
        [("source", &facts.source), ("source_zone", &facts.zone), ("server", &self.label)]
    }
}

/// One name's series at one server.
#[derive(Debug)]
pub(crate) struct AskedName {
    server: Arc<Server>,
    name: Arc<str>,
    results: [Counter; QueryResult::ALL.len()],
    /// The last result's place among all, plus one; zero before the first.
    last: AtomicUsize,
}

impl AskedName {
    /// What became of the name when it was asked for last: server, name, result.
    pub(crate) fn last(&self) -> (&str, &str, Option<QueryResult>) {
        let place = self.last.load(Relaxed).checked_sub(1);
        let result = place.and_then(|place| QueryResult::ALL.get(place)).copied();
        (&self.server.label, &self.name, result)
    }
}

/// The handle of whoever carries out queries: it says what is configured, and books answers.
#[derive(Debug)]
pub struct DnsMetrics {
    metrics: Arc<Metrics>,
    retain: Duration,
    known: BTreeMap<(SocketAddr, Arc<str>), Entry>,
}

#[derive(Debug)]
struct Entry {
    name: Arc<AskedName>,
    /// Since when it is no longer configured.
    gone: Option<Instant>,
}

impl DnsMetrics {
    /// Nothing is configured yet. Series of what leaves the configuration stay for `retain`.
    pub fn new(metrics: Arc<Metrics>, retain: Duration) -> Self {
        Self { metrics, retain, known: BTreeMap::new() }
    }

    /// Says which names are asked of which servers from now on. Series appear at zero, or go on if they were there
    /// lately; those of what left stay for the retain period.
    pub fn configure(&mut self, pairs: impl IntoIterator<Item = (SocketAddr, Arc<str>)>, now: Instant) {
        for entry in self.known.values_mut() {
            entry.gone = entry.gone.or(Some(now));
        }
        for (address, name) in pairs {
            let server = self.server(address);
            let entry = self.known.entry((address, Arc::clone(&name))).or_insert_with(|| {
                let name = Arc::new(AskedName {
                    server,
                    name,
                    results: Default::default(),
                    last: AtomicUsize::new(0),
                });
                Entry { name, gone: None }
            });
            entry.gone = None;
        }
        self.forget_servers();
        self.publish();
    }

    /// Drops the series of the servers that left first, above [`MAX_GONE`] of them.
    fn forget_servers(&mut self) {
        let mut left: BTreeMap<SocketAddr, Option<Instant>> = BTreeMap::new();
        for ((server, _), entry) in &self.known {
            let latest = left.entry(*server).or_insert(entry.gone);
            // None: it is still asked.
            *latest = latest.zip(entry.gone).map(|(one, other)| one.max(other));
        }
        let mut gone: Vec<_> = left.into_iter().filter_map(|(server, gone)| Some((gone?, server))).collect();
        gone.sort_unstable();
        let surplus = gone.len().saturating_sub(MAX_GONE);
        let forgotten: Vec<_> = gone.into_iter().take(surplus).map(|(_, server)| server).collect();
        self.known.retain(|(server, _), _| !forgotten.contains(server));
    }

    /// Books the result of a question that fell due. One that has not been configured for longer than the retain period
    /// is dropped.
    pub fn result(&self, question: &Question, result: QueryResult) {
        if let Some(entry) = self.known.get(&(question.server, Arc::clone(&question.name))) {
            increase(entry.name.results.get(result as usize), 1);
            entry.name.last.store(result as usize + 1, Relaxed);
        }
    }

    /// Books what a server did to answer a question; its result is booked apart.
    pub fn answer(&self, question: &Question, answer: &Answer) {
        let Some(entry) = self.known.get(&(question.server, Arc::clone(&question.name))) else { return };
        let server = &entry.name.server;
        for exchange in &answer.exchanges {
            let of_form = server.exchanges.get(exchange.form as usize);
            increase(of_form.and_then(|results| results.get(exchange.result as usize)), 1);
            if let Some(duration) = exchange.duration {
                server.duration.observe(duration.as_secs_f64());
            }
            for (count, ignored) in server.ignored.iter().zip(exchange.ignored) {
                count.inc_by(ignored.into());
            }
        }
    }

    /// Drops the series of what left the retain period ago; to be called every few seconds.
    pub fn expire(&mut self, now: Instant) {
        let before = self.known.len();
        let retain = self.retain;
        self.known.retain(|_, entry| entry.gone.is_none_or(|gone| now.since(gone) < retain));
        if self.known.len() != before {
            self.publish();
        }
    }

    /// The server's series, if any name has it already; else new ones.
    fn server(&self, address: SocketAddr) -> Arc<Server> {
        let first = (address, Arc::from(""));
        match self.known.range(first..).next() {
            Some(((known, _), entry)) if *known == address => Arc::clone(&entry.name.server),
            _ => Arc::new(Server::new(address, &self.metrics.facts)),
        }
    }

    fn publish(&self) {
        let names: Vec<_> = self.known.values().map(|entry| Arc::clone(&entry.name)).collect();
        let mut servers: Vec<_> = names.iter().map(|name| Arc::clone(&name.server)).collect();
        servers.dedup_by(|one, other| Arc::ptr_eq(one, other));
        *lock(&self.metrics.dns.servers) = Arc::new(servers);
        *lock(&self.metrics.dns.names) = Arc::new(names);
    }
}

fn increase(counter: Option<&Counter>, by: u64) {
    if let Some(counter) = counter {
        counter.inc_by(by);
    }
}

pub(super) fn duration(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    let servers = metrics.dns.servers();
    servers
        .iter()
        .try_for_each(|server| sample(&mut family, &[&server.labels(&metrics.facts)], &server.duration))
}

/// Noerror and timeout are there from the start, so that rates see their first step.
pub(super) fn queries(name: &AskedName, metrics: &Metrics, family: &mut MetricEncoder<'_>) -> fmt::Result {
    let labels = name.server.labels(&metrics.facts);
    for (result, count) in QueryResult::ALL.into_iter().zip(&name.results) {
        if count.get() > 0 || matches!(result, QueryResult::NoError | QueryResult::Timeout) {
            sample(family, &[&labels, &[("name", &name.name), ("result", result.label())]], count)?;
        }
    }
    Ok(())
}

pub(super) fn exchanges(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for server in metrics.dns.servers().iter() {
        let labels = server.labels(&metrics.facts);
        for (form, results) in Form::ALL.into_iter().zip(&server.exchanges) {
            let counts = QueryResult::ALL.into_iter().zip(results);
            for (result, count) in counts.filter(|(_, count)| count.get() > 0) {
                let own = [("form", form.label()), ("result", result.label())];
                sample(&mut family, &[&labels, &own], count)?;
            }
        }
    }
    Ok(())
}

pub(super) fn ignored(metrics: &Metrics, mut family: MetricEncoder<'_>) -> fmt::Result {
    for server in metrics.dns.servers().iter() {
        let labels = server.labels(&metrics.facts);
        let counts = Ignored::ALL.into_iter().zip(&server.ignored);
        for (reason, count) in counts.filter(|(_, count)| count.get() > 0) {
            sample(&mut family, &[&labels, &[("reason", reason.label())]], count)?;
        }
    }
    Ok(())
}
