//! An agent's host, a far one with the addresses of all names, and real name servers beside it.
#![expect(clippy::panic, reason = "what a test waited for in vain says all that is known")]

use nix::sys::signal::Signal;
use podsonar_lab::agent::Launch;
use podsonar_lab::capture::{Capture, Captured};
use podsonar_lab::clock::soon;
use podsonar_lab::lab::Veth;
use podsonar_lab::packet::{Body, Packet, TCP};
use podsonar_lab::scrape::Scrape;
use podsonar_lab::server::dns::{Dns, Zone};
use podsonar_lab::{Agent, Host, Lab};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

/// Under /run, which is the host's own and vanishes with it.
pub(crate) const FILE: &str = "/run/podsonar.yaml";

/// Everything but the agent.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) near: Host,
    /// It answers for 10.77.0.0/16 and `fd77::/64`.
    pub(crate) far: Host,
    /// Where name servers run, at [`World::server`].
    pub(crate) names: Host,
    pub(crate) road: Veth,
    to_names: Veth,
}

/// What the agent's configuration says.
#[derive(Debug, Clone)]
pub(crate) struct Asking<'a> {
    pub(crate) names: &'a [&'a str],
    pub(crate) targets: &'a [&'a str],
    /// `None`: what the host's resolv.conf says.
    pub(crate) servers: Option<Vec<IpAddr>>,
    pub(crate) search: Option<&'a [&'a str]>,
    pub(crate) interval: &'a str,
    pub(crate) timeout: &'a str,
}

/// A running agent and its configuration's place.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    pub(crate) agent: Agent,
    world: &'a World,
}

impl World {
    pub(crate) fn new() -> Self {
        let lab = Lab::new().expect("a lab");
        let host = |name| lab.host(name).expect("a host");
        let (near, far, names) = (host("near"), host("far"), host("names"));
        let road = lab.veth(&near, &far).expect("a road");
        let to_names = lab.veth(&near, &names).expect("a road to the name server");
        for prefix in ["10.77.0.0/16", "fd77::/64"] {
            far.answer_for(prefix).expect("addresses");
        }
        near.route("10.77.0.0/16", road.right.v4).expect("a route");
        near.route("fd77::/64", road.right.v6).expect("a route");
        Self { near, far, names, road, to_names }
    }

    /// The address that name servers have.
    pub(crate) fn server(&self) -> IpAddr {
        self.to_names.right.v4.into()
    }

    pub(crate) fn serve(&self, zones: &[Zone]) -> Dns {
        Dns::start(&self.names, &[self.server()], zones).expect("a name server")
    }

    /// Asks the server each second for these names, and probes what they have each 250 ms.
    pub(crate) fn asking<'a>(&self, names: &'a [&'a str]) -> Asking<'a> {
        Asking {
            names,
            targets: &[],
            servers: Some(vec![self.server()]),
            search: Some(&[]),
            interval: "250ms",
            timeout: "2s",
        }
    }

    pub(crate) fn start(&self, asking: &Asking<'_>) -> Running<'_> {
        asking.write(&self.near);
        let agent = Launch::on(&self.near).arguments(&["--config", FILE]).start().expect("the agent");
        Running { agent, world: self }
    }

    /// Starts an agent that has these files, its configuration among them.
    pub(crate) fn start_as(&self, files: &[(&str, String)]) -> Running<'_> {
        for (path, text) in files {
            self.near.write_file(Path::new(path), text.as_bytes(), 0o644).expect("a file");
        }
        let agent = Launch::on(&self.near).arguments(&["--config", FILE]).start().expect("the agent");
        Running { agent, world: self }
    }

    /// All packets on the way to the far host.
    pub(crate) fn capture(&self) -> Capture {
        self.near.capture(&self.road.left.interface).expect("a capture")
    }

    /// All packets on the way to the name server.
    pub(crate) fn capture_questions(&self) -> Capture {
        self.near.capture(&self.to_names.left.interface).expect("a capture")
    }
}

impl Asking<'_> {
    fn write(&self, host: &Host) {
        let mut text =
            format!("probes: {{ interval: {} }}\nlog: {{ level: debug }}\ntargets:\n", self.interval);
        let mut line = |line: String| writeln!(text, "{line}").expect("a string takes everything");
        for target in self.targets {
            line(format!("  - {target}"));
        }
        line(format!("dns:\n  interval: 1s\n  timeout: {}\n  max_qps: 100", self.timeout));
        if let Some(servers) = &self.servers {
            line(format!("  servers: {servers:?}"));
        }
        if let Some(search) = self.search {
            line(format!("  search: {search:?}\n  ndots: 1"));
        }
        line("  names:".to_owned());
        for name in self.names {
            line(format!("  - {name}"));
        }
        host.write_file(Path::new(FILE), text.as_bytes(), 0o644).expect("a configuration");
    }
}

