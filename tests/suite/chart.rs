//! The chart on a real cluster of both families, which all tests here share, one after another: what the API server takes,
//! what pod security admits, and a release's life from its installation to the end, by Helm 3 and 4.

#[path = "chart/accepted.rs"]
mod accepted;
#[path = "chart/admission.rs"]
mod admission;
#[path = "chart/life.rs"]
mod life;
#[path = "e2e/losses.rs"]
mod losses;
#[path = "chart/release.rs"]
mod release;
#[path = "chart/reload.rs"]
mod reload;

use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::{Image, Settings};
use podsonar_lab::{Cluster, agent, tool};
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The cluster, for as long as a test uses it. Its end is this process's end.
struct Shared(MutexGuard<'static, Cluster>);

/// The cluster without agents, but with the definitions of prometheus-operator's objects, once no other test uses it.
fn cluster() -> Shared {
    static CLUSTER: LazyLock<Mutex<Cluster>> = LazyLock::new(|| {
        let image = |tag: &str, variable| {
            let program = agent::static_binary(variable).expect("the agent");
            Image { name: "podsonar".into(), program, tag: tag.into() }
        };
        let images = vec![image("1", agent::STATIC_VARIABLE), image("next", agent::NEXT_VARIABLE)];
        let settings = Settings { nodes: 4, zones: 2, dual_stack: true, images, ..Settings::default() };
        let cluster = Cluster::start(settings).expect("a cluster");
        // kubectl follows no link to a folder.
        let crds = tool::chart("crds").expect("definitions").canonicalize().expect("a folder");
        let folder = format!("--filename={}", crds.display());
        cluster.kubectl(&["apply", "--server-side", &folder]).expect("definitions that the server takes");
        cluster
            .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &folder])
            .expect("definitions");
        Mutex::new(cluster)
    });
    let mut shared = Shared(CLUSTER.lock().unwrap_or_else(PoisonError::into_inner));
    // A test that failed left it as it was then.
    shared.mend().expect("a whole cluster");
    shared.wait_for_nodes(minute()).expect("all nodes");
    release::remove(&shared);
    shared
}

/// A deadline for what a cluster does in seconds.
fn minute() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}

impl Deref for Shared {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl DerefMut for Shared {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if thread::panicking() {
            self.keep_logs();
            eprintln!("the cluster's logs stay in {}", self.folder().display());
        }
    }
}
