//! The agent on real packets between hosts, judged by a capture on its own interface.

use podsonar_lab::agent::{Launch, Privilege};
use podsonar_lab::capture::Capture;
use podsonar_lab::clock::{Deadline, soon};
use podsonar_lab::fault::{Checksum, Corrupt, Faults, Loss};
use podsonar_lab::link::{Link, Way};
use podsonar_lab::record::Record;
use podsonar_lab::server::{FullListener, Listener};
use podsonar_lab::wire::{Reply, Wire, WireProbe};
use podsonar_lab::{Agent, Cgroup, Host, Lab, LabError};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

/// The agent's default.
const TIMEOUT: Duration = Duration::from_millis(800);
/// Reported and captured times differ by where the kernel takes its stamps: µs, more if it is preempted between.
const STAMPS_APART: Duration = Duration::from_millis(1);

#[test]
fn answered_probes_are_on_the_wire_with_their_round_trip_and_the_application_accepts_nothing() {
    let world = World::new(1);
    let listener = Listener::start(&world.far, SocketAddr::from((world.link.right.v4, 0))).unwrap();
    let listener6 = Listener::start(&world.far, SocketAddr::from((world.link.right.v6, 0))).unwrap();
    let closed = SocketAddr::from((world.link.right.v4, 9));
    let targets = [listener.address, listener6.address, closed].map(|target| target.to_string());
    let run = world.run(world.launch(&targets).arguments(&["--interval", "250ms"]), 60);
    for record in run.sent() {
        let probe = run.probe(record);
        let (_, reply) = probe.first_reply.expect("answered");
        let expected = match (record.port, reply) {
            (None, Reply::Echo) | (Some(_), Reply::SynAck) => "reply",
            (Some(9), Reply::Reset) => "reset",
            other => panic!("{other:?}"),
        };
        assert_eq!(record.result, expected);
        let reported = Duration::from_nanos(record.rtt_ns.expect("a round trip").try_into().unwrap());
        assert!(reported.abs_diff(probe.rtt().unwrap()) < STAMPS_APART, "{reported:?} {probe:?}");
    }
    for (protocol, port) in [("icmp", None), ("tcp", Some(listener6.address.port())), ("tcp", Some(9))] {
        assert!(run.records.iter().any(|record| record.protocol == protocol && record.port == port));
    }
    assert_eq!((listener.accepted(), listener6.accepted()), (0, 0));
}

#[test]
fn losses_are_those_of_the_wire_in_either_direction() {
    for way in [Way::There, Way::Back] {
        let world = World::new(2);
        world.link.set(way, Faults { loss: Loss::bursts(0.2, 3.0), ..Faults::default() });
        let target = world.link.right.v4.to_string();
        let run = world.run(world.launch(&[target]).arguments(&["--interval", "20ms"]), 200);
        let lost = run.records.iter().filter(|record| record.result == "lost").count();
        assert!(lost > 10, "{lost} lost {way:?}");
        run.agrees_with_the_wire();
    }
}

#[test]
fn replies_with_changed_contents_are_no_replies() {
    let world = World::new(3);
    let corrupt = Corrupt { chance: 1.0, checksum: Checksum::Repaired };
    world.link.set(Way::Back, Faults { corrupt: Some(corrupt), ..Faults::default() });
    let target = world.link.right.v4.to_string();
    let run = world.run(world.launch(&[target]).arguments(&["--interval", "50ms"]), 20);
    assert!(run.sent().all(|record| record.result == "lost"), "{:?}", run.records);
}

#[test]
fn duplicates_count_once() {
    let world = World::new(4);
    world.link.set_both(&Faults { duplicate: 1.0, ..Faults::default() });
    let target = world.link.right.v4.to_string();
    let run = world.run(world.launch(&[target]).arguments(&["--interval", "20ms"]), 50);
    assert!(run.sent().all(|record| record.result == "reply"));
    let sequences: HashSet<_> = run.sent().map(|record| record.sequence).collect();
    assert_eq!(sequences.len(), run.sent().count());
}

