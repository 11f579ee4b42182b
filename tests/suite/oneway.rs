//! Whole agents that know each other from a list, on two hosts: what they say of a way that is bad in one direction only.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use podsonar_lab::agent::{Agent, Launch};
use podsonar_lab::capture::Captured;
use podsonar_lab::clock::Deadline;
use podsonar_lab::fault::{Faults, Loss, Only};
use podsonar_lab::lab::End;
use podsonar_lab::link::{Link, Way};
use podsonar_lab::packet::Body;
use podsonar_lab::scrape::Scrape;
use podsonar_lab::{Cgroup, Host, Lab};

const FAMILIES: [&str; 2] = ["4", "6"];

#[test]
fn random_loss_one_way_is_told_within_one_probe_of_the_wire_for_each_direction() {
    let world = World::new();
    let agents = world.agents();
    world.wait(&agents, 20);
    let captures = [0, 1].map(|which| world.hosts[which].capture(&world.end(which).interface).unwrap());
    let before = [0, 1].map(|which| world.lost(&agents, which));
    let faults = Faults { loss: Loss::Random(0.15), only: Only::icmp(), ..Faults::default() };
    world.link.set(Way::There, faults);
    world.wait(&agents, 170);
    world.link.set(Way::There, Faults::default());
    world.wait(&agents, 210);
    let after = [0, 1].map(|which| world.lost(&agents, which));
    let statuses = [0, 1].map(|which| status(&agents[which]));
    let [left, right] = captures.map(|capture| Seen::of(&capture.stop().unwrap()));
    for (place, family) in FAMILIES.into_iter().enumerate() {
        let lost = |which: usize| after[which][place] - before[which][place];
        let from = |which: usize| world.address(which, family);
        // Left to right: its requests, and its answers to what the right sends.
        let there = missing(&left.sent, &right.received, from(0));
        let answers = missing(&left.answered, &right.replied, from(1));
        assert!(there > 5 && answers > 5, "{there} requests, {answers} answers lost on the wire");
        close(lost(0), there, "what the left sent, told by the right");
        close(
            lost(1),
            missing(&right.sent, &left.received, from(1)),
            "what the right sent, told by the left",
        );
        assert_eq!(missing(&right.sent, &left.received, from(1)), 0);
        let told = |which: usize, what: &str| {
            let ways = statuses[which]["ways"].as_array().unwrap();
            ways.iter().find(|way| way["family"] == family).unwrap()[what].as_u64().unwrap()
        };
        close(told(0, "lost_on_the_way_there"), there, "the left's own losses there");
        close(told(0, "lost_on_the_way_back"), 0, "the left's own losses back");
        close(told(1, "lost_on_the_way_there"), 0, "the right's own losses there");
        close(told(1, "lost_on_the_way_back"), answers, "the right's own losses back");
    }
}

#[test]
fn a_dead_way_is_silence_at_its_end_only_and_nothing_jumps_when_it_heals() {
    let world = World::new();
    let agents = world.agents();
    world.wait(&agents, 20);
    world.link.cut(Way::There);
    let [left, right] = &agents;
    until(right, |scrape| silent(scrape) == 2 && scrape.sum("podsonar_probes_total", LOST) > Some(0.0));
    let dead = right.scrape().unwrap();
    assert_eq!(dead.sum("podsonar_edges_in_fault", &[("fault", "inbound_silent")]), Some(2.0));
    assert_eq!(total(&dead, "lost") + total(&dead, "outages"), 0, "no gap is counted while nothing comes");
    until(left, |scrape| scrape.sum("podsonar_probes_total", LOST) > Some(0.0));
    assert_eq!(silent(&left.scrape().unwrap()), 0);

    world.link.set(Way::There, Faults::default());
    until(right, |scrape| silent(scrape) == 0);
    let healed = total(&right.scrape().unwrap(), "probes") / 2;
    world.wait(&agents, healed + 40);
    for (agent, outages) in [(left, 0), (right, 2)] {
        let scrape = agent.scrape().unwrap();
        let told = ["lost", "unknown", "outages"].map(|what| total(&scrape, what));
        assert_eq!(told, [0, 0, outages]);
    }
}

#[test]
fn an_agent_that_is_stopped_starved_or_restarted_makes_no_false_direction() {
    let world = World::new();
    let quota = Cgroup::with_cpu_quota(0.03).unwrap();
    let left = world.agent(0, None);
    let mut right = world.agent(1, Some(&quota));
    let agents = [&left, &right];
    world.wait_each(agents, 30);
    let paused = right.process.pause().unwrap();
    until(&left, |scrape| silent(scrape) == 2);
    drop(paused);
    let sent = total(&right.scrape().unwrap(), "probes") / 2;
    world.wait_each(agents, sent + 40);
    blameless(&left);
    blameless(&right);

    // Killed without a word, and there again: the first that it hears is the beginning.
    drop(right);
    until(&left, |scrape| silent(scrape) == 2);
    right = world.agent(1, None);
    let sent = total(&left.scrape().unwrap(), "probes") / 2;
    until(&left, |scrape| silent(scrape) == 0 && total(scrape, "probes") / 2 >= sent + 40);
    until(&right, |scrape| total(scrape, "probes") / 2 >= 40);
    blameless(&left);
    blameless(&right);
}

const LOST: &[(&str, &str)] = &[("kind", "agent"), ("result", "lost")];

/// Nothing that the peer sent is called lost.
fn blameless(agent: &Agent) {
    let scrape = agent.scrape().unwrap();
    assert_eq!(["lost", "outages"].map(|what| total(&scrape, what)), [0, 0]);
    assert_eq!(silent(&scrape), 0);
}

