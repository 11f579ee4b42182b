//! The chart on a real cluster of both families, which all tests here share, one after another: what the API server takes,
//! what pod security admits, and a release's life from its installation to the end, by Helm 3 and 4.

#[path = "chart/accepted.rs"]
mod accepted;
#[path = "chart/admission.rs"]
mod admission;
#[path = "chart/answers.rs"]
mod answers;
#[path = "chart/leftovers.rs"]
mod leftovers;
#[path = "chart/life.rs"]
mod life;
#[path = "e2e/losses.rs"]
mod losses;
#[path = "chart/release.rs"]
mod release;
#[path = "chart/reload.rs"]
mod reload;
#[path = "e2e/servers.rs"]
mod servers;
#[path = "e2e/shared.rs"]
mod shared;
#[path = "chart/steps.rs"]
mod steps;

use podsonar_lab::cluster::Settings;
use podsonar_lab::{Cluster, tool};
use shared::{Shared, images, minute};
use std::sync::{LazyLock, Mutex};
use steps::Steps;

/// The cluster without agents, but with the definitions of prometheus-operator's objects, once no other test uses it.
fn cluster() -> Shared {
    static CLUSTER: LazyLock<Mutex<Cluster>> = LazyLock::new(|| {
        let mut steps = Steps::of("cluster");
        let settings =
            Settings { nodes: 4, zones: 2, dual_stack: true, images: images(), ..Settings::default() };
        let cluster = Cluster::start(settings).expect("a cluster");
        steps.done("started");
        // kubectl follows no link to a folder.
        let crds = tool::chart("crds").expect("definitions").canonicalize().expect("a folder");
        let folder = format!("--filename={}", crds.display());
        cluster.kubectl(&["apply", "--server-side", &folder]).expect("definitions that the server takes");
        cluster
            .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &folder])
            .expect("definitions");
        steps.done("prometheus-operator's definitions");
        Mutex::new(cluster)
    });
    let shared = Shared::of(&CLUSTER);
    release::remove(&shared);
    shared
}
