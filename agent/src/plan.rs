//! What is to be probed and asked just now: addresses as written, what names resolve to, and the control.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::config::Probing;
use podsonar_core::engine::{PlannedQuestion, Question};
use podsonar_core::query::Record;
use podsonar_core::query::pods::{BARE_POD_NAMES, POD_NAMES, Turns};
use podsonar_core::query::search::SearchList;
use podsonar_core::target::{Family, Kind, Planned, Protocol, Stream, Target};
use podsonar_core::wire::{Channel, Transport};

use crate::degrade::{self, MeansByChannel};
use crate::discovery::names::Names;
use crate::discovery::pod_names::{NamedPod, PodNames};
use crate::probe::dns::Answer;
use crate::probe::runner::Asking;

/// How often the control is probed.
const CONTROL_INTERVAL: Duration = Duration::from_secs(1);

/// Loopback answers within microseconds; this is the ordinary timeout, so that the control is judged as all else is.
const CONTROL_TIMEOUT: Duration = Duration::from_millis(800);

/// No answer of a pod by then is loss.
const POD_TIMEOUT: Duration = Duration::from_millis(800);

/// Name servers that discovery found take this share of the queries at most, so that they are not too much together.
const ENDPOINTS_SHARE: f64 = 0.9;

/// Puts together what is probed.
#[derive(Debug)]
pub struct Plan {
    source: Arc<str>,
    zone: Arc<str>,
    probing: Probing,
    names: Names,
    addresses: BTreeMap<Arc<str>, Vec<IpAddr>>,
    search: SearchList,
    pods: PodNames,
    /// What the mesh wants probed.
    mesh: Vec<Planned>,
    /// The pods of the cluster's name server, while they are to be asked and any are known.
    endpoints: Vec<SocketAddr>,
}

impl Plan {
    /// The plan of an agent whose labels `source` and `source_zone` are these.
    pub fn new(source: &str, zone: &str, probing: Probing) -> Self {
        let search = search_list(&probing);
        let mut plan = Self {
            source: source.into(),
            zone: zone.into(),
            probing,
            names: Names::default(),
            addresses: BTreeMap::new(),
            search,
            pods: PodNames::default(),
            mesh: Vec::new(),
            endpoints: Vec::new(),
        };
        plan.configure();
        plan
    }

    /// Other settings: what names resolve to is kept.
    pub fn replace(&mut self, probing: Probing) {
        self.search = search_list(&probing);
        self.probing = probing;
        self.configure();
    }

    fn configure(&mut self) {
        let servers = self.servers().to_vec();
        let names = self.probing.dns.names.iter().map(|asked| Arc::clone(&asked.name));
        self.names.configure(names, servers);
        self.addresses = self.names.snapshot();
    }

    /// Other agents, pods and nodes are probed than before.
    pub fn take_mesh(&mut self, planned: Vec<Planned>) {
        self.mesh = planned;
    }

    /// Whose names are asked for: whoever carries questions out takes them from there.
    pub fn pods(&self) -> &PodNames {
        &self.pods
    }

    /// Other pods are there, or other pods of the cluster's name server. Returns whether other questions are to be asked
    /// than before.
    pub fn take_pods(&mut self, named: Vec<NamedPod>, endpoints: Vec<SocketAddr>) -> bool {
        let asked = |plan: &Self| (plan.turns(), plan.pods.has_v4(), plan.servers().to_vec());
        let before = asked(self);
        self.pods.replace(named);
        self.endpoints = endpoints;
        let changed = before != asked(self);
        if changed {
            self.configure();
        }
        changed
    }

    /// The name servers that are asked.
    pub fn servers(&self) -> &[SocketAddr] {
        let dns = &self.probing.dns;
        if dns.endpoints.is_some() && !self.endpoints.is_empty() { &self.endpoints } else { &dns.servers }
    }

