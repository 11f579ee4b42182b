//! The driver on fake sockets and on clocks that people set, so that no machine's clock is ever touched.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::rc::Rc;
use std::sync::Arc;

use podsonar_core::config::Buckets;
use podsonar_core::direction::inbound::Counts;
use podsonar_core::engine::{Identity, Secret};
use podsonar_core::exchange::FetchResult;
use podsonar_core::mesh::{Local, Pod};
use podsonar_core::target::{Family, Kind, PodId, Protocol, Stream, Target};
use podsonar_core::time::ClockReading;
use podsonar_core::wire::answer::Framing;
use podsonar_core::wire::payload::{Heard, Payload, SizeClass};
use podsonar_core::wire::{Channel, Transport};
use podsonar_net::EchoRequest;
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::metrics::state::{Facts, Metrics};
use crate::record;

const MILLISECOND: u64 = 1_000_000;
const HOUR: i64 = 3_600_000 * MILLISECOND.cast_signed();
const ICMP_ID: u16 = 77;
const OWN: u64 = 3;
const PEER: u64 = 9;
const ETHERNET_AND_IP: usize = 14 + 40;

#[test]
fn a_quiet_network_is_observed_to_the_nanosecond() {
    let results = World::new(&["fd00::1"], 80).run(5_000);
    assert_eq!(count(&results, "reply"), 5);
    assert_eq!(results.len(), 5);
    assert!(
        results.iter().all(|line| line["rtt_ns"] == 300 * MILLISECOND && line["stamp"]["tx"] == "software")
    );
}

#[test]
fn time_between_ticks_that_was_not_meant_for_sleep_is_overslept() {
    let at = |millis: u64| Instant::from_nanos(millis * MILLISECOND);
    let mut rest = Rest::default();
    // When a tick begins, how long the sleep before it was meant to be, and how much longer it took.
    for (began, planned, overslept) in
        [(5_000, 0, 0), (5_010, 10, 0), (5_012, 50, 0), (5_700, 10, 678), (6_200, 500, 0), (7_000, 0, 800)]
    {
        rest.planned = Duration::from_millis(planned);
        rest.end(at(began));
        assert_eq!(mem::take(&mut rest.overslept), Duration::from_millis(overslept), "{began}");
    }
}

#[test]
fn a_clock_set_by_an_hour_makes_no_latency_and_no_loss() {
    for step in [HOUR, -HOUR] {
        let mut world = World::new(&["fd00::1", "fd00::2", "fd00::3", "fd00::4", "fd00::5"], 80);
        world.at(2_100, move |net| net.offset += step);
        let results = world.run(5_000);
        assert_eq!(count(&results, "reply"), results.len(), "{step}");
        let unmeasured = results.iter().filter(|line| line["rtt_ns"].is_null()).count();
        assert!(
            (1..=5).contains(&unmeasured),
            "{unmeasured} of {} flew while the clock was set",
            results.len()
        );
        assert!(results.iter().all(|line| line["rtt_ns"].is_null() || line["rtt_ns"] == 300 * MILLISECOND));
    }
}

#[test]
fn a_clock_set_between_arrival_and_drain_is_noticed_before_the_stamps_are_believed() {
    let mut world = World::new(&["fd00::1"], 80);
    world.net.borrow_mut().step_while_draining = Some(HOUR);
    let results = world.run(1_500);
    assert_eq!(count(&results, "reply"), results.len());
    assert!(results.iter().all(|line| line["rtt_ns"].is_null() || line["rtt_ns"] == 300 * MILLISECOND));
    assert!(results.iter().any(|line| line["rtt_ns"].is_null()));
}

#[test]
fn a_suspend_makes_no_latency_and_no_loss() {
    let mut world = World::new(&["fd00::1", "fd00::2", "fd00::3", "fd00::4", "fd00::5"], 80);
    world.at(2_100, |net| {
        net.offset += HOUR;
        net.suspended += HOUR.cast_unsigned();
    });
    let results = world.run(5_000);
    assert_eq!(count(&results, "reply"), results.len());
    assert!(results.iter().all(|line| line["rtt_ns"].is_null() || line["rtt_ns"] == 300 * MILLISECOND));
}

