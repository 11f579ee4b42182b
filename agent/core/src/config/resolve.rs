//! From text to meaning, setting by setting. What is wrong is noted, and the rest is still looked at.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::origin::{At, Origin};
use super::problem::{Fault, Problem};
use super::setting::{self, Kind, Setting};
use super::whom::Targets;
use super::written::{Given, Item, Written};
use super::{
    Agent, Buckets, Configuration, DEFAULT_PORT, Dns, Host, Listen, LogFormat, LogLevel, Probing, duration,
    target,
};
use crate::target::Protocol;

/// The longest label value, as long as the longest name.
const MAX_TEXT: usize = 253;

/// Most buckets of a histogram.
const MAX_BOUNDS: usize = 30;

/// Most name servers.
const MAX_SERVERS: usize = 32;

/// Most search domains, as glibc has them (resolv.conf(5)).
const MAX_SEARCH: usize = 32;

impl Written {
    /// What it means.
    ///
    /// # Errors
    /// Everything that is wrong with it: flags first, then files by line.
    pub fn resolve(&self, host: &Host) -> Result<Configuration, Vec<Problem>> {
        let mut resolving = Resolving { written: self, host, problems: Vec::new() };
        let targets = resolving.targets();
        let agent = resolving.agent();
        let probing = resolving.probing(targets);
        let mut problems = resolving.problems;
        match (agent, probing) {
            (Some(agent), Some(probing)) if problems.is_empty() => Ok(Configuration { agent, probing }),
            _ => {
                Problem::in_order(&mut problems);
                Err(problems)
            }
        }
    }
}

/// A time and where it was written, for what is wrong with it only in company.
#[derive(Debug, Clone)]
pub(super) struct Timed {
    pub(super) value: Duration,
    pub(super) text: String,
    pub(super) at: At,
}

pub(super) struct Resolving<'a> {
    pub(super) written: &'a Written,
    host: &'a Host,
    problems: Vec<Problem>,
}