    /// A pod's name was resolved to its address, as it must be: what is to be probed once.
    pub fn once(&self, pod: &NamedPod, means: MeansByChannel) -> Vec<Planned> {
        let mesh = &self.probing.mesh;
        let port = pod.port.unwrap_or(self.probing.closed_port);
        let target = Target::new(Kind::Name, POD_NAMES.into(), pod.address, Some(port));
        let target = Arc::new(Target { pod: Some(Arc::clone(&pod.id)), ..target });
        let interval = if pod.own { mesh.own_pods_interval } else { mesh.pods_interval };
        let planned = [Protocol::Icmp, Protocol::Tcp].map(|protocol| Planned {
            stream: Stream { target: Arc::clone(&target), protocol },
            interval,
            timeout: POD_TIMEOUT,
            presumed: true,
        });
        degrade::degrade(planned.into(), means).0
    }

    /// The settings.
    pub fn probing(&self) -> &Probing {
        &self.probing
    }

    /// A name server has answered, or not. Returns whether other addresses are to be probed from now on.
    pub fn answered(&mut self, question: &Question, answer: &Answer) -> bool {
        let Question { name, server, record } = question;
        if !self.names.answer(name, *server, *record, answer.result, &answer.addresses) {
            return false;
        }
        self.addresses.insert(Arc::clone(name), self.names.addresses(name));
        self.probing.named.iter().any(|plan| plan.name == *name)
    }

