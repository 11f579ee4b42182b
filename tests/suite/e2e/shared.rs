//! [`Shared`]: a real cluster that all tests of a suite share, one after another, and what suites want of it.

use podsonar_lab::clock::Deadline;
use podsonar_lab::cluster::Node;
use podsonar_lab::cluster::catch_up::LONGEST;
use podsonar_lab::cluster::objects::Pod;
use podsonar_lab::{Cluster, agent};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
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

/// The images of the agent of this version and of that of the next ones.
pub(crate) fn images() -> Vec<PathBuf> {
    [agent::IMAGE_VARIABLE, agent::NEXT_IMAGE_VARIABLE]
        .map(|variable| agent::image(variable).expect("the agent"))
        .into()
}

/// Waits until the agent of a node that was off has been started anew and answers, and returns it.
pub(crate) fn wait_for_restart(cluster: &Cluster, before: &Pod) -> Pod {
    cluster
        .wait(minute(), "an agent that was started anew", |cluster| {
            let agent = cluster.agent(&before.node).ok();
            let agent = agent.filter(|agent| agent.ready && agent.restarts > before.restarts);
            Ok(agent.filter(|_| cluster.scrape(&before.node).is_ok()))
        })
        .expect("the agent again")
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