#[test]
fn port_with_a_full_accept_queue_is_lost_while_icmp_is_answered() {
    let world = World::new(5);
    let full = FullListener::start(&world.far, SocketAddr::from((world.link.right.v4, 0))).unwrap();
    let target = full.address.to_string();
    let run = world.run(world.launch(&[target]).arguments(&["--interval", "250ms"]), 12);
    for record in run.sent() {
        assert_eq!(record.result, if record.protocol == "icmp" { "reply" } else { "lost" });
    }
}

#[test]
fn net_raw_alone_and_five_percent_of_a_cpu_are_enough_for_the_truth() {
    let world = World::new(6);
    let cgroup = Cgroup::with_cpu_quota(0.05).unwrap();
    let target = world.link.right.v6.to_string();
    let launch = world.launch(&[target]).privilege(Privilege::NetRaw).cgroup(&cgroup);
    let run = world.run(launch.arguments(&["--interval", "50ms"]), 40);
    run.agrees_with_the_wire();
    assert!(run.records.iter().any(Record::is_answered));
    assert_eq!(run.mode("icmp", "6"), "raw");
}

#[test]
fn nobody_in_the_ping_group_measures_icmp_as_well_as_root_and_connects_instead_of_syns() {
    let world = World::new(9);
    world.near.sysctl("net.ipv4.ping_group_range", "65534 65534").unwrap();
    world.link.set(Way::There, Faults { loss: Loss::Random(0.2), ..Faults::default() });
    let targets = [world.link.right.v4.to_string(), format!("[{}]:9", world.link.right.v6)];
    let launch = world.launch(&targets).privilege(Privilege::Nobody);
    let run = world.run(launch.arguments(&["--interval", "250ms"]), 60);
    // Every record of ICMP is on the wire with its stamps and its own result, over both families.
    for record in run.sent().filter(|record| record.protocol == "icmp") {
        let probe = run.probe(record);
        assert_eq!(record.result, if probe.is_answered_within(TIMEOUT) { "reply" } else { "lost" });
        if let Some(rtt) = record.rtt_ns {
            let reported = Duration::from_nanos(rtt.try_into().unwrap());
            assert!(reported.abs_diff(probe.rtt().unwrap()) < STAMPS_APART, "{reported:?} {probe:?}");
        }
    }
    for family in ["4", "6"] {
        assert_eq!(run.mode("icmp", family), "datagram");
        let answered = [("protocol", "icmp"), ("family", family), ("result", "reply")];
        assert!(run.scrape.sum("podsonar_probes_total", &answered).unwrap() > 0.0);
        let observed = [("protocol", "icmp"), ("family", family)];
        assert!(run.scrape.sum("podsonar_rtt_seconds_count", &observed).unwrap() > 0.0);
    }
    assert_eq!(run.mode("tcp", "6"), "connect");
    run.says(&["datagram ICMP sockets", "family=\"6\""]);
    run.says(&["full handshakes instead of SYNs", "CAP_NET_RAW", "family=\"6\""]);
    assert!(run.scrape.sum("podsonar_probes_total", &[("protocol", "tcp")]).is_none());
    assert!(run.scrape.sum("podsonar_probes_total", &[("protocol", "connect"), ("family", "6")]).is_some());
}

#[test]
fn nobody_with_nothing_connects_and_says_what_is_missing() {
    let world = World::new(10);
    let listener = Listener::start(&world.far, SocketAddr::from((world.link.right.v4, 0))).unwrap();
    let launch = world.launch(&[listener.address.to_string()]).privilege(Privilege::Nobody);
    let run = world.run(launch.arguments(&["--interval", "250ms"]), 4);
    assert_eq!((run.mode("icmp", "4"), run.mode("tcp", "4")), ("none".into(), "connect".into()));
    run.says(&["not probed", "protocol=\"icmp\"", "ping_group_range"]);
    run.says(&["full handshakes instead of SYNs", "protocol=\"tcp\"", "CAP_NET_RAW"]);
    assert!(run.records.iter().all(|record| record.protocol == "connect"), "{:?}", run.records);
    assert!(run.scrape.sum("podsonar_probes_total", &[("protocol", "icmp")]).is_none());
}

