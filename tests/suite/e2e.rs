//! The agent in a real cluster of six nodes in three zones, which all tests here share, one after another. Each leaves
//! the cluster as it found it.

#[path = "e2e/agents.rs"]
mod agents;
#[path = "e2e/article.rs"]
mod article;
#[path = "e2e/bars.rs"]
mod bars;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/losses.rs"]
mod losses;
#[path = "e2e/names.rs"]
mod names;
#[path = "e2e/times.rs"]
mod times;

use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::{Image, Settings};
use podsonar_lab::scrape::Scrape;
use podsonar_lab::{Cluster, agent};
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The cluster, for as long as a test uses it. Its end is this process's end.
struct Shared(MutexGuard<'static, Cluster>);

/// The cluster with ready agents, once no other test uses it.
fn cluster() -> Shared {
    static CLUSTER: LazyLock<Mutex<Cluster>> = LazyLock::new(|| {
        let image = |tag: &str, variable| {
            let program = agent::static_binary(variable).expect("the agent");
            Image { name: "podsonar".into(), program, tag: tag.into() }
        };
        let images = vec![image("1", agent::STATIC_VARIABLE), image("next", agent::NEXT_VARIABLE)];
        let cluster = Cluster::start(Settings { images, dual_stack: true, ..Settings::default() });
        Mutex::new(cluster.expect("a cluster"))
    });
    let mut shared = Shared(CLUSTER.lock().unwrap_or_else(PoisonError::into_inner));
    // A test that failed left it as it was then.
    shared.mend().expect("a whole cluster");
    shared.wait_for_nodes(minute()).expect("all nodes");
    shared.install_agents(minute()).expect("agents");
    shared
}

/// The same with real servers on all nodes, which stay for the next test.
fn with_pods() -> Shared {
    let cluster = cluster();
    cluster.apply(include_str!("manifests/web.yaml")).expect("pods");
    cluster.wait_for_rollout("web", "deployment/web", minute()).expect("pods that are ready");
    cluster
}

/// Waits until each agent's watches are whole: an age is zero then.
fn wait_for_whole_watches(cluster: &Cluster, deadline: Deadline) {
    for node in cluster.nodes() {
        let whole = |page: &Scrape| {
            let ages: Vec<f64> =
                page.select("podsonar_watch_age_seconds", &[]).map(|age| age.value).collect();
            (ages.len() == 3 && ages.iter().all(|age| *age < 1.0)).then_some(())
        };
        cluster
            .wait_for_metrics(&node.identity.name, deadline, "watches that are whole", whole)
            .expect("whole watches");
    }
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
