//! Pods' names, from the question that falls due to what a name server was really asked and what became of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::AAAA;
use hickory_proto::rr::{Name, RData, Record as Entry};
use podsonar::discovery::pod_names::{NamedPod, PodNames};
use podsonar::driver::{Done, Errands};
use podsonar::exchange::lists::Lists;
use podsonar::probe::runner::{Answered, Asking, Runner};
use podsonar_core::engine::{Engine, Identity, PlannedQuestion, Poll, Question, QuestionId, Secret};
use podsonar_core::query::search::SearchList;
use podsonar_core::query::{QueryResult, Record};
use podsonar_core::target::PodId;
use podsonar_core::time::{ClockReading, Instant, WallTime};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::dns::server::{Server, address, answer};
use crate::support::Book;

#[test]
fn a_pods_name_must_be_exactly_its_address() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    // As CoreDNS with `pods insecure` does: the address is in the name.
    let server = Server::replying(move |question| {
        let name = question.queries[0].name().clone();
        seen.lock().unwrap().push(name.to_string());
        let label = String::from_utf8_lossy(name.iter().next().unwrap()).into_owned();
        let mut message = answer(question);
        message.add_answer(match label.as_str() {
            "fd00--" => v6(&name, "fd00::"),
            "fd00-1--2" => v6(&name, "fd00:1::2"),
            label => address(&name, label.rsplit('-').next().unwrap().parse().unwrap()),
        });
        message.to_vec().unwrap()
    });
    let mut asker = Asker::new(&[
        ("a", "10.0.0.1"),
        ("b", "10.0.0.2"),
        ("c", "10.9.9.3"),
        ("d", "fd00::"),
        ("e", "fd00:1::2"),
    ]);
    let ask = |asker: &mut Asker, record| {
        let (result, answered) = asker.ask("pod", server.address, record);
        (result, answered.pod.unwrap().id.name.to_string())
    };
    assert_eq!(ask(&mut asker, Record::A), (QueryResult::NoError, "a".into()));
    assert_eq!(ask(&mut asker, Record::Aaaa), (QueryResult::NoError, "d".into()));
    assert_eq!(ask(&mut asker, Record::A), (QueryResult::NoError, "b".into()));
    assert_eq!(ask(&mut asker, Record::A), (QueryResult::Mismatch, "c".into()), "the server says 10.0.0.3");
    assert_eq!(ask(&mut asker, Record::Aaaa), (QueryResult::NoError, "e".into()));
    let names = ["10-0-0-1", "fd00--", "10-0-0-2", "10-9-9-3", "fd00-1--2"];
    let names: Vec<_> = names.iter().map(|label| format!("{label}.web.pod.cluster.local.")).collect();
    assert_eq!(*asked.lock().unwrap(), names);
}

#[test]
fn a_server_without_pods_names_is_told_as_such() {
    let server = Server::replying(|question| code(question, ResponseCode::NXDomain));
    let mut asker = Asker::new(&[("a", "10.0.0.1")]);
    assert_eq!(asker.ask("pod", server.address, Record::A).0, QueryResult::NxDomain);
}

#[test]
fn of_two_replicas_the_dead_one_is_told_apart() {
    let alive = Server::replying(|question| {
        let mut message = answer(question);
        message.add_answer(address(&question.queries[0].name().clone(), 1));
        message.to_vec().unwrap()
    });
    let silent = Server::udp(|_| {});
    let gone = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut asker = Asker::new(&[("a", "10.0.0.1")]);
    for (server, result) in [
        (alive.address, QueryResult::NoError),
        (silent.address, QueryResult::Timeout),
        (gone, QueryResult::Unreachable),
        (alive.address, QueryResult::NoError),
    ] {
        assert_eq!(asker.ask("pod", server, Record::A).0, result, "{server}");
    }
}

#[test]
fn a_bare_name_is_asked_for_in_the_search_domains_alone() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let server = Server::replying(move |question| {
        let name = question.queries[0].name().to_string();
        seen.lock().unwrap().push(name.clone());
        // A domain with a wildcard.
        if name.ends_with(".wild.test.") {
            let mut message = answer(question);
            message.add_answer(address(&question.queries[0].name().clone(), 9));
            return message.to_vec().unwrap();
        }
        code(question, ResponseCode::NXDomain)
    });
    let mut asker = Asker::new(&[("web-1", "10.0.0.1"), ("dotted.name", "10.0.0.2")]);
    asker.search(&["web.svc.cluster.local", "svc.cluster.local"]);
    let first = asker.ask("bare_pod", server.address, Record::A);
    assert_eq!((first.0, first.1.answer.exchanges.len()), (QueryResult::NxDomain, 2));
    assert_eq!(asker.ask("bare_pod", server.address, Record::A).0, QueryResult::NxDomain);
    asker.search(&["svc.cluster.local", "wild.test"]);
    assert_eq!(asker.ask("bare_pod", server.address, Record::A).0, QueryResult::NoError);
    assert_eq!(
        *asked.lock().unwrap(),
        [
            "dotted.name.web.svc.cluster.local.",
            "dotted.name.svc.cluster.local.",
            "web-1.web.svc.cluster.local.",
            "web-1.svc.cluster.local.",
            "dotted.name.svc.cluster.local.",
            "dotted.name.wild.test."
        ]
    );
}

