//! Loss told by direction between agents: engine, driver and sockets as the agent has them, on real packets, against
//! what a capture saw.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use podsonar::clock::{Clocks, SystemClocks};
use podsonar::driver::{self, Done, Driver, Errands, Settings};
use podsonar::ledger::Ledger;
use podsonar::metrics::accept::Format;
use podsonar::metrics::inbound::BothWays;
use podsonar::metrics::scrape::Scrape;
use podsonar::metrics::state::{Facts, Metrics};
use podsonar_core::config::Buckets;
use podsonar_core::direction::inbound::{Counts, Source};
use podsonar_core::direction::ways::Verdict;
use podsonar_core::engine::{
    Connect, Engine, FetchId, Fetched, Identity, PlannedFetch, PlannedQuestion, QuestionId, Secret,
};
use podsonar_core::exchange::FetchResult;
use podsonar_core::mesh::NodeView;
use podsonar_core::target::{Family, Kind, Planned, Protocol, Stream, Target};
use podsonar_core::time::{ClockReading, Instant};
use podsonar_core::wire::payload::{Heard, LEN, Payload, SizeClass};
use podsonar_core::wire::{Channel, Transport, icmp};
use podsonar_lab::capture::Captured;
use podsonar_lab::clock::{Deadline, wait_until};
use podsonar_lab::fault::{Faults, Loss, Reorder};
use podsonar_lab::lab::End;
use podsonar_lab::link::{Link, Way};
use podsonar_lab::packet::{self, Body};
use podsonar_lab::{Host, Lab};

/// Time between two probes of an agent to another.
const INTERVAL: Duration = Duration::from_millis(25);

#[test]
fn random_loss_on_one_way_is_told_by_both_ends_as_it_was_on_the_wire() {
    for lossy in [Way::There, Way::Back] {
        let world = World::new(Duration::ZERO);
        let captures = world.hosts.each_ref().map(|(host, end)| host.capture(&end.interface).unwrap());
        let agents = world.agents();
        wait_for(&agents, |ends| ends.iter().all(|end| end.inbound.probes >= 40));
        world.link.set(lossy, Faults { loss: Loss::Random(0.15), ..Faults::default() });
        let so_far = agents[0].both_ways()[0].inbound.probes;
        wait_for(&agents, |ends| ends.iter().all(|end| end.inbound.probes >= so_far + 300));
        world.link.set(lossy, Faults::default());
        // All that was lost is told: a later packet came, two seconds have passed, and the peer has reported it.
        let healed = agents[0].both_ways()[0].inbound.probes;
        wait_for(&agents, |ends| ends.iter().all(|end| end.inbound.probes >= healed + 120));

        let told = agents.each_ref().map(Agent::both_ways);
        drop(agents);
        let wires = captures.map(|capture| Requests::of(&capture.stop().unwrap()));
        for (here, there) in [(0, 1), (1, 0)] {
            for family in Family::ALL {
                let sender = &told[here][family as usize];
                let receiver = &told[there][family as usize];
                let from = world.address(here, family);
                let requests = Requests::lost(&wires[here].sent, &wires[there].received, from);
                let replies = Requests::lost(&wires[there].answered, &wires[here].replied, from);
                let lossy_here = (here == 0) == (lossy == Way::There);
                assert_eq!(requests > 20, lossy_here, "{requests} requests lost on the wire");
                assert_eq!(replies > 20, !lossy_here, "{replies} replies lost on the wire");
                let close = |told: u64, wire: u64, what: &str| {
                    assert!(
                        told.abs_diff(wire) <= 1,
                        "{what}: {told} told, {wire} on the wire: {sender:?} {receiver:?}"
                    );
                };
                close(receiver.inbound.lost, requests, "lost on the way, by the receiver");
                let ways = sender.ways.unwrap();
                close(ways.there, requests, "lost on the way there, by the sender");
                close(ways.back, replies, "lost on the way back, by the sender");
                assert_eq!((receiver.inbound.unknown, receiver.inbound.outages), (0, 0));
            }
        }
    }
}

