//! An API server, a node beside it, and discovery that runs there.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test waited for in vain says all that is known"
)]

use podsonar::discovery::api::{Access, Api, Patience};
use podsonar::discovery::node::{Leaving, OwnNode};
use podsonar::discovery::peers::{Limits, Peers, Refresh};
use podsonar::discovery::pods::OwnPods;
use podsonar::discovery::watch::TroubleKind;
use podsonar::discovery::{node, peers, pods};
use podsonar_core::config::{Identity, PodChoice};
use podsonar_core::mesh::Pod;
use podsonar_lab::capture::Capture;
use podsonar_lab::clock::{Deadline, soon, wait_until};
use podsonar_lab::lab::Veth;
use podsonar_lab::server::apiserver::{ApiServer, NAMESPACE, Settings, Write, objects, write_access};
use podsonar_lab::{Host, Lab};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{env, fs, process};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

/// A control plane with two nodes, on the first of which discovery is to run.
pub(crate) struct World {
    pub(crate) server: ApiServer,
    node: Host,
    veth: Veth,
    files: Files,
    _lab: Lab,
}

/// A folder of the machine with what an agent's pod would have; it goes with its owner.
struct Files(PathBuf);

impl World {
    /// The agents have their rights.
    pub(crate) fn new(settings: Settings) -> Self {
        let world = Self::start(settings);
        world.server.grant().unwrap();
        world
    }

    /// The agents have none yet.
    pub(crate) fn without_rights() -> Self {
        Self::start(Settings::default())
    }

    fn start(settings: Settings) -> Self {
        // What discovery says is shown with a test that fails. Another test may have set it up.
        let _ = tracing_subscriber::fmt().with_test_writer().with_ansi(false).try_init();
        let lab = Lab::new().unwrap();
        let (control, node) = (lab.host("control").unwrap(), lab.host("node").unwrap());
        let veth = lab.veth(&control, &node).unwrap();
        let server = ApiServer::start(&control, veth.left.v4.into(), settings).unwrap();
        server
            .write(&[objects::create_node("node-1", "zone-a"), objects::create_node("node-2", "zone-b")])
            .unwrap();
        let files = Files::new();
        let world = Self { server, node, veth, files, _lab: lab };
        world.renew_token();
        world
    }

    /// Writes objects one after the other, since a pod is created before it runs.
    pub(crate) fn write(&self, writes: &[Write]) {
        for write in writes {
            self.server.write(std::slice::from_ref(write)).unwrap();
        }
    }

    /// Writes objects in no order.
    pub(crate) fn write_many(&self, writes: impl Iterator<Item = Write>) {
        self.server.write(&writes.collect::<Vec<_>>()).unwrap();
    }

    /// Gives the agent a token that is valid now, as its kubelet would.
    pub(crate) fn renew_token(&self) {
        write_access(&self.files.0, &self.server.token().unwrap(), &self.server.authority().unwrap())
            .unwrap();
    }

    /// Cuts the node off.
    pub(crate) fn unplug(&self) {
        self.node.run(&format!("ip link set {} down", self.veth.right.interface)).unwrap();
    }

    pub(crate) fn plug_in(&self) {
        self.node.run(&format!("ip link set {} up", self.veth.right.interface)).unwrap();
    }

    /// All that passes between the node and the API server.
    pub(crate) fn capture(&self) -> Capture {
        self.node.capture(&self.veth.right.interface).unwrap()
    }

    pub(crate) fn follow(&self) -> Follower {
        self.follow_with(Limits::default(), Patience::default())
    }

