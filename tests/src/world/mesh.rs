//! [`Mesh`]: nodes with pods, an agent on each, without Kubernetes.
//!
//! ```text
//!   pod ── link ── node-1 ── link ──╮
//!   pod ── link ──╯                 │
//!                                 router
//!   pod ── link ── node-2 ── link ──╯
//! ```
//! Node *n* is 10.77.0.*n*, its *k*-th pod 10.244.*n*.*k*. All that is between them are links, so each may have faults,
//! and what is sent to a node or pod whose interface is down vanishes without an answer.

use super::router;
use crate::agent::{Agent, Launch, Privilege};
use crate::clock::{Deadline, wait_until};
use crate::error::LabError;
use crate::host::Host;
use crate::lab::Lab;
use crate::link::Link;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// Where a node's agent finds its pods, in the node's own `/run`.
pub const PODS_FILE: &str = "/run/pods.yaml";

/// Where it finds its settings.
pub const CONFIG_FILE: &str = "/run/podsonar.yaml";

/// Where it serves its metrics, to its own host alone.
pub const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9988);

/// The namespace of all pods.
pub const NAMESPACE: &str = "web";

/// The port that pods say they serve.
pub const PORT: u16 = 80;

/// Nodes around a router. It lives as long as its hosts and links.
#[derive(Debug)]
pub struct Mesh {
    /// The nodes, node-1 first.
    pub nodes: Vec<Node>,
    /// What joins them.
    pub router: Host,
}

/// A node, and perhaps its agent.
#[derive(Debug)]
pub struct Node {
    /// `node-1` and so on.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its host; packets of its pods go through it.
    pub host: Host,
    /// Its address, which its agent has too.
    pub address: Ipv4Addr,
    /// From the router (left) to the node (right).
    pub link: Link,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Its agent, while one runs.
    pub agent: Option<Agent>,
}

/// A pod: a host without servers, until somebody starts them.
#[derive(Debug)]
pub struct Pod {
    /// `web-1-2` is the second of node-1.
    pub name: String,
    /// Its host.
    pub host: Host,
    /// Its address.
    pub address: Ipv4Addr,
    /// From its node (left) to the pod (right).
    pub link: Link,
}

impl Mesh {
    /// Nodes in these zones with so many pods each, all told in their manifests, and no agent yet.
    pub fn new(lab: &Lab, zones: &[&str], pods: u8) -> Result<Self, LabError> {
        let mut mesh = Self { nodes: Vec::new(), router: router(lab, "router")? };
        for (number, zone) in (1..).zip(zones) {
            let node = Node::new(lab, &mesh.router, number, zone, pods)?;
            node.tell_of(|_| true)?;
            node.configure("")?;
            mesh.nodes.push(node);
        }
        Ok(mesh)
    }

    /// Starts the agent of a node, which knows all other nodes as its peers, and waits until it is ready.
    pub fn start_agent(&mut self, number: usize) -> Result<(), LabError> {
        self.start_agent_with(number, Privilege::default())
    }

    /// The same with only so much that the agent may do.
    pub fn start_agent_with(&mut self, number: usize, privilege: Privilege) -> Result<(), LabError> {
        let peer = |node: &Node| format!("{}@{}={}", node.name, node.zone, node.address);
        let peers: Vec<String> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != number)
            .map(|(_, node)| peer(node))
            .collect();
        let Some(node) = self.nodes.get_mut(number) else { return Err(no_node(number)) };
        let mut launch = Launch::on(&node.host).privilege(privilege).listen(METRICS).arguments(&[
            "--source",
            &node.name,
            "--zone",
            &node.zone,
            "--pods-file",
            PODS_FILE,
            "--config",
            CONFIG_FILE,
            "--kubernetes",
            "off",
        ]);
        for peer in &peers {
            launch = launch.arguments(&["--peer", peer]);
        }
        node.agent = Some(launch.start()?);
        Ok(())
    }

    /// Starts the agents of all nodes.
    pub fn start_agents(&mut self) -> Result<(), LabError> {
        (0..self.nodes.len()).try_for_each(|number| self.start_agent(number))
    }
}