#[test]
fn a_dead_way_is_silence_at_its_end_and_neither_a_gap_nor_a_jump_when_it_heals() {
    let world = World::new(Duration::ZERO);
    let agents = world.agents();
    wait_for(&agents, |ends| ends.iter().all(|end| end.inbound.probes >= 40));
    world.link.cut(Way::There);
    for agent in &agents {
        agent.reachable.store(false, Relaxed);
    }
    // The right host hears nothing and gets no answers; the left one gets none, as its requests do not arrive.
    let [left, right] = &agents;
    until(|| right.all(|end| end.silent && end.verdict() == Some(Verdict::OutOrDown)));
    until(|| left.all(|end| !end.silent && end.verdict() == Some(Verdict::In)));
    assert_eq!(right.value("podsonar_edges_in_fault{fault=\"inbound_silent\"}"), Some(2.0));
    assert_eq!(left.value("podsonar_edges_in_fault{fault=\"inbound_silent\"}"), Some(0.0));
    let counted = right.both_ways().iter().map(|end| end.inbound.lost + end.inbound.outages).sum::<u64>();
    assert_eq!(counted, 0, "no gap is counted while nothing comes");

    world.link.set(Way::There, Faults::default());
    for agent in &agents {
        agent.reachable.store(true, Relaxed);
    }
    until(|| right.all(|end| !end.silent && end.verdict().is_none()));
    let healed = right.both_ways()[0].inbound.probes;
    wait_for(&agents, |ends| ends.iter().all(|end| end.inbound.probes >= healed + 120));
    for end in right.both_ways() {
        assert_eq!((end.inbound.lost, end.inbound.unknown, end.inbound.outages), (0, 0, 1), "{end:?}");
        // Its own losses were all on the way back: the left host heard every request.
        let ways = end.ways.unwrap();
        assert_eq!((ways.there, ways.back), (0, ways.lost), "{ways:?}");
    }
    for end in left.both_ways() {
        assert_eq!((end.inbound.lost, end.inbound.outages, end.silent), (0, 0, false), "{end:?}");
        let ways = end.ways.unwrap();
        assert_eq!((ways.there, ways.back), (ways.lost, 0), "{ways:?}");
    }
    assert_eq!(right.lines("podsonar_inbound_silent"), 0);
}

#[test]
fn packets_that_overtake_each_other_and_copies_are_no_loss() {
    let world = World::new(Duration::ZERO);
    let reorder = Reorder { chance: 0.2, hold: Duration::from_millis(120) };
    world.link.set_both(&Faults { duplicate: 0.2, reorder: Some(reorder), ..Faults::default() });
    let agents = world.agents();
    wait_for(&agents, |ends| ends.iter().all(|end| end.inbound.probes >= 300));
    for end in agents.iter().flat_map(Agent::both_ways) {
        assert_eq!(Counts { probes: 0, ..end.inbound }, Counts::default(), "{end:?}");
        let ways = end.ways.unwrap();
        assert_eq!((ways.lost, ways.there, ways.back), (0, 0, 0), "{ways:?}");
    }
}

#[test]
fn an_agent_that_restarts_is_a_loss_for_nobody() {
    let world = World::new(Duration::ZERO);
    let [left, mut right] = world.agents();
    until(|| left.all(|end| end.inbound.probes >= 40));
    right.stop();
    until(|| left.all(|end| end.silent));
    // It is there again before its peer knows: what it sends meanwhile belongs to nobody, and is no gap later.
    let mut right = world.agent(1, 99);
    right.hear(&[world.source(0, 1)]);
    until(|| left.value("podsonar_inbound_rejected_total{reason=\"unknown_epoch\"}") >= Some(20.0));
    left.hear(&[world.source(1, 99)]);
    let before = left.both_ways()[0].inbound.probes;
    until(|| left.all(|end| end.inbound.probes >= before + 120));
    for end in left.both_ways().into_iter().chain(right.both_ways()) {
        assert_eq!(Counts { probes: 0, ..end.inbound }, Counts::default(), "{end:?}");
        assert!(!end.silent);
        let ways = end.ways.unwrap();
        assert_eq!((ways.there, ways.back), (0, 0), "{ways:?}");
    }
    right.stop();
}