#[test]
fn an_agent_that_stood_still_loses_nothing_and_skips_what_it_missed() {
    let mut world = World::new(&["fd00::1", "fd00::2", "fd00::3"], 80);
    world.at(2_000, |net| net.now += 2_500 * MILLISECOND);
    let results = world.run(7_000);
    assert_eq!(count(&results, "lost"), 0);
    assert!((6..=8).contains(&count(&results, "skipped")), "{}", count(&results, "skipped"));
    assert_eq!(count(&results, "reply") + count(&results, "skipped"), results.len());
    assert_eq!(results.len(), 21);
    let answered = results.iter().filter(|line| line["result"] == "reply");
    assert!(answered.into_iter().all(|line| line["rtt_ns"] == 300 * MILLISECOND));
}

#[test]
fn silence_is_loss_but_not_while_our_own_socket_drops() {
    let mut world = World::new(&["fd00::1"], 80);
    world.net.borrow_mut().silent = true;
    world.at(3_000, |net| net.drops += 1);
    let results = world.run(8_000);
    assert_eq!(count(&results, "unknown"), 1);
    assert_eq!(count(&results, "lost"), results.len() - 1);
}

#[test]
fn a_drain_that_was_cut_short_proves_no_loss() {
    let mut world = World::new(&["fd00::1"], 80);
    world.net.borrow_mut().silent = true;
    world.net.borrow_mut().flooded = true;
    let results = world.run(4_000);
    assert_eq!(count(&results, "lost"), 0);
    assert!(count(&results, "unknown") >= 3);
}

#[test]
fn a_refused_packet_is_not_sent_and_takes_no_sequence() {
    let mut world = World::new(&["fd00::1", "fd00::2"], 80);
    world.at(1_000, |net| net.refuse = Some("fd00::1".parse().unwrap()));
    world.at(3_000, |net| net.refuse = None);
    let results = world.run(6_000);
    assert_eq!(count(&results, "not_sent"), 2);
    let refused = results.iter().find(|line| line["result"] == "not_sent").unwrap();
    assert_eq!(
        (&refused["address"], &refused["reason"]),
        (&Value::from("fd00::1"), &Value::from("firewall"))
    );
    assert!(refused["sent_ns"].is_null());
    for (address, sequences) in [("fd00::1", 1..=4), ("fd00::2", 1..=6)] {
        let seen: Vec<u64> = results
            .iter()
            .filter(|line| line["address"] == address && line["result"] == "reply")
            .map(|line| line["sequence"].as_u64().unwrap())
            .collect();
        assert_eq!(seen, sequences.collect::<Vec<_>>());
    }
}

#[test]
fn two_targets_with_one_address_share_its_sequence() {
    // With and without a port: two streams of ICMP to one address, often due in the same tick.
    let address: IpAddr = "fd00::1".parse().unwrap();
    let mut planned: Vec<_> =
        (0..20).map(|number| icmp_stream(&format!("name {number}"), address, 80)).collect();
    planned.sort_by_key(|plan| plan.stream.target.destination.to_string());
    let mut world = World::with(&planned);
    let results = world.run(2_000);
    let mut seen: Vec<u64> = results.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    seen.sort_unstable();
    assert!((36..=40).contains(&seen.len()), "{}", seen.len());
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    assert_eq!(count(&results, "reply"), seen.len());
}

#[test]
fn syns_are_answered_and_resets_count_as_reachable() {
    for (reset, label) in [(false, "reply"), (true, "reset")] {
        let address = "fd00::1".parse().unwrap();
        let mut plan = icmp_stream("[fd00::1]:80", address, 80);
        plan.stream.protocol = Protocol::Tcp;
        let mut world = World::with(&[plan]);
        world.net.borrow_mut().reset = reset;
        let results = world.run(3_000);
        assert_eq!((count(&results, label), results.len()), (3, 3));
        assert!(results.iter().all(|line| line["rtt_ns"] == 300 * MILLISECOND));
        let ports: Vec<_> = results.iter().map(|line| line["source_port"].as_u64().unwrap()).collect();
        assert!(ports.windows(2).all(|pair| pair[0] != pair[1]), "flows take turns: {ports:?}");
    }
}

