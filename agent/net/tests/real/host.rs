//! Hosts: threads with a network namespace of their own, which ends with the thread.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};

type Work = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own with its loopback up.
pub(crate) struct Host {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    id: i32,
}

impl Host {
    pub(crate) fn new() -> Self {
        let (work, queue) = channel::<Work>();
        let (told, id) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (CAP_SYS_ADMIN) is needed");
            run("ip link set lo up");
            told.send(nix::unistd::gettid().as_raw()).unwrap();
            queue.into_iter().for_each(|work| work());
        });
        let id = id.recv().expect("the host's thread failed to start");
        Self { work: Some(work), thread: Some(thread), id }
    }

    /// Runs something in the namespace and waits for it; a panic there is a panic here.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = channel();
        let work = move || answer.send(catch_unwind(AssertUnwindSafe(work))).unwrap();
        self.work.as_ref().unwrap().send(Box::new(work)).unwrap();
        result.recv().unwrap().unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Joins two hosts by a veth pair called `eth0` on either end.
    pub(crate) fn link(&self, other: &Self) {
        self.link_as("eth0", other);
    }

    /// Joins two hosts by a veth pair of this name on either end.
    pub(crate) fn link_as(&self, name: &'static str, other: &Self) {
        let peer = other.id;
        self.run(move || run(&format!("ip link add {name} type veth peer name {name} netns {peer}")));
        for host in [self, other] {
            host.run(move || run(&format!("ip link set {name} up")));
        }
    }

    /// Gives the host an address; no duplicate address detection, which would hold IPv6 back for a second.
    pub(crate) fn address(&self, device: &str, address: &str) {
        let flags = if address.contains(':') { "nodad" } else { "" };
        let command = format!("ip address add {address} dev {device} {flags}");
        self.run(move || run(&command));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the work was handed on already.
            let _ = thread.join();
        }
    }
}

/// Runs a test's body on a host of its own.
pub(crate) fn on_a_host(body: impl FnOnce() + Send + 'static) {
    Host::new().run(body);
}

/// Runs a program in this thread's namespace. Words are separated by spaces.
pub(crate) fn run(command: &str) {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap();
    let output =
        Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Sets a sysctl of this thread's namespace.
pub(crate) fn sysctl(key: &str, value: &str) {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Loads netfilter rules into a fresh table of this namespace: `hook` is `input` or `output`.
pub(crate) fn firewall(hook: &str, rules: &[&str]) {
    run(&format!("nft add table inet {hook}"));
    run(&format!("nft add chain inet {hook} c {{ type filter hook {hook} priority 0 ; }}"));
    for rule in rules {
        run(&format!("nft add rule inet {hook} c {rule}"));
    }
}
