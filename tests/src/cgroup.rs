//! [`Cgroup`]: a CPU quota for programs of the lab, by the machine's cgroups (version 1 or 2).
//!
//! A cgroup is the one thing of the lab that is not in a namespace. It is removed on drop; one whose owner was killed is
//! removed by the next lab: its name tells which process owned it.

use crate::clock::soon;
use crate::error::{Doing, LabError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io, thread};

/// A control group with a CPU quota. Processes in it share the quota.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

/// The period in which a quota counts, in microseconds; it is what container runtimes use.
const PERIOD_US: u64 = 100_000;

impl Cgroup {
    /// A cgroup whose processes together get this share of one CPU: 0.05 is 5 ms of each 100 ms.
    pub fn with_cpu_quota(share: f64) -> Result<Self, LabError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let version = Version::of_this_machine()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let owner = std::process::id();
        let start = start_time(owner).doing("read the start time of this process")?;
        let path = version.root().join(format!("{PREFIX}{owner}-{start}-{number}"));
        fs::create_dir(&path).doing(format!("make the cgroup {}", path.display()))?;
        let cgroup = Self { path };
        let quota = (share * PERIOD_US as f64) as u64;
        match version {
            Version::One(_) => {
                cgroup.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                cgroup.write("cpu.cfs_quota_us", &quota.to_string())?;
            }
            Version::Two(_) => cgroup.write("cpu.max", &format!("{quota} {PERIOD_US}"))?,
        }
        Ok(cgroup)
    }

    /// The same command, but its process enters the cgroup before the program starts.
    pub fn command(&self, command: &Command) -> Command {
        let mut entering = Command::new("/bin/sh");
        entering.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]).arg(&self.path);
        entering.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entering.env(name, value),
                None => entering.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            entering.current_dir(directory);
        }
        entering
    }

    /// How often its processes were stopped because the quota was used up.
    pub fn throttled(&self) -> Result<u64, LabError> {
        let path = self.path.join("cpu.stat");
        let text = fs::read_to_string(&path).doing(format!("read {}", path.display()))?;
        let value = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse().ok());
        value.ok_or(LabError::Malformed { what: "cpu.stat", text })
    }

    fn write(&self, file: &str, value: &str) -> Result<(), LabError> {
        let path = self.path.join(file);
        fs::write(&path, value).doing(format!("write {value} to {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel lets a group go a moment after its last process was reaped.
        let deadline = soon();
        while !deadline.passed() && fs::remove_dir(&self.path).is_err_and(|error| is_busy(&error)) {
            thread::yield_now();
        }
    }
}

#[derive(Debug)]
enum Version {
    One(PathBuf),
    Two(PathBuf),
}

impl Version {
    fn of_this_machine() -> Result<Self, LabError> {
        let base = Path::new("/sys/fs/cgroup");
        for controller in ["cpu", "cpu,cpuacct"] {
            let root = base.join(controller);
            if root.join("cgroup.procs").exists() {
                return Ok(Self::One(root));
            }
        }
        let controllers = fs::read_to_string(base.join("cgroup.subtree_control")).unwrap_or_default();
        if controllers.split_whitespace().any(|controller| controller == "cpu") {
            return Ok(Self::Two(base.to_owned()));
        }
        let hint = "neither /sys/fs/cgroup/cpu nor cpu in /sys/fs/cgroup/cgroup.subtree_control".to_owned();
        Err(LabError::Missing { what: "the cgroup CPU controller", hint })
    }

    fn root(&self) -> &Path {
        match self {
            Self::One(root) | Self::Two(root) => root,
        }
    }
}

const PREFIX: &str = "podsonar-lab-";

/// Removes the cgroups of owners that are dead. Where there are no cgroups there is nothing to remove.
pub(crate) fn sweep() {
    let Ok(version) = Version::of_this_machine() else { return };
    let entries = fs::read_dir(version.root()).into_iter().flatten();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let mut fields = owner.split('-');
        let process = fields.next().and_then(|id| id.parse().ok());
        let start = fields.next().map(str::to_owned);
        let lives = process.is_some_and(|process| start_time(process).ok() == start);
        if !lives {
            // One whose last process is dying, or that another lab removes just now, goes another time.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// When a process started, in clock ticks since boot: with the id it names a process for ever (proc(5), field 22).
pub(crate) fn start_time(process: u32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field, the name in parentheses, may contain spaces.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().nth(19).map(str::to_owned).ok_or_else(|| io::Error::other("no start time"))
}

fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}
