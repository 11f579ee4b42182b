//! The shape of loss that the agent reports, judged by a capture; and an agent that is sick says so.

use nix::sys::signal::Signal;
use podsonar_lab::agent::Launch;
use podsonar_lab::capture::Capture;
use podsonar_lab::clock::{Deadline, soon, unix_ns, wait_until};
use podsonar_lab::fault::{Faults, Loss, Only, Reorder};
use podsonar_lab::link::{Link, Way};
use podsonar_lab::packet::{Body, Packet};
use podsonar_lab::record::Record;
use podsonar_lab::scrape::Scrape;
use podsonar_lab::server::Listener;
use podsonar_lab::wire::{Reply, Wire, WireProbe};
use podsonar_lab::{Agent, Cgroup, Host, Lab};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// The agent's default.
const TIMEOUT: Duration = Duration::from_millis(800);
/// The longest that a result may take on a machine that is busy: then every earlier probe has its own.
const RESULT: Duration = Duration::from_secs(2);
/// Time on the link, one way.
const DELAY: Duration = Duration::from_micros(250);

#[test]
fn bursts_of_loss_are_those_of_the_wire() {
    let world = World::new(21);
    world.link.set(Way::There, Faults { loss: Loss::bursts(0.2, 3.0), ..plain() });
    let run = world.run(400);
    let runs = run.runs();
    assert!(runs.iter().any(|length| *length > 2), "{runs:?}");
    run.tells(&runs);
}

#[test]
fn random_losses_with_replies_out_of_order_are_those_of_the_wire() {
    let world = World::new(22);
    let reorder = Some(Reorder { chance: 0.3, hold: Duration::from_millis(90) });
    world.link.set(Way::There, Faults { loss: Loss::Random(0.1), reorder, ..plain() });
    world.link.set(Way::Back, Faults { loss: Loss::Random(0.1), reorder, ..plain() });
    let run = world.run(400);
    let runs = run.runs();
    assert!(runs.len() > 20, "{runs:?}");
    run.tells(&runs);
    assert!(run.overtaken() > 20, "replies came in order");
}

#[test]
fn reordering_alone_is_no_loss() {
    let world = World::new(23);
    world.link.set_both(&Faults {
        reorder: Some(Reorder { chance: 0.3, hold: Duration::from_millis(90) }),
        ..plain()
    });
    let run = world.run(200);
    assert!(run.overtaken() > 20, "replies came in order");
    run.tells(&run.runs());
    assert_eq!(run.count("podsonar_loss_episodes_total"), 0);
}

#[test]
fn duplicates_are_those_of_the_wire() {
    let world = World::new(24);
    world.link.set_both(&Faults { duplicate: 0.3, ..plain() });
    let run = world.run(200);
    let further: u32 = run.wire.probes().iter().map(|probe| probe.replies.saturating_sub(1)).sum();
    let further = further as usize;
    assert!(further > 50, "{further}");
    assert_eq!(run.count("podsonar_duplicate_replies_total"), further);
    run.tells(&run.runs());
}

#[test]
fn a_syn_ack_that_is_dropped_once_comes_late_and_tells_that_the_way_back_lost_it() {
    const DROPPED: usize = 4;
    let world = World::new(25);
    let listener = Listener::start(&world.far, SocketAddr::from((world.link.right.v4, 0))).unwrap();
    world
        .link
        .set(Way::Back, Faults { loss: Loss::All, only: every_fourth_syn_ack_once(DROPPED), ..plain() });
    let capture = world.capture();
    let launch = Launch::on(&world.near).records().target(&listener.address.to_string());
    let agent = launch.arguments(&["--interval", "250ms", "--protocols", "tcp"]).start().unwrap();
    let late = |scrape: &Scrape, hint| scrape.sum("podsonar_late_replies_total", &[("hint", hint)]);
    agent
        .wait_for_metrics(Deadline::after(Duration::from_mins(1)), "late replies", |scrape| {
            (late(scrape, "way_back")? >= DROPPED as f64).then_some(())
        })
        .unwrap();
    let scrape = agent.scrape().unwrap();
    let run = Run::end(agent, capture, scrape);
    let slow = |probe: &&WireProbe| {
        probe.first_reply.is_some_and(|(_, reply)| reply == Reply::SynAck)
            && !probe.is_answered_within(Duration::from_millis(950))
    };
    assert_eq!(run.wire.probes().iter().filter(slow).count(), DROPPED);
    assert_eq!(late(&run.scrape, "way_back"), Some(DROPPED as f64));
    assert_eq!(late(&run.scrape, "none"), Some(0.0));
    let lost = run.records.iter().filter(|record| record.result == "lost");
    let slow: HashSet<_> = run.wire.probes().iter().filter(slow).map(|probe| &probe.key).collect();
    let lost: HashSet<_> = lost.filter_map(|record| Some(&run.wire.find(record)?.key)).collect();
    assert_eq!(lost, slow);
    assert_eq!(listener.accepted(), 0);
}

