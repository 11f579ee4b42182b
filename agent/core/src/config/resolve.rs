//! From text to meaning, setting by setting. What is wrong is noted, and the rest is still looked at.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::cluster;
use super::origin::{At, Origin};
use super::problem::{Fault, Problem};
use super::setting::{self, Setting};
use super::whom::Targets;
use super::written::Written;
use super::{
    Agent, Buckets, Configuration, DEFAULT_PORT, Host, Listen, LogFormat, LogLevel, PodChoice, Probing,
    Selector,
};

/// Most namespaces of a list.
const MAX_NAMESPACES: usize = 1_000;

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

pub(super) struct Resolving<'a> {
    pub(super) written: &'a Written,
    pub(super) host: &'a Host,
    pub(super) problems: Vec<Problem>,
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
        let known = self.problems.len();
        let identity = self.identity();
        let identity_known = self.problems.len() == known;
        let mesh_service = self.mesh_service();
        let zone = self.plain_text(&setting::ZONE);
        let listen = self.listen(&setting::LISTEN, DEFAULT_PORT);
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
            identity: identity.filter(|_| identity_known),
            mesh_service: mesh_service?,
            listen: listen?,
            record,
            log_format: log_format?,
            log_level: log_level?,
        })
    }

    pub(super) fn listen(&mut self, setting: &'static Setting, port: u16) -> Option<Listen> {
        let Some((text, at)) = self.one(setting) else { return Some(Listen::Everywhere { port }) };
        let address: Option<SocketAddr> = text.parse().ok();
        if address.is_none() {
            self.note(at, Some(&text), Fault::NotListen);
        }
        address.map(Listen::At)
    }

    fn mesh_service(&mut self) -> Option<String> {
        let (text, at) = self.one(&setting::MESH_SERVICE)?;
        if cluster::is_label(&text) {
            return Some(text);
        }
        self.note(at, Some(&text), Fault::NotService);
        None
    }

    fn pods(&mut self) -> Option<PodChoice> {
        let namespaces = (MAX_NAMESPACES, Fault::NotNamespace, &[][..]);
        let include = self.items(&setting::PODS_INCLUDE, namespace, &namespaces);
        let exclude = self.items(&setting::PODS_EXCLUDE, namespace, &namespaces);
        let (text, at) = self.one(&setting::PODS_SELECTOR)?;
        let selector = Selector::parse(&text);
        if selector.is_none() {
            self.note(at, Some(&text), Fault::NotSelector);
        }
        let default_in = self.word(&setting::PODS_DEFAULT).map(|word| word == "in");
        Some(PodChoice { include: include?, exclude: exclude?, selector: selector?, default_in: default_in? })
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
        let mesh = self.mesh();
        let (mtu, mtu_interval) = (self.switch(&setting::MTU_ENABLED), self.duration(&setting::MTU_INTERVAL));
        let pods = self.pods();
        let interception = self.switch(&setting::INTERCEPTION);
        let retain = self.duration(&setting::RETAIN);
        let by_zone = self.word(&setting::DETAIL).map(|word| word == "zone");
        let buckets = self.buckets();
        let max_series = self.whole(&setting::MAX_SERIES).and_then(|number| u32::try_from(number).ok());
        Some(Probing {
            planned: planned?,
            named: named?,
            dns: dns?,
            mesh: mesh?,
            pods: pods?,
            mtu: mtu?.then_some(mtu_interval?.value),
            max_pps: max_pps?,
            size: size? as usize,
            flows: u16::try_from(flows?).ok()?,
            closed_port: u16::try_from(closed_port?).ok()?,
            interception: interception?,
            retain: retain?.value,
            max_series: max_series?,
            by_zone: by_zone?,
            buckets: buckets?,
        })
    }

    fn buckets(&mut self) -> Option<Buckets> {
        let (rtt, connect) = (self.bounds(&setting::RTT_BOUNDS), self.bounds(&setting::CONNECT_BOUNDS));
        let (dns, burst) = (self.bounds(&setting::DNS_BOUNDS), self.bounds(&setting::BURST_BOUNDS));
        let http = self.bounds(&setting::HTTP_BOUNDS);
        let first_reply = self.bounds(&setting::FIRST_REPLY_BOUNDS);
        Some(Buckets {
            rtt: rtt?,
            connect: connect?,
            dns: dns?,
            http: http?,
            loss_burst: burst?,
            first_reply: first_reply?,
        })
    }
}

fn namespace(text: &str) -> Option<String> {
    cluster::is_label(text).then(|| text.to_owned())
}

/// The bounds that hold if nobody writes any.
pub(super) fn default_buckets() -> Buckets {
    let (written, host) = (Written::default(), Host::default());
    let mut resolving = Resolving { written: &written, host: &host, problems: Vec::new() };
    resolving.buckets().expect("the defaults are valid; a test holds that")
}
