//! [`Host`]: a network namespace, and what one does with it.

use crate::capture::Capture;
use crate::clock::{soon, wait_until};
use crate::error::{Doing, LabError};
use crate::lab::Core;
use crate::process::{Process, command_line};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::SigSet;
use std::fs::{File, Permissions};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::{env, fs, panic, thread};

/// A host of the lab: a network namespace with loopback up, and a mount namespace in which `/sys` shows it and `/run`
/// is its own. Files elsewhere, and `/proc`, are the machine's.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    namespaces: Arc<Namespaces>,
    core: Arc<Core>,
}

#[derive(Debug)]
struct Namespaces {
    network: File,
    mounts: File,
}

impl Host {
    pub(crate) fn new(name: &str, core: Arc<Core>) -> Result<Self, LabError> {
        let namespaces = on_fresh_thread(Namespaces::new)?;
        let host = Self { name: name.to_owned(), namespaces: Arc::new(namespaces), core };
        // Duplicate address detection delays addresses by a second, and solicitations of routers are noise here.
        for scope in ["all", "default"] {
            host.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0")?;
            host.sysctl(&format!("net.ipv6.conf.{scope}.router_solicitations"), "0")?;
        }
        host.run("ip link set lo up")?;
        Ok(host)
    }

    /// The name given to [`crate::Lab::host`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a command line, split at white space without a shell, and returns its standard output.
    ///
    /// # Errors
    /// [`LabError::Command`] if it ends with a failure, with its standard error.
    pub fn run(&self, line: &str) -> Result<String, LabError> {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        let output = self.output(command)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            let (status, stderr) = (output.status.to_string(), text(&output.stderr));
            Err(LabError::Command { command: line.to_owned(), status, stderr })
        }
    }

    /// Runs a command to its end, whatever its exit status.
    pub fn output(&self, mut command: Command) -> Result<Output, LabError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let line = command_line(&command);
        let child = self.start(command)?;
        child.wait_with_output().doing(format!("wait for `{line}`"))
    }

    /// Starts a program in the host. It is killed when the returned guard drops.
    pub fn spawn(&self, mut command: Command) -> Result<Process, LabError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let line = command_line(&command);
        let child = self.start(command)?;
        Ok(Process::new(line, child, Arc::clone(&self.core)))
    }

    /// Starts a program that keeps this process's standard input and output, for a person to watch.
    pub fn spawn_in_view(&self, command: Command) -> Result<Process, LabError> {
        let line = command_line(&command);
        Ok(Process::new(line, self.start(command)?, Arc::clone(&self.core)))
    }

    /// Runs a closure on a fresh thread inside the host's network. Sockets made there stay in the host.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        on_fresh_thread(|| {
            setns(&self.namespaces.network, CloneFlags::CLONE_NEWNET).doing("enter a network namespace")?;
            Ok(work())
        })
    }

    /// Captures all packets of an interface from now on. The capture is the ground truth of benchmarks.
    pub fn capture(&self, interface: &str) -> Result<Capture, LabError> {
        self.enter(|| Capture::start(interface))?
    }

    /// Adds an address such as `10.0.0.1/24` or `fd00::1/64`, at once usable.
    pub fn address(&self, interface: &str, address: &str) -> Result<(), LabError> {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.run(&format!("ip addr add {address} dev {interface} {nodad}")).map(drop)
    }

    /// Adds a route to a prefix by a neighbour's address.
    pub fn route(&self, prefix: &str, via: impl Into<IpAddr>) -> Result<(), LabError> {
        self.run(&format!("ip route add {prefix} via {}", via.into())).map(drop)
    }

    /// Makes the host answer for every address of a prefix, so that one host serves thousands of targets. Others reach
    /// it by a [`Host::route`]; an on-link prefix would need a neighbour entry for each address.
    pub fn answer_for(&self, prefix: &str) -> Result<(), LabError> {
        self.run(&format!("ip route add local {prefix} dev lo")).map(drop)
    }

    /// Sets a sysctl of the host's network namespace, such as `net.ipv4.icmp_echo_ignore_all`.
    ///
    /// # Errors
    /// [`LabError::Malformed`] for a key outside `net`: it would be the whole machine's.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        if !key.starts_with("net.") || key.contains("..") {
            return Err(LabError::Malformed {
                what: "a sysctl of a network namespace",
                text: key.to_owned(),
            });
        }
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.enter(|| fs::write(&path, value).doing(format!("write {value} to {path}")))?
    }

    /// Loads nft rules, as in an nft file.
    pub fn nft(&self, rules: &str) -> Result<(), LabError> {
        self.run(&format!("nft {rules}")).map(drop)
    }

    /// Writes a file as the host sees the path, with these permissions: under `/run` it is the host's own and vanishes
    /// with it.
    pub fn write_file(&self, path: &Path, contents: &[u8], mode: u32) -> Result<(), LabError> {
        on_fresh_thread(|| {
            self.namespaces.enter_mounts()?;
            let written = fs::write(path, contents);
            // Set apart from making the file, so that no umask counts.
            let set = written.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)));
            set.doing(format!("write {}", path.display()))
        })
    }

    /// Reads a file as the host sees the path.
    pub fn read_file(&self, path: &Path) -> Result<Vec<u8>, LabError> {
        on_fresh_thread(|| {
            self.namespaces.enter_mounts()?;
            fs::read(path).doing(format!("read {}", path.display()))
        })
    }

    /// Waits until the kernel reports an interface as running.
    pub(crate) fn wait_until_up(&self, interface: &str) -> Result<(), LabError> {
        wait_until(soon(), &format!("{interface} to be up"), || {
            Ok(self.run(&format!("ip -o link show {interface}"))?.contains("LOWER_UP").then_some(()))
        })
    }

    /// A path by which programs of this machine, such as `ip link … netns`, open the network namespace.
    pub(crate) fn namespace_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespaces.network.as_raw_fd())
    }

    /// The network namespace, for a program that enters it together with namespaces of its own.
    pub(crate) fn network(&self) -> &File {
        &self.namespaces.network
    }

    /// What keeps the lab alive.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn start(&self, mut command: Command) -> Result<std::process::Child, LabError> {
        // Entering a mount namespace moves the thread to its root: say where the program is to run.
        if command.get_current_dir().is_none() {
            command.current_dir(env::current_dir().doing("read the current directory")?);
        }
        on_fresh_thread(|| {
            self.namespaces.enter_mounts()?;
            setns(&self.namespaces.network, CloneFlags::CLONE_NEWNET).doing("enter a network namespace")?;
            setns(&self.core.pid_namespace, CloneFlags::CLONE_NEWPID).doing("enter the lab's process ids")?;
            // A program inherits what its starter blocks: it should not be deaf because a caller waits for signals.
            SigSet::all().thread_unblock().doing("unblock signals")?;
            command.spawn().map_err(|source| LabError::Start { command: command_line(&command), source })
        })
    }
}

