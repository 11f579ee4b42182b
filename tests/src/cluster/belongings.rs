//! [`Belongings`]: what a cluster has outside of namespaces, and who removes it.

use crate::cgroup::start_time;
use crate::error::{Doing, LabError};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

/// A folder with the cluster's keys, settings and logs, and the name of its cgroups.
///
/// A process of its own removes both when the owner ends, however it ends: it reads a pipe that the kernel closes
/// then. It is in a process group of its own, so that Ctrl-C does not reach it.
#[derive(Debug)]
pub(super) struct Belongings {
    pub(super) folder: PathBuf,
    /// Names the folder and the cgroups.
    pub(super) name: String,
    janitor: Child,
}

/// Waits for the end of its input, then removes cgroups ($0) and folder ($1). The kernel lets a cgroup go a moment
/// after its last process; hence the second tries, for half a minute at most.
const JANITOR: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
tries=0
while [ $tries -lt 300 ]; do
    left=
    for group in /sys/fs/cgroup/"$0" /sys/fs/cgroup/*/"$0"; do
        [ -d "$group" ] || continue
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
        [ -d "$group" ] && left=1
    done
    [ "$left" ] || break
    tries=$((tries + 1))
    sleep 0.1
done
[ -e "$1/keep" ] || rm -rf "$1"
"#;

const PREFIX: &str = "podsonar-cluster-";

impl Belongings {
    /// Makes the folder and starts who will remove it. What owners left that were killed together with theirs goes
    /// first.
    pub(super) fn new() -> Result<Self, LabError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        sweep();
        let owner = std::process::id();
        let start = start_time(owner).doing("read the start time of this process")?;
        let name = format!("{PREFIX}{owner}-{start}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = env::temp_dir().join(&name);
        fs::create_dir_all(folder.join("log")).doing(format!("make {}", folder.display()))?;
        let janitor = janitor(&name, &folder)?;
        Ok(Self { folder, name, janitor })
    }

    /// Keeps the folder, for a person to look at.
    pub(super) fn keep(&self) {
        // If that fails there is nothing to look at, and nothing to do about it.
        let _ = fs::write(self.folder.join("keep"), "");
    }
}

impl Drop for Belongings {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        // It fails only if it was waited for already.
        let _ = self.janitor.wait();
    }
}

fn janitor(name: &str, folder: &Path) -> Result<Child, LabError> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", JANITOR, name]).arg(folder).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|source| LabError::Start { command: "/bin/sh".into(), source })
}

/// Has removed what belongs to owners that are dead, where no janitor lived to do it.
fn sweep() {
    let places = [env::temp_dir(), "/sys/fs/cgroup".into(), "/sys/fs/cgroup/memory".into()];
    let entries = places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().filter_map(Result::ok);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name.strip_prefix(PREFIX) else { continue };
        let mut fields = owner.split('-');
        let process = fields.next().and_then(|id| id.parse().ok());
        let start = fields.next().map(str::to_owned);
        if process.is_some_and(|process| start_time(process).ok() == start) {
            continue;
        }
        if let Ok(mut janitor) = janitor(&name, &env::temp_dir().join(&name)) {
            drop(janitor.stdin.take());
            // It fails only if it was waited for already.
            let _ = janitor.wait();
        }
    }
}
