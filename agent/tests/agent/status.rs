//! What an agent says of itself and of the network, in words.

use std::sync::Arc;

use podsonar::metrics::dns::DnsMetrics;
use podsonar::status::{Scope, Status};
use podsonar_core::engine::Question;
use podsonar_core::outcome::{ProbeResult, Rtt};
use podsonar_core::query::{QueryResult, Record};
use podsonar_core::target::{Kind, Planned, PodId, Protocol, StreamId, Target};

use crate::config::Folder;
use crate::reload::Agent;
use crate::support::{Book, RETAIN, clock, planned};

#[test]
fn without_faults_there_is_what_is_probed_and_that_all_is_well() {
    let mut book = Book::new();
    book.add(1, "192.0.2.1", Protocol::Icmp);
    book.outcome(1, ProbeResult::Reply(Rtt::Unmeasured));
    book.tick(1);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        Status::of(&book.metrics).to_string(),
        format!(
            "podsonar {version} on node-1 in zone zone-a, 2.5 probes/s\n  fixed    1 answering\nno fault is known\n"
        )
    );
}

#[test]
fn a_silent_node_is_one_fault_and_its_pods_are_not_named() {
    let mut book = mesh();
    for id in 1..=3 {
        lose(&mut book, id);
    }
    let faults = Status::of(&book.metrics).faults;
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert_eq!((faults[0].scope, &*faults[0].place), (Scope::Node, "worker-2"));
    assert_eq!(faults[0].what, "nothing answers, of 2 targets there (zone zone-b)");
}

#[test]
fn a_silent_pod_is_named_with_where_it_runs_and_by_what_it_is_silent() {
    let mut book = mesh();
    lose(&mut book, 3);
    let faults = Status::of(&book.metrics).faults;
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert_eq!(faults[0].place, "pod default/web-1 (10.0.2.9:80) on worker-2");
    assert_eq!(faults[0].what, "by tcp: silent, while ICMP is answered: a filter, as a rule");
}

#[test]
fn an_agent_that_is_silent_alone_is_no_silent_node() {
    let mut book = mesh();
    lose(&mut book, 1);
    let faults = Status::of(&book.metrics).faults;
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert_eq!(faults[0].what, "its agent does not answer, others there do (zone zone-b)");
}

#[test]
fn a_bare_pod_name_that_resolves_is_a_fault_and_one_that_does_not_is_none() {
    use QueryResult::{Mismatch, NoError, NxDomain};
    let book = Book::new();
    let told = |results: &[(&str, QueryResult)]| {
        let mut dns = DnsMetrics::new(Arc::clone(&book.metrics), RETAIN);
        let server = "10.96.0.10:53".parse().unwrap();
        dns.configure(results.iter().map(|(name, _)| (server, (*name).into())), clock(0).mono);
        for (name, result) in results {
            dns.result(&Question { name: (*name).into(), server, record: Record::A }, *result);
        }
        let faults = Status::of(&book.metrics).faults;
        faults.into_iter().map(|fault| format!("{} {}", fault.place, fault.what)).collect::<Vec<_>>()
    };
    assert!(told(&[("pod", NoError), ("bare_pod", NxDomain)]).is_empty());
    assert_eq!(
        told(&[("pod", NxDomain), ("bare_pod", NoError)]),
        ["a bare pod name, which must not resolve noerror from 10.96.0.10"]
    );
    assert_eq!(told(&[("pod", Mismatch), ("bare_pod", NxDomain)]), ["a pod's name mismatch from 10.96.0.10"]);
}

#[test]
fn the_running_agent_is_asked_for_words_and_for_json() {
    let folder = Folder::new("status");
    folder.write("config.yaml", "targets: [127.0.0.1]\n");
    let agent = Agent::start(&folder, &[]);
    agent.wait_for("podsonar_probes_total", "destination=\"127.0.0.1\",result=\"reply\"", 2);
    let address = agent.address.clone();
    let words = folder.run(&["status", "--address", &address]);
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("fixed    1 answering"), "{words}");
    let json = folder.run(&["status", "--json", "--address", &address]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["source"], "flag");
    assert_eq!(json["targets"][0]["state"], "answering");
}

#[test]
fn without_an_agent_the_command_says_where_it_asked() {
    let folder = Folder::new("no-agent");
    let output = folder.run(&["status", "--address", "127.0.0.1:1"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("error: no agent answers at 127.0.0.1:1: Connection refused"), "{stderr}");
}

/// An agent (1) and a pod (2 by ICMP, 3 by TCP) on another node, all well.
fn mesh() -> Book {
    let mut book = Book::new();
    let pod = PodId {
        uid: "u".into(),
        namespace: "default".into(),
        name: "web-1".into(),
        workload: "Deployment/web".into(),
    };
    for (id, kind, written, protocol) in [
        (1, Kind::Agent, "10.0.2.1", Protocol::Icmp),
        (2, Kind::Pod, "10.0.2.9:80", Protocol::Icmp),
        (3, Kind::Pod, "10.0.2.9:80", Protocol::Tcp),
    ] {
        let mut planned: Planned = planned(written, protocol);
        planned.stream.target = Arc::new(Target {
            destination: "worker-2".into(),
            zone: "zone-b".into(),
            kind,
            pod: (kind == Kind::Pod).then(|| Arc::new(pod.clone())),
            ..(*planned.stream.target).clone()
        });
        book.ledger.added(StreamId(id), &planned);
        book.outcome(id, ProbeResult::Reply(Rtt::Unmeasured));
    }
    book
}

fn lose(book: &mut Book, id: u64) {
    for _ in 0..3 {
        book.outcome(id, ProbeResult::Lost);
    }
}
