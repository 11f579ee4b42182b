//! [`Shared`]: a real cluster that all tests of a suite share, one after another, and what suites want of it.

use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::catch_up::LONGEST;
use podsonar_lab::cluster::{Image, Node};
use podsonar_lab::{Cluster, agent};
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The cluster, for as long as a test uses it. Its end is this process's end.
pub(crate) struct Shared(MutexGuard<'static, Cluster>);

impl Shared {
    /// The suite's cluster with all of its nodes, once no other test uses it.
    pub(crate) fn of(cluster: &'static Mutex<Cluster>) -> Self {
        let mut shared = Self(cluster.lock().unwrap_or_else(PoisonError::into_inner));
        // A test that failed left it as it was then.
        shared.mend().expect("a whole cluster");
        shared.wait_for_nodes(Deadline::after(LONGEST)).expect("all nodes");
        shared
    }
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

/// The agent of this version, and that of the next ones.
pub(crate) fn images() -> Vec<Image> {
    let image = |tag: &str, variable| {
        let program = agent::static_binary(variable).expect("the agent");
        Image { name: "podsonar".into(), program, tag: tag.into() }
    };
    vec![image("1", agent::STATIC_VARIABLE), image("next", agent::NEXT_VARIABLE)]
}

/// Real servers on all nodes, which stay for the next test.
pub(crate) fn install_pods(cluster: &Cluster) {
    cluster.apply(include_str!("../manifests/web.yaml")).expect("pods");
    cluster.wait_for_rollout("web", "deployment/web", minute()).expect("pods that are ready");
}

/// A file of `/proc/PID` of the agent on a node.
pub(crate) fn file_of_agent(node: &Node, file: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("cat /proc/$(pidof podsonar)/{file}")]);
    let output = node.running().expect("on").machine.output(command).expect("a file");
    String::from_utf8(output.stdout).expect("text")
}

/// A field of `/proc/PID/status` (`proc_pid_status(5)`); empty if there is none.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let mut lines = status.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    lines.next().unwrap_or_default().trim()
}

/// A deadline for what a cluster does in seconds.
pub(crate) fn minute() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}
