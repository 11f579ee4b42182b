//! What an agent costs its node in a cluster: CPU and memory at 32 peers and 240 pods with the default intervals.
//!
//! Every peer is an agent too, with an exchange that is real, and all of them follow a real API server. Pods are
//! addresses of their node's host, which answers for them; a name server has all their names.

use crate::Options;
use crate::agent::resident_bytes;
use crate::load::pass;
use crate::report::{Report, Table};
use crate::stats::Figure;
use anyhow::{Result, ensure};
use podsonar_lab::clock::{Deadline, wait_until};
use podsonar_lab::scrape::Scrape;
use podsonar_lab::server::Listener;
use podsonar_lab::server::apiserver::objects::{self, Agent as Endpoint};
use podsonar_lab::server::apiserver::{ApiServer, Settings};
use podsonar_lab::server::dns::{Dns, Zone};
use podsonar_lab::{Agent, Host, Lab};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// The agent's own node and its peers, `peers.max` of them.
const NODES: usize = 33;
const ZONES: usize = 3;
/// Pods of each node: with 8 observers for each, an agent probes 240 pods of its 32 peers.
const PODS: u8 = 30;
const PROBED_PODS: usize = 240;
/// What an agent may take of a core, in percent.
const CORE_PERCENT: f64 = 1.5;
/// What it may take of memory, in MiB.
const RESIDENT: f64 = 25.0;
/// As Prometheus does by default in many installations.
const SCRAPE_EVERY: Duration = Duration::from_secs(15);
/// Where the API server and the name server answer.
const CONTROL: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The chart's settings; resolv.conf, which says the rest in a pod, is the machine's here.
const CONFIG: &str = "/run/podsonar.yaml";
const SETTINGS: &str = "dns: { servers: [10.99.0.1], search: [svc.cluster.local, cluster.local], cluster_domain: cluster.local }\n";

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("node", options.short);
    let lab = Lab::new()?;
    let world = World::new(&lab)?;
    eprintln!("node: {NODES} agents with {PODS} pods each");
    let agents = (0..NODES).map(|number| world.start_agent(number)).collect::<Result<Vec<_>>>()?;
    let Some(agent) = agents.first() else { anyhow::bail!("no agent was started") };
    wait_until(Deadline::after(Duration::from_mins(2)), "all targets to answer", || {
        Ok(all_answer(&agent.scrape()?).then_some(()))
    })?;
    // Streams that began together settle, and the first lists and names are over.
    pass(options.seconds(5, 60));

    let (before, cpu) = (agent.scrape()?, agent.process.cpu_time()?);
    let scrapes = options.pick(1, 4);
    for _ in 0..scrapes {
        pass(options.seconds(5, SCRAPE_EVERY.as_secs()));
        agent.scrape()?;
    }
    let spent = agent.process.cpu_time()?.saturating_sub(cpu);
    let resident = resident_bytes(&agent.process)? / f64::from(1 << 20);
    let after = agent.scrape()?;
    let seconds = (options.seconds(5, SCRAPE_EVERY.as_secs()) * scrapes).as_secs_f64();
    let percent = spent.as_secs_f64() / seconds * 100.0;
    let each_second = |metric: &str| (total(&after, metric) - total(&before, metric)) / seconds;
    ensure!(all_answer(&after), "all peers and pods still answer at the end");

    let mut table = Table::new(
        format!(
            "One agent of {NODES} in {seconds:.0} s: user and system time, a scrape each {SCRAPE_EVERY:?}"
        ),
        ["peers", "pods probed", "probes/s", "inbound/s", "DNS exchanges/s", "% of a core", "RSS MiB"],
    );
    table.row([
        (NODES - 1).to_string(),
        PROBED_PODS.to_string(),
        Figure(each_second("podsonar_probes_total")).to_string(),
        Figure(each_second("podsonar_inbound_probes_total")).to_string(),
        Figure(each_second("podsonar_dns_exchanges_total")).to_string(),
        Figure(percent).to_string(),
        Figure(resident).to_string(),
    ]);
    report.table(table);
    report.at_most("CPU of the agent", percent, CORE_PERCENT, " %");
    report.at_most("resident memory", resident, RESIDENT, " MiB");
    let lost = after.sum("podsonar_probes_total", &[("result", "lost")]).unwrap_or(0.0);
    report.at_most("probes lost", lost, 0.0, "");
    Ok(report)
}

