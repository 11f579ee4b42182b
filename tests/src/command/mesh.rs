//! `podsonar-lab mesh`: agents on nodes with real pods, without Kubernetes, for a person to look at and to break.

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use podsonar_lab::fault::{Faults, Loss};
use podsonar_lab::server::dns::{Dns, Zone};
use podsonar_lab::server::nginx::Nginx;
use podsonar_lab::server::publish;
use podsonar_lab::world::mesh::{METRICS, Mesh, NAMESPACE, Node, PODS_FILE, PORT, Pod};
use podsonar_lab::{Lab, LabError, clock};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, stdout};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

#[derive(Debug, Parser)]
pub(crate) struct Show {
    /// The first node's agent answers on this port of the machine, the others on those below
    #[arg(long, default_value_t = 19988)]
    port: u16,
    /// On this address of the machine
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
    address: Ipv4Addr,
    /// How many nodes, each in a zone of its own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=9))]
    nodes: u8,
    /// How many pods on each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
    pods: u8,
}

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(1);

/// Where the name server is: on the router.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 53);

impl Show {
    pub(crate) fn run(&self) -> Result<ExitCode, LabError> {
        // Blocked before any thread starts, so that all have them blocked and one waits for them.
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        signals
            .thread_block()
            .map_err(|error| LabError::Kernel { doing: "block signals".into(), source: error.into() })?;
        let begin = clock::now();
        let lab = Lab::new()?;
        let zones: Vec<String> = (1..=self.nodes).map(|number| format!("zone-{number}")).collect();
        let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
        let mut mesh = Mesh::new(&lab, &zones, self.pods)?;
        let _dns = name_server(&mesh)?;
        let serve = |pod: &Pod| Nginx::start(&pod.host, &[(pod.address, PORT).into()]);
        let pods = mesh.nodes.iter().flat_map(|node| &node.pods);
        let servers = pods.map(serve).collect::<Result<Vec<_>, _>>()?;
        for node in &mesh.nodes {
            node.configure(include_str!("../../demo.yaml"))?;
        }
        // The last node is farther away than the others, and something on the way to it loses packets.
        if let Some(last) = mesh.nodes.last() {
            let (delay, jitter) = (Duration::from_millis(1), Duration::from_micros(100));
            last.link.set_both(&Faults { delay, jitter, loss: Loss::Random(0.005), ..Faults::default() });
        }
        mesh.start_agents()?;
        for (node, port) in mesh.nodes.iter().zip(self.ports()) {
            publish(&node.host, SocketAddr::from((self.address, port)), METRICS)?;
        }
        println!("{} nodes are up after {:.1} s:", self.nodes, (clock::now() - begin).as_secs_f64());
        self.introduce(&mesh, &servers)?;
        let (stop, stopped) = channel();
        thread::spawn(move || {
            // Whoever waits for it is there until then.
            let _ = stop.send(signals.wait());
        });
        let mut last = Seen::default();
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
            for node in &mut mesh.nodes {
                if let Some(agent) = &mut node.agent {
                    agent.process.must_run()?;
                }
            }
            if stdout().is_terminal() {
                let seen = Seen::by(&mesh)?;
                println!("{}", Line { now: &seen, before: &last });
                last = seen;
            }
        }
        drop((servers, mesh, lab));
        println!("all of it is gone");
        Ok(ExitCode::SUCCESS)
    }

    /// A port for each node's agent.
    fn ports(&self) -> impl Iterator<Item = u16> {
        (0..=self.port).rev().take(self.nodes.into())
    }

    /// Says what there is, where to look and what to break.
    fn introduce(&self, mesh: &Mesh, servers: &[Nginx]) -> Result<(), LabError> {
        let mut servers = servers.iter();
        for (node, port) in mesh.nodes.iter().zip(self.ports()) {
            let Node { name, zone, address, .. } = node;
            let at = SocketAddr::from((self.address, port));
            println!("  {name} in {zone}: {address}   http://{at}/   http://{at}/metrics");
            for (pod, server) in node.pods.iter().zip(&mut servers) {
                println!(
                    "    pod {NAMESPACE}/{}: {}, nginx is process {}",
                    pod.name,
                    pod.address,
                    server.process.id()
                );
            }
            println!("    its manifests: /proc/{}/root{PODS_FILE}", node.agent()?.process.id());
        }
        println!(
            "The way to the last node takes 1 ms more and loses 0.5 %. {NAME_SERVER} is a name server for pods' names."
        );
        if let Some(pod) = mesh.nodes.first().and_then(|node| node.pods.first()) {
            let interface = &pod.link.right.interface;
            println!("Break something, here {}, and put it right again:", pod.name);
            println!("  nsenter -n -t PROCESS ip link set {interface} down    its network");
            println!(
                "  an editor on its node's manifests         a pod that is not in them is gone, which is no loss"
            );
        }
        println!("Ctrl-C ends it.");
        Ok(())
    }
}