impl Running<'_> {
    /// Replaces the configuration and tells the agent.
    pub(crate) fn reload(&self, asking: &Asking<'_>) {
        asking.write(&self.world.near);
        self.agent.process.signal(Signal::SIGHUP).expect("a signal");
    }

    /// Waits until a condition on the metrics holds; they are then the result.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Scrape) -> bool) -> Scrape {
        let found = self.agent.wait_for_metrics(soon(), what, |scrape| holds(scrape).then(|| scrape.clone()));
        found.unwrap_or_else(|error| {
            let lines = self.agent.process.lines().join("\n");
            let page = self.agent.get("/metrics", &[]).map(|page| page.text()).unwrap_or_default();
            let page: Vec<_> =
                page.lines().filter(|line| line.contains("dns_") || line.contains("_total")).collect();
            panic!("{error}\n{lines}\n{}", page.join("\n"))
        })
    }

    /// Waits until so many addresses of names are probed, and so many names have none.
    pub(crate) fn has(&self, addresses: u64, without: u64) {
        let sum = |scrape: &Scrape| count(scrape, "podsonar_targets", &[("kind", "name")]);
        let what = format!("{addresses} addresses and {without} names without any");
        self.until(&what, |scrape| sum(scrape) == addresses && unresolved(scrape) == without);
    }

    /// Waits until the agent has said so in its log.
    pub(crate) fn says(&self, words: &str) {
        let said = self.agent.process.wait_for_line(soon(), |line| line.contains(words));
        said.unwrap_or_else(|error| panic!("{words}: {error}"));
    }

    /// Waits until so many questions about a name have this result, from now on.
    pub(crate) fn further(&self, times: u64, name: &str, result: &str) -> Scrape {
        let before = queries(&self.agent.scrape().expect("metrics"), name, result);
        let what = format!("{times} more times {result} about {name}");
        self.until(&what, |scrape| queries(scrape, name, result) >= before + times)
    }
}

/// The sum of counts with these labels; 0 when there is none.
pub(crate) fn count(scrape: &Scrape, metric: &str, labels: &[(&str, &str)]) -> u64 {
    scrape.sum(metric, labels).unwrap_or(0.0) as u64
}

/// Questions about a name that ended so.
pub(crate) fn queries(scrape: &Scrape, name: &str, result: &str) -> u64 {
    count(scrape, "podsonar_dns_queries_total", &[("name", name), ("result", result)])
}

/// Exchanges of a form that ended so.
pub(crate) fn exchanges(scrape: &Scrape, form: &str, result: &str) -> u64 {
    count(scrape, "podsonar_dns_exchanges_total", &[("form", form), ("result", result)])
}

/// Probes of names that ended so.
pub(crate) fn probes(scrape: &Scrape, labels: &[(&str, &str)], result: &str) -> u64 {
    let labels = [labels, &[("kind", "name"), ("result", result)]].concat();
    count(scrape, "podsonar_probes_total", &labels)
}

/// Names without an address.
pub(crate) fn unresolved(scrape: &Scrape) -> u64 {
    count(scrape, "podsonar_unresolved_names", &[])
}

/// Nothing was lost or unreachable.
pub(crate) fn assert_nothing_lost(scrape: &Scrape) {
    for result in ["lost", "unreachable", "listener"] {
        assert_eq!(probes(scrape, &[], result), 0, "{result}");
    }
}

/// Who was asked by an echo request (`icmp`) or a SYN (`tcp`), in order.
pub(crate) fn asked(packets: &[Captured]) -> Vec<(IpAddr, &'static str)> {
    let outgoing = packets.iter().filter(|captured| captured.outgoing).filter_map(Captured::packet);
    outgoing.filter_map(|packet| Some((packet.dst, kind(&packet)?))).collect()
}

fn kind(packet: &Packet<'_>) -> Option<&'static str> {
    match packet.body {
        Body::EchoRequest(_) => Some("icmp"),
        Body::Tcp(tcp) if packet.protocol == TCP && tcp.is_syn() => Some("tcp"),
        _ => None,
    }
}

/// Waits until an address has been asked so often by a protocol.
pub(crate) fn wait_until_asked(capture: &Capture, address: &str, protocol: &str, times: usize) {
    let address: IpAddr = address.parse().expect("an address");
    let enough = |packets: &[Captured]| {
        let asked = asked(packets)
            .into_iter()
            .filter(|each| *each == (address, if protocol == "tcp" { "tcp" } else { "icmp" }));
        (asked.count() >= times).then_some(())
    };
    capture.wait_for(soon(), enough).unwrap_or_else(|error| panic!("{address} {protocol}: {error}"));
}