#[test]
fn each_hour_a_fifth_of_the_source_ports_is_renewed_and_given_back_later() {
    let address = "fd00::1".parse().unwrap();
    let mut plan = icmp_stream("[fd00::1]:80", address, 80);
    plan.stream.protocol = Protocol::Tcp;
    let mut world = World::with(&[plan]);
    let hour = 3_600_000;
    world.run_until(hour + 2_000);
    assert_eq!(world.net.borrow().renewed, [(40_000, 50_000)]);
    assert!(world.net.borrow().retired.is_empty(), "the old port's last SYN may still be answered");
    let results = world.run(hour + 10_000);
    assert_eq!(world.net.borrow().retired, [40_000]);

    let ports = |from: usize, to: usize| -> Vec<_> {
        let mut used: Vec<_> =
            results[from..to].iter().map(|line| line["source_port"].as_u64().unwrap()).collect();
        used.sort_unstable();
        used.dedup();
        used
    };
    let renewed_at = 3_600;
    assert_eq!(ports(0, renewed_at), [40_000, 40_001, 40_002]);
    assert_eq!(ports(renewed_at + 1, results.len()), [40_001, 40_002, 50_000]);
    assert_eq!(count(&results, "reply"), results.len(), "no answer is lost on the way");
}

#[test]
fn without_transmit_stamps_replies_count_unobserved_and_the_scheduler_is_asked() {
    let mut world = World::new(&["fd00::1"], 80);
    world.net.borrow_mut().tx_stamps = false;
    let results = world.run(40_000);
    assert_eq!(count(&results, "reply"), 40);
    assert_eq!(world.net.borrow().sched_requests, 1);
    let (user, sched) =
        (|line: &&Value| line["stamp"]["tx"] == "user", |line: &&Value| line["stamp"]["tx"] == "sched");
    assert_eq!(results.iter().filter(user).count(), 32);
    assert_eq!(results.iter().filter(sched).count(), 8);
}

#[test]
fn a_channel_without_a_socket_is_not_sent() {
    let address = "10.0.0.1".parse().unwrap();
    let mut world = World::with(&[icmp_stream("10.0.0.1", address, 80)]);
    let results = world.run(3_000);
    assert_eq!(count(&results, "not_sent"), 3);
    assert_eq!(results[0]["reason"], "no_socket");
}

#[test]
fn what_is_in_flight_at_the_end_is_discarded() {
    let mut world = World::new(&["fd00::1"], 80);
    world.net.borrow_mut().silent = true;
    world.run_until(1_000);
    world.driver.probe(&[]);
    let results = world.results();
    assert_eq!(results.len(), 1);
    assert_eq!(count(&results, "discarded"), 1);
}

#[test]
fn a_pods_losses_are_what_the_list_of_its_node_makes_of_them() {
    for (told, result) in [
        (Told::Here, "lost"),
        (Told::Gone, "discarded"),
        (Told::Nothing(FetchResult::Timeout), "lost"),
        (Told::Nothing(FetchResult::Refused), "unknown"),
    ] {
        let (ended, mut ends) = unbounded_channel();
        let mut world = World::with(&[pod_stream()]);
        world.driver.errands = Box::new(Owner { told, done: VecDeque::new() });
        let clock = world.net.clone().read();
        world.driver.ledger = world.take_ledger().with_fetches(ended);
        world.driver.engine.set_fetches(clock.mono, &[fetch()]);
        world.net.borrow_mut().silent = true;
        world.run_until(14_000);
        world.driver.probe(&[]);
        let results = world.results();
        // Those of the end are still held when the stream is removed.
        let expected = count(&results, result);
        assert!((2..=14).contains(&expected), "{told:?}: {expected} {result} of {}", results.len());
        assert_eq!(
            expected + count(&results, "discarded") * usize::from(result != "discarded"),
            results.len()
        );
        let mut fetched = 0;
        while let Ok((node, _)) = ends.try_recv() {
            assert_eq!(&*node, "node-2");
            fetched += 1;
        }
        assert!((4..=15).contains(&fetched), "{told:?}: {fetched} fetches");
    }
}

