//! The cgroups of nodes: one in each hierarchy, under a name that the cluster's owner removes.

use crate::clock::{soon, wait_until};
use crate::error::{Doing, LabError};
use std::path::{Path, PathBuf};
use std::{fs, io};

const BASE: &str = "/sys/fs/cgroup";

/// Makes `NAME/NODE` in each hierarchy, as kubelet expects its root to be.
pub(super) fn make(name: &str, node: &str) -> Result<(), LabError> {
    for root in roots()? {
        for path in [root.join(name), root.join(name).join(node)] {
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).doing(format!("make the cgroup {}", path.display()));
                }
                _ => inherit_cpus(&path)?,
            }
        }
    }
    Ok(())
}

/// Removes the node's, as the machine's end would: kubelet waits seconds for what a dead one left.
pub(super) fn remove(name: &str, node: &str) -> Result<(), LabError> {
    for root in roots()? {
        let path = root.join(name).join(node);
        wait_until(soon(), &format!("the end of {}", path.display()), || {
            Ok(remove_tree(&path).then_some(()))
        })?;
    }
    Ok(())
}

/// Version 1 has one hierarchy for each controller; version 2 has one for all.
fn roots() -> Result<Vec<PathBuf>, LabError> {
    let is_root = |path: &Path| path.join("cgroup.procs").exists() || path.join("tasks").exists();
    if is_root(Path::new(BASE)) {
        return Ok(vec![BASE.into()]);
    }
    let entries = fs::read_dir(BASE).doing(format!("read {BASE}"))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    // Links give a hierarchy its second name.
    Ok(paths.filter(|path| !path.is_symlink() && is_root(path)).collect())
}

/// A new group of the version 1 controller cpuset has no CPU until it is given some.
fn inherit_cpus(path: &Path) -> Result<(), LabError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = path.join(file);
        let parent = path.parent().map(|parent| parent.join(file)).filter(|parent| parent.exists());
        let (Some(parent), true) = (parent, own.exists()) else { continue };
        let value = fs::read_to_string(&parent).doing(format!("read {}", parent.display()))?;
        fs::write(&own, value.trim()).doing(format!("write {}", own.display()))?;
    }
    Ok(())
}

/// Removes a group and those in it, deepest first; whether it is gone.
fn remove_tree(path: &Path) -> bool {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path());
    }
    fs::remove_dir(path).is_ok() || !path.exists()
}