impl Resolving<'_> {
    pub(super) fn note(&mut self, at: At, text: Option<&str>, fault: Fault) {
        self.problems.push(Problem::new(at, text, fault));
    }

    pub(super) fn note_nowhere(&mut self, fault: Fault) {
        self.problems.push(Problem { at: None, text: None, fault });
    }

    fn agent(&mut self) -> Option<Agent> {
        let source = self.source();
        let zone = self.plain_text(&setting::ZONE);
        let listen = match self.one(&setting::LISTEN) {
            None => Some(Listen::Everywhere { port: DEFAULT_PORT }),
            Some((text, at)) => {
                let address: Option<SocketAddr> = text.parse().ok();
                if address.is_none() {
                    self.note(at, Some(&text), Fault::NotListen);
                }
                address.map(Listen::At)
            }
        };
        let record = self.one(&setting::RECORD).map(|(text, _)| PathBuf::from(text));
        let log_format = self.word(&setting::LOG_FORMAT).map(|word| match &*word {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        });
        let log_level = self.word(&setting::LOG_LEVEL).map(|word| match &*word {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        });
        Some(Agent {
            source: source?,
            zone: zone?,
            listen: listen?,
            record,
            log_format: log_format?,
            log_level: log_level?,
        })
    }

    fn source(&mut self) -> Option<String> {
        let written = self.plain_text(&setting::SOURCE);
        let source = match written {
            None if self.written.get(&setting::SOURCE).is_some() => return None,
            other => other.or_else(|| self.host.name.clone()).filter(|name| !name.is_empty()),
        };
        if source.is_none() {
            let origin = Origin::Flag("--source");
            self.note(At::new(setting::SOURCE.key, origin), None, Fault::NoSource);
        }
        source
    }

    fn probing(&mut self, targets: Option<Targets>) -> Option<Probing> {
        let max_pps = self.whole(&setting::MAX_PPS).and_then(|number| u32::try_from(number).ok());
        if let (Some(max_pps), Some(targets)) = (max_pps, &targets) {
            let needed = targets.probes_per_second().ceil() as u64;
            if needed > u64::from(max_pps)
                && let Some((text, at)) = self.one(&setting::MAX_PPS)
            {
                self.note(at, Some(&text), Fault::MaxPps(needed));
            }
        }
        let (size, flows) = (self.whole(&setting::SIZE), self.whole(&setting::FLOWS));
        let closed_port = self.whole(&setting::CLOSED_PORT);
        let (planned, named, names) =
            targets.map_or((None, None, None), |all| (Some(all.planned), Some(all.named), Some(all.names)));
        let dns = self.dns(names.unwrap_or_default());
        let (mtu, mtu_interval) = (self.switch(&setting::MTU_ENABLED), self.duration(&setting::MTU_INTERVAL));
        let interception = self.switch(&setting::INTERCEPTION);
        let retain = self.duration(&setting::RETAIN);
        let buckets = self.buckets();
        let max_series = self.whole(&setting::MAX_SERIES).and_then(|number| u32::try_from(number).ok());
        Some(Probing {
            planned: planned?,
            named: named?,
            dns: dns?,
            mtu: mtu?.then_some(mtu_interval?.value),
            max_pps: max_pps?,
            size: size? as usize,
            flows: u16::try_from(flows?).ok()?,
            closed_port: u16::try_from(closed_port?).ok()?,
            interception: interception?,
            retain: retain?.value,
            max_series: max_series?,
            buckets: buckets?,
        })
    }

    fn dns(&mut self, names: Vec<super::AskedName>) -> Option<Dns> {
        let resolver = &self.host.resolver;
        let interval = self.duration(&setting::DNS_INTERVAL);
        let timeout = self.duration(&setting::DNS_TIMEOUT);
        let max_qps = self.decimal(&setting::MAX_QPS);
        let servers = (MAX_SERVERS, Fault::NotServer, &*resolver.servers);
        let servers = self.items(&setting::SERVERS, server, &servers);
        let search = (MAX_SEARCH, Fault::NotDomain, &*resolver.search);
        let search = self.items(&setting::SEARCH, domain, &search);
        let ndots = match self.one(&setting::NDOTS) {
            None => Some(resolver.ndots),
            Some(_) => self.whole(&setting::NDOTS).and_then(|number| u8::try_from(number).ok()),
        };
        let dns = Dns {
            names,
            interval: interval?.value,
            timeout: timeout?.value,
            max_qps: max_qps?,
            servers: servers?,
            search: search?,
            ndots: ndots?,
        };
        self.check_queries(&dns);
        Some(dns)
    }

    /// At worst every candidate of every name is asked of every server, for both families.
    fn check_queries(&mut self, dns: &Dns) {
        let tried = |name: &str| if name.ends_with('.') { 1 } else { dns.search.len() + 1 };
        let candidates: usize = dns.names.iter().map(|each| tried(&each.name)).sum();
        let a_round = (2 * candidates * dns.servers.len()) as f64;
        let needed = (a_round / dns.interval.as_secs_f64() * 1e3).ceil() / 1e3;
        if needed > dns.max_qps
            && let Some((text, at)) = self.one(&setting::MAX_QPS)
        {
            let fault = Fault::MaxQps {
                needed: needed.to_string(),
                tried: candidates,
                servers: dns.servers.len(),
                interval: dns.interval,
            };
            self.note(at, Some(&text), fault);
        }
    }

    fn buckets(&mut self) -> Option<Buckets> {
        let (rtt, connect) = (self.bounds(&setting::RTT_BOUNDS), self.bounds(&setting::CONNECT_BOUNDS));
        let (dns, burst) = (self.bounds(&setting::DNS_BOUNDS), self.bounds(&setting::BURST_BOUNDS));
        Some(Buckets { rtt: rtt?, connect: connect?, dns: dns?, loss_burst: burst? })
    }

    fn bounds(&mut self, setting: &'static Setting) -> Option<Arc<[f64]>> {
        let given = self.given(setting)?;
        let at = |origin: &Origin| At::new(setting.key, origin.clone());
        if given.items.is_empty() || given.items.len() > MAX_BOUNDS {
            self.note(at(&given.origin), None, Fault::BoundCount);
            return None;
        }
        let mut bounds: Vec<f64> = Vec::with_capacity(given.items.len());
        let mut last = "";
        for Item { text, origin } in &given.items {
            let bound = number(text).filter(|bound| *bound > 0.0);
            let fault = match (bound, bounds.last()) {
                (None, _) => Fault::NotBound,
                (Some(bound), _) if bound.fract() == 0.0 => Fault::WholeBound(bound),
                (Some(bound), Some(before)) if bound <= *before => Fault::BoundOrder(last.to_owned()),
                (Some(bound), _) => {
                    bounds.push(bound);
                    last = text;
                    continue;
                }
            };
            self.note(at(origin), Some(text), fault);
        }
        (bounds.len() == given.items.len()).then(|| bounds.into())
    }

    /// Each entry of a list, read by `parse`: at most so many, what is wrong with one that cannot be read, and what
    /// they are if none is written.
    fn items<T: Clone>(
        &mut self,
        setting: &'static Setting,
        parse: fn(&str) -> Option<T>,
        (most, fault, fallback): &(usize, Fault, &[T]),
    ) -> Option<Vec<T>> {
        let Some(given) = self.written.values.get(setting.key) else { return Some(fallback.to_vec()) };
        if given.items.is_empty() && setting.kind == Kind::Servers {
            self.note(At::new(setting.key, given.origin.clone()), None, Fault::EmptyList);
        }
        if given.items.len() > *most {
            self.note(At::new(setting.key, given.origin.clone()), None, Fault::TooMany(*most));
        }
        let mut parsed = Vec::with_capacity(given.items.len());
        for Item { text, origin } in &given.items {
            match parse(text) {
                Some(value) => parsed.push(value),
                None => self.note(At::new(setting.key, origin.clone()), Some(text), fault.clone()),
            }
        }
        (parsed.len() == given.items.len()).then_some(parsed)
    }

    /// The value in force and its place: as written, or the default.
    fn given(&self, setting: &'static Setting) -> Option<Given> {
        if let Some(given) = self.written.values.get(setting.key) {
            return Some(given.clone());
        }
        self.written.get(setting).map(|(text, origin)| Given::new(setting.kind, origin, &text))
    }

    fn one(&self, setting: &'static Setting) -> Option<(String, At)> {
        self.written.get(setting).map(|(text, origin)| (text, At::new(setting.key, origin)))
    }

    fn plain_text(&mut self, setting: &'static Setting) -> Option<String> {
        let (text, at) = self.one(setting)?;
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            self.note(at, None, Fault::NotPlainText);
            return None;
        }
        Some(text)
    }

    fn word(&mut self, setting: &'static Setting) -> Option<String> {
        let (text, at) = self.one(setting)?;
        let Kind::Choice(words) = setting.kind else { return None };
        if !words.contains(&&*text) {
            self.note(at, Some(&text), Fault::NotChoice(words.join(", ")));
            return None;
        }
        Some(text)
    }

    fn switch(&mut self, setting: &'static Setting) -> Option<bool> {
        let (text, at) = self.one(setting)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.note(at, Some(&text), Fault::NotSwitch);
        }
        value
    }

    pub(super) fn duration(&mut self, setting: &'static Setting) -> Option<Timed> {
        let (text, at) = self.one(setting)?;
        self.time(setting, text, at)
    }

    /// A time within the bounds of a setting.
    pub(super) fn time(&mut self, setting: &'static Setting, text: String, at: At) -> Option<Timed> {
        let Kind::Duration { min, max } = setting.kind else { return None };
        let fault = match duration::parse(&text) {
            Some(value) if (min..=max).contains(&value) => return Some(Timed { value, text, at }),
            Some(_) => Fault::DurationRange { min, max },
            None => Fault::NotDuration,
        };
        self.note(at, Some(&text), fault);
        None
    }

    fn whole(&mut self, setting: &'static Setting) -> Option<u64> {
        let (text, at) = self.one(setting)?;
        let Kind::Whole { min, max, .. } = setting.kind else { return None };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let value = text.parse().ok().filter(|number| digits && (min..=max).contains(number));
        if value.is_none() {
            self.note(at, Some(&text), Fault::NumberRange { min, max });
        }
        value
    }

    fn decimal(&mut self, setting: &'static Setting) -> Option<f64> {
        let (text, at) = self.one(setting)?;
        let Kind::Decimal { min, max, .. } = setting.kind else { return None };
        let (least, most) = (number(min)?, number(max)?);
        let value = number(&text).filter(|value| (least..=most).contains(value));
        if value.is_none() {
            self.note(at, Some(&text), Fault::DecimalRange { min, max });
        }
        value
    }

    /// The protocols of a list, each once, in label order.
    pub(super) fn protocols(&mut self, key: &'static str, given: &Given) -> Option<Vec<Protocol>> {
        let named = |label: &str| Protocol::ALL.into_iter().find(|protocol| protocol.label() == label);
        if given.items.iter().any(|item| named(&item.text).is_none()) {
            let text = given.text();
            self.note(At::new(key, given.origin.clone()), Some(&text), Fault::NotProtocols);
            return None;
        }
        let wanted: Vec<_> = given.items.iter().filter_map(|item| named(&item.text)).collect();
        Some(Protocol::ALL.into_iter().filter(|protocol| wanted.contains(protocol)).collect())
    }

    pub(super) fn default_protocols(&mut self) -> Option<Vec<Protocol>> {
        let given = self.given(&setting::PROTOCOLS)?;
        if given.items.is_empty() {
            self.note(At::new(setting::PROTOCOLS.key, given.origin.clone()), None, Fault::EmptyList);
            return None;
        }
        self.protocols(setting::PROTOCOLS.key, &given)
    }
}

/// A finite number in decimal notation, perhaps with a power of ten; no sign.
fn number(text: &str) -> Option<f64> {
    let starts = text.bytes().next()?.is_ascii_digit();
    text.parse().ok().filter(|number: &f64| starts && number.is_finite())
}

fn server(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address: Option<IpAddr> = bare.parse().ok();
    let server = address.map_or_else(|| text.parse().ok(), |address| Some(SocketAddr::new(address, 53)))?;
    (server.port() > 0 && !server.ip().is_unspecified() && !server.ip().is_multicast()).then_some(server)
}

fn domain(text: &str) -> Option<String> {
    target::is_domain(text).then(|| text.to_owned())
}

/// The bounds that hold if nobody writes any.
pub(super) fn default_buckets() -> Buckets {
    let (written, host) = (Written::default(), Host::default());
    let mut resolving = Resolving { written: &written, host: &host, problems: Vec::new() };
    resolving.buckets().expect("the defaults are valid; a test holds that")
}