#[test]
fn a_peers_probes_are_counted_and_what_was_heard_is_told_to_it_alone() {
    let mut world =
        World::with(&[agent_stream("fd00::1"), icmp_stream("fd00::2", "fd00::2".parse().unwrap(), 80)]);
    world.listen_to("fd00::1");
    for sequence in (1..=10).filter(|sequence| *sequence != 4) {
        world.request(sequence * 1_000 - 500, "fd00::1", PEER, sequence, Heard::default());
    }
    world.run_until(14_000);
    let told = world.net.borrow().told.clone();
    assert!(told.contains(&(1, OWN, Heard { highest: 1, count: 1 })), "{told:?}");
    assert!(told.contains(&(14, OWN, Heard { highest: 10, count: 9 })), "{told:?}");
    // Half of the probes went to somebody who is no agent.
    let untold = told.iter().filter(|told| (told.1, told.2) == (0, Heard::default())).count();
    assert_eq!(untold, 14);
    let [both] = &world.metrics.both_ways()[..] else { panic!("one peer by one family") };
    assert_eq!(both.inbound, Counts { probes: 9, lost: 1, ..Counts::default() });
    assert!(!both.silent);
}

#[test]
fn our_losses_are_told_apart_by_the_peers_reports() {
    let mut world = World::with(&[agent_stream("fd00::1")]);
    world.listen_to("fd00::1");
    // Its list says that it is there, so its losses are losses.
    world.driver.errands = Box::new(Owner { told: Told::Here, done: VecDeque::new() });
    world.driver.engine.set_fetches(Instant::from_nanos(100_000 * MILLISECOND), &[fetch()]);
    world.net.borrow_mut().lost = (vec![5, 9], vec![7, 8, 12]);
    let mut received = 0;
    for second in 1..=20 {
        received += u64::from(![5, 9].contains(&second));
        world.request(
            second * 1_000 + 900,
            "fd00::1",
            PEER,
            second,
            Heard { highest: second, count: received },
        );
    }
    world.run_until(24_000);
    let both = &world.metrics.both_ways()[0];
    let ways = both.ways.unwrap();
    assert_eq!((ways.lost, ways.there, ways.back, ways.unattributed()), (5, 2, 3, 0), "{ways:?}");
    assert_eq!(both.verdict(), None);
}

#[test]
fn a_silent_peer_is_told_once_and_healing_is_no_loss() {
    let mut world = World::with(&[agent_stream("fd00::1")]);
    world.listen_to("fd00::1");
    for sequence in (1..=5).chain(40..=45) {
        world.request(sequence * 1_000, "fd00::1", PEER, sequence, Heard::default());
    }
    world.run_until(30_000);
    assert!(world.metrics.both_ways()[0].silent);
    world.run_until(50_000);
    let both = &world.metrics.both_ways()[0];
    assert!(!both.silent);
    assert_eq!(both.inbound, Counts { probes: 11, outages: 1, ..Counts::default() });
}

#[test]
fn a_starved_driver_sees_no_false_direction() {
    let mut world = World::with(&[agent_stream("fd00::1")]);
    world.listen_to("fd00::1");
    for sequence in 1..=60 {
        world.request(sequence * 1_000, "fd00::1", PEER, sequence, Heard::default());
    }
    world.run_until(10_000);
    // Stopped for half a minute: the requests wait in the socket, stamped.
    world.net.borrow_mut().now += 30_000 * MILLISECOND;
    world.run_until(62_000);
    let both = &world.metrics.both_ways()[0];
    assert!(!both.silent);
    assert_eq!(both.inbound, Counts { probes: 60, ..Counts::default() });
}

#[test]
fn what_our_own_full_buffer_lost_is_unknown() {
    let mut world = World::with(&[agent_stream("fd00::1")]);
    world.listen_to("fd00::1");
    for sequence in (1..=10).chain(31..=60) {
        world.request(sequence * 1_000, "fd00::1", PEER, sequence, Heard::default());
    }
    world.run_until(10_500);
    world.net.borrow_mut().now += 20_000 * MILLISECOND;
    world.net.borrow_mut().request_drops = 20;
    world.run_until(62_000);
    let both = &world.metrics.both_ways()[0];
    assert_eq!(both.inbound, Counts { probes: 40, unknown: 20, ..Counts::default() });
}

#[test]
fn a_clock_set_by_an_hour_makes_nobody_silent() {
    for step in [HOUR, -HOUR] {
        let mut world = World::with(&[agent_stream("fd00::1")]);
        world.listen_to("fd00::1");
        for sequence in 1..=10 {
            world.request(sequence * 1_000, "fd00::1", PEER, sequence, Heard::default());
        }
        world.at(5_100, move |net| net.offset += step);
        world.run_until(12_000);
        let both = &world.metrics.both_ways()[0];
        assert!(!both.silent);
        assert_eq!(both.inbound, Counts { probes: 10, ..Counts::default() });
    }
}