    /// The addresses of a name that are probed now.
    pub fn addresses(&self, name: &str) -> &[IpAddr] {
        self.addresses.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Names that have no address now, each once, with however many ports it is to be probed.
    pub fn unresolved(&self) -> usize {
        let named: HashSet<&str> = self.probing.named.iter().map(|plan| &*plan.name).collect();
        named.into_iter().filter(|name| self.addresses(name).is_empty()).count()
    }

    /// Every stream to be probed, with these means.
    pub fn planned(&self, means: MeansByChannel) -> Vec<Planned> {
        let named = self.probing.named.iter().flat_map(|plan| plan.planned(self.addresses(&plan.name)));
        let (mut planned, _) = degrade::degrade(
            self.probing.planned.iter().chain(&self.mesh).cloned().chain(named).collect(),
            means,
        );
        planned.extend(self.control(&planned));
        planned
    }

    /// Every question to be asked: about configured names, and with what these leave of the ceiling about pods.
    pub fn questions(&self) -> Vec<PlannedQuestion> {
        let mut questions = self.about_names();
        let Turns { names, bare } = self.turns();
        let timeout = self.probing.dns.timeout;
        let mut about = |name: &str, record, interval, exchanges| {
            let name: Arc<str> = name.into();
            questions.extend(self.servers().iter().map(|&server| PlannedQuestion {
                question: Arc::new(Question { name: Arc::clone(&name), server, record }),
                interval,
                timeout: timeout * exchanges,
                exchanges,
            }));
        };
        if let Some(interval) = bare {
            let record = if self.pods.has_v4() { Record::A } else { Record::Aaaa };
            about(BARE_POD_NAMES, record, interval, self.bare_exchanges());
        }
        for (record, interval) in Record::ALL.into_iter().zip(names) {
            if let Some(interval) = interval {
                about(POD_NAMES, record, interval, 1);
            }
        }
        questions
    }

    fn about_names(&self) -> Vec<PlannedQuestion> {
        let dns = &self.probing.dns;
        let mut questions = Vec::new();
        for asked in &dns.names {
            let exchanges = self.search.candidates(&asked.name).len() as u32;
            for &server in self.servers() {
                for record in Record::ALL {
                    let question = Question { name: Arc::clone(&asked.name), server, record };
                    questions.push(PlannedQuestion {
                        question: Arc::new(question),
                        interval: dns.interval,
                        timeout: dns.timeout * exchanges,
                        exchanges,
                    });
                }
            }
        }
        // Configured servers were found to be few enough; of those that were found nobody knew.
        let needed = per_second(&questions) / (dns.max_qps * ENDPOINTS_SHARE);
        if !self.endpoints.is_empty() && needed > 1.0 {
            for each in &mut questions {
                each.interval = each.interval.mul_f64(needed);
            }
        }
        questions
    }

    /// How often pods' names can be asked for.
    fn turns(&self) -> Turns {
        let dns = &self.probing.dns;
        let mut askable = self.pods.askable(self.servers().len(), self.bare_exchanges() as usize);
        if dns.cluster_domain.is_none() {
            askable.names = Default::default();
        }
        if !dns.bare_names {
            askable.bare = 0;
        }
        Turns::new(&askable, dns.max_qps - per_second(&self.about_names()), dns.interval)
    }

    /// How many names are asked for one bare name, at most.
    fn bare_exchanges(&self) -> u32 {
        self.search.domains_only().candidates(BARE_POD_NAMES).len() as u32
    }

    /// How questions are asked.
    pub fn asking(&self) -> Asking {
        let dns = &self.probing.dns;
        let expect = dns.names.iter().filter(|asked| !asked.expect.is_empty());
        Asking {
            expect: expect.map(|asked| (Arc::clone(&asked.name), asked.expect.as_slice().into())).collect(),
            timeout: dns.timeout,
            search: self.search.clone(),
            cluster_domain: dns.cluster_domain.clone(),
        }
    }

    /// Whether some TCP target is beyond loopback, so that it matters if something answers for everybody.
    pub fn has_distant_tcp(&self) -> bool {
        let distant = |each: &Planned| {
            each.stream.protocol != Protocol::Icmp && !each.stream.target.address.is_loopback()
        };
        let named = self.probing.named.iter().flat_map(|plan| &plan.protocols);
        self.probing.mesh.enabled
            || self.probing.planned.iter().any(distant)
            || named.into_iter().any(|each| *each != Protocol::Icmp)
    }

    /// TCP ports of targets, each once.
    pub fn tcp_ports(&self) -> Vec<u16> {
        let fixed = self.probing.planned.iter().filter_map(|each| each.stream.target.port);
        let named = self.probing.named.iter().filter_map(|plan| plan.port);
        // Of the ports of pods that will be found nobody knows; a closed one stands for them.
        let closed = self.probing.mesh.enabled.then_some(self.probing.closed_port);
        let ports: BTreeSet<u16> = fixed.chain(named).chain(closed).collect();
        ports.into_iter().collect()
    }

    /// The same protocols over loopback: what they show is this host's own doing.
    fn control(&self, planned: &[Planned]) -> Vec<Planned> {
        let used: HashSet<(Protocol, Family)> =
            planned.iter().map(|each| (each.stream.protocol, each.stream.family())).collect();
        let mut control = Vec::new();
        for family in Family::ALL {
            let address: IpAddr = match family {
                Family::V4 => Ipv4Addr::LOCALHOST.into(),
                Family::V6 => Ipv6Addr::LOCALHOST.into(),
            };
            let port = Some(self.probing.closed_port);
            let target = Target::new(Kind::Control, Arc::clone(&self.source), address, port);
            let target = Arc::new(Target { zone: Arc::clone(&self.zone), ..target });
            for protocol in Protocol::ALL.into_iter().filter(|protocol| used.contains(&(*protocol, family))) {
                let stream = Stream { target: Arc::clone(&target), protocol };
                control.push(Planned {
                    stream,
                    interval: CONTROL_INTERVAL,
                    timeout: CONTROL_TIMEOUT,
                    presumed: false,
                });
            }
        }
        control
    }
}

/// The channels that may be needed: what the addresses want, and both families for names.
pub fn channels(probing: &Probing) -> Vec<Channel> {
    let mut used: HashSet<Channel> =
        probing.planned.iter().filter_map(|each| each.stream.channel()).collect();
    for protocol in probing.named.iter().flat_map(|plan| &plan.protocols) {
        if let Some(protocol) = Transport::of(*protocol) {
            used.extend(Family::ALL.map(|family| Channel { protocol, family }));
        }
    }
    Channel::ALL.into_iter().filter(|channel| probing.mesh.enabled || used.contains(channel)).collect()
}

/// Exchanges a second that these take at most.
fn per_second(questions: &[PlannedQuestion]) -> f64 {
    questions.iter().map(|each| f64::from(each.exchanges) / each.interval.as_secs_f64()).sum()
}

fn search_list(probing: &Probing) -> SearchList {
    SearchList::new(&probing.dns.search, u32::from(probing.dns.ndots))
}

#[cfg(test)]
mod tests {
    use podsonar_core::config::{Host, Written};
    use podsonar_core::query::QueryResult;