#[test]
fn a_minute_shows_the_share_of_loss_and_the_floor_of_the_link() {
    let world = World::new(26);
    let (delay, jitter) = (Duration::from_millis(2), Duration::from_millis(3));
    world.link.set(Way::There, Faults { delay, jitter, ..plain() });
    world.link.set(Way::Back, Faults { delay, jitter, loss: Loss::Random(0.05), ..plain() });
    let (capture, agent) = world.start();
    let began = unix_ns();
    world.wait_for_packets(3_000);
    agent
        .wait_for_metrics(Deadline::after(Duration::from_mins(2)), "a window's end", |scrape| {
            (scrape.sum("podsonar_loss_ratio_count", &[])? >= 1.0).then_some(())
        })
        .unwrap();
    let (scrape, ended) = (agent.scrape().unwrap(), unix_ns());
    let run = Run::end(agent, capture, scrape);

    let first = run.wire.probes().iter().filter(|probe| probe.sent_ns < began + 60_000_000_000);
    let (all, lost) = first
        .fold((0, 0), |(all, lost), probe| (all + 1, lost + u32::from(!probe.is_answered_within(TIMEOUT))));
    let share = f64::from(lost) / f64::from(all);
    assert_eq!(run.count("podsonar_loss_ratio_count"), 1);
    let told = run.sum("podsonar_loss_ratio_sum");
    assert!((told - share).abs() < 0.01 && told > 0.02, "{told} told, {lost} of {all} lost on the wire");

    // The floor is of one round trip a second: a sample, whose 10th percentile lies about the wire's own.
    let recent = run.wire.probes().iter().filter(|probe| probe.sent_ns > ended - 60_000_000_000);
    let mut rtts: Vec<_> = recent.filter(|probe| probe.sent_ns < ended).filter_map(WireProbe::rtt).collect();
    rtts.sort_unstable();
    let quantile = |share: usize| *rtts.get(rtts.len() * share / 100).expect("round trips");
    let floor = Duration::from_secs_f64(run.sum("podsonar_rtt_floor_seconds"));
    assert!(floor >= 2 * delay, "{floor:?}");
    assert!(quantile(0) <= floor + floor / 1_000 && floor <= quantile(40), "{floor:?} {:?}", quantile(10));
}

#[test]
fn an_agent_without_cpu_says_so_and_loses_nothing() {
    let world = Veth::new();
    let cgroup = Cgroup::with_cpu_quota(0.02).unwrap();
    let launch = world.launch().cgroup(&cgroup);
    let agent = launch.start().unwrap();
    // Its start alone can be throttled: it is to have probed meanwhile.
    let throttled = |scrape: &Scrape| {
        let replies = scrape.sum("podsonar_probes_total", &[("result", "reply")])?;
        (fault(scrape, "throttled")? && replies > 0.0).then_some(())
    };
    agent
        .wait_for_metrics(Deadline::after(Duration::from_mins(1)), "a fault and replies", throttled)
        .unwrap();
    let scrape = agent.scrape().unwrap();
    assert!(scrape.sum("podsonar_cpu_throttled_seconds_total", &[]).unwrap() > 0.0);
    assert!(scrape.sum("podsonar_cpu_throttled_periods_total", &[]).unwrap() > 0.0);
    let result = |name| scrape.sum("podsonar_probes_total", &[("result", name)]).unwrap_or(0.0);
    assert!(result("reply") > 0.0);
    assert_eq!((result("lost"), result("unreachable")), (0.0, 0.0));
}