/// A driver, its fake network, and where its results go.
struct World {
    driver: Driver<Net, Net>,
    metrics: Arc<Metrics>,
    net: Net,
    actions: Vec<(u64, Action)>,
    writer: Option<record::Writer>,
    path: std::path::PathBuf,
}

/// Something that happens to the network.
type Action = Box<dyn FnOnce(&mut State)>;

/// Sockets and clocks in one: the same packets and the same time for both.
#[derive(Debug, Clone)]
struct Net(Rc<RefCell<State>>);

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
struct State {
    now: u64,
    offset: i64,
    suspended: u64,
    step_while_draining: Option<i64>,
    silent: bool,
    reset: bool,
    flooded: bool,
    refuse: Option<IpAddr>,
    tx_stamps: bool,
    sched_requests: u32,
    renewed: Vec<(u16, u16)>,
    retired: Vec<u16>,
    drops: u64,
    packets: VecDeque<Flying>,
    /// Echo requests of others on their way to us.
    requests: VecDeque<Flying>,
    request_drops: u64,
    /// What was told to agents in our own: sequence, epoch, heard.
    told: Vec<(u64, u64, Heard)>,
    /// These sequences of ours are lost on their way there, and the answers to those on their way back.
    lost: (Vec<u64>, Vec<u64>),
    frames: Vec<(Channel, Vec<u8>, WallTime)>,
}

/// An answer on its way, stamped when it arrives.
#[derive(Debug)]
struct Flying {
    at: u64,
    channel: Channel,
    from: IpAddr,
    bytes: Vec<u8>,
    stamp: Option<WallTime>,
}

impl World {
    fn new(addresses: &[&str], port: u16) -> Self {
        let planned: Vec<_> =
            addresses.iter().map(|text| icmp_stream(text, text.parse().unwrap(), port)).collect();
        Self::with(&planned)
    }

    fn with(planned: &[Planned]) -> Self {
        let net = Net(Rc::new(RefCell::new(State {
            now: 100_000 * MILLISECOND,
            offset: 1_700_000_000_000_000_000,
            suspended: 0,
            step_while_draining: None,
            silent: false,
            reset: false,
            flooded: false,
            refuse: None,
            tx_stamps: true,
            sched_requests: 0,
            renewed: Vec::new(),
            retired: Vec::new(),
            drops: 0,
            packets: VecDeque::new(),
            requests: VecDeque::new(),
            request_drops: 0,
            told: Vec::new(),
            lost: (Vec::new(), Vec::new()),
            frames: Vec::new(),
        })));
        let clock = net.clone().read();
        let facts = facts();
        let metrics = Arc::new(Metrics::new(facts, clock.wall));
        let path = std::env::temp_dir().join(format!(
            "podsonar-driver-{}-{:?}.jsonl",
            std::process::id(),
            thread::current().id()
        ));
        let file = File::create(&path).unwrap();
        let (recorder, writer) = record::start(file, ICMP_ID, Arc::clone(&metrics)).unwrap();
        let identity = Identity {
            source: "s".into(),
            epoch: OWN,
            key: Secret([1; 16]),
            icmp_id: ICMP_ID,
            source_ports_v4: vec![],
            source_ports_v6: vec![40_000, 40_001, 40_002],
            closed_port: 1,
            size: 56,
            large_interval: None,
            max_pps: 20_000,
        };
        let channels = [Transport::Icmp, Transport::Tcp]
            .map(|protocol| Channel { protocol, family: Family::V6 })
            .to_vec();
        let mut driver = Driver::new(
            Engine::new(identity, clock),
            net.clone(),
            net.clone(),
            Box::new(Nobody),
            Ledger::new(Arc::clone(&metrics), Some(recorder), Duration::from_mins(15), clock.mono),
            Settings { channels, icmp_id: ICMP_ID },
        );
        driver.probe(planned);
        Self { driver, metrics, net, actions: Vec::new(), writer: Some(writer), path }
    }

    /// Does something to the network this many milliseconds after the start.
    fn at(&mut self, millis: u64, action: impl FnOnce(&mut State) + 'static) {
        self.actions.push((100_000 + millis, Box::new(action)));
    }

    /// Listens to the agent at this address.
    fn listen_to(&mut self, address: &str) {
        self.driver.listen(Family::V6);
        let source = Source {
            node: "peer".into(),
            zone: "zone".into(),
            epoch: PEER,
            addresses: vec![address.parse().unwrap()],
            also_from: vec![],
        };
        self.driver.hear(&[source]);
    }

