//! How losses, late, doubled and overtaken answers look on the wire, and that the agent counts what is there.

use podsonar_lab::Lab;
use podsonar_lab::agent::Launch;
use podsonar_lab::clock::soon;
use podsonar_lab::fault::{Faults, Loss, Only, Reorder};
use podsonar_lab::link::Way;
use podsonar_lab::record::Record;
use podsonar_lab::scrape::Scrape;
use podsonar_lab::server::Listener;
use podsonar_lab::wire::{Reply, Wire, WireProbe};
use std::net::SocketAddr;
use std::time::Duration;

/// The agent's default.
const TIMEOUT: Duration = Duration::from_millis(800);

#[test]
fn a_syn_ack_lost_once_is_sent_again_and_counts_as_lost_and_late() {
    let faults = Faults { loss: Loss::All, only: Only::first_syn_acks(), ..Faults::default() };
    let late = |scrape: &Scrape| scrape.sum("podsonar_late_replies_total", &[("hint", "way_back")]);
    let enough = |scrape: &Scrape| late(scrape).is_some_and(|late| late >= 3.0);
    let run = Run::new(Target::Port, "250ms", Way::Back, &faults, enough);
    let probes = run.wire.probes();
    assert!(probes.iter().all(|probe| probe.sent == 1), "no SYN is sent twice");
    let answered = probes.iter().filter_map(|probe| Some((probe.first_reply?.1, probe.rtt()?)));
    let answered: Vec<_> = answered.collect();
    assert!(answered.iter().all(|(reply, rtt)| *reply == Reply::SynAck && *rtt > TIMEOUT), "{answered:?}");
    let counted = late(&run.scrape).unwrap() as usize;
    assert!(counted <= answered.len(), "{counted} counted, {} on the wire", answered.len());
    assert!(run.sent().all(|record| record.result != "reply"), "{:?}", run.records);
}

#[test]
fn one_syn_ack_lost_is_one_loss() {
    let only = Only::nth(
        3,
        |packet| matches!(packet.body, podsonar_lab::packet::Body::Tcp(tcp) if tcp.is_syn_ack()),
    );
    let faults = Faults { loss: Loss::All, only, ..Faults::default() };
    let enough = |scrape: &Scrape| replies(scrape) >= 6.0;
    let run = Run::new(Target::Port, "250ms", Way::Back, &faults, enough);
    assert_eq!(run.wire.loss_runs(TIMEOUT, |probe| run.is_settled(probe)), [1]);
    assert_eq!(run.loss_runs(), [1]);
}

#[test]
fn bursts_of_losses_are_those_of_the_wire() {
    let faults = Faults { loss: Loss::bursts(0.2, 4.0), ..Faults::default() };
    let run = Run::new(Target::Host, "10ms", Way::There, &faults, |scrape| replies(scrape) >= 300.0);
    let wire = run.wire.loss_runs(TIMEOUT, |probe| run.is_settled(probe));
    assert!(wire.iter().any(|length| *length > 3), "{wire:?}");
    assert_eq!(run.loss_runs(), wire);
}

#[test]
fn overtaken_replies_are_replies() {
    let reorder = Reorder { chance: 0.3, hold: Duration::from_millis(35) };
    let faults = Faults { reorder: Some(reorder), ..Faults::default() };
    let run = Run::new(Target::Host, "10ms", Way::Back, &faults, |scrape| replies(scrape) >= 100.0);
    let came = run.wire.probes().iter().filter_map(|probe| Some(probe.first_reply?.0));
    assert!(!came.is_sorted(), "the wire has overtaken replies");
    assert_eq!(run.loss_runs(), [0; 0]);
}

#[test]
fn doubled_replies_are_counted_as_the_wire_has_them() {
    let faults = Faults { duplicate: 0.3, ..Faults::default() };
    let doubled = |scrape: &Scrape| scrape.sum("podsonar_duplicate_replies_total", &[]).unwrap_or(0.0);
    let run = Run::new(Target::Host, "10ms", Way::Back, &faults, |scrape| doubled(scrape) >= 30.0);
    let on_the_wire: u32 = run.wire.probes().iter().map(|probe| probe.replies.saturating_sub(1)).sum();
    let counted = doubled(&run.scrape);
    // The scrape came first: there may be more by the end.
    assert!(counted <= f64::from(on_the_wire), "{counted} counted, {on_the_wire} on the wire");
    assert!(run.sent().all(|record| record.result == "reply"));
}

/// What is probed at the far host.
#[derive(Clone, Copy)]
enum Target {
    /// The host, by ICMP.
    Host,
    /// A port that is open, by SYN.
    Port,
}

/// What an agent reported, and what was on the wire.
struct Run {
    records: Vec<Record>,
    scrape: Scrape,
    wire: Wire,
}

impl Run {
    /// Probes over a faulty link until the agent's metrics say that it is enough.
    fn new(
        target: Target,
        interval: &str,
        way: Way,
        faults: &Faults,
        enough: impl Fn(&Scrape) -> bool,
    ) -> Self {
        let lab = Lab::new().expect("a lab");
        let (near, far) = (lab.host("near").expect("a host"), lab.host("far").expect("a host"));
        let link = lab.link(&near, &far, 3).expect("a link");
        link.set(way, faults.clone());
        let listener = Listener::start(&far, SocketAddr::from((link.right.v4, 0))).expect("a listener");
        let (target, protocol) = match target {
            Target::Host => (link.right.v4.to_string(), "icmp"),
            Target::Port => (listener.address.to_string(), "tcp"),
        };
        let capture = near.capture(&link.left.interface).expect("a capture");
        let launch = Launch::on(&near).records().target(&target);
        let mut agent =
            launch.arguments(&["--interval", interval, "--protocols", protocol]).start().expect("the agent");
        let scrape =
            agent.wait_for_metrics(soon(), "enough", |scrape| enough(scrape).then(|| scrape.clone()));
        let scrape = scrape.expect("enough");
        assert!(agent.stop(soon()).expect("its end").success(), "{:?}", agent.process.lines());
        let records = agent.records().expect("records");
        Self { records, scrape, wire: Wire::new(&capture.stop().expect("packets")) }
    }

    /// The records of scheduled probes that left, in the order of sending.
    fn sent(&self) -> impl Iterator<Item = &Record> {
        let mut sent: Vec<&Record> =
            self.records.iter().filter(|record| record.is_due() && record.sent_ns.is_some()).collect();
        sent.sort_by_key(|record| record.sent_ns);
        sent.into_iter()
    }

    /// Whether the agent reported about a probe of the wire: answered or lost.
    fn is_settled(&self, probe: &WireProbe) -> bool {
        let found = self.sent().find(|record| self.wire.find(record) == Some(probe));
        found.is_some_and(|record| record.is_answered() || record.result == "lost")
    }

    /// The lengths of the runs of losses as the agent recorded them.
    fn loss_runs(&self) -> Vec<usize> {
        let settled: Vec<&Record> =
            self.sent().filter(|record| record.is_answered() || record.result == "lost").collect();
        let runs = settled.split(|record| record.is_answered());
        runs.map(<[_]>::len).filter(|length| *length > 0).collect()
    }
}

fn replies(scrape: &Scrape) -> f64 {
    scrape.sum("podsonar_probes_total", &[("result", "reply")]).unwrap_or(0.0)
}