    /// Starts discovery on the first node, as its agent would.
    pub(crate) fn follow_with(&self, limits: Limits, patience: Patience) -> Follower {
        let access = Access {
            url: self.server.url(),
            token: self.files.0.join("token"),
            authority: self.files.0.join("ca.crt"),
        };
        let api = Api::new(access, patience);
        let identity = Identity {
            api_host: self.veth.left.v4.to_string(),
            api_port: 6443,
            node: "node-1".into(),
            pod: "podsonar-1".into(),
            namespace: NAMESPACE.into(),
            uid: "own".into(),
            pod_ips: vec![self.veth.right.v4.into()],
            host_ips: vec![self.veth.right.v4.into()],
        };
        let (pods_to, pods) = watch::channel(OwnPods::default());
        let (node_to, node) = watch::channel(OwnNode::default());
        let (peers_to, peers) = watch::channel(Peers::default());
        let (choose, choice) = watch::channel(PodChoice::default());
        let (handle, asks) = peers::handle();
        let (stop, stopped) = oneshot::channel::<()>();
        let troubles = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&troubles);
        let host = self.node.clone();
        let thread = thread::spawn(move || {
            let count = |kind: TroubleKind| seen.lock().unwrap().push(kind);
            host.enter(|| {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    tokio::select! {
                        () = pods::follow(api.clone(), &identity, choice, pods_to, count) => {}
                        () = node::follow(api.clone(), &identity, node_to, count) => {}
                        () = peers::follow(api.clone(), &identity, "podsonar", limits, asks, peers_to, count) => {}
                        _ = stopped => {}
                    }
                });
            })
            .unwrap();
        });
        Follower {
            pods,
            node,
            peers,
            handle,
            troubles,
            _choose: choose,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Files {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("podsonar-discovery-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What cannot be removed now is no news to a test that ends.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Discovery on a node. Dropping it ends it.
pub(crate) struct Follower {
    pods: watch::Receiver<OwnPods>,
    node: watch::Receiver<OwnNode>,
    peers: watch::Receiver<Peers>,
    handle: peers::Handle,
    troubles: Arc<Mutex<Vec<TroubleKind>>>,
    _choose: watch::Sender<PodChoice>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    pub(crate) fn pods(&self) -> OwnPods {
        self.pods.borrow().clone()
    }

    pub(crate) fn node(&self) -> OwnNode {
        self.node.borrow().clone()
    }

    pub(crate) fn peers(&self) -> Peers {
        self.peers.borrow().clone()
    }

    /// The pod of a name.
    pub(crate) fn pod(&self, name: &str) -> Pod {
        self.pods().pods.iter().find(|pod| &*pod.id.name == name).unwrap().clone()
    }

    /// Each pod's name and addresses, sorted.
    pub(crate) fn pod_lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .pods()
            .pods
            .iter()
            .map(|pod| {
                let addresses: Vec<_> = pod.addresses.iter().map(ToString::to_string).collect();
                format!("{} {}", pod.id.name, addresses.join(" "))
            })
            .collect();
        lines.sort();
        lines
    }

    /// How old what is known of the own pods is.
    pub(crate) fn pods_age(&self) -> Option<Duration> {
        self.pods.borrow().health.age(podsonar::clock::now())
    }

    /// All failures so far.
    pub(crate) fn troubles(&self) -> Vec<TroubleKind> {
        self.troubles.lock().unwrap().clone()
    }

    /// Asks for a refresh of the peers and waits for it.
    pub(crate) fn refresh(&self, why: Refresh) {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(self.handle.refresh(why));
    }

    pub(crate) fn wait_for_pods(&self, expected: &[&str]) {
        self.wait_until(&format!("pods {expected:?}"), soon(), |follower| follower.pod_lines() == expected);
    }

    pub(crate) fn wait_for_node(&self, zone: &str, leaving: Option<Leaving>) {
        self.wait_until(&format!("{zone} {leaving:?}"), soon(), |follower| {
            let node = follower.node();
            &*node.zone == zone && node.leaving == leaving
        });
    }

    pub(crate) fn wait_for_peers(&self, words: &str, there: impl Fn(&Peers) -> bool) {
        self.wait_until(words, soon(), |follower| there(&follower.peers()));
    }

    pub(crate) fn wait_until(&self, words: &str, deadline: Deadline, there: impl Fn(&Self) -> bool) {
        let waited = wait_until(deadline, words, || Ok(there(self).then_some(())));
        waited.unwrap_or_else(|error| {
            let pods = self.pod_lines();
            panic!(
                "{error}; pods {pods:?}, {:?}, age {:?}, troubles {:?}",
                self.node(),
                self.pods_age(),
                self.troubles()
            )
        });
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by a panic, which was printed there.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