    /// An agent's echo request arrives this many milliseconds after the start.
    fn request(&mut self, millis: u64, from: &str, epoch: u64, sequence: u64, heard: Heard) {
        let payload = Payload {
            length: 56,
            class: SizeClass::Normal,
            epoch,
            sequence,
            cookie: sequence,
            period_ms: 1_000,
            heard,
        };
        let mut bytes = Vec::new();
        icmp::encode_request(Family::V6, 1, &payload, &mut bytes);
        let channel = Channel { protocol: Transport::Icmp, family: Family::V6 };
        let at = (100_000 + millis) * MILLISECOND;
        let from = from.parse().unwrap();
        self.net.borrow_mut().requests.push_back(Flying { at, channel, from, bytes, stamp: None });
    }

    /// Probes for `millis`, waits for the last answers, and returns the record.
    fn run(&mut self, millis: u64) -> Vec<Value> {
        self.run_until(millis);
        let end = self.net.borrow().now + 1_200 * MILLISECOND;
        while self.driver.engine.in_flight() > 0 && self.net.borrow().now < end {
            self.driver.receive();
            self.driver.report();
            self.net.borrow_mut().now += 10 * MILLISECOND;
        }
        self.driver.engine.set_streams(self.driver.engine.clock().mono.back(Duration::from_hours(1)), &[]);
        self.driver.report();
        self.results()
    }

    fn run_until(&mut self, millis: u64) {
        let end = (100_000 + millis) * MILLISECOND;
        self.actions.sort_by_key(|(at, _)| *at);
        while self.net.borrow().now < end {
            let next = self.driver.tick().map_or(end, Instant::as_nanos).min(end);
            let mut state = self.net.borrow_mut();
            let next = next.max(state.now + 1);
            self.driver.rest.planned = Duration::from_nanos(next - state.now);
            state.now = next;
            let due = self.actions.iter().take_while(|(at, _)| at * MILLISECOND <= state.now).count();
            for (_, action) in self.actions.drain(..due) {
                state.stamp_arrivals();
                action(&mut state);
            }
        }
    }

    /// The ledger, and for the driver another one that nobody reads.
    fn take_ledger(&mut self) -> Ledger {
        let clock = self.net.clone().read();
        let metrics = Arc::new(Metrics::new(facts(), clock.wall));
        let other = Ledger::new(metrics, None, Duration::from_mins(15), clock.mono);
        mem::replace(&mut self.driver.ledger, other)
    }

    /// Ends the record and reads it.
    fn results(&mut self) -> Vec<Value> {
        drop(self.take_ledger());
        self.writer.take().unwrap().finish().unwrap();
        let text = fs::read_to_string(&self.path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Left behind only if the test could not even create it.
        let _ = fs::remove_file(&self.path);
    }
}

impl Net {
    fn borrow(&self) -> std::cell::Ref<'_, State> {
        self.0.borrow()
    }

    fn borrow_mut(&self) -> std::cell::RefMut<'_, State> {
        self.0.borrow_mut()
    }
}

impl State {
    fn wall(&self, at: u64) -> WallTime {
        WallTime::from_nanos(at.cast_signed() + self.offset)
    }

    /// Packets carry the wall clock of their arrival, whatever is set later.
    fn stamp_arrivals(&mut self) {
        let (now, offset) = (self.now, self.offset);
        let flying = self.packets.iter_mut().chain(&mut self.requests);
        for packet in flying.filter(|packet| packet.at <= now && packet.stamp.is_none()) {
            packet.stamp = Some(WallTime::from_nanos(packet.at.cast_signed() + offset));
        }
    }

    /// What the host at the other end makes of a packet.
    fn answer(&self, protocol: Transport, request: &[u8]) -> Vec<u8> {
        match protocol {
            Transport::Icmp => [&[129], &request[1..]].concat(),
            Transport::Tcp => {
                let sequence = u32::from_be_bytes(request[4..8].try_into().unwrap()).wrapping_add(1);
                let flags = if self.reset { 0x14 } else { 0x12 };
                let mut segment =
                    [&request[2..4], &request[0..2], &[0; 4], &sequence.to_be_bytes()[..]].concat();
                segment.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
                segment
            }
        }
    }
}