#[test]
fn nobody_gets_one_clear_line() {
    let world = World::new(7);
    let target = world.link.right.v4.to_string();
    let error = world.launch(&[target]).privilege(Privilege::Nobody).start().unwrap_err();
    let LabError::Command { stderr, .. } = error else { panic!("{error}") };
    assert!(stderr.contains("NET_RAW"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn counters_agree_with_the_records() {
    let world = World::new(8);
    world.link.set(Way::There, Faults { loss: Loss::Random(0.2), ..Faults::default() });
    let target = world.link.right.v4.to_string();
    let run = world.run(world.launch(&[target]).arguments(&["--interval", "20ms"]), 100);
    for result in ["reply", "lost"] {
        // Without the control, whose records are left out too.
        let labels = [("protocol", "icmp"), ("kind", "fixed"), ("result", result)];
        let counted = run.scrape.sum("podsonar_probes_total", &labels).unwrap() as usize;
        // The scrape came first: records that came after it may be more.
        let recorded = run.records.iter().filter(|record| record.is_due() && record.result == result).count();
        assert!(counted > 0 && counted <= recorded, "{counted} {result} counted, {recorded} recorded");
    }
}

/// An agent's host and a far one, behind a link with half a millisecond of delay.
struct World {
    near: Host,
    far: Host,
    link: Link,
}

/// What an agent reported and what was on the wire.
struct Run {
    records: Vec<Record>,
    wire: Wire,
    scrape: podsonar_lab::scrape::Scrape,
    lines: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let lab = Lab::new().expect("a lab");
        let (near, far) = (lab.host("near").expect("a host"), lab.host("far").expect("a host"));
        let link = lab.link(&near, &far, seed).expect("a link");
        link.set_both(&Faults { delay: Duration::from_micros(250), ..Faults::default() });
        Self { near, far, link }
    }

    fn launch(&self, targets: &[String]) -> Launch<'_> {
        let launch = Launch::on(&self.near).records();
        targets.iter().fold(launch, |launch, target| launch.target(target))
    }

    fn capture(&self) -> Capture {
        self.near.capture(&self.link.left.interface).expect("a capture")
    }

    /// Runs the agent until it has recorded so many probes, and stops it.
    fn run(&self, launch: Launch<'_>, probes: usize) -> Run {
        let capture = self.capture();
        let mut agent = launch.start().expect("the agent");
        wait_for_records(&agent, probes);
        let scrape = agent.scrape().expect("metrics");
        assert!(agent.stop(soon()).expect("its end").success(), "{:?}", agent.process.lines());
        let records = agent.records().expect("records");
        let wire = Wire::new(&capture.stop().expect("packets"));
        Run { records, wire, scrape, lines: agent.process.lines() }
    }
}

impl Run {
    fn probe(&self, record: &Record) -> &WireProbe {
        let probe = self.wire.find(record);
        assert!(probe.is_some(), "not on the wire: {record:?}");
        probe.expect("asserted")
    }

    /// How a protocol was probed over a family.
    fn mode(&self, protocol: &str, family: &str) -> String {
        let labels = [("protocol", protocol), ("family", family)];
        let modes = self.scrape.select("podsonar_probe_mode", &labels);
        let modes: Vec<_> = modes.filter_map(|sample| sample.labels.get("mode").cloned()).collect();
        assert_eq!(modes.len(), 1, "{protocol} {family}: {modes:?}");
        modes.concat()
    }

    /// There is a log line with all of these words.
    fn says(&self, words: &[&str]) {
        let has = |line: &String| words.iter().all(|word| line.contains(word));
        assert!(self.lines.iter().any(has), "{words:?} in {:#?}", self.lines);
    }

    /// The records of probes that left. Others fell due while the agent was starved, or while it ended.
    fn sent(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.sent_ns.is_some())
    }

    /// Every probe on the wire has its record, and it is right: answered in time or lost.
    fn agrees_with_the_wire(&self) {
        for record in self.sent() {
            let probe = self.probe(record);
            let expected = if probe.is_answered_within(TIMEOUT) { "reply" } else { "lost" };
            assert_eq!(record.result, expected, "{record:?} {probe:?}");
        }
        assert_eq!(self.sent().count(), self.wire.probes().len());
    }
}

fn wait_for_records(agent: &Agent, count: usize) {
    let enough = || Ok((agent.records()?.len() >= count).then_some(()));
    let deadline = Deadline::after(Duration::from_mins(1));
    podsonar_lab::clock::wait_until(deadline, &format!("{count} records"), enough).expect("records");
}