#[test]
fn an_agent_that_moves_to_another_address_is_a_loss_for_nobody() {
    let world = World::new(Duration::ZERO);
    let [left, right] = world.agents();
    until(|| left.all(|end| end.inbound.probes >= 40));
    let (host, End { interface, v4, v6 }) = &world.hosts[1];
    let moved: [IpAddr; 2] = [[10, 0, 0, 77].into(), "fd00::77".parse().unwrap()];
    host.run(&format!("ip addr del {v4}/24 dev {interface}")).unwrap();
    host.run(&format!("ip addr del {v6}/64 dev {interface}")).unwrap();
    host.address(interface, &format!("{}/24", moved[0])).unwrap();
    host.address(interface, &format!("{}/64", moved[1])).unwrap();
    left.hear(&[Source { addresses: moved.to_vec(), ..world.source(1, 2) }]);
    left.probe(&moved);
    let lost = left.both_ways().iter().map(|end| end.inbound.probes).max().unwrap();
    until(|| left.all(|end| end.inbound.probes >= lost + 120));
    for end in right.both_ways() {
        assert_eq!(Counts { probes: 0, outages: 0, ..end.inbound }, Counts::default(), "{end:?}");
        assert!(!end.silent);
    }
}

#[test]
fn an_agent_that_stood_still_sees_no_false_direction() {
    // The second buffer holds a few packets: what the kernel drops meanwhile is unknown, not lost.
    for (buffer, overflows) in [(1 << 20, false), (8 << 10, true)] {
        let world = World::new(Duration::ZERO);
        let agents = [world.agent(0, 1), world.agent_with(1, 2, buffer)];
        agents[0].hear(&[world.source(1, 2)]);
        agents[1].hear(&[world.source(0, 1)]);
        wait_for(&agents, |ends| ends.iter().all(|end| end.inbound.probes >= 40));
        let [left, right] = &agents;
        let before = left.both_ways()[0].ways.unwrap().sent;
        let stopped = right.gate.lock().unwrap_or_else(PoisonError::into_inner);
        // The kernel goes on answering, so its peer sees only that it sends nothing.
        until(|| left.all(|end| end.silent && end.ways.unwrap().sent >= before + 120));
        drop(stopped);
        let woken = right.both_ways()[0].inbound.probes;
        wait_for(&agents, |ends| ends.iter().all(|end| !end.silent && end.inbound.probes >= woken + 120));
        for end in left.both_ways().into_iter().chain(right.both_ways()) {
            assert_eq!((end.inbound.lost, end.inbound.outages), (0, 0), "{end:?}");
            let ways = end.ways.unwrap();
            assert_eq!((ways.there, ways.back), (0, 0), "{ways:?}");
        }
        let unknown: u64 = right.both_ways().iter().map(|end| end.inbound.unknown).sum();
        assert_eq!(unknown > 0, overflows, "{unknown}");
        assert_eq!(right.sum("podsonar_inbound_drops_total") > 0.0, overflows);
    }
}