impl Clocks for Net {
    fn mono(&mut self) -> Instant {
        Instant::from_nanos(self.borrow().now)
    }

    fn read(&mut self) -> ClockReading {
        let state = self.borrow();
        ClockReading {
            mono: Instant::from_nanos(state.now),
            wall: state.wall(state.now),
            suspended: Duration::from_nanos(state.suspended),
            uncertainty: Duration::from_nanos(50),
        }
    }
}

impl Sockets for Net {
    fn send(&mut self, channel: Channel, packets: &Batch, results: &mut Vec<Result<(), SendError>>) {
        let mut state = self.borrow_mut();
        for packet in packets.iter() {
            if state.refuse == Some(packet.to) {
                results.push(Err(SendError::Firewall));
                continue;
            }
            results.push(Ok(()));
            if channel.family == Family::V6 && (state.tx_stamps || state.sched_requests > 0) {
                let frame = [&[0; ETHERNET_AND_IP], packet.bytes].concat();
                let stamp = state.wall(state.now);
                state.frames.push((channel, frame, stamp));
            }
            let sequence = (channel.protocol == Transport::Icmp).then(|| {
                let payload = Payload::decode(&packet.bytes[icmp::HEADER..]).unwrap();
                state.told.push((payload.sequence, payload.epoch, payload.heard));
                payload.sequence
            });
            let (there, back) = &state.lost;
            let lost = sequence.is_some_and(|sequence| there.contains(&sequence) || back.contains(&sequence));
            if !state.silent && !lost {
                let bytes = state.answer(channel.protocol, packet.bytes);
                let at = state.now + 300 * MILLISECOND;
                state.packets.push_back(Flying { at, channel, from: packet.to, bytes, stamp: None });
            }
        }
    }