    use super::*;

    #[test]
    fn a_name_with_two_ports_is_one_that_does_not_resolve() {
        let mut plan = plan("targets: ['web.:80', 'web.:443', 'db.']");
        assert_eq!(plan.unresolved(), 2);
        let question =
            Question { name: "web.".into(), server: "127.0.0.1:53".parse().unwrap(), record: Record::A };
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        let answer = Answer { result: QueryResult::NoError, addresses, exchanges: Vec::new() };
        assert!(plan.answered(&question, &answer));
        assert_eq!(plan.unresolved(), 1);
    }

    #[test]
    fn pods_names_take_turns_with_what_configured_names_leave() {
        let mut plan = cluster("dns: {names: [a.test., b.test.], max_qps: 1, interval: 10s}");
        assert!(plan.questions().iter().all(|each| !each.question.name.ends_with("pod")));
        let all: Vec<_> = (1..=200).map(|last| pod(&format!("10.0.0.{last}"), false)).collect();
        assert!(plan.take_pods(all.clone(), Vec::new()));
        let questions = plan.questions();
        let rate = |wanted: fn(&str) -> bool| {
            let wanted: Vec<_> =
                questions.iter().filter(|each| wanted(&each.question.name)).cloned().collect();
            per_second(&wanted)
        };
        let (configured, bare) = (rate(|name| name.ends_with(".test.")), rate(|name| name == "bare_pod"));
        let names = rate(|name| name == "pod");
        assert!((configured - 0.4).abs() < 1e-9 && (bare - 3.0 / 60.0).abs() < 1e-9, "{configured} {bare}");
        assert!((names - (0.54 - 0.05)).abs() < 1e-6, "{names}");
        let about_pods = questions.iter().filter(|each| each.question.name.ends_with("pod"));
        assert!(about_pods.clone().all(|each| each.question.record == Record::A));
        assert_eq!(about_pods.count(), 2);
        // One more pod, as they come and go: nothing is planned anew.
        assert!(!plan.take_pods(all[..199].to_vec(), Vec::new()));
        assert!(plan.take_pods([all, vec![pod("fd00::1", true)]].concat(), Vec::new()));
        let v6 = plan.questions().into_iter().filter(|each| each.question.record == Record::Aaaa);
        assert_eq!(v6.filter(|each| &*each.question.name == "pod").count(), 1);
        assert!(plan.take_pods(Vec::new(), Vec::new()));
    }