fn silent(scrape: &Scrape) -> u64 {
    scrape.sum("podsonar_inbound_silent", &[]).unwrap_or(0.0) as u64
}

/// Over both IP versions.
fn total(scrape: &Scrape, what: &str) -> u64 {
    scrape.sum(&format!("podsonar_inbound_{what}_total"), &[]).unwrap_or(0.0) as u64
}

fn close(told: u64, wire: u64, what: &str) {
    assert!(told.abs_diff(wire) <= 1, "{what}: {told} told, {wire} on the wire");
}

fn status(agent: &Agent) -> serde_json::Value {
    serde_json::from_str(&agent.get("/status", &[]).unwrap().text()).unwrap()
}

fn until(agent: &Agent, condition: impl Fn(&Scrape) -> bool) {
    let deadline = Deadline::after(Duration::from_mins(1));
    agent
        .wait_for_metrics(deadline, "what the agent should find out", |scrape| {
            condition(scrape).then_some(())
        })
        .unwrap();
}

/// Two hosts and a link.
struct World {
    hosts: [Host; 2],
    link: Link,
    _lab: Lab,
}

impl World {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let hosts = ["left", "right"].map(|name| lab.host(name).unwrap());
        let link = lab.link(&hosts[0], &hosts[1], 11).unwrap();
        Self { hosts, link, _lab: lab }
    }

    fn end(&self, which: usize) -> &End {
        [&self.link.left, &self.link.right][which]
    }

    fn address(&self, which: usize, family: &str) -> IpAddr {
        let end = self.end(which);
        if family == "4" { end.v4.into() } else { end.v6.into() }
    }

    fn agents(&self) -> [Agent; 2] {
        [self.agent(0, None), self.agent(1, None)]
    }

    /// An agent that is told of the other one.
    fn agent(&self, which: usize, cgroup: Option<&Cgroup>) -> Agent {
        let host = &self.hosts[which];
        let (peer, End { v4, v6, .. }) = (self.hosts[1 - which].name(), self.end(1 - which));
        let file = Path::new("/run/podsonar.yaml");
        let settings = format!(
            "source: {}\nmesh: {{ peers: ['{peer}@zone={v4}', '{peer}@zone=[{v6}]'] }}\nexchange: {{ interval: 1s }}\n\
             probes: {{ agents_interval: 100ms }}\nmtu: {{ enabled: false }}\n",
            host.name()
        );
        host.write_file(file, settings.as_bytes(), 0o644).unwrap();
        let launch = Launch::on(host).arguments(&["--config", "/run/podsonar.yaml"]);
        let launch = match cgroup {
            Some(cgroup) => launch.cgroup(cgroup),
            None => launch,
        };
        launch.start().unwrap()
    }

    /// Waits until each agent has heard so many probes of the other by each IP version.
    fn wait(&self, agents: &[Agent; 2], probes: u64) {
        self.wait_each([&agents[0], &agents[1]], probes);
    }

    fn wait_each(&self, agents: [&Agent; 2], probes: u64) {
        for (agent, host) in agents.into_iter().zip([&self.hosts[1], &self.hosts[0]]) {
            for family in FAMILIES {
                let labels = [("family", family), ("source", host.name())];
                until(agent, |scrape| {
                    scrape.sum("podsonar_inbound_probes_total", &labels) >= Some(probes as f64)
                });
            }
        }
    }

    /// What this host sent and the other one says was lost, by IP version.
    fn lost(&self, agents: &[Agent; 2], which: usize) -> [u64; 2] {
        let scrape = agents[1 - which].scrape().unwrap();
        FAMILIES.map(|family| {
            let labels = [("family", family), ("source", self.hosts[which].name())];
            scrape.sum("podsonar_inbound_lost_total", &labels).unwrap() as u64
        })
    }
}

/// The agents' probes in a capture, by sender and sequence.
#[derive(Default)]
struct Seen {
    sent: Vec<(IpAddr, u64)>,
    received: Vec<(IpAddr, u64)>,
    answered: Vec<(IpAddr, u64)>,
    replied: Vec<(IpAddr, u64)>,
}

impl Seen {
    fn of(captured: &[Captured]) -> Self {
        let mut seen = Self::default();
        for (outgoing, packet) in captured.iter().filter_map(|one| Some((one.outgoing, one.packet()?))) {
            let (list, sender, echo) = match (packet.body, outgoing) {
                (Body::EchoRequest(echo), true) => (&mut seen.sent, packet.src, echo),
                (Body::EchoRequest(echo), false) => (&mut seen.received, packet.src, echo),
                (Body::EchoReply(echo), true) => (&mut seen.answered, packet.dst, echo),
                (Body::EchoReply(echo), false) => (&mut seen.replied, packet.dst, echo),
                (Body::Tcp(_) | Body::Other(_), _) => continue,
            };
            let sequence =
                echo.payload.get(16..24).map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
            list.extend(sequence.map(|sequence| (sender, sequence)));
        }
        seen
    }
}

/// How many packets of a sender's probes left and did not come, of those between the first and the last that came: one
/// capture begins and ends before the other.
fn missing(left: &[(IpAddr, u64)], came: &[(IpAddr, u64)], of: IpAddr) -> u64 {
    let came: BTreeSet<u64> = came.iter().filter(|one| one.0 == of).map(|one| one.1).collect();
    let (first, last) = (came.first().copied().unwrap_or(0), came.last().copied().unwrap_or(0));
    let left = left.iter().filter(|one| one.0 == of && (first..last).contains(&one.1));
    left.filter(|one| !came.contains(&one.1)).count() as u64
}
