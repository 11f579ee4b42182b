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
#[path = "e2e/servers.rs"]
mod servers;
#[path = "e2e/shared.rs"]
mod shared;
#[path = "e2e/times.rs"]
mod times;

use losses::Losses;
use podsonar_lab::Cluster;
use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::Settings;
use podsonar_lab::scrape::Scrape;
use shared::{Shared, images, minute};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

/// The cluster with ready agents, once no other test uses it.
fn cluster() -> Shared {
    static CLUSTER: LazyLock<Mutex<Cluster>> = LazyLock::new(|| {
        let settings = Settings { images: images(), dual_stack: true, ..Settings::default() };
        Mutex::new(Cluster::start(settings).expect("a cluster"))
    });
    let shared = Shared::of(&CLUSTER);
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

impl Losses {
    /// Reads for so long.
    fn watch(&mut self, cluster: &Cluster, time: Duration) {
        let over = Deadline::after(time);
        // It answers when the time is over; a deadline never strikes.
        let deadline = Deadline::after(time * 2 + Duration::from_secs(10));
        self.watch_until_by(deadline, cluster, "the time to be over", |_| over.passed());
    }
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