fn total(scrape: &Scrape, metric: &str) -> f64 {
    scrape.sum(metric, &[]).unwrap_or(0.0)
}

/// Whether all peers and all pods that the agent is to probe have answered.
fn all_answer(scrape: &Scrape) -> bool {
    let answering = |kind| {
        let labels = [("kind", kind), ("state", "answering")];
        scrape.sum("podsonar_targets", &labels).unwrap_or(0.0) as usize
    };
    answering("agent") == NODES - 1 && answering("pod") >= PROBED_PODS
}

/// An API server, a name server and the nodes around them.
struct World {
    server: ApiServer,
    nodes: Vec<Host>,
    _dns: Dns,
    _listeners: Vec<Listener>,
}

impl World {
    fn new(lab: &Lab) -> Result<Self> {
        let control = lab.host("control")?;
        control.sysctl("net.ipv4.ip_forward", "1")?;
        control.address("lo", &format!("{CONTROL}/32"))?;
        let nodes = (0..NODES).map(|number| join(lab, &control, number)).collect::<Result<Vec<_>>>()?;
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
        let listeners =
            nodes.iter().map(|node| Ok(Listener::start(node, everywhere)?)).collect::<Result<_>>()?;
        let dns = Dns::start(&control, &[CONTROL.into()], &[names()])?;
        let server = ApiServer::start(&control, CONTROL.into(), Settings::default())?;
        server.grant()?;
        let zone = |number| format!("zone-{}", number % ZONES);
        let node = |number| objects::create_node(&Endpoint::number(number).node, &zone(number));
        server.write(&(0..NODES).map(node).collect::<Vec<_>>())?;
        server.write(&objects::create_slices(NODES))?;
        let create =
            |(number, place)| objects::create_pod(&name(number, place), &Endpoint::number(number).node);
        server.write(&all_pods().map(create).collect::<Vec<_>>())?;
        let run =
            |(number, place)| objects::run_pod(&name(number, place), &[&pod(number, place).to_string()]);
        server.write(&all_pods().map(run).collect::<Vec<_>>())?;
        Ok(Self { server, nodes, _dns: dns, _listeners: listeners })
    }

    fn start_agent(&self, number: usize) -> Result<Agent> {
        let Some(host) = self.nodes.get(number) else { anyhow::bail!("there is no node {number}") };
        host.write_file(Path::new(CONFIG), SETTINGS.as_bytes(), 0o644)?;
        let launch = self.server.launch(host, &Endpoint::number(number))?;
        Ok(launch.arguments(&["--config", CONFIG]).start()?)
    }
}

/// A node with its agent's address and those of its pods, behind the one that routes.
fn join(lab: &Lab, control: &Host, number: usize) -> Result<Host> {
    let host = lab.host(&format!("node{number}"))?;
    let veth = lab.veth(control, &host)?;
    let agent = Endpoint::number(number).address;
    let pods = format!("10.80.{number}.0/24");
    host.address("lo", &format!("{agent}/32"))?;
    host.run(&format!("ip route add default via {} src {agent}", veth.left.v4))?;
    host.answer_for(&pods)?;
    control.route(&agent, IpAddr::from(veth.right.v4))?;
    control.route(&pods, IpAddr::from(veth.right.v4))?;
    Ok(host)
}

/// All pods: the number of each one's node, and its place there.
fn all_pods() -> impl Iterator<Item = (usize, u8)> {
    (0..NODES).flat_map(|number| (1..=PODS).map(move |place| (number, place)))
}

fn name(number: usize, place: u8) -> String {
    format!("web-{number}-{place}")
}

fn pod(number: usize, place: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 80, number as u8, place)
}

/// The cluster's zone with a name for each pod, as a cluster's name server has them.
fn names() -> Zone {
    let namespace = format!("{}.pod", objects::PODS);
    let pods = all_pods().map(|(number, place)| pod(number, place));
    pods.fold(Zone::new("cluster.local"), |zone, address| zone.pod(&namespace, address))
}