impl Namespaces {
    /// Moves the calling thread into new namespaces and returns handles to them. The thread should end then.
    fn new() -> Result<Self, LabError> {
        let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
        unshare(flags).doing("make a network and a mount namespace")?;
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
            .doing("make mounts private")?;
        let cgroups = File::open("/sys/fs/cgroup").doing("open /sys/fs/cgroup")?;
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), nothing).doing("mount /sys")?;
        let cgroups = format!("/proc/thread-self/fd/{}", cgroups.as_raw_fd());
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(cgroups.as_str()), "/sys/fs/cgroup", nothing, bind, nothing)
            .doing("bind /sys/fs/cgroup")?;
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .doing("mount /run")?;
        Ok(Self {
            network: File::open("/proc/thread-self/ns/net").doing("open a network namespace")?,
            mounts: File::open("/proc/thread-self/ns/mnt").doing("open a mount namespace")?,
        })
    }

    /// Moves the calling thread into the mounts. It stops sharing its working directory with other threads for that.
    fn enter_mounts(&self) -> Result<(), LabError> {
        unshare(CloneFlags::CLONE_FS).doing("separate a thread's working directory")?;
        setns(&self.mounts, CloneFlags::CLONE_NEWNS).doing("enter a mount namespace")
    }
}

/// Runs work that changes the namespaces of its thread on a thread of its own, and waits for it.
pub(crate) fn on_fresh_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
}
