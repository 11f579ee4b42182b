//! What one agent costs the API server in bytes: on the wire, by a capture beside the agent, with a real API server and
//! the objects of a large cluster in it. No kubelets or controllers run; this program writes what they would.

use crate::Options;
use crate::agent::resident_bytes;
use crate::load::pass;
use crate::report::{Report, Table};
use crate::stats::Figure;
use anyhow::{Context, Result};
use podsonar_lab::capture::Capture;
use podsonar_lab::clock::{Deadline, wait_until};
use podsonar_lab::lab::Veth;
use podsonar_lab::packet::Body;
use podsonar_lab::server::apiserver::objects::{self, Agent as Endpoint};
use podsonar_lab::server::apiserver::{self, ApiServer, Settings, Write};
use podsonar_lab::{Agent, Host, Lab};
use std::net::IpAddr;
use std::time::Duration;

/// Nodes of the cluster; each has an agent.
const NODES: usize = 1_000;
/// Pods of the own node: there are as many in the small cluster as in the large one.
const OWN_PODS: usize = 30;
/// Pods on all nodes, in the order in which they are there.
const PODS: [usize; 2] = [3_000, 30_000];
/// Agents of a cluster in which they are listed instead of watched.
const MANY: usize = 5_000;
/// What ten times the pods may cost.
const RATIO: f64 = 1.1;
/// What the agent may take, in MiB.
const RESIDENT: f64 = 25.0;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("api", options.short);
    let window = options.seconds(10, 120);
    let lab = Lab::new()?;
    let (control, host) = (lab.host("control")?, lab.host("node")?);
    let veth = lab.veth(&control, &host)?;
    let server = ApiServer::start(&control, veth.left.v4.into(), Settings::default())?;
    server.grant()?;
    let world = World { server, host, veth };
    eprintln!("api: {NODES} nodes with agents");
    world.server.write(&(0..NODES).map(node).collect::<Vec<_>>())?;
    world.server.write(&objects::create_slices(NODES))?;

    let mut table = Table::new(
        format!("What one agent gets from the API server, {NODES} nodes, {OWN_PODS} pods of its own"),
        ["pods", "agents", "kB at its start", "changes elsewhere", "bytes for these", "RSS MiB"],
    );
    let (mut totals, mut present) = (Vec::new(), 0);
    for pods in PODS.map(|pods| options.pick(pods / 10, pods)) {
        eprintln!("api: {pods} pods");
        world.add_pods(present, pods)?;
        present = pods;
        let run = world.run_agent(NODES, window)?;
        table.row([
            pods.to_string(),
            NODES.to_string(),
            Figure(run.start / 1e3).to_string(),
            run.changes.to_string(),
            Figure(run.churn).to_string(),
            Figure(run.resident).to_string(),
        ]);
        totals.push(run);
    }
    let [few, many] = totals.as_slice() else { anyhow::bail!("two sizes of a cluster") };
    let total = |run: &Run| run.start + run.churn;
    report.at_most("bytes with ten times the pods", total(many) / total(few), RATIO, " ×");
    report.at_most("resident memory", many.resident, RESIDENT, " MiB");

    eprintln!("api: {MANY} agents");
    let change = world.change_of_an_agent()?;
    world.server.write(&objects::create_slices(MANY).split_off(NODES / 100))?;
    let listed = world.run_agent(MANY, window)?;
    table.row([
        present.to_string(),
        MANY.to_string(),
        Figure(listed.start / 1e3).to_string(),
        listed.changes.to_string(),
        Figure(listed.churn).to_string(),
        Figure(listed.resident).to_string(),
    ]);
    report.table(table);
    let mut growth = Table::new("How it grows with the number of agents", ["what", "agents", "kB"]);
    growth.row(["each start".into(), NODES.to_string(), Figure(many.start / 1e3).to_string()]);
    growth.row(["each start".into(), MANY.to_string(), Figure(listed.start / 1e3).to_string()]);
    growth.row(["one agent replaced, watched".into(), NODES.to_string(), Figure(change / 1e3).to_string()]);
    if !options.short {
        let turn = world.list_of_changes()?;
        growth.row([
            "five minutes without a change, listed".into(),
            MANY.to_string(),
            Figure(turn / 1e3).to_string(),
        ]);
    }
    report.table(growth);
    Ok(report)
}

/// What one life of an agent came to, in bytes from the API server.
struct Run {
    start: f64,
    changes: usize,
    churn: f64,
    resident: f64,
}

struct World {
    server: ApiServer,
    host: Host,
    veth: Veth,
}

impl World {
    /// Adds pods up to a number, each running: the first ones on the own node.
    fn add_pods(&self, from: usize, to: usize) -> Result<()> {
        let pods: Vec<_> = (from..to).map(|number| (name(number), host_of(number))).collect();
        let create: Vec<_> = pods.iter().map(|(name, node)| objects::create_pod(name, node)).collect();
        self.server.write(&create)?;
        let run: Vec<_> =
            (from..to).map(|number| objects::run_pod(&name(number), &[&address(number)])).collect();
        Ok(self.server.write(&run)?)
    }

