//! What is to be probed and asked just now: addresses as written, what names resolve to, and the control.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::config::Probing;
use podsonar_core::engine::{PlannedQuestion, Question};
use podsonar_core::query::Record;
use podsonar_core::query::search::SearchList;
use podsonar_core::target::{Family, Kind, Planned, Protocol, Stream, Target};
use podsonar_core::wire::{Channel, Transport};

use crate::degrade::{self, MeansByChannel};
use crate::discovery::names::Names;
use crate::probe::dns::Answer;
use crate::probe::runner::Asking;

/// How often the control is probed.
const CONTROL_INTERVAL: Duration = Duration::from_secs(1);

/// Loopback answers within microseconds; this is the ordinary timeout, so that the control is judged as all else is.
const CONTROL_TIMEOUT: Duration = Duration::from_millis(800);

/// Puts together what is probed.
#[derive(Debug)]
pub struct Plan {
    source: Arc<str>,
    zone: Arc<str>,
    probing: Probing,
    names: Names,
    addresses: BTreeMap<Arc<str>, Vec<IpAddr>>,
    search: SearchList,
}

impl Plan {
    /// The plan of an agent whose labels `source` and `source_zone` are these.
    pub fn new(source: &str, zone: &str, probing: Probing) -> Self {
        let search = search_list(&probing);
        let (names, addresses) = (Names::default(), BTreeMap::new());
        let mut plan = Self { source: source.into(), zone: zone.into(), probing, names, addresses, search };
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
        let dns = &self.probing.dns;
        let names = dns.names.iter().map(|asked| Arc::clone(&asked.name));
        self.names.configure(names, dns.servers.iter().copied());
        self.addresses = self.names.snapshot();
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
        let (mut planned, _) =
            degrade::degrade(self.probing.planned.iter().cloned().chain(named).collect(), means);
        planned.extend(self.control(&planned));
        planned
    }

    /// Every question to be asked.
    pub fn questions(&self) -> Vec<PlannedQuestion> {
        let dns = &self.probing.dns;
        let mut questions = Vec::new();
        for asked in &dns.names {
            let exchanges = self.search.candidates(&asked.name).len() as u32;
            for &server in &dns.servers {
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
        questions
    }

    /// How questions are asked.
    pub fn asking(&self) -> Asking {
        let dns = &self.probing.dns;
        let expect = dns.names.iter().filter(|asked| !asked.expect.is_empty());
        Asking {
            expect: expect.map(|asked| (Arc::clone(&asked.name), asked.expect.as_slice().into())).collect(),
            timeout: dns.timeout,
            search: self.search.clone(),
        }
    }

    /// Whether some TCP target is beyond loopback, so that it matters if something answers for everybody.
    pub fn has_distant_tcp(&self) -> bool {
        let distant = |each: &Planned| {
            each.stream.protocol != Protocol::Icmp && !each.stream.target.address.is_loopback()
        };
        let named = self.probing.named.iter().flat_map(|plan| &plan.protocols);
        self.probing.planned.iter().any(distant) || named.into_iter().any(|each| *each != Protocol::Icmp)
    }

    /// TCP ports of targets, each once.
    pub fn tcp_ports(&self) -> Vec<u16> {
        let fixed = self.probing.planned.iter().filter_map(|each| each.stream.target.port);
        let ports: BTreeSet<u16> =
            fixed.chain(self.probing.named.iter().filter_map(|plan| plan.port)).collect();
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
                control.push(Planned { stream, interval: CONTROL_INTERVAL, timeout: CONTROL_TIMEOUT });
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
    Channel::ALL.into_iter().filter(|channel| used.contains(channel)).collect()
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

    fn plan(file: &str) -> Plan {
        let mut written = Written::default();
        written.read("f", file).unwrap();
        let host = Host { name: Some("host".into()), ..Host::default() };
        Plan::new("host", "", written.resolve(&host).unwrap().probing)
    }
}
