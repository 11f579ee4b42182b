//! Targets and names: which streams they are, and which names have to be asked for.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::origin::{At, Origin};
use super::problem::Fault;
use super::resolve::Resolving;
use super::setting::{INTERVAL, TIMEOUT};
use super::target::{self, Whom};
use super::values::Timed;
use super::written::WrittenTarget;
use super::{AskedName, NamePlan, TCP_MIN_INTERVAL, TCP_TIMEOUT_LIMIT};
use crate::target::{Family, Kind, Planned, Protocol, Stream, Target};

/// What is to be probed and asked for.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) planned: Vec<Planned>,
    pub(super) named: Vec<NamePlan>,
    pub(super) names: Vec<AskedName>,
}

impl Targets {
    /// Probes that fall due each second, if each name has one address of each family.
    pub(super) fn probes_per_second(&self) -> f64 {
        let fixed: f64 = self.planned.iter().map(|each| each.interval.as_secs_f64().recip()).sum();
        let streams = |plan: &NamePlan| (plan.protocols.len() * Family::ALL.len()) as f64;
        let named: f64 = self.named.iter().map(|plan| streams(plan) / plan.interval.as_secs_f64()).sum();
        fixed + named
    }
}

/// What holds for targets that say nothing else.
struct Common {
    protocols: Option<Vec<Protocol>>,
    protocols_written: bool,
    interval: Option<Timed>,
    timeout: Option<Timed>,
}

/// What was seen so far: equal targets count once, as first written.
#[derive(Default)]
struct Seen<'a> {
    fixed: HashSet<(IpAddr, Option<u16>)>,
    named: HashSet<(String, Option<u16>)>,
    /// Each name's place among the names, and where its addresses are written.
    names: HashMap<String, (usize, Option<&'a Origin>)>,
}

/// How one target is asked.
struct Plan {
    protocols: Vec<Protocol>,
    /// Whether nobody wrote the ICMP among them: it goes beside a port.
    icmp_presumed: bool,
    interval: Option<Timed>,
    timeout: Option<Timed>,
}

impl<'a> Resolving<'a> {
    /// Every target and name of every place; `None` if times or protocols are not known.
    pub(super) fn targets(&mut self) -> Option<Targets> {
        let written = self.written;
        let common = Common {
            protocols: self.default_protocols(),
            protocols_written: written.values.contains_key(super::setting::PROTOCOLS.key),
            interval: self.duration(&INTERVAL),
            timeout: self.duration(&TIMEOUT),
        };
        let none = written.targets.is_empty() && written.listed.is_empty() && written.names.is_empty();
        if none && !self.has_mesh() {
            self.note_nowhere(Fault::NoTargets);
        }
        let (mut targets, mut seen, mut complete) = (Targets::default(), Seen::default(), true);
        let entries = written.targets.iter().chain(&written.listed).map(|each| (each, false));
        for (each, named) in entries.chain(written.names.iter().map(|each| (each, true))) {
            complete &= self.add(each, named, &common, &mut seen, &mut targets).is_some();
        }
        complete.then_some(targets)
    }

    /// `None` if something is wrong with it, which has been noted.
    fn add(
        &mut self,
        written: &'a WrittenTarget,
        named: bool,
        common: &Common,
        seen: &mut Seen<'a>,
        targets: &mut Targets,
    ) -> Option<()> {
        let (whom, port) = match target::parse(&written.text) {
            Ok(parsed) => parsed,
            Err(problem) => {
                let text = written.text.clone();
                self.note(written.at.clone(), None, Fault::Target { text, problem });
                return None;
            }
        };
        if matches!(whom, Whom::Address(_)) {
            let text = || written.text.clone();
            let fault = match (named, written.expect.is_empty()) {
                (true, _) => Some(Fault::NotName(text())),
                (false, false) => Some(Fault::ExpectOfAddress(text())),
                (false, true) => None,
            };
            if let Some(fault) = fault {
                self.note(written.at.clone(), None, fault);
                return None;
            }
        }
        let plan = self.plan(written, &whom, port, common)?;
        match whom {
            Whom::Address(address) => {
                let (interval, timeout) = (plan.interval?.value, plan.timeout?.value);
                if seen.fixed.insert((address, port)) {
                    let label = written.text.as_str().into();
                    let target = Arc::new(Target::new(Kind::Fixed, label, address, port));
                    targets.planned.extend(plan.protocols.into_iter().map(|protocol| Planned {
                        stream: Stream { target: Arc::clone(&target), protocol },
                        interval,
                        timeout,
                        presumed: plan.icmp_presumed && protocol == Protocol::Icmp,
                    }));
                }
                Some(())
            }
            Whom::Name(name) => {
                let asked = self.ask(written, name, seen, targets)?;
                let (interval, timeout) = (plan.interval?.value, plan.timeout?.value);
                if seen.named.insert((target::normal(name), port)) && !plan.protocols.is_empty() {
                    let (label, protocols) = (written.text.as_str().into(), plan.protocols);
                    targets.named.push(NamePlan {
                        written: label,
                        name: asked,
                        port,
                        protocols,
                        icmp_presumed: plan.icmp_presumed,
                        interval,
                        timeout,
                    });
                }
                Some(())
            }
        }
    }