    fn start_agent(&self) -> Result<Agent> {
        let own = Endpoint { address: self.veth.right.v4.to_string(), ..Endpoint::number(0) };
        Ok(self.server.launch(&self.host, &own)?.start()?)
    }

    /// An agent's start until it knows all agents, and then a while in which only others' objects change.
    fn run_agent(&self, agents: usize, window: Duration) -> Result<Run> {
        let capture = self.host.capture(&self.veth.right.interface)?;
        let agent = self.start_agent()?;
        let knows = |agent: &Agent| -> Result<bool> {
            let scrape = agent.scrape()?;
            Ok(scrape.sum("podsonar_peers", &[]).is_some_and(|peers| peers as usize >= agents - 1))
        };
        wait_until(Deadline::after(Duration::from_mins(1)), "all agents to be known", || {
            // What cannot be asked yet is asked again.
            Ok(knows(&agent).unwrap_or(false).then_some(()))
        })?;
        // What belongs to the start, such as a first bookmark, comes within this.
        pass(Duration::from_secs(5));
        let start = self.received(capture)?;
        let capture = self.host.capture(&self.veth.right.interface)?;
        let changes = self.churn(window)?;
        let churn = self.received(capture)?;
        let resident = resident_bytes(&agent.process)? / f64::from(1 << 20);
        Ok(Run { start, changes, churn, resident })
    }

    /// Creates, runs and deletes pods of other nodes, and changes nodes, for a while; returns how many changes.
    fn churn(&self, window: Duration) -> Result<usize> {
        let end = Deadline::after(window);
        let mut changes = 0;
        while !end.passed() {
            let names: Vec<_> = (0..50).map(|number| format!("passing-{number}")).collect();
            let each =
                |change: &dyn Fn(&str) -> Write| names.iter().map(|name| change(name)).collect::<Vec<_>>();
            let label = serde_json::json!({"unschedulable": changes % 2 == 0});
            self.server.write(&each(&|name| objects::create_pod(name, "node-00001")))?;
            self.server.write(&each(&|name| objects::run_pod(name, &["10.90.0.1"])))?;
            self.server.write(&each(&objects::delete_pod))?;
            self.server.write(&[objects::change_node("node-00002", &label)])?;
            changes += 3 * names.len() + 1;
            pass(Duration::from_millis(500));
        }
        Ok(changes)
    }

    /// Bytes for one agent that is replaced by another one, on a watching agent.
    fn change_of_an_agent(&self) -> Result<f64> {
        let agent = self.start_agent()?;
        pass(Duration::from_secs(10));
        let capture = self.host.capture(&self.veth.right.interface)?;
        let mut agents: Vec<_> = (100..200).map(Endpoint::number).collect();
        if let Some(other) = agents.get_mut(50) {
            other.uid = "another".into();
        }
        let path = format!("{}/podsonar-00001", objects::SLICES);
        self.server.write(&[Write::merge(&path, objects::slice("podsonar-00001", "IPv4", &agents))])?;
        pass(Duration::from_secs(5));
        let bytes = self.received(capture)?;
        drop(agent);
        Ok(bytes)
    }

    /// Bytes of a listing agent in the time of one list.
    fn list_of_changes(&self) -> Result<f64> {
        let agent = self.start_agent()?;
        pass(Duration::from_secs(20));
        let capture = self.host.capture(&self.veth.right.interface)?;
        pass(Duration::from_mins(6));
        let bytes = self.received(capture)?;
        drop(agent);
        Ok(bytes)
    }

    /// Bytes of IP packets that came from the API server.
    fn received(&self, capture: Capture) -> Result<f64> {
        let server = IpAddr::from(self.veth.left.v4);
        let packets = capture.stop().context("capture the API server's packets")?;
        let lengths = packets.iter().filter_map(|captured| {
            let packet = captured.packet()?;
            let of_server = matches!(packet.body, Body::Tcp(tcp) if tcp.src_port == apiserver::PORT);
            (packet.src == server && of_server).then_some(packet.length)
        });
        Ok(lengths.sum::<usize>() as f64)
    }
}

fn node(number: usize) -> Write {
    objects::create_node(&Endpoint::number(number).node, &format!("zone-{}", number % 3))
}

/// The node of a pod: the first ones are on the own node, the others on all others in turn.
fn host_of(number: usize) -> String {
    let node = if number < OWN_PODS { 0 } else { 1 + number % (NODES - 1) };
    Endpoint::number(node).node
}

fn name(number: usize) -> String {
    format!("web-{number:05}")
}

fn address(number: usize) -> String {
    format!("10.{}.{}.{}", 80 + number / 62_500, number / 250 % 250, number % 250 + 1)
}
