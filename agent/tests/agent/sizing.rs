//! What a whole cluster of agents costs, worked out by the agent's own code from its settings: who probes whom, what falls
//! due, what a scrape has, what a list takes. `make sizing` prints it, with `CONFIG=FILE` for other settings; SIZING.md
//! has it for the defaults.

mod cluster;
mod exchange;

use std::env;
use std::fmt::Write as _;
use std::fs;

use podsonar_core::config::Probing;

use self::cluster::{Agent, probing};
use self::exchange::Bytes;
use crate::scrape::compare_table;

const NODES: [usize; 4] = [10, 100, 1_000, 5_000];
/// On each node.
const PODS: usize = 30;
/// In equal parts.
const ZONES: usize = 3;
/// Agents whose mean stands for all.
const SAMPLE: usize = 4;
/// Seconds between two scrapes.
const SCRAPE: f64 = 15.0;
/// Bytes from the API server to one agent when one endpoint changes in a full slice: measured by `make bench-api`
/// ("one agent replaced, watched").
const SLICE_BYTES: f64 = 26_800.0;
/// Endpoints in a full slice.
const SLICE: usize = 100;
/// Above so many agents slices are listed, not watched, so often in seconds, and those fetched that have changed.
const WATCHED_MAX: usize = 1_000;
const LISTED_EVERY: f64 = 300.0;

#[test]
fn the_page_has_what_the_defaults_cost() {
    compare_table("SIZING.md", "sizing", &table(&probing("")));
}

/// `make sizing` asks for this one.
#[test]
fn the_table_can_be_had_for_other_settings() {
    let file = env::var("SIZING_CONFIG")
        .map_or_else(|_| "peers: {max: 8}".into(), |path| fs::read_to_string(path).unwrap());
    let table = table(&probing(&file));
    println!("{table}");
    assert_eq!(table.lines().filter(|line| line.ends_with('|')).count(), table.lines().count());
}

#[test]
fn the_cost_of_an_agent_does_not_grow_above_peers_max() {
    let probing = probing("");
    let [small, large] =
        [100, 5_000].map(|nodes| Cost::of(nodes, &probing, Bytes { request: 0, list: 0, unchanged: 0 }));
    assert!(large.peers <= 32.0 && large.probes < small.probes * 1.1, "{} {}", small.probes, large.probes);
    assert!(large.classic < small.classic * 1.1, "{} {}", small.classic, large.classic);
}

/// What one agent costs in the mean, in a cluster of so many.
struct Cost {
    nodes: usize,
    peers: f64,
    pods: f64,
    probes: f64,
    large: f64,
    questions: f64,
    classic: f64,
    native: f64,
    by_zone: f64,
    fetches: f64,
    bytes: Bytes,
}

impl Cost {
    fn of(nodes: usize, probing: &Probing, bytes: Bytes) -> Self {
        let agents: Vec<Agent> =
            (0..SAMPLE).map(|number| Agent::new(number * nodes / SAMPLE, nodes, probing)).collect();
        let mean = |of: &dyn Fn(&Agent) -> f64| agents.iter().map(of).sum::<f64>() / SAMPLE as f64;
        let series = |by_zone| {
            let each = agents.iter().map(|agent| agent.series(by_zone));
            let (classic, native) = each.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
            (classic as f64 / SAMPLE as f64, native as f64 / SAMPLE as f64)
        };
        let (classic, native) = series(probing.by_zone);
        let by_zone = if probing.by_zone { classic } else { series(true).0 };
        Self {
            nodes,
            peers: mean(&|agent| agent.peers as f64),
            pods: mean(&|agent| agent.pods as f64),
            probes: mean(&|agent| agent.probes_per_second()),
            large: mean(&|agent| agent.large_per_second()),
            questions: mean(&|agent| agent.questions_per_second()),
            classic,
            native,
            by_zone,
            fetches: mean(&|agent| agent.fetches_per_second()),
            bytes,
        }
    }

    fn all(&self, each: f64) -> f64 {
        each * self.nodes as f64
    }

    /// Bytes from the API server to one agent when another agent's endpoint changes, while slices are watched.
    fn slice(&self) -> f64 {
        SLICE_BYTES * self.nodes.min(SLICE) as f64 / SLICE as f64
    }

    /// Bytes a second from the API server to all agents, at most, if endpoints change so often a second.
    fn api(&self, changes: f64) -> f64 {
        if self.nodes <= WATCHED_MAX {
            return self.all(self.slice() * changes);
        }
        // Each slice is fetched once a list, however often it changed.
        let slices = self.nodes.div_ceil(SLICE) as f64;
        self.all(self.slice() * slices.min(changes * LISTED_EVERY) / LISTED_EVERY)
    }
}

fn table(probing: &Probing) -> String {
    let bytes = exchange::measure(PODS);
    let costs = NODES.map(|nodes| Cost::of(nodes, probing, bytes));
    let mut table = String::from("| nodes |");
    for cost in &costs {
        let _ = write!(table, " {} |", number(cost.nodes as f64));
    }
    table.push_str("\n|---|---:|---:|---:|---:|\n");
    let mut row = |what: &str, value: &dyn Fn(&Cost) -> f64| {
        let values: Vec<_> = costs.iter().map(|cost| number(value(cost))).collect();
        let _ = writeln!(table, "| {what} | {} |", values.join(" | "));
    };
    row("**an agent**: peers", &|cost| cost.peers);
    row("pods of other nodes that it probes", &|cost| cost.pods);
    row("probes a second", &|cost| cost.probes);
    row("large probes a second, for the path MTU", &|cost| cost.large);
    row("DNS questions a second, at most", &|cost| cost.questions);
    row("series, classic histograms", &|cost| cost.classic);
    row("series, native histograms only", &|cost| cost.native);
    row("series, classic, with `metrics.detail: zone`", &|cost| cost.by_zone);
    row("fetches of lists a second", &|cost| cost.fetches);
    row("kB/s of fetches, both ways, while no pod changes", &|cost| cost.fetches * cost.bytes.idle() / 1e3);
    row("kB sent when one of its pods changes", &|cost| cost.peers * cost.bytes.list as f64 / 1e3);
    row("kB from the API server when another agent's endpoint changes", &|cost| cost.slice() / 1e3);
    row("**the cluster**: probes a second", &|cost| cost.all(cost.probes));
    row("DNS questions a second, at most", &|cost| cost.all(cost.questions));
    row("series, classic histograms", &|cost| cost.all(cost.classic));
    row("series, native histograms only", &|cost| cost.all(cost.native));
    row("series, classic, with `metrics.detail: zone`", &|cost| cost.all(cost.by_zone));
    row("samples a second, classic, scraped each 15 s", &|cost| cost.all(cost.classic) / SCRAPE);
    row("samples a second, native only", &|cost| cost.all(cost.native) / SCRAPE);
    row("MB/s of fetches, while no pod changes", &|cost| cost.all(cost.fetches * cost.bytes.idle()) / 1e6);
    row("MB/s from the API server while an endpoint changes each 10 s", &|cost| cost.api(0.1) / 1e6);
    row("the same while each second one changes (a rolling update)", &|cost| cost.api(1.0) / 1e6);
    table
}

/// Three digits, or all before the point; thousands apart.
fn number(value: f64) -> String {
    let decimals = match value {
        value if value >= 100.0 || value.fract() == 0.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 0.1 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) =
        text.split_once('.').map_or((&*text, String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let mut spaced = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            spaced.push(',');
        }
        spaced.push(digit);
    }
    spaced + &rest
}
