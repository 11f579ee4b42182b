//! [`Cluster`]: a real Kubernetes cluster, each node with kubelet, containerd, runc, kube-proxy and a pod network of its
//! own, on one machine without internet.
//!
//! One host is the router between nodes and runs etcd and the control plane. Each node is a [`Machine`] joined to it by
//! a [`crate::Link`], so that delay, loss and a small MTU between nodes are as real as in the rest of the lab; all
//! traffic between two nodes passes both of their links. Pods reach the API server by their own addresses.
//!
//! | module | what it is |
//! |---|---|
//! | `addresses` | who has which address |
//! | `belongings` | the folder with keys, settings and logs, and who removes it |
//! | [`catch_up`] | the whole cluster up to date after its API server was away |
//! | `certificates` | the authority, and files for clients |
//! | `cgroups` | nodes' cgroups |
//! | [`control`] | etcd, API server, controllers, scheduler |
//! | `image` | the images that every node has |
//! | [`machine`] | process ids, mounts and a host name of one's own |
//! | [`node`] | a node: power, link, container runtime, kubelet, kube-proxy |
//! | [`objects`] | asking the API server, and waiting for what it says |
//! | [`part`] | a program of the cluster: stop, go on, kill, again |
//! | [`watched`] | the agents of the cluster: their pods, their metrics |
//!
//! # What has to be known
//! - kubelet runs without `CAP_SYS_RESOURCE`: `oomScoreAdj` 0, `restrict_oom_score_adj` for containerd.
//! - What kubelet would write of the whole machine's `/proc/sys` is covered by files that hold it already.
//! - containerd notices a network configuration only if it is there first or written in place.
//! - The cgroups of a dead node must go before it starts again: kubelet waits for stale containers.
//! - Nodes' disks (`/var/lib`) are in memory, as are etcd's: nothing of them is left, and they are fast.
//! - All nodes show the machine's whole CPU and memory, and its boot id.

mod addresses;
mod belongings;
pub mod catch_up;
mod certificates;
mod cgroups;
pub mod control;
mod image;
pub mod machine;
pub mod node;
pub mod objects;
pub mod part;
pub mod watched;

pub use control::Control;
pub use machine::Machine;
pub use node::Node;
pub use part::Part;

use crate::clock::{Deadline, ask_each};
use crate::error::{Doing, LabError};
use crate::fault::Faults;
use crate::host::Host;
use crate::lab::Lab;
use crate::scrape;
use crate::server::publish;
use belongings::Belongings;
use certificates::Authority;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What a cluster is to be like.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many nodes, at most 200.
    pub nodes: u8,
    /// Over how many zones they are spread in turn.
    pub zones: u8,
    /// Whether pods, nodes and Services have IPv6 addresses beside IPv4.
    pub dual_stack: bool,
    /// How long a node may be silent before it counts as gone; a real cluster's default is 40 s.
    pub silence: Duration,
    /// How long pods stay on a node that is gone; a real cluster's default is 300 s.
    pub toleration: Duration,
    /// Archives of images beside pause, busybox, nginx and coredns.
    pub images: Vec<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nodes: 6,
            zones: 3,
            dual_stack: false,
            silence: Duration::from_secs(12),
            toleration: Duration::from_mins(5),
            images: Vec::new(),
        }
    }
}

/// The manifest of the cluster's name server.
pub const COREDNS: &str = include_str!("cluster/coredns.yaml");

/// What nodes share.
#[derive(Debug)]
struct Shared {
    lab: Lab,
    router: Host,
    settings: Settings,
    authority: Authority,
    keys: PathBuf,
    /// Archives of the images that each node has.
    images: Vec<PathBuf>,
    /// Removed last.
    belongings: Arc<Belongings>,
}

/// A running cluster. When it is dropped, or its process ends, everything of it ends.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// The control plane.
    pub control: Control,
    shared: Arc<Shared>,
}

/// How long a cluster may take to come up: many times what it takes on two idle cores.
const START: Duration = Duration::from_mins(3);

impl Cluster {
    /// Starts a cluster and waits until its nodes are ready and its DNS answers.
    ///
    /// # Errors
    /// [`LabError`] with the path of the logs, which stay then.
    pub fn start(settings: Settings) -> Result<Self, LabError> {
        let belongings = Arc::new(Belongings::new()?);
        Self::start_with(&belongings, settings).map_err(|error| {
            belongings.keep();
            let hint = format!("{error}; its logs are in {}", belongings.folder.display());
            LabError::Missing { what: "a cluster", hint }
        })
    }