#[test]
fn a_question_about_pods_that_are_gone_was_not_sent() {
    let mut asker = Asker::new(&[]);
    for name in ["pod", "bare_pod"] {
        let id = asker.begin(name, (Ipv4Addr::LOCALHOST, 1).into(), Record::A);
        assert_eq!(asker.done(), (id, QueryResult::NotSent));
    }
}

/// A runner, and questions handed out one by one as a driver does.
struct Asker {
    runner: Runner,
    asking: Arc<RwLock<Arc<Asking>>>,
    answers: UnboundedReceiver<Answered>,
    engine: Engine,
    now: u64,
}

impl Asker {
    fn new(pods: &[(&str, &str)]) -> Self {
        let list = PodNames::default();
        list.replace(pods.iter().map(|(name, address)| pod(name, address)).collect());
        let asking = Arc::new(RwLock::default());
        let (answered, answers) = unbounded_channel();
        let lists = Arc::new(Lists::new(Book::new().metrics));
        let runner = Runner::start(Arc::clone(&asking), list, answered, lists).unwrap();
        let mut asker = Self { runner, asking, answers, engine: engine(), now: 0 };
        asker.search(&[]);
        asker
    }

    fn search(&mut self, domains: &[&str]) {
        let asking = Asking {
            timeout: Duration::from_millis(500),
            search: SearchList::new(domains, 5),
            cluster_domain: Some("cluster.local".into()),
            ..Asking::default()
        };
        *self.asking.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(asking);
    }

    fn begin(&mut self, name: &str, server: SocketAddr, record: Record) -> QuestionId {
        self.now += 1_000_000_000_000;
        let now = Instant::from_nanos(self.now);
        let planned = PlannedQuestion {
            question: Arc::new(Question { name: name.into(), server, record }),
            interval: Duration::from_mins(1),
            timeout: Duration::from_secs(1),
            exchanges: 1,
        };
        self.engine.set_questions(now, &[], 100.0);
        self.engine.set_questions(now, &[planned], 100.0);
        let later = now + Duration::from_secs(1);
        self.engine.handle_clock(reading(later));
        let Poll::Query(id) = self.engine.poll_transmit(later) else { panic!("it is due") };
        self.runner.ask(id, self.engine.question(id).unwrap());
        id
    }

    fn done(&mut self) -> (QuestionId, QueryResult) {
        loop {
            match self.runner.next_done() {
                Some(Done::Queried(id, result)) => return (id, result),
                Some(done) => panic!("{done:?}"),
                None => thread::yield_now(),
            }
        }
    }

    fn ask(&mut self, name: &str, server: SocketAddr, record: Record) -> (QueryResult, Answered) {
        let id = self.begin(name, server, record);
        let (done, result) = self.done();
        assert_eq!(done, id);
        let answered = self.answers.try_recv().unwrap();
        assert_eq!((&*answered.question.name, answered.answer.result), (name, result));
        (result, answered)
    }
}

fn pod(name: &str, address: &str) -> NamedPod {
    let id = PodId { uid: name.into(), namespace: "web".into(), name: name.into(), workload: Arc::default() };
    let address = address.parse().unwrap();
    NamedPod { id: Arc::new(id), node: "node".into(), address, port: None, own: false }
}

fn v6(name: &Name, there: &str) -> Entry {
    let IpAddr::V6(there) = there.parse().unwrap() else { panic!("{there}") };
    Entry::from_rdata(name.clone(), 0, RData::AAAA(AAAA(there)))
}

fn code(question: &Message, code: ResponseCode) -> Vec<u8> {
    let mut message = answer(question);
    message.metadata.response_code = code;
    message.to_vec().unwrap()
}

fn engine() -> Engine {
    let identity = Identity {
        source: "test".into(),
        epoch: 1,
        key: Secret([1; 16]),
        icmp_id: 1,
        source_ports_v4: vec![],
        source_ports_v6: vec![],
        closed_port: 1,
        size: 56,
        large_interval: None,
        max_pps: 100,
    };
    Engine::new(identity, reading(Instant::from_nanos(0)))
}

fn reading(mono: Instant) -> ClockReading {
    let wall = WallTime::from_nanos(i64::try_from(mono.as_nanos()).unwrap());
    ClockReading { mono, wall, suspended: Duration::ZERO, uncertainty: Duration::ZERO }
}
