//! [`Lab`]: the owner of hosts and of what joins them.

use crate::cgroup;
use crate::error::{Doing, LabError};
use crate::host::{Host, on_fresh_thread};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A private world of hosts. Dropping it, or the death of this process by any signal, ends everything in it.
///
/// Labs are independent: several may exist at once and use the same addresses and names.
#[derive(Debug, Clone)]
pub struct Lab {
    core: Arc<Core>,
}

/// One end of a veth pair or link, up, with an address of each family.
#[derive(Debug, Clone)]
pub struct End {
    /// The interface's name in its host.
    pub interface: String,
    /// Its IPv4 address, in a /24 shared with the other end.
    pub v4: Ipv4Addr,
    /// Its IPv6 address, in a /64 shared with the other end.
    pub v6: Ipv6Addr,
}

/// A veth pair: the kernel's wire between two hosts. It lives as long as both hosts.
#[derive(Debug, Clone)]
pub struct Veth {
    /// The end in the first host.
    pub left: End,
    /// The end in the second host.
    pub right: End,
}

impl Lab {
    /// Makes an empty lab.
    ///
    /// # Errors
    /// [`LabError::Kernel`] without the privilege to make namespaces.
    pub fn new() -> Result<Self, LabError> {
        cgroup::sweep();
        let mut init = on_fresh_thread(start_init)?;
        let pid_namespace =
            File::open(format!("/proc/{}/ns/pid", init.id())).doing("open the lab's process ids");
        let pid_namespace = match pid_namespace {
            Ok(file) => file,
            Err(error) => {
                // Reaped here, since no Core owns it yet; both fail only if it is gone already.
                let _ = init.kill();
                let _ = init.wait();
                return Err(error);
            }
        };
        let core = Core { init: Mutex::new(init), pid_namespace, joints: AtomicU16::new(0) };
        Ok(Self { core: Arc::new(core) })
    }

    /// Adds a host: a network namespace whose loopback is up. The name is for messages only.
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        Host::new(name, Arc::clone(&self.core))
    }

    /// Joins two hosts by a veth pair.
    pub fn veth(&self, left: &Host, right: &Host) -> Result<Veth, LabError> {
        let number = self.next_joint();
        let name = format!("eth{number}");
        left.run(&format!("ip link add {name} type veth peer name {name} netns {}", right.namespace_path()))?;
        let (left_end, right_end) = ends(&name, number);
        configure(left, &left_end)?;
        configure(right, &right_end)?;
        // IPv6 traffic before both carriers are seen would be refused: wait for what the kernel says, not for time.
        left.wait_until_up(&name)?;
        right.wait_until_up(&name)?;
        Ok(Veth { left: left_end, right: right_end })
    }

    /// A number for the next pair of ends; it makes names and addresses unique in the lab.
    pub(crate) fn next_joint(&self) -> u16 {
        self.core.joints.fetch_add(1, Ordering::Relaxed)
    }

    /// The process that is init of the lab's process ids, as this process sees it.
    pub fn init_id(&self) -> u32 {
        self.core.init.lock().unwrap_or_else(PoisonError::into_inner).id()
    }
}

/// Names and addresses of both ends of joint `number`: `10.x.y.0/24` and `fd00:0:0:number::/64`.
pub(crate) fn ends(interface: &str, number: u16) -> (End, End) {
    let [high, low] = number.to_be_bytes();
    let end = |host: u8| End {
        interface: interface.to_owned(),
        v4: Ipv4Addr::new(10, high, low, host),
        v6: Ipv6Addr::new(0xfd00, 0, 0, number, 0, 0, 0, u16::from(host)),
    };
    (end(1), end(2))
}

/// Gives an end its addresses and brings it up.
pub(crate) fn configure(host: &Host, end: &End) -> Result<(), LabError> {
    host.address(&end.interface, &format!("{}/24", end.v4))?;
    host.address(&end.interface, &format!("{}/64", end.v6))?;
    host.run(&format!("ip link set {} up", end.interface)).map(drop)
}

/// What hosts, processes and links keep alive: the init process is waited for only when they are gone, since a
/// namespace's init cannot end before its last process is reaped by its parent, which is this process.
#[derive(Debug)]
pub(crate) struct Core {
    init: Mutex<Child>,
    pub(crate) pid_namespace: File,
    joints: AtomicU16,
}

impl Drop for Core {
    fn drop(&mut self) {
        let init = self.init.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Both fail only if the init was killed from outside: then the namespace is gone, as wanted.
        let _ = init.kill();
        let _ = init.wait();
    }
}

/// Starts the init of a new process-id namespace. It must outlive its children, reap orphans (an ignored SIGCHLD makes
/// the kernel do it) and end when this process does: `cat` on a pipe of which only this process has the other end.
fn start_init() -> Result<Child, LabError> {
    unshare(CloneFlags::CLONE_NEWPID).doing("make a process-id namespace")?;
    Command::new("/bin/sh")
        .args(["-c", "trap '' CHLD; exec cat"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|source| LabError::Start { command: "/bin/sh".into(), source })
}