impl Node {
    fn new(lab: &Lab, router: &Host, number: u8, zone: &str, pods: u8) -> Result<Self, LabError> {
        let name = format!("node-{number}");
        let host = super::router(lab, &name)?;
        let address = Ipv4Addr::new(10, 77, 0, number);
        let link = lab.link(router, &host, number.into())?;
        host.address("lo", &format!("{address}/32"))?;
        // What the node itself sends comes from its address, not from that of the link.
        host.run(&format!("ip route add default via {} src {address}", link.left.v4))?;
        router.route(&address.to_string(), link.right.v4)?;
        router.route(&format!("10.244.{number}.0/24"), link.right.v4)?;
        let pod = |place| Pod::new(lab, &host, address, number, place);
        let pods = (1..=pods).map(pod).collect::<Result<_, _>>()?;
        Ok(Self { name, zone: zone.to_owned(), host, address, link, pods, agent: None })
    }

    /// Writes the manifests of those of its pods that are chosen, as one step: nobody reads half of them.
    pub fn tell_of(&self, chosen: impl Fn(&Pod) -> bool) -> Result<(), LabError> {
        let text: String = self.pods.iter().filter(|pod| chosen(pod)).map(Pod::manifest).collect();
        let new = format!("{PODS_FILE}.new");
        self.host.write_file(Path::new(&new), text.as_bytes(), 0o644)?;
        self.host.run(&format!("mv {new} {PODS_FILE}")).map(drop)
    }

    /// Writes the settings that its agent has beside its flags; it reads them anew when it runs.
    pub fn configure(&self, settings: &str) -> Result<(), LabError> {
        self.host.write_file(Path::new(CONFIG_FILE), settings.as_bytes(), 0o644)
    }

    /// Its agent.
    ///
    /// # Errors
    /// [`LabError::Missing`] while none runs.
    pub fn agent(&self) -> Result<&Agent, LabError> {
        let hint = || format!("none was started on {}", self.name);
        self.agent.as_ref().ok_or_else(|| LabError::Missing { what: "the node's agent", hint: hint() })
    }

    /// Asks its agent to end, and waits until it has: its peers know by then.
    pub fn stop_agent(&mut self, deadline: Deadline) -> Result<(), LabError> {
        let Some(mut agent) = self.agent.take() else { return Ok(()) };
        let status = agent.stop(deadline)?;
        if status.success() {
            return Ok(());
        }
        let stderr = agent.process.lines().join("\n");
        Err(LabError::Command { command: "podsonar run".into(), status: status.to_string(), stderr })
    }
}

impl Pod {
    fn new(lab: &Lab, node: &Host, gateway: Ipv4Addr, number: u8, place: u8) -> Result<Self, LabError> {
        let name = format!("web-{number}-{place}");
        let host = lab.host(&name)?;
        let address = Ipv4Addr::new(10, 244, number, place);
        let link = lab.link(node, &host, u64::from(number) << 8 | u64::from(place))?;
        let interface = &link.right.interface;
        host.address(interface, &format!("{address}/32"))?;
        host.run(&format!("ip route add default via {} src {address}", link.left.v4))?;
        // Its node sends to it from the node's address, as to all others.
        node.run(&format!("ip route add {address} via {} src {gateway}", link.right.v4))?;
        Ok(Self { name, host, address, link })
    }

    /// Takes its interface down: whatever is sent to it vanishes.
    pub fn cut(&self) -> Result<(), LabError> {
        self.host.run(&format!("ip link set {} down", self.link.right.interface)).map(drop)
    }

    /// The Pod as a manifest, one document of a file of them.
    fn manifest(&self) -> String {
        let Self { name, address, .. } = self;
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "kind: Pod\nmetadata:\n  namespace: {NAMESPACE}\n  name: {name}\n  labels: {{ app: web }}\nspec:\n  \
             containers: [{{ name: nginx, ports: [{{ containerPort: {PORT} }}] }}]\nstatus:\n  podIP: {address}\n---"
        );
        text
    }
}

/// Waits until each agent has had answers of every other agent and of every pod.
pub fn wait_until_seen(mesh: &Mesh, deadline: Deadline) -> Result<(), LabError> {
    let (nodes, pods) = (mesh.nodes.len(), mesh.nodes.iter().map(|node| node.pods.len()).sum::<usize>());
    for node in &mesh.nodes {
        let agent = node.agent()?;
        wait_until(deadline, &format!("{} to see all", node.name), || {
            let page = agent.scrape()?;
            let answering = |kind| {
                page.sum("podsonar_targets", &[("kind", kind), ("state", "answering")]).unwrap_or(0.0)
                    as usize
            };
            Ok((answering("agent") == nodes - 1 && answering("pod") == pods).then_some(()))
        })?;
    }
    Ok(())
}

fn no_node(number: usize) -> LabError {
    LabError::Missing { what: "a node", hint: format!("there is none at place {number}") }
}
