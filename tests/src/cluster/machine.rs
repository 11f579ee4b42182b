//! [`Machine`]: a host that looks like a machine of its own to what runs on it.

use crate::clock::{soon, wait_until};
use crate::error::{Doing, LabError};
use crate::host::{Host, on_fresh_thread};
use crate::lab::Lab;
use crate::process::{Process, command_line};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A host with process ids, a host name and mounts of its own: what kubelet and a container runtime need around them.
/// When it goes, all that runs on it goes at once, as by a power cut.
#[derive(Debug)]
pub struct Machine {
    /// Its network.
    pub host: Host,
    /// `unshare`, whose only child is the machine's process 1.
    holder: Mutex<Process>,
    /// The machine's process 1, as this process sees it.
    init: Pid,
    mounts: File,
    others: [(File, CloneFlags); 3],
}

/// What the machine's process 1 does: it lets the kernel reap orphans and outlives everything.
const INIT: &str =
    r#"echo "$0" > /proc/sys/kernel/hostname; trap '' CHLD; echo up; exec sleep infinity >/dev/null 2>&1"#;

impl Machine {
    /// Starts a machine with nothing on it.
    pub fn start(lab: &Lab, name: &str) -> Result<Self, LabError> {
        let host = lab.host(name)?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["/bin/sh", "-c", INIT, name]);
        let holder = host.spawn(command)?;
        holder.wait_for_line(soon(), |line| line == "up")?;
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let init = wait_until(soon(), "a machine's process 1", || {
            let text = fs::read_to_string(&children).doing(format!("read {children}"))?;
            Ok(text.split_whitespace().next().and_then(|id| id.parse().ok()))
        })?;
        let open = |kind: &str| File::open(format!("/proc/{init}/ns/{kind}")).doing("open a namespace");
        Ok(Self {
            host,
            holder: Mutex::new(holder),
            init: Pid::from_raw(init),
            mounts: open("mnt")?,
            others: [
                (open("uts")?, CloneFlags::CLONE_NEWUTS),
                (open("ipc")?, CloneFlags::CLONE_NEWIPC),
                (open("pid")?, CloneFlags::CLONE_NEWPID),
            ],
        })
    }

    /// Runs a closure on a fresh thread among the machine's mounts.
    pub fn with_files<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, LabError> + Send,
    ) -> Result<T, LabError> {
        on_fresh_thread(|| {
            self.enter_mounts()?;
            work()
        })
    }

    /// A path by which this process reaches a file of the machine.
    pub fn outside(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.init)).join(path.trim_start_matches('/'))
    }

    /// Runs a command to its end, whatever its exit status.
    pub fn output(&self, mut command: Command) -> Result<Output, LabError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let line = command_line(&command);
        self.spawn(command)?.wait_with_output().doing(format!("wait for `{line}`"))
    }

    /// Starts a program on the machine, with the input and output that the command says.
    pub(crate) fn spawn(&self, mut command: Command) -> Result<Child, LabError> {
        command.current_dir("/");
        on_fresh_thread(|| {
            self.enter_mounts()?;
            setns(self.host.network(), CloneFlags::CLONE_NEWNET).doing("enter a machine's network")?;
            for (namespace, kind) in &self.others {
                setns(namespace, *kind).doing("enter a machine")?;
            }
            SigSet::all().thread_unblock().doing("unblock signals")?;
            command.spawn().map_err(|source| LabError::Start { command: command_line(&command), source })
        })
    }

    /// Cuts the power: the kernel kills everything on the machine.
    pub(super) fn cut(&self) -> Result<(), LabError> {
        if self.lock().ended()?.is_none() {
            kill(self.init, Signal::SIGKILL).doing("kill a machine's process 1")?;
        }
        Ok(())
    }

    /// Waits until everything on it has ended. Programs that this process has started there must have been dropped:
    /// process 1 ends only when all others are reaped, and those are reaped here.
    pub(super) fn wait_for_end(&self) -> Result<(), LabError> {
        self.lock().wait(soon()).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Process> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter_mounts(&self) -> Result<(), LabError> {
        unshare(CloneFlags::CLONE_FS).doing("separate a thread's working directory")?;
        setns(&self.mounts, CloneFlags::CLONE_NEWNS).doing("enter a machine's mounts")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The lab's own end would do the same, later.
        let _ = self.cut().and_then(|()| self.wait_for_end());
    }
}

/// Puts a file system of this kind, empty, at a path of the calling thread's mounts.
pub(super) fn mount_new(kind: &str, path: &str) -> Result<(), LabError> {
    mount(Some(kind), path, Some(kind), MsFlags::empty(), Some("mode=755")).doing(format!("mount {path}"))
}

/// Shows a file or folder at another path of the calling thread's mounts.
pub(super) fn bind(what: &Path, path: &str) -> Result<(), LabError> {
    let nothing = None::<&str>;
    mount(Some(what), path, nothing, MsFlags::MS_BIND, nothing).doing(format!("bind {path}"))
}

/// Makes mounts that one program of the machine makes visible to the others, as kubelet's volumes must be.
pub(super) fn share_mounts() -> Result<(), LabError> {
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SHARED, nothing).doing("share mounts")
}