#[test]
fn forged_requests_change_nothing_and_are_counted() {
    let world = World::new(Duration::ZERO);
    let agents = world.agents();
    wait_for(&agents, |ends| ends.iter().all(|end| end.inbound.probes >= 40));
    let right = &agents[1];
    let nobody = IpAddr::from([10, 0, 0, 9]);
    let sender = world.address(0, Family::V4);
    for (from, epoch, sequence, reason) in [
        (nobody, 1, 1, "wrong_address"),
        (sender, 77, 1, "unknown_epoch"),
        (sender, 1, 1 << 40, "implausible"),
        (sender, 1, 0, "implausible"),
    ] {
        let metric = format!("podsonar_inbound_rejected_total{{reason=\"{reason}\"}}");
        let before = right.value(&metric).unwrap();
        for number in 0..20 {
            world.forge(from, epoch, sequence + if sequence == 0 { 0 } else { number });
        }
        until(|| right.value(&metric).unwrap() >= before + 20.0);
    }
    let before = right.both_ways()[0].inbound.probes;
    until(|| right.both_ways()[0].inbound.probes >= before + 120);
    let end = &right.both_ways()[0];
    assert_eq!(Counts { probes: 0, ..end.inbound }, Counts::default(), "{end:?}");
}

/// Two hosts, a link, and what agents on them need to know of each other.
struct World {
    hosts: [(Host, End); 2],
    link: Link,
    _lab: Lab,
}

impl World {
    fn new(delay: Duration) -> Self {
        let lab = Lab::new().unwrap();
        let hosts = ["left", "right"].map(|name| lab.host(name).unwrap());
        let link = lab.link(&hosts[0], &hosts[1], 7).unwrap();
        link.set_both(&Faults { delay, ..Faults::default() });
        let [left, right] = hosts;
        let hosts = [(left, link.left.clone()), (right, link.right.clone())];
        Self { hosts, link, _lab: lab }
    }

    fn address(&self, which: usize, family: Family) -> IpAddr {
        let end = &self.hosts[which].1;
        match family {
            Family::V4 => end.v4.into(),
            Family::V6 => end.v6.into(),
        }
    }

    fn addresses(&self, which: usize) -> Vec<IpAddr> {
        Family::ALL.map(|family| self.address(which, family)).to_vec()
    }

    fn source(&self, which: usize, epoch: u64) -> Source {
        let node = self.hosts[which].0.name();
        Source {
            node: node.into(),
            zone: "zone".into(),
            epoch,
            addresses: self.addresses(which),
            also_from: vec![],
        }
    }

    /// An agent on each host, that know each other.
    fn agents(&self) -> [Agent; 2] {
        let agents = [self.agent(0, 1), self.agent(1, 2)];
        agents[0].hear(&[self.source(1, 2)]);
        agents[1].hear(&[self.source(0, 1)]);
        agents
    }

    fn agent(&self, which: usize, epoch: u64) -> Agent {
        self.agent_with(which, epoch, 1 << 20)
    }

    fn agent_with(&self, which: usize, epoch: u64, buffer: usize) -> Agent {
        let (host, _) = &self.hosts[which];
        let agent = host.enter(|| Agent::start(host.name(), epoch, buffer)).unwrap();
        agent.probe(&self.addresses(1 - which));
        agent
    }

    /// An echo request that comes to the right host from somebody who is not whom it says.
    fn forge(&self, from: IpAddr, epoch: u64, sequence: u64) {
        let payload = Payload {
            length: LEN as u16,
            class: SizeClass::Normal,
            epoch,
            sequence,
            cookie: 1,
            period_ms: 25,
            heard: Heard { highest: 1, count: 1 },
        };
        let mut message = Vec::new();
        icmp::encode_request(Family::V4, 1, &payload, &mut message);
        let (IpAddr::V4(from), IpAddr::V4(to)) = (from, self.address(1, Family::V4)) else {
            panic!("forged over IPv4")
        };
        self.link.inject(Way::There, &packet::ipv4(from, to, packet::ICMP, &message)).unwrap();
    }
}

/// An agent without command line and discovery: its driver on real sockets, and its metrics.
struct Agent {
    metrics: Arc<Metrics>,
    driver: Option<driver::Handle>,
    /// While a test holds it, the agent stands still.
    gate: Arc<Mutex<()>>,
    /// Whether its peer can be reached by TCP.
    reachable: Arc<AtomicBool>,
}

