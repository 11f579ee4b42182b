//! Whole agents as a mesh without Kubernetes, on real packets: pods from manifests, peers from a list. What they say is
//! judged by their metrics, and by what pods and links saw.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[path = "mesh/exchange.rs"]
mod exchange;
#[path = "mesh/probed.rs"]
mod probed;
#[path = "mesh/restricted.rs"]
mod restricted;
#[path = "mesh/show.rs"]
mod show;
#[path = "mesh/silence.rs"]
mod silence;
#[path = "mesh/updates.rs"]
mod updates;

use podsonar_lab::clock::{Deadline, ask_each};
use podsonar_lab::scrape::Scrape;
use podsonar_lab::server::Listener;
use podsonar_lab::world::mesh::{self, Mesh, Node, PORT};
use podsonar_lab::{Lab, LabError};
use std::time::Duration;

/// Time between two probes of anything, and between two fetches of a list.
const INTERVAL: Duration = Duration::from_secs(1);

const SETTINGS: &str = "probes: { agents_interval: 1s, pods_interval: 1s, own_pods_interval: 1s }\n\
                        exchange: { interval: 1s, timeout: 900ms }\n\
                        preflight: { interception: false }\n";

/// A mesh with an agent on each node and two pods: the first serves its port, the second does not.
struct World {
    mesh: Mesh,
    /// Those of the first pods, node-1's first.
    listeners: Vec<Listener>,
    _lab: Lab,
}

impl World {
    /// Nodes in zones of their own, before agents run.
    fn new(nodes: usize, settings: &str) -> Self {
        let lab = Lab::new().unwrap();
        let zones = ["z1", "z2", "z3", "z4"];
        let mesh = Mesh::new(&lab, &zones[..nodes], 2).unwrap();
        let listen = |node: &Node| Listener::start(&node.pods[0].host, (node.pods[0].address, PORT).into());
        let listeners = mesh.nodes.iter().map(listen).collect::<Result<_, _>>().unwrap();
        for node in &mesh.nodes {
            node.configure(&format!("{SETTINGS}{settings}")).unwrap();
        }
        Self { mesh, listeners, _lab: lab }
    }

    /// Three nodes whose agents have all seen everything.
    fn whole() -> Self {
        let mut world = Self::new(3, "");
        world.mesh.start_agents().unwrap();
        mesh::wait_until_seen(&world.mesh, soon()).unwrap();
        world
    }

    fn node(&self, number: usize) -> &Node {
        &self.mesh.nodes[number - 1]
    }

    /// What the agent of a node says now.
    fn page(&self, number: usize) -> Scrape {
        self.node(number).agent().unwrap().scrape().unwrap()
    }

    /// What all agents say now, node-1's first.
    fn pages(&self) -> Vec<Scrape> {
        (1..=self.mesh.nodes.len()).map(|number| self.page(number)).collect()
    }

    /// Waits until something is so of what all agents say.
    fn wait_for<T>(&self, deadline: Deadline, what: &str, found: impl Fn(&[Scrape]) -> Option<T>) -> T {
        let asked = ask_each(PAUSE, deadline, what, || Ok(found(&self.pages())));
        asked.unwrap_or_else(|error| {
            let status = self.mesh.nodes.iter().map(status).collect::<Result<String, _>>();
            panic!("{error}\n{}", status.unwrap_or_else(|error| error.to_string()))
        })
    }

    /// Waits until each agent has had so many more answers.
    fn go_on(&self, answers: u64) {
        let before = self.pages();
        self.wait_for(soon(), "further answers", |pages| {
            let enough = |(page, before)| answered(page) >= answered(before) + answers;
            pages.iter().zip(&before).all(enough).then_some(())
        });
    }

    /// What agents have called lost or unreachable, in words.
    fn losses(&self) -> Vec<String> {
        self.pages().iter().flat_map(losses).collect()
    }
}

/// What `podsonar status` on a node prints.
fn status(node: &Node) -> Result<String, LabError> {
    let program = podsonar_lab::agent::binary()?;
    node.host.run(&format!("{} status --address {}", program.display(), mesh::METRICS))
}

/// What an agent has called lost or unreachable, in words; not its probes of itself.
fn losses(page: &Scrape) -> Vec<String> {
    let probes = page.samples.iter().filter(|sample| sample.name == "podsonar_probes_total");
    let probes = probes.filter(|sample| ["lost", "unreachable"].contains(&&*sample.labels["result"]));
    probes.filter(|sample| sample.value > 0.0).map(|sample| format!("{sample:?}")).collect()
}

fn answered(page: &Scrape) -> u64 {
    let count = |result| sum(page, "podsonar_probes_total", &[("result", result)]);
    count("reply") + count("reset")
}

/// A sum of samples that count something; nothing where there is none.
fn sum(page: &Scrape, name: &str, labels: &[(&str, &str)]) -> u64 {
    page.sum(name, labels).unwrap_or(0.0) as u64
}

/// What `podsonar status` on a node calls a fault of the network. That a busy machine starved the agent is none.
fn faults(node: &Node) -> Result<Vec<String>, LabError> {
    let status = status(node)?;
    let faults = status.lines().skip_while(|line| !line.starts_with("faults")).skip(1);
    Ok(faults.filter(|line| !line.starts_with("  this agent")).map(str::to_owned).collect())
}

/// A deadline for what only a defect makes late.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

const PAUSE: Duration = Duration::from_millis(100);