    /// Its own settings, or those that hold for all.
    fn plan(
        &mut self,
        written: &WrittenTarget,
        whom: &Whom<'_>,
        port: Option<u16>,
        common: &Common,
    ) -> Option<Plan> {
        let key = &written.at.key;
        let beside = |what: &str, origin: &Origin| At::new(format!("{key}.{what}"), origin.clone());
        let interval = match &written.interval {
            None => common.interval.clone(),
            Some(own) => self.time(&INTERVAL, own.text.clone(), beside("interval", &own.origin)),
        };
        let timeout = match &written.timeout {
            None => common.timeout.clone(),
            Some(own) => self.time(&TIMEOUT, own.text.clone(), beside("timeout", &own.origin)),
        };
        let protocols = match &written.protocols {
            None => common.protocols.clone(),
            Some(own) => {
                let key = if key == "targets" { "targets.protocols" } else { "dns.names.protocols" };
                self.protocols(key, own)
            }
        };
        // A name may be written only to be asked for.
        let only_asked = matches!(whom, Whom::Name(_))
            && written.protocols.as_ref().is_some_and(|own| own.items.is_empty());
        let usable = |protocol: &Protocol| *protocol == Protocol::Icmp || port.is_some();
        let protocols: Vec<_> = protocols?.into_iter().filter(usable).collect();
        if protocols.is_empty() && !only_asked {
            self.note(written.at.clone(), None, Fault::NoProtocol(written.text.clone()));
            return None;
        }
        self.check_tcp(&protocols, interval.as_ref(), timeout.as_ref());
        let icmp_presumed = port.is_some() && written.protocols.is_none() && !common.protocols_written;
        Some(Plan { protocols, icmp_presumed, interval, timeout })
    }

    fn check_tcp(&mut self, protocols: &[Protocol], interval: Option<&Timed>, timeout: Option<&Timed>) {
        if protocols.iter().any(|protocol| *protocol != Protocol::Icmp)
            && let Some(interval) = interval.filter(|interval| interval.value < TCP_MIN_INTERVAL)
        {
            self.note(interval.at.clone(), Some(&interval.text), Fault::TcpInterval);
        }
        if protocols.contains(&Protocol::Tcp)
            && let Some(timeout) = timeout.filter(|timeout| timeout.value >= TCP_TIMEOUT_LIMIT)
        {
            self.note(timeout.at.clone(), Some(&timeout.text), Fault::TcpTimeout);
        }
    }

    /// Notes that a name has to be asked for, and which addresses are right; returns it as first written.
    fn ask(
        &mut self,
        written: &'a WrittenTarget,
        name: &str,
        seen: &mut Seen<'a>,
        targets: &mut Targets,
    ) -> Option<Arc<str>> {
        let mut expect: Vec<IpAddr> = Vec::with_capacity(written.expect.len());
        for item in &written.expect {
            if let Ok(address) = item.text.parse() {
                expect.push(address);
            } else {
                let at = At::new(format!("{}.expect", written.at.key), item.origin.clone());
                self.note(at, Some(&item.text), Fault::NotAddress);
            }
        }
        if expect.len() < written.expect.len() {
            return None;
        }
        let place = targets.names.len();
        let (place, expected_at) = seen.names.entry(target::normal(name)).or_insert((place, None));
        if *place == targets.names.len() {
            targets.names.push(AskedName { name: name.into(), expect: Vec::new() });
        }
        let asked = targets.names.get_mut(*place)?;
        if !expect.is_empty() {
            match *expected_at {
                None => {
                    *expected_at = Some(&written.at.origin);
                    asked.expect = expect;
                }
                Some(_) if asked.expect == expect => {}
                Some(first) => {
                    let first = first.clone();
                    self.note(written.at.clone(), Some(&written.text), Fault::ExpectTwice(first));
                    return None;
                }
            }
        }
        Some(Arc::clone(&asked.name))
    }
}