    #[test]
    fn without_a_cluster_domain_or_where_it_is_not_wanted_no_pods_name_is_asked_for() {
        let names = |file: &str, domains: &[&str]| {
            let mut plan = with_search(file, domains);
            plan.take_pods(vec![pod("10.0.0.1", false)], Vec::new());
            let questions = plan.questions();
            questions.iter().map(|each| each.question.name.to_string()).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(names("dns: {names: [], max_qps: 1}", &["example.com"]), ["bare_pod"]);
        assert_eq!(names("dns: {cluster_domain: k8s.test, max_qps: 1}", &[]), ["pod"]);
        assert_eq!(names("dns: {pods: false, max_qps: 1}", &CLUSTER), none);
    }

    #[test]
    fn known_pods_of_the_name_server_are_asked_instead_of_its_service_and_less_often_where_they_are_many() {
        let file = "dns: {names: [a.test.], max_qps: 1, interval: 10s, endpoints: true}";
        let mut plan = cluster(file);
        let service: SocketAddr = "10.96.0.10:53".parse().unwrap();
        let asked =
            |plan: &Plan| plan.questions().iter().map(|each| each.question.server).collect::<BTreeSet<_>>();
        assert_eq!(asked(&plan), BTreeSet::from([service]));
        let pods: Vec<SocketAddr> = (1..=8).map(|last| ([10, 0, 0, last], 53).into()).collect();
        assert!(plan.take_pods(vec![pod("10.0.0.1", false)], pods.clone()));
        assert_eq!(asked(&plan), pods.iter().copied().collect());
        assert!(per_second(&plan.questions()) <= 1.0);
        let question = Question { name: "a.test.".into(), server: pods[0], record: Record::A };
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        let answer = Answer { result: QueryResult::NoError, addresses, exchanges: Vec::new() };
        plan.answered(&question, &answer);
        assert_eq!(plan.addresses("a.test.").len(), 1);
        assert!(plan.take_pods(Vec::new(), Vec::new()));
        assert_eq!(asked(&plan), BTreeSet::from([service]));
        // Not asked for: they change nothing.
        let mut plan = cluster("dns: {names: [a.test.], max_qps: 1}");
        assert!(!plan.take_pods(Vec::new(), pods));
        assert_eq!(asked(&plan), BTreeSet::from([service]));
    }

    #[test]
    fn the_address_behind_a_pods_name_is_probed_by_icmp_and_at_its_port_or_a_closed_one() {
        let plan = cluster("dns: {max_qps: 1}");
        let means = [Some(degrade::Means::Raw); Channel::ALL.len()];
        for port in [Some(8080), None] {
            let planned = plan.once(&NamedPod { port, ..pod("10.0.0.1", false) }, means);
            let protocols: Vec<_> = planned.iter().map(|each| each.stream.protocol).collect();
            assert_eq!(protocols, [Protocol::Icmp, Protocol::Tcp]);
            let target = &planned[0].stream.target;
            assert_eq!((&*target.destination, &*target.zone, target.kind), ("pod", "", Kind::Name));
            assert_eq!(target.port, port.or(Some(1)));
            assert!(target.is_pods_name());
        }
    }

    fn pod(address: &str, own: bool) -> NamedPod {
        let id = podsonar_core::target::PodId {
            uid: address.into(),
            namespace: "web".into(),
            name: "web-1".into(),
            workload: Arc::default(),
        };
        NamedPod { id: Arc::new(id), node: "node".into(), address: address.parse().unwrap(), port: None, own }
    }

    const CLUSTER: [&str; 3] = ["web.svc.cluster.local", "svc.cluster.local", "cluster.local"];

    /// The plan of an agent whose host is a pod of a cluster.
    fn cluster(file: &str) -> Plan {
        with_search(file, &CLUSTER)
    }

    fn with_search(file: &str, domains: &[&str]) -> Plan {
        let mut written = Written::default();
        written.read("f", &format!("targets: [192.0.2.1]\n{file}")).unwrap();
        let resolver = podsonar_core::config::Resolver {
            servers: vec![([10, 96, 0, 10], 53).into()],
            search: domains.iter().map(ToString::to_string).collect(),
            ndots: 5,
            ..podsonar_core::config::Resolver::default()
        };
        let host = Host { name: Some("host".into()), resolver, ..Host::default() };
        Plan::new("host", "", written.resolve(&host).unwrap().probing)
    }

    fn plan(file: &str) -> Plan {
        let mut written = Written::default();
        written.read("f", file).unwrap();
        let host = Host { name: Some("host".into()), ..Host::default() };
        Plan::new("host", "", written.resolve(&host).unwrap().probing)
    }
}
