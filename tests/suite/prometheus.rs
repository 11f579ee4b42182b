//! Prometheus itself scrapes the agent: versions 2.42 and 3, text and protobuf with native histograms.

use podsonar_core::time::TOLERATED_MOVEMENT;
use podsonar_lab::agent::Launch;
use podsonar_lab::clock::{soon, wait_until};
use podsonar_lab::fault::Faults;
use podsonar_lab::server::prometheus::{Format, Prometheus, Version};
use podsonar_lab::{Agent, Lab, Link};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What each round trip takes at least: the delay of the path, both ways.
const LEAST_RTT: f64 = 0.004;
/// Native buckets are wider than the one below by at most this.
const NATIVE_RATIO: f64 = 1.1;

#[test]
fn prometheus_2_scrapes_text() {
    let world = World::new(Version::Two, Format::Text);
    world.scrapes_well();
    world.has_classic_histograms();
    world.has_every_metric_of_the_page();
}

#[test]
fn prometheus_2_scrapes_native_histograms() {
    let world = World::new(Version::Two, Format::Native);
    world.scrapes_well();
    world.has_native_histograms();
}

#[test]
fn prometheus_3_scrapes_text() {
    let world = World::new(Version::Three, Format::Text);
    world.scrapes_well();
    world.has_classic_histograms();
    world.has_every_metric_of_the_page();
}

#[test]
fn prometheus_3_scrapes_native_histograms_beside_classic_ones() {
    let world = World::new(Version::Three, Format::Native);
    world.scrapes_well();
    world.has_native_histograms();
    world.has_classic_histograms();
}

/// An agent with a target, and a Prometheus beside it. What runs in the lab goes before the link.
struct World {
    prometheus: Prometheus,
    agent: Agent,
    _link: Link,
}

impl World {
    fn new(version: Version, format: Format) -> Self {
        let lab = Lab::new().expect("a lab");
        let (near, far) = (lab.host("near").expect("a host"), lab.host("far").expect("a host"));
        let link = lab.link(&near, &far, 1).expect("a link");
        link.set_both(&Faults { delay: Duration::from_millis(2), ..Faults::default() });
        let launch = Launch::on(&near).target(&link.right.v4.to_string()).target(&link.right.v6.to_string());
        let agent = launch.arguments(&["--interval", "20ms"]).start().expect("the agent");
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 9988));
        let prometheus = Prometheus::start(&near, version, format, 9090, &[target]).expect("Prometheus");
        Self { prometheus, agent, _link: link }
    }

    /// Its scrapes succeed, and the counters it has are the agent's: those of a moment between two looks at the page.
    fn scrapes_well(&self) {
        let replies = |scrape: &podsonar_lab::scrape::Scrape| {
            scrape.sum("podsonar_probes_total", &[("result", "reply")]).unwrap_or(0.0)
        };
        let before = self.agent.wait_for_metrics(soon(), "replies", |scrape| {
            Some(replies(scrape)).filter(|replies| *replies > 0.0)
        });
        let before = before.expect("replies");
        let expression = format!("sum(podsonar_probes_total{{result=\"reply\"}}) >= {before}");
        let scraped = self.number(&expression);
        let after = replies(&self.agent.scrape().expect("metrics"));
        assert!(scraped <= after, "{before} before, {scraped} scraped, {after} after");
        assert_same(self.number("min_over_time(up[1m])"), 1.0);
        assert_eq!(self.prometheus.last_error().expect("its target"), "");
    }

    fn has_classic_histograms(&self) {
        let quantile = "histogram_quantile(0.5, sum by (le) (rate(podsonar_rtt_seconds_bucket[1m]))) > 0";
        // The bounds around it are 2 ms and more.
        let median = self.number(quantile);
        assert!(median >= 0.002, "{median}");
    }

    fn has_native_histograms(&self) {
        let median = self.number("histogram_quantile(0.5, sum(rate(podsonar_rtt_seconds[1m]))) > 0");
        assert!(median >= LEAST_RTT / NATIVE_RATIO, "{median}");
        let mean = self.number(
            "histogram_sum(sum(rate(podsonar_rtt_seconds[1m]))) / histogram_count(sum(rate(podsonar_rtt_seconds[1m]))) > 0",
        );
        // The path keeps its delay by the monotonic clock, stamps are of the wall clock: a machine that was paused sets
        // that one right, and the agent uses stamps that are wrong by no more than this.
        let least = LEAST_RTT - TOLERATED_MOVEMENT.as_secs_f64();
        assert!(mean >= least, "{mean}");
        let counted = self.number("histogram_count(sum(podsonar_rtt_seconds))");
        let page = self.agent.scrape().expect("metrics");
        let after = page.sum("podsonar_rtt_seconds_count", &[]).expect("a histogram");
        assert!(counted > 0.0 && counted <= after, "{counted} scraped, {after} after");
    }

    fn has_every_metric_of_the_page(&self) {
        let page = self.agent.scrape().expect("metrics");
        wait_until(soon(), "every metric of the page", || {
            let series = self.prometheus.query("{job=\"podsonar\"}")?;
            let names: BTreeSet<&str> = series.iter().map(|sample| sample.name.as_str()).collect();
            Ok(page.samples.iter().all(|sample| names.contains(sample.name.as_str())).then_some(()))
        })
        .expect("every metric");
    }

    /// The one value of an expression, once there is one.
    fn number(&self, expression: &str) -> f64 {
        wait_until(soon(), expression, || Ok(self.prometheus.query(expression)?.first().map(|one| one.value)))
            .expect("a number")
    }
}

fn assert_same(one: f64, other: f64) {
    assert!((one - other).abs() < 1e-9, "{one} is not {other}");
}
