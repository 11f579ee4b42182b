//! A release from its installation to its end: right metrics, no loss that is none, and nothing left.

use crate::answers::Answers;
use crate::losses::Losses;
use crate::release::Release;
use crate::servers::{self, Servers};
use crate::shared::wait_for_restart;
use crate::steps::Steps;
use crate::{Shared, cluster, leftovers, minute};
use podsonar_lab::Cluster;
use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::watched::NAMESPACE;
use podsonar_lab::scrape::Scrape;
use std::time::Duration;

#[test]
fn the_default_lives_without_false_loss_also_while_a_node_is_off() {
    // As the chart is: also all agents are replaced at once.
    let mut life = Life::begin(Release { helm: "helm", way: "default" }, &[]);
    life.replace_a_pod();
    life.replace_an_agent();
    life.upgrade();
    life.roll_back();
    life.cut_power();
    life.end();
}

#[test]
fn agents_in_the_network_of_their_nodes_live_without_false_loss() {
    lives(Release { helm: "helm3", way: "host-network" });
}

#[test]
fn agents_of_both_families_live_without_false_loss() {
    lives(Release { helm: "helm", way: "dual-stack" });
}

/// Without what is alike in all ways, a killed agent and a power cut; at each moment half of the agents watch.
fn lives(release: Release) {
    let mut life = Life::begin(release, &["--set=updateStrategy.rollingUpdate.maxUnavailable=2"]);
    life.replace_a_pod();
    life.upgrade();
    life.roll_back();
    life.end();
}

/// A release that is installed.
struct Life {
    cluster: Shared,
    servers: Servers,
    release: Release,
    /// What each form of the release is told.
    values: &'static [&'static str],
    losses: Losses,
    steps: Steps,
}

impl Life {
    fn begin(release: Release, values: &'static [&'static str]) -> Self {
        let cluster = cluster();
        let mut steps = Steps::of(release.way);
        let servers = Servers::install(&cluster);
        steps.done("servers are there");
        release.install(&cluster, values);
        rolled_out(&cluster, minute()).expect("agents");
        steps.done("agents are installed");
        let (none, losses) = (Scrape { samples: Vec::new() }, Losses::from_now(&cluster));
        servers.are_told(&cluster, &none);
        steps.done("servers are told");
        let mut life = Self { cluster, servers, release, values, losses, steps };
        life.must_be_without_loss("installed");
        life
    }

    fn replace_a_pod(&mut self) {
        let pod = self.cluster.pods(servers::NAMESPACE, servers::SELECTOR).expect("pods").swap_remove(0);
        delete(&self.cluster, servers::NAMESPACE, &pod.name);
        self.losses.watch_until(&self.cluster, "another pod", |_| {
            let pods = self.cluster.pods(servers::NAMESPACE, servers::SELECTOR).unwrap_or_default();
            pods.iter().any(|other| other.node == pod.node && other.ready && other.uid != pod.uid)
        });
        self.must_be_without_loss("a pod was killed");
    }

    fn replace_an_agent(&mut self) {
        let agent = self.cluster.agent("node2").expect("an agent");
        delete(&self.cluster, NAMESPACE, &agent.name);
        self.losses.watch_until(&self.cluster, "another agent", |_| {
            self.cluster.agent("node2").is_ok_and(|other| other.ready && other.uid != agent.uid)
        });
        self.must_be_without_loss("an agent was killed");
    }

    fn upgrade(&mut self) {
        self.release.upgrade(&self.cluster, &[self.values, &["--set-string=image.tag=next"]].concat());
        self.wait_for_agents("the next agents");
        self.must_be_without_loss("upgraded");
    }

    fn roll_back(&mut self) {
        self.release.rollback(&self.cluster);
        self.wait_for_agents("the agents from before");
        self.must_be_without_loss("rolled back");
    }

    /// A node goes without notice and comes back: its paths are lost, and no others.
    fn cut_power(&mut self) {
        let Self { cluster, servers, losses, steps, .. } = self;
        let name = servers.nodes.last().expect("a node without CoreDNS").clone();
        let agent = cluster.agent(&name).expect("its agent");
        let number =
            cluster.nodes().iter().find(|node| node.identity.name == name).expect("a node").identity.number;
        let destination = format!("destination={name} ");
        let is_true = |series: &str| series.contains(&destination) || series.contains("kind=name ");

        cluster.node(number).expect("a node").power_off().expect("off");
        losses.watch_until(cluster, "losses", |losses| losses.lost().iter().any(|series| is_true(series)));
        steps.done("a node that is off is lost");
        let unknown = |cluster: &Cluster| cluster.wait_for_node(&name, "Unknown", now()).is_ok();
        losses.watch_until(cluster, "the API server to know of it", |_| unknown(cluster));
        steps.done("it is known to be off");
        cluster.node(number).expect("a node").power_on().expect("on");
        losses.watch_until(cluster, "the node", |_| cluster.wait_for_node(&name, "True", now()).is_ok());
        steps.done("it is on again");
        wait_for_restart(cluster, &agent);
        losses.watch_until(cluster, "its agent", |_| rolled_out(cluster, now()).is_ok());
        all_answer(cluster, losses);
        steps.done("all is answered again");
        let false_ones: Vec<_> = losses.lost().into_iter().filter(|series| !is_true(series)).collect();
        assert_eq!(false_ones, Vec::<String>::new(), "a node was off");
        *losses = Losses::from_now(cluster);
    }

    fn end(mut self) {
        self.release.uninstall(&self.cluster);
        self.losses.watch_until(&self.cluster, "the end of all agents", |_| {
            let agents = self.cluster.pods(NAMESPACE, "app.kubernetes.io/name=podsonar");
            agents.is_ok_and(|agents| agents.is_empty())
        });
        assert_eq!(self.losses.lost(), Vec::<String>::new(), "uninstalled");
        self.steps.done("uninstalled");
        leftovers::no_object(&self.cluster);
        self.steps.done("no object is left");
        leftovers::nothing_on_nodes(&self.cluster);
        self.steps.done("nothing is left on nodes");
    }

    fn wait_for_agents(&mut self, which: &str) {
        self.losses.watch_until(&self.cluster, which, |_| rolled_out(&self.cluster, now()).is_ok());
        self.steps.done(which);
    }

    /// Every path is answered after what was done, and nothing was lost by it.
    fn must_be_without_loss(&mut self, done: &str) {
        all_answer(&self.cluster, &mut self.losses);
        assert_eq!(self.losses.lost(), Vec::<String>::new(), "{done}");
        assert!(self.losses.replies() > 0.0, "{done}");
        self.steps.done(done);
    }
}

fn all_answer(cluster: &Cluster, losses: &mut Losses) {
    let answers = Answers::from_now(cluster);
    let deadline = minute();
    losses.watch_until(cluster, "answers on all paths", |_| {
        let missing = answers.missing(cluster);
        assert!(missing.is_empty() || !deadline.passed(), "{missing:#?}");
        missing.is_empty()
    });
}

fn rolled_out(cluster: &Cluster, deadline: Deadline) -> Result<(), podsonar_lab::LabError> {
    cluster.wait_for_rollout(NAMESPACE, "daemonset/podsonar", deadline)
}

fn delete(cluster: &Cluster, namespace: &str, pod: &str) {
    cluster.kubectl(&["delete", "pod", "--namespace", namespace, pod, "--wait=false"]).expect("a pod");
}

/// A deadline of what must be so already.
fn now() -> Deadline {
    Deadline::after(Duration::ZERO)
}
