//! Name servers, names and pods' names: who is asked, how and how often.

use std::net::{IpAddr, SocketAddr};

use super::problem::Fault;
use super::resolve::Resolving;
use super::{AskedName, Dns, Endpoints, setting, target};
use crate::query::pods;

/// Most name servers.
const MAX_SERVERS: usize = 32;

/// Most search domains, as glibc has them (resolv.conf(5)).
const MAX_SEARCH: usize = 32;

/// The port of name servers.
const PORT: u16 = 53;

impl Resolving<'_> {
    pub(super) fn dns(&mut self, names: Vec<AskedName>) -> Option<Dns> {
        let resolver = &self.host.resolver;
        let interval = self.duration(&setting::DNS_INTERVAL);
        let timeout = match self.one(&setting::DNS_TIMEOUT) {
            None => Some(resolver.timeout),
            Some(_) => self.duration(&setting::DNS_TIMEOUT).map(|timeout| timeout.value),
        };
        let max_qps = self.decimal(&setting::MAX_QPS);
        let servers = (MAX_SERVERS, Fault::NotServer, &*resolver.servers);
        let servers = self.items(&setting::SERVERS, server, &servers);
        let search = (MAX_SEARCH, Fault::NotDomain, &*resolver.search);
        let search = self.items(&setting::SEARCH, domain, &search);
        let ndots = match self.one(&setting::NDOTS) {
            None => Some(resolver.ndots),
            Some(_) => self.whole(&setting::NDOTS).and_then(|number| u8::try_from(number).ok()),
        };
        let (pods, cluster_domain) = (self.switch(&setting::POD_NAMES), self.cluster_domain());
        let endpoints = self.endpoints();
        let pods = pods?;
        let dns = Dns {
            names,
            interval: interval?.value,
            timeout: timeout?,
            max_qps: max_qps?,
            servers: servers?,
            search: search?,
            ndots: ndots?,
            cluster_domain: cluster_domain.filter(|_| pods).map(Into::into),
            bare_names: pods,
            endpoints,
        };
        self.check_queries(&dns);
        Some(dns)
    }

    /// The cluster's domain as written, or as this host's own search list tells it, whatever list is used to ask.
    /// `None`: none is known, or what is written is none.
    fn cluster_domain(&mut self) -> Option<String> {
        let Some((text, at)) = self.one(&setting::CLUSTER_DOMAIN) else {
            return pods::cluster_domain(&self.host.resolver.search);
        };
        let domain = domain(&text).filter(|domain| domain != ".");
        if domain.is_none() {
            self.note(at, Some(&text), Fault::NotDomain);
        }
        domain.map(|domain| domain.trim_end_matches('.').to_owned())
    }

    /// `None`: none are to be asked, or it is wrong which.
    fn endpoints(&mut self) -> Option<Endpoints> {
        let enabled = self.switch(&setting::ENDPOINTS);
        let (text, at) = self.one(&setting::ENDPOINTS_WORKLOAD)?;
        let endpoints = endpoints(&text);
        if endpoints.is_none() {
            self.note(at, Some(&text), Fault::NotWorkload);
        }
        endpoints.filter(|_| enabled == Some(true))
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
}

/// `NAMESPACE/KIND/NAME` with or without `:PORT`.
fn endpoints(text: &str) -> Option<Endpoints> {
    let (pods, port) = match text.split_once(':') {
        Some((pods, port)) => (pods, port.parse().ok().filter(|port| *port > 0)?),
        None => (text, PORT),
    };
    let (namespace, workload) = pods.split_once('/')?;
    let (kind, name) = workload.split_once('/')?;
    let whole = pods::is_bare_name(namespace) && !kind.is_empty() && pods::is_bare_name(name);
    whole.then(|| Endpoints { namespace: namespace.into(), workload: workload.into(), port })
}

fn server(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address: Option<IpAddr> = bare.parse().ok();
    let server = address.map_or_else(|| text.parse().ok(), |address| Some(SocketAddr::new(address, PORT)))?;
    (server.port() > 0 && !server.ip().is_unspecified() && !server.ip().is_multicast()).then_some(server)
}

fn domain(text: &str) -> Option<String> {
    target::is_domain(text).then(|| text.to_owned())
}
