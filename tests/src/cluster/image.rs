//! The images that every node has.

use crate::error::LabError;
use crate::tool;
use std::path::PathBuf;

/// The archives of pause, busybox, nginx and coredns, which `tests/tools/images.sh` packs.
pub(super) fn standard() -> Result<Vec<PathBuf>, LabError> {
    let folder = tool::cluster("../images")?;
    let archives = ["pause", "busybox", "nginx", "coredns"].map(|name| folder.join(format!("{name}.tar")));
    match archives.iter().find(|archive| !archive.exists()) {
        Some(missing) => {
            let hint = format!("{} is not there; run make kubernetes", missing.display());
            Err(LabError::Missing { what: "an image", hint })
        }
        None => Ok(archives.into()),
    }
}