#[test]
fn an_agent_that_was_stopped_for_a_second_has_stalled_and_loses_nothing() {
    let world = Veth::new();
    let agent = world.launch().start().unwrap();
    let replies = |scrape: &Scrape| scrape.sum("podsonar_probes_total", &[("result", "reply")]);
    let answered = |least: f64| move |scrape: &Scrape| replies(scrape).filter(|count| *count > least);
    agent.wait_for_metrics(soon(), "replies", answered(10.0)).unwrap();
    let stalled_before = agent.scrape().unwrap().sum("podsonar_stall_seconds_total", &[]).unwrap();
    agent.process.signal(Signal::SIGSTOP).unwrap();
    stay_stopped();
    agent.process.signal(Signal::SIGCONT).unwrap();
    let stalled = |scrape: &Scrape| fault(scrape, "stalled")?.then(|| scrape.clone());
    let scrape = agent.wait_for_metrics(soon(), "a fault", stalled).unwrap();
    assert!(scrape.sum("podsonar_stalls_total", &[]).unwrap() >= 1.0);
    assert!(scrape.sum("podsonar_stall_seconds_total", &[]).unwrap() - stalled_before > 0.9);
    let before = replies(&scrape).unwrap();
    agent.wait_for_metrics(soon(), "more replies", answered(before + 60.0)).unwrap();
    let scrape = agent.scrape().unwrap();
    assert_eq!(scrape.sum("podsonar_probes_total", &[("result", "lost")]), Some(0.0));
    assert!(scrape.sum("podsonar_probes_void_total", &[("reason", "skipped")]).unwrap() > 20.0);
}

/// A second that passes by itself.
#[expect(clippy::disallowed_methods, reason = "the second is the fault itself; nothing is waited for")]
fn stay_stopped() {
    thread::sleep(Duration::from_secs(1));
}

fn fault(scrape: &Scrape, reason: &str) -> Option<bool> {
    scrape.sum("podsonar_agent_fault", &[("reason", reason)]).map(|fault| fault > 0.0)
}

/// A link without faults.
fn plain() -> Faults {
    Faults { delay: DELAY, ..Faults::default() }
}

/// The first copy of every fourth SYN-ACK, so many times: what is sent again passes.
fn every_fourth_syn_ack_once(times: usize) -> Only {
    let seen = Mutex::new(HashSet::new());
    Only::matching(move |packet: &Packet<'_>| {
        let Body::Tcp(tcp) = packet.body else { return false };
        let mut seen = seen.lock().expect("no panic while it is held");
        tcp.is_syn_ack()
            && seen.insert((tcp.dst_port, tcp.ack))
            && seen.len() % 4 == 0
            && seen.len() <= 4 * times
    })
}

/// An agent's host and a far one, joined by the kernel's own wire: no program between them can be late.
struct Veth {
    near: Host,
    _far: Host,
    target: String,
}

impl Veth {
    fn new() -> Self {
        let lab = Lab::new().expect("a lab");
        let (near, far) = (lab.host("near").expect("a host"), lab.host("far").expect("a host"));
        let veth = lab.veth(&near, &far).expect("a veth pair");
        Self { near, _far: far, target: veth.right.v4.to_string() }
    }

    fn launch(&self) -> Launch<'_> {
        Launch::on(&self.near).target(&self.target).arguments(&["--interval", "20ms"])
    }
}

/// An agent's host and a far one, behind a link with faults.
struct World {
    near: Host,
    far: Host,
    link: Link,
}

/// What an agent reported and what was on the wire.
struct Run {
    records: Vec<Record>,
    wire: Wire,
    scrape: Scrape,
}

impl World {
    fn new(seed: u64) -> Self {
        let lab = Lab::new().expect("a lab");
        let (near, far) = (lab.host("near").expect("a host"), lab.host("far").expect("a host"));
        let link = lab.link(&near, &far, seed).expect("a link");
        link.set_both(&plain());
        Self { near, far, link }
    }

    fn capture(&self) -> Capture {
        self.near.capture(&self.link.left.interface).expect("a capture")
    }