impl Agent {
    /// Starts in the network of the calling thread.
    fn start(node: &str, epoch: u64, buffer: usize) -> Self {
        let channels = Family::ALL.map(|family| Channel { protocol: Transport::Icmp, family }).to_vec();
        let icmp_id = epoch as u16;
        let mut sockets = podsonar_net::ProbeSockets::open(&podsonar_net::Settings {
            channels: channels.clone(),
            icmp_id,
            flows: 0,
            receive_buffer: 1 << 20,
            message_size: icmp::HEADER + LEN,
            largest_message: 9_216,
        });
        for family in Family::ALL {
            sockets.listen(family, buffer).unwrap();
        }
        let gate = Arc::new(Mutex::new(()));
        let mut clocks = GatedClocks { gate: Arc::clone(&gate) };
        let clock = clocks.read();
        let facts = Facts {
            source: node.into(),
            zone: "zone".into(),
            version: "0",
            receive_buffers: [None; 4],
            buckets: Buckets::default(),
            max_series: 4_000,
            by_zone: false,
            means: [None; 4],
        };
        let metrics = Arc::new(Metrics::new(facts, clock.wall));
        let identity = Identity {
            source: node.into(),
            epoch,
            key: Secret([epoch as u8; 16]),
            icmp_id,
            source_ports_v4: Vec::new(),
            source_ports_v6: Vec::new(),
            closed_port: 1,
            size: LEN as u16,
            large_interval: None,
            max_pps: 20_000,
        };
        let ledger = Ledger::new(Arc::clone(&metrics), None, Duration::from_mins(15), clock.mono);
        let engine = Engine::new(identity, clock);
        let settings = Settings { channels, icmp_id };
        let reachable = Arc::new(AtomicBool::new(true));
        let lists = Lists { reachable: Arc::clone(&reachable), done: VecDeque::new() };
        let mut driver = Driver::new(engine, sockets, clocks, Box::new(lists), ledger, settings);
        for family in Family::ALL {
            driver.listen(family);
        }
        Self { metrics, driver: Some(driver::spawn(driver).unwrap()), gate, reachable }
    }

    fn probe(&self, addresses: &[IpAddr]) {
        let planned = addresses.iter().map(|address| {
            let target = Target::new(Kind::Agent, "peer".into(), *address, None);
            let stream = Stream { target: Arc::new(target), protocol: Protocol::Icmp };
            Planned { stream, interval: INTERVAL, timeout: Duration::from_millis(400), presumed: false }
        });
        let driver = self.driver.as_ref().unwrap();
        driver.probe(planned.collect());
        driver.fetch(vec![PlannedFetch {
            node: "peer".into(),
            addresses: addresses.to_vec(),
            port: 19_989,
            interval: Duration::from_secs(3),
            timeout: Duration::from_secs(2),
        }]);
    }

    fn hear(&self, sources: &[Source]) {
        self.driver.as_ref().unwrap().hear(sources.to_vec());
    }

    fn stop(&mut self) {
        self.driver.take().unwrap().stop().unwrap();
    }

    /// What it knows of its peer, IPv4 first.
    fn both_ways(&self) -> Vec<BothWays> {
        self.metrics.both_ways()
    }

    /// Whether this holds for its peer by both IP versions.
    fn all(&self, condition: impl Fn(&BothWays) -> bool) -> bool {
        let ends = self.both_ways();
        ends.len() == 2 && ends.iter().all(condition)
    }

    fn text(&self) -> String {
        let scrape: Vec<u8> = Scrape::new(Arc::clone(&self.metrics), Format::Text).flatten().collect();
        String::from_utf8(scrape).unwrap()
    }

    /// The value of the series of this name and labels.
    fn value(&self, series: &str) -> Option<f64> {
        self.text().lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    fn values(&self, metric: &str) -> Vec<f64> {
        let text = self.text();
        let of_metric = text.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
        of_metric.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    }

    fn sum(&self, metric: &str) -> f64 {
        self.values(metric).iter().sum()
    }

    fn lines(&self, metric: &str) -> usize {
        self.values(metric).len()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            // A test that fails must not wait for what it broke.
            let _ = driver.stop();
        }
    }
}

