//! Where pods and peers come from: the Kubernetes API, or what is written. Both are followed in the same way.

use std::sync::Arc;

use podsonar_core::config::{Identity, Mesh, PodChoice};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::api::{Access, Api, Patience};
use super::node::{self, OwnNode};
use super::peers::{self, Handle, Limits, Peers};
use super::pods::{self, OwnPods};
use super::watch::Health;
use crate::clock;
use crate::exchange::callers::Callers;
use crate::metrics::mesh::Watched;
use crate::metrics::state::Metrics;

/// What is found, as it changes.
#[derive(Debug)]
pub struct Found {
    /// The pods of the own node.
    pub pods: watch::Receiver<OwnPods>,
    /// The own node.
    pub node: watch::Receiver<OwnNode>,
    /// The other agents.
    pub peers: watch::Receiver<Peers>,
    /// Asks for fresher peers, where they are not told at once.
    refresh: Option<Handle>,
    choice: watch::Sender<PodChoice>,
    written: watch::Sender<Peers>,
    /// Whoever follows; ended with this.
    tasks: JoinSet<()>,
}

impl Found {
    /// Begins to follow the API server, or without it what is written. Unknown callers make peers fresher.
    pub fn begin(
        identity: Option<Identity>,
        service: &str,
        mesh: &Mesh,
        choice: PodChoice,
        callers: &Arc<Callers>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (pods_out, pods) = watch::channel(OwnPods::default());
        let (node_out, node) = watch::channel(OwnNode::default());
        let (written, peers) = watch::channel(Peers::default());
        let (choice, chosen) = watch::channel(choice);
        let mut found = Self { pods, node, peers, refresh: None, choice, written, tasks: JoinSet::new() };
        let Some(identity) = identity else {
            found.write(mesh);
            found.tasks.spawn(super::files::follow(mesh.pods_file.clone(), chosen, pods_out));
            return found;
        };
        let api = Api::new(Access::of_pod(&identity), Patience::default());
        let (handle, asks) = peers::handle();
        let count = |watched| {
            let metrics = Arc::clone(metrics);
            move |kind| metrics.mesh.count_trouble(watched, kind)
        };
        let (by_pods, by_node, by_peers) =
            (count(Watched::Pods), count(Watched::Node), count(Watched::Peers));
        {
            let (api, identity) = (api.clone(), identity.clone());
            found.tasks.spawn(async move { pods::follow(api, &identity, chosen, pods_out, by_pods).await });
        }
        {
            let (api, identity) = (api.clone(), identity.clone());
            found.tasks.spawn(async move { node::follow(api, &identity, node_out, by_node).await });
        }
        let (service, peers_out) = (service.to_owned(), found.written.clone());
        found.tasks.spawn(async move {
            peers::follow(api, &identity, &service, Limits::default(), asks, peers_out, by_peers).await;
        });
        let (callers, unknown) = (Arc::clone(callers), handle.clone());
        found.tasks.spawn(async move {
            loop {
                callers.refresh_wanted().await;
                unknown.refresh(peers::Refresh::Unknown).await;
            }
        });
        found.refresh = Some(handle);
        found
    }

    /// Other settings: what may be probed, and who the peers are where they are written.
    pub fn configure(&self, mesh: &Mesh, choice: PodChoice) {
        self.choice.send_if_modified(|before| {
            let changed = *before != choice;
            *before = choice;
            changed
        });
        if self.refresh.is_none() {
            self.write(mesh);
        }
    }

    /// Waits until something has changed.
    pub async fn changed(&mut self) {
        // Whoever follows never ends by itself; if it did, nothing would change any more.
        let ended = tokio::select! {
            changed = self.pods.changed() => changed.is_err(),
            changed = self.node.changed() => changed.is_err(),
            changed = self.peers.changed() => changed.is_err(),
        };
        if ended {
            std::future::pending::<()>().await;
        }
    }

    /// The agent of this node does not answer: where changes of the peers are not told at once, it is looked at.
    pub fn is_silent(&mut self, node: &Arc<str>) {
        if let Some(handle) = self.refresh.clone() {
            let node = Arc::clone(node);
            self.tasks.spawn(async move { handle.refresh(peers::Refresh::Silent(node)).await });
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// The peers as written.
    fn write(&self, mesh: &Mesh) {
        let peers: Arc<[_]> = mesh.peers.clone().into();
        self.written.send_modify(|known| {
            known.peers = peers;
            known.health = Health::lasting(clock::now());
        });
    }
}