    /// Starts an agent that sends an echo request each 20 ms.
    fn start(&self) -> (Capture, Agent) {
        let capture = self.capture();
        let target = self.link.right.v4.to_string();
        let launch = Launch::on(&self.near).records().target(&target).arguments(&["--interval", "20ms"]);
        (capture, launch.start().expect("the agent"))
    }

    fn wait_for_packets(&self, packets: u64) {
        let sent = || Ok((self.link.counts(Way::There).received >= packets).then_some(()));
        wait_until(Deadline::after(Duration::from_mins(3)), "packets", sent).expect("packets");
    }

    /// Lets the faults act on so many packets. Then the link is healed, so that the last run of losses ends, and the
    /// metrics are read when all that the faults did is known.
    fn run(&self, packets: u64) -> Run {
        let (capture, agent) = self.start();
        self.wait_for_packets(packets);
        self.link.set_both(&plain());
        let known = unix_ns() + i64::try_from(RESULT.as_nanos()).expect("short");
        let is_known = |record: &Record| record.is_answered() && record.due_ns > known;
        let enough = || Ok(agent.records()?.iter().any(is_known).then_some(()));
        wait_until(Deadline::after(Duration::from_mins(1)), "the last results", enough).expect("records");
        let scrape = agent.scrape().expect("metrics");
        Run::end(agent, capture, scrape)
    }
}

impl Run {
    /// Ends the agent, whose metrics were read before, and the capture.
    fn end(mut agent: Agent, capture: Capture, scrape: Scrape) -> Self {
        assert!(agent.stop(soon()).expect("its end").success(), "{:?}", agent.process.lines());
        let records = agent.records().expect("records");
        Self { records, wire: Wire::new(&capture.stop().expect("packets")), scrape }
    }

    fn count(&self, name: &str) -> usize {
        self.sum(name) as usize
    }

    fn sum(&self, name: &str) -> f64 {
        let sum = self.scrape.sum(name, &[]);
        assert!(sum.is_some(), "no {name}");
        sum.expect("asserted")
    }

    /// Lengths of the runs of losses on the wire, in the order of sending. A probe that the agent knows nothing of
    /// (starved, or stopped) is in no run; nor is one that was sent beyond the schedule.
    fn runs(&self) -> Vec<usize> {
        let judged = |record: &&Record| record.is_due() && matches!(record.result.as_str(), "reply" | "lost");
        let records = self.records.iter().filter(judged);
        let judged: HashMap<_, _> =
            records.filter_map(|record| Some((&self.wire.find(record)?.key, record))).collect();
        let probes = self.wire.probes().iter().filter(|probe| judged.contains_key(&probe.key));
        let answered: Vec<_> = probes.map(|probe| probe.is_answered_within(TIMEOUT)).collect();
        assert!(answered.len() > 100);
        let groups = answered.chunk_by(|left, right| left == right);
        groups.filter(|group| group.contains(&false)).map(<[bool]>::len).collect()
    }

    /// Probes whose reply came after that of a later probe.
    fn overtaken(&self) -> usize {
        let replies: Vec<_> =
            self.wire.probes().iter().filter_map(|probe| Some(probe.first_reply?.0)).collect();
        replies.windows(2).filter(|pair| pair.is_sorted_by(|left, right| left > right)).count()
    }

    /// The metrics tell of these runs and no others.
    fn tells(&self, runs: &[usize]) {
        assert_eq!(self.count("podsonar_loss_episodes_total"), runs.len(), "{runs:?}");
        assert_eq!(self.count("podsonar_loss_burst_probes_count"), runs.len(), "{runs:?}");
        assert_eq!(self.count("podsonar_loss_burst_probes_sum"), runs.iter().sum::<usize>(), "{runs:?}");
        for bound in ["1.5", "2.5", "3.5", "5.5", "10.5", "30.5", "100.5"] {
            let most: f64 = bound.parse().expect("a number");
            let shorter = runs.iter().filter(|length| (**length as f64) < most).count() as f64;
            let told = self.scrape.sum("podsonar_loss_burst_probes_bucket", &[("le", bound)]);
            assert_eq!(told, Some(shorter), "{bound} {runs:?}");
        }
    }
}