/// Serves pods' names, and its own: dns.demo.test.
fn name_server(mesh: &Mesh) -> Result<Dns, LabError> {
    mesh.router.address("lo", &format!("{NAME_SERVER}/32"))?;
    let pods = mesh.nodes.iter().flat_map(|node| &node.pods);
    let names = pods.fold(Zone::new("pod.cluster.local"), |zone, pod| zone.pod(NAMESPACE, pod.address));
    let own = Zone::new("demo.test").record("dns", 30, &format!("A {NAME_SERVER}"));
    Dns::start(&mesh.router, &[NAME_SERVER.into()], &[names, own])
}

/// What all agents together have seen so far.
#[derive(Debug, Default)]
struct Seen {
    answered: f64,
    lost: f64,
    /// By kind and state.
    targets: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// The widest fault that each agent knows, and how many agents say the same.
    faults: BTreeMap<String, usize>,
}

/// One line of what was seen since the line before.
struct Line<'a> {
    now: &'a Seen,
    before: &'a Seen,
}

/// What a line tells of, but for names and the agents' probes of themselves.
const KINDS: [&str; 2] = ["agent", "pod"];

impl Seen {
    fn by(mesh: &Mesh) -> Result<Self, LabError> {
        let mut seen = Self::default();
        for node in &mesh.nodes {
            let agent = node.agent()?;
            let page = agent.scrape()?;
            let text = agent.get("/status", &[])?.text();
            let status: serde_json::Value = serde_json::from_str(&text)
                .map_err(|_| LabError::Malformed { what: "an agent's status", text })?;
            for kind in KINDS {
                let probes = |result| {
                    page.sum("podsonar_probes_total", &[("kind", kind), ("result", result)]).unwrap_or(0.0)
                };
                seen.answered += probes("reply") + probes("reset");
                seen.lost += probes("lost") + probes("unreachable");
                let counts =
                    status.get("targets").and_then(|targets| targets.as_array()).into_iter().flatten();
                for count in counts.filter(|count| text_of(count, "kind") == kind) {
                    let more = count.get("targets").and_then(serde_json::Value::as_u64).unwrap_or(0);
                    let states = seen.targets.entry(kind).or_default();
                    *states.entry(text_of(count, "state").to_owned()).or_default() += more;
                }
            }
            if let Some(fault) = status.pointer("/faults/0") {
                let words = format!("{}: {}", text_of(fault, "place"), text_of(fault, "what"));
                *seen.faults.entry(words).or_default() += 1;
            }
        }
        Ok(seen)
    }
}

fn text_of<'a>(value: &'a serde_json::Value, part: &str) -> &'a str {
    value.get(part).and_then(serde_json::Value::as_str).unwrap_or_default()
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { now, before } = self;
        write!(f, "{:>4} answered {:>3} lost", now.answered - before.answered, now.lost - before.lost)?;
        for (kind, states) in &now.targets {
            let words: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
            write!(f, "   {kind}s: {}", words.join(", "))?;
        }
        match now.faults.iter().max_by_key(|(_, count)| **count) {
            Some((words, count)) => write!(f, "   {count} say: {words}"),
            None => Ok(()),
        }
    }
}
