//! The lab's cluster itself: it leaves nothing behind, however it ends.

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use podsonar_lab::clock::{Deadline, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn a_killed_cluster_leaves_nothing_on_the_machine() {
    let before = machine();
    let mut show = Show::start();
    let folder = show.wait_until_up();
    assert!(Path::new(&folder).exists(), "{folder}");
    assert!(!cgroups().is_empty(), "a cluster has cgroups");
    assert_eq!(machine(), before, "while it runs the machine's own settings stay as they were");

    nix::sys::signal::kill(Pid::from_raw(show.0.id().cast_signed()), Signal::SIGKILL).unwrap();
    show.0.wait().unwrap();
    wait_until(Deadline::after(Duration::from_mins(1)), "the end of all that it had", || {
        let is_gone = !Path::new(&folder).exists() && cgroups().is_empty() && programs().is_empty();
        Ok(is_gone.then_some(()))
    })
    .unwrap();
    assert_eq!(machine(), before);
}

/// `podsonar-lab cluster` with two nodes; killed on drop.
struct Show(Child);

impl Show {
    fn start() -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_podsonar-lab"), "cluster"]);
        command.args(["--nodes", "2", "--port", "26443", "--dual-stack"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Self(command.spawn().expect("setpriv is installed"))
    }

    /// Returns the folder that it says its logs are in.
    fn wait_until_up(&mut self) -> String {
        let lines = BufReader::new(self.0.stdout.take().expect("captured")).lines();
        let mut folders = lines
            .map_while(Result::ok)
            .filter_map(|line| line.trim().strip_prefix("logs are in ").map(str::to_owned));
        folders.next().expect("the cluster is up")
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the machine itself shows to its programs, and its settings that kubelet and kube-proxy like to change.
fn machine() -> Vec<String> {
    let commands = [
        "ip -o link",
        "ip route show table all",
        "ip -6 route show table all",
        "ip netns list",
        "nft list ruleset",
        "cat /proc/self/mounts",
        "ls /run",
        "ls -A /var/lib /etc/cni /opt/cni",
        "cat /etc/hosts /etc/hostname /etc/resolv.conf /proc/sys/kernel/hostname",
        "cat /proc/sys/vm/overcommit_memory /proc/sys/vm/panic_on_oom /proc/sys/kernel/panic",
        "cat /proc/sys/kernel/panic_on_oops /proc/sys/kernel/keys/root_maxkeys /proc/sys/kernel/keys/root_maxbytes",
        "cat /proc/sys/net/netfilter/nf_conntrack_max /proc/sys/net/ipv4/ip_forward",
    ];
    let show = |line: &str| {
        let mut words = line.split(' ');
        let output = Command::new(words.next().expect("a program")).args(words).output().expect("installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    commands.into_iter().map(show).collect()
}

/// The cgroups of clusters.
fn cgroups() -> BTreeSet<String> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").filter_map(Result::ok);
    let roots = hierarchies.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]);
    let entries = roots.filter_map(|root| fs::read_dir(root).ok()).flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("podsonar-cluster-")).collect()
}

/// The cluster's programs that run.
fn programs() -> Vec<String> {
    let names =
        ["etcd", "kubelet", "containerd", "containerd-shim", "kube-apiserver", "kube-proxy", "coredns"];
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let running = processes.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    running.map(|name| name.trim().to_owned()).filter(|name| names.contains(&name.as_str())).collect()
}