    fn start_with(belongings: &Arc<Belongings>, settings: Settings) -> Result<Self, LabError> {
        let keys = belongings.folder.join("keys");
        let logs = belongings.folder.join("log");
        let lab = Lab::new()?;
        let router = lab.host("router")?;
        let authority = Authority::new(&keys)?;
        let control = Control::start(&router, &settings, &authority, &keys, &logs)?;
        let images = image::standard()?.into_iter().chain(settings.images.iter().cloned()).collect();
        let belongings = Arc::clone(belongings);
        let shared = Arc::new(Shared { lab, router, settings, authority, keys, images, belongings });
        let numbers = 1..=shared.settings.nodes;
        let zones = shared.settings.zones;
        let nodes = numbers.map(|number| Node::new(number, zones, &shared)).collect::<Result<_, _>>()?;
        let mut cluster = Self { nodes, control, shared };
        let deadline = Deadline::after(START);
        cluster.boot(deadline)?;
        cluster.wait_for_nodes(deadline)?;
        cluster.apply(COREDNS)?;
        cluster.wait_for_rollout("kube-system", "deployment/coredns", deadline)?;
        Ok(cluster)
    }

    /// Boots all nodes at once, and lets them join when the API server is ready.
    fn boot(&mut self, deadline: Deadline) -> Result<(), LabError> {
        let Self { nodes, control, shared } = self;
        thread::scope(|scope| {
            let booting: Vec<_> =
                nodes.iter_mut().map(|node| scope.spawn(|| node.boot().map(|()| node))).collect();
            wait_for_api_server(control, &shared.router, deadline)?;
            for node in booting {
                node.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?.join()?;
            }
            Ok(())
        })
    }

    /// Undoes what was done to nodes, links and the control plane: all are on, none has faults.
    pub fn mend(&mut self) -> Result<(), LabError> {
        let was_away = self.control.api_server.must_run().is_err();
        for part in self.control.parts() {
            part.go_on()?;
            if part.must_run().is_err() {
                part.again()?;
            }
        }
        for node in &mut self.nodes {
            match node.running() {
                Ok(running) => running.link.set_both(&Faults::default()),
                Err(_) => node.power_on()?,
            }
        }
        self.wait_for_api_server(Deadline::after(START))?;
        if was_away { self.catch_up() } else { Ok(()) }
    }

    /// The host that routes between nodes; pods and nodes can be reached from it by their addresses.
    pub fn router(&self) -> &Host {
        &self.shared.router
    }

    /// The lab that all is in, to add hosts to.
    pub fn lab(&self) -> &Lab {
        &self.shared.lab
    }

    /// A node, from 1 on.
    ///
    /// # Errors
    /// [`LabError::Missing`] if there is no such node.
    pub fn node(&mut self, number: u8) -> Result<&mut Node, LabError> {
        let node = self.nodes.iter_mut().find(|node| node.identity.number == number);
        node.ok_or_else(|| LabError::Missing { what: "a node", hint: format!("node{number} was never made") })
    }

    /// All nodes, in their order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Waits until the API server says that it is ready.
    pub fn wait_for_api_server(&mut self, deadline: Deadline) -> Result<(), LabError> {
        wait_for_api_server(&mut self.control, &self.shared.router, deadline)
    }

    /// Makes the API server reachable from the machine, on a port of its loopback. Returns the administrator's file
    /// for kubectl there.
    pub fn publish(&self, port: u16) -> Result<PathBuf, LabError> {
        let outside = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        publish(self.router(), outside, (addresses::API_V4, 6443).into())?;
        let path = self.shared.keys.join("outside.kubeconfig");
        let text = self.shared.authority.client_file("admin", &format!("https://{outside}"));
        fs::write(&path, text).doing(format!("write {}", path.display()))?;
        Ok(path)
    }

    /// The folder with keys, settings and logs.
    pub fn folder(&self) -> &Path {
        &self.shared.belongings.folder
    }

    /// Keeps the folder beyond the cluster's end, for a person to look at.
    pub fn keep_logs(&self) {
        self.shared.belongings.keep();
    }
}

/// Waits until the API server says that it is ready.
fn wait_for_api_server(control: &mut Control, router: &Host, deadline: Deadline) -> Result<(), LabError> {
    let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, control::PROXY_PORT));
    ask_each(Duration::from_millis(50), deadline, "the API server", || {
        control.must_run()?;
        let ready = scrape::get(router, proxy, "/readyz", &[]);
        Ok(ready.ok().filter(|response| response.status == 200).map(drop))
    })
}