/// The machine's clocks; who reads them waits at the gate.
struct GatedClocks {
    gate: Arc<Mutex<()>>,
}

impl Clocks for GatedClocks {
    fn mono(&mut self) -> Instant {
        drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
        SystemClocks.mono()
    }

    fn read(&mut self) -> ClockReading {
        drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
        SystemClocks.read()
    }
}

/// Whoever fetches lists: while the peer can be reached by TCP, its list says that it is there, so that its losses are
/// losses.
#[derive(Debug)]
struct Lists {
    reachable: Arc<AtomicBool>,
    done: VecDeque<Done>,
}

impl Errands for Lists {
    fn connect(&mut self, connect: Connect) {
        panic!("no stream connects: {connect:?}");
    }

    fn ask(&mut self, _: QuestionId, question: &PlannedQuestion) {
        panic!("there is no question: {question:?}");
    }

    fn fetch(&mut self, id: FetchId, fetch: &PlannedFetch) {
        let view = NodeView {
            node: Arc::clone(&fetch.node),
            zone: "zone".into(),
            epoch: 1,
            addresses: Vec::new(),
            leaving: false,
            asked_at: SystemClocks.mono(),
            watch_age: Some(Duration::ZERO),
            probes_us: None,
            pods: Vec::new(),
        };
        let fetched = if self.reachable.load(Relaxed) {
            Fetched { result: FetchResult::Ok, view: Some(Arc::new(view)) }
        } else {
            Fetched::failed(FetchResult::Timeout)
        };
        self.done.push_back(Done::Fetched(id, fetched));
    }

    fn next_done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }
}

/// The probes of a capture by their sender and sequence, read by the lab's own decoder.
#[derive(Default)]
struct Requests {
    sent: Vec<(IpAddr, u64)>,
    received: Vec<(IpAddr, u64)>,
    answered: Vec<(IpAddr, u64)>,
    replied: Vec<(IpAddr, u64)>,
}

impl Requests {
    fn of(captured: &[Captured]) -> Self {
        let mut requests = Self::default();
        for (outgoing, packet) in captured.iter().filter_map(|one| Some((one.outgoing, one.packet()?))) {
            let (list, sender, echo) = match (packet.body, outgoing) {
                (Body::EchoRequest(echo), true) => (&mut requests.sent, packet.src, echo),
                (Body::EchoRequest(echo), false) => (&mut requests.received, packet.src, echo),
                (Body::EchoReply(echo), true) => (&mut requests.answered, packet.dst, echo),
                (Body::EchoReply(echo), false) => (&mut requests.replied, packet.dst, echo),
                (Body::Tcp(_) | Body::Other(_), _) => continue,
            };
            let sequence =
                echo.payload.get(16..24).map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
            list.extend(sequence.map(|sequence| (sender, sequence)));
        }
        requests
    }

    fn lost(sent: &[(IpAddr, u64)], came: &[(IpAddr, u64)], of: IpAddr) -> u64 {
        let came: HashSet<&(IpAddr, u64)> = came.iter().collect();
        sent.iter().filter(|one| one.0 == of && !came.contains(one)).count() as u64
    }
}

/// Waits until what both agents know is as it should be.
fn wait_for(agents: &[Agent; 2], condition: impl Fn(&[BothWays]) -> bool) {
    until(|| {
        let ends: Vec<BothWays> = agents.iter().flat_map(Agent::both_ways).collect();
        ends.len() == 4 && condition(&ends)
    });
}

fn until(condition: impl Fn() -> bool) {
    let deadline = Deadline::after(Duration::from_mins(1));
    wait_until(deadline, "what the agents should find out", || Ok(condition().then_some(()))).unwrap();
}