    fn receive(&mut self, channel: Channel, each: &mut dyn FnMut(Received<'_>)) -> Drained {
        let mut state = self.borrow_mut();
        state.stamp_arrivals();
        let now = state.now;
        let (arrived, flying) = state
            .packets
            .drain(..)
            .partition::<VecDeque<_>, _>(|packet| packet.at <= now && packet.channel == channel);
        state.packets = flying;
        for Flying { from, bytes, stamp, .. } in &arrived {
            each(Received::Packet {
                from: *from,
                framing: Framing::of_raw(channel.family),
                bytes,
                stamp: *stamp,
            });
        }
        if !arrived.is_empty()
            && let Some(step) = state.step_while_draining.take()
        {
            // Too late for the packets above, too early for the reading that follows.
            state.offset += step;
        }
        let source = if state.tx_stamps { StampSource::Software } else { StampSource::Sched };
        for (_, frame, stamp) in state.frames.extract_if(.., |(sent_on, _, _)| *sent_on == channel) {
            each(Received::Transmitted { frame: &frame, stamp, source });
        }
        if state.flooded { Drained::Partly } else { Drained::Completely }
    }

    fn drops(&mut self, _: Channel) -> u64 {
        self.borrow().drops
    }

    fn receive_requests(&mut self, family: Family, each: &mut dyn FnMut(EchoRequest<'_>)) -> Drained {
        let mut state = self.borrow_mut();
        state.stamp_arrivals();
        let now = state.now;
        let (arrived, flying) =
            state.requests.drain(..).partition::<VecDeque<_>, _>(|packet| packet.at <= now);
        state.requests = flying;
        for Flying { from, bytes, stamp, .. } in &arrived {
            let (to, framing) = (Some("fd00::100".parse().unwrap()), Framing::of_raw(family));
            each(EchoRequest { from: *from, to, framing, bytes, stamp: *stamp });
        }
        if state.flooded { Drained::Partly } else { Drained::Completely }
    }

    fn request_drops(&mut self, _: Family) -> u64 {
        self.borrow().request_drops
    }

    fn request_sched_stamps(&mut self, _: Channel) {
        self.borrow_mut().sched_requests += 1;
    }

    /// The oldest of the three ports, for the next one from 50000.
    fn renew_ports(&mut self, family: Family, count: usize) -> io::Result<Vec<(u16, u16)>> {
        if family == Family::V4 {
            return Err(io::Error::other("no port is left"));
        }
        let mut state = self.borrow_mut();
        let first = u16::try_from(state.renewed.len()).unwrap();
        let replaced: Vec<_> =
            (first..).take(count).map(|number| (40_000 + number, 50_000 + number)).collect();
        state.renewed.extend(&replaced);
        Ok(replaced)
    }

    fn retire_ports(&mut self, _: Family, ports: &[u16]) {
        self.borrow_mut().retired.extend(ports);
    }
}

fn agent_stream(address: &str) -> Planned {
    let planned = icmp_stream(address, address.parse().unwrap(), 80);
    let target =
        Target { kind: Kind::Agent, destination: "node-2".into(), ..(*planned.stream.target).clone() };
    Planned { stream: Stream { target: Arc::new(target), protocol: Protocol::Icmp }, ..planned }
}

fn icmp_stream(written: &str, address: IpAddr, port: u16) -> Planned {
    let target = Arc::new(Target::new(Kind::Fixed, written.into(), address, Some(port)));
    Planned {
        stream: Stream { target, protocol: Protocol::Icmp },
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(800),
        presumed: false,
    }
}

fn count(results: &[Value], result: &str) -> usize {
    results.iter().filter(|line| line["result"] == result).count()
}

/// Nobody who would carry out an errand: there are none.
#[derive(Debug)]
struct Nobody;

impl Errands for Nobody {
    fn connect(&mut self, connect: Connect) {
        panic!("no stream connects: {connect:?}");
    }

    fn ask(&mut self, _: QuestionId, question: &PlannedQuestion) {
        panic!("there is no question: {question:?}");
    }

    fn fetch(&mut self, _: FetchId, fetch: &PlannedFetch) {
        panic!("there is no fetch: {fetch:?}");
    }

    fn next_done(&mut self) -> Option<Done> {
        None
    }
}

/// The agent of node `node-2`.
#[derive(Debug)]
struct Owner {
    told: Told,
    done: VecDeque<Done>,
}

/// What it tells of its one pod.
#[derive(Debug, Clone, Copy)]
enum Told {
    Here,
    Gone,
    Nothing(FetchResult),
}

impl Errands for Owner {
    fn connect(&mut self, connect: Connect) {
        panic!("no stream connects: {connect:?}");
    }

    fn ask(&mut self, _: QuestionId, question: &PlannedQuestion) {
        panic!("there is no question: {question:?}");
    }

    fn fetch(&mut self, id: FetchId, fetch: &PlannedFetch) {
        let pod = Pod {
            id: pod_id(),
            addresses: vec!["fd00::8".parse().unwrap()],
            port: None,
            running_since: None,
            local: Local::default(),
        };
        let view = NodeView {
            node: Arc::clone(&fetch.node),
            zone: "".into(),
            epoch: 1,
            addresses: Vec::new(),
            leaving: false,
            // Late enough for any loss of this test.
            asked_at: Instant::from_nanos(1_000_000 * MILLISECOND),
            watch_age: Some(Duration::ZERO),
            probes_us: None,
            pods: if matches!(self.told, Told::Here) { vec![pod] } else { Vec::new() },
        };
        let fetched = match self.told {
            Told::Here | Told::Gone => Fetched { result: FetchResult::Ok, view: Some(Arc::new(view)) },
            Told::Nothing(result) => Fetched::failed(result),
        };
        self.done.push_back(Done::Fetched(id, fetched));
    }

    fn next_done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }
}

fn pod_id() -> Arc<PodId> {
    Arc::new(PodId { uid: "1".into(), namespace: "shop".into(), name: "web".into(), workload: "".into() })
}

fn pod_stream() -> Planned {
    let planned = icmp_stream("node-2", "fd00::8".parse().unwrap(), 80);
    let target = Target { kind: Kind::Pod, pod: Some(pod_id()), ..(*planned.stream.target).clone() };
    Planned { stream: Stream { target: Arc::new(target), ..planned.stream }, ..planned }
}

fn fetch() -> PlannedFetch {
    PlannedFetch {
        node: "node-2".into(),
        addresses: vec!["fd00::2".parse().unwrap()],
        port: 19_989,
        interval: Duration::from_secs(3),
        timeout: Duration::from_secs(2),
    }
}

fn facts() -> Facts {
    Facts {
        source: "s".into(),
        zone: String::new(),
        version: "0",
        receive_buffers: [None; 4],
        means: [None; 4],
        buckets: Buckets::default(),
        max_series: 4_000,
        by_zone: false,
    }
}
