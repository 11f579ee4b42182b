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
#[path = "e2e/shared.rs"]
mod shared;
#[path = "e2e/times.rs"]
mod times;

use podsonar_lab::Cluster;
use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::Settings;
use podsonar_lab::cluster::objects::Pod;
use podsonar_lab::scrape::Scrape;
use shared::{Shared, images, install_pods, minute};
use std::sync::{LazyLock, Mutex};

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

/// The same with real servers on all nodes.
fn with_pods() -> Shared {
    let cluster = cluster();
    install_pods(&cluster);
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

/// Waits until the agent of a node that was off has been started anew and answers, and returns it.
fn wait_for_restart(cluster: &Cluster, before: &Pod) -> Pod {
    cluster
        .wait(minute(), "an agent that was started anew", |cluster| {
            let agent = cluster.agent(&before.node).ok();
            let agent = agent.filter(|agent| agent.ready && agent.restarts > before.restarts);
            Ok(agent.filter(|_| cluster.scrape(&before.node).is_ok()))
        })
        .expect("the agent again")
}
