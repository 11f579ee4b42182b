//! A changed configuration reaches running agents.

use crate::release::Release;
use crate::steps::Steps;
use crate::{cluster, minute};
use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::watched::NAMESPACE;
use std::time::Duration;

#[test]
fn running_agents_take_up_an_upgrade_of_their_configuration() {
    let cluster = cluster();
    let mut steps = Steps::of("reload");
    let release = Release { helm: "helm", way: "default" };
    release.install(&cluster, &[]);
    cluster.wait_for_rollout(NAMESPACE, "daemonset/podsonar", minute()).unwrap();
    steps.done("agents are installed");
    let before = cluster.agents().unwrap();
    release.upgrade(&cluster, &["--set=config.targets[0]=127.0.0.1"]);
    // kubelets look at what pods were given every now and then.
    let kubelets = Deadline::after(Duration::from_mins(3));
    for agent in &before {
        cluster
            .wait_for_metrics(&agent.node, kubelets, "the new target", |page| {
                let labels = [("kind", "fixed"), ("destination", "127.0.0.1"), ("result", "reply")];
                page.sum("podsonar_probes_total", &labels).filter(|count| *count > 0.0)
            })
            .unwrap();
    }
    steps.done("all have the new target");
    let unchanged = |agents: &[podsonar_lab::cluster::objects::Pod]| {
        let mut all: Vec<_> = agents.iter().map(|agent| (agent.uid.clone(), agent.restarts)).collect();
        all.sort();
        all
    };
    assert_eq!(unchanged(&cluster.agents().unwrap()), unchanged(&before), "no agent was restarted");
    release.uninstall(&cluster);
}
