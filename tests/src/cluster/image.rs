//! [`Image`]: a container image of a few files, without a builder or registry.

use crate::error::{Doing, LabError};
use crate::tool;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An image with one program as its only file, as `/NAME`.
#[derive(Debug, Clone)]
pub struct Image {
    /// The program's name.
    pub name: String,
    /// Where the program is; it must need no library.
    pub program: PathBuf,
    /// The image is `lab.local/NAME:TAG`.
    pub tag: String,
}

impl Image {
    /// Packs it into a folder. Returns the archive's path, the same each time.
    pub(super) fn pack(&self, folder: &Path) -> Result<PathBuf, LabError> {
        let Self { name, program, tag } = self;
        let root = folder.join(format!("image-{name}-{tag}"));
        fs::create_dir_all(&root).doing(format!("make {}", root.display()))?;
        fs::copy(program, root.join(name)).doing(format!("copy {}", program.display()))?;
        let archive = folder.join(format!("{name}-{tag}.tar"));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/image.sh");
        let mut command = Command::new(script);
        command
            .args([format!("lab.local/{name}:{tag}")])
            .arg(&root)
            .arg(format!(r#"["/{name}"]"#))
            .arg(&archive);
        let output = command.output();
        let output = output.map_err(|source| LabError::Start { command: script.to_owned(), source })?;
        if output.status.success() {
            return Ok(archive);
        }
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(LabError::Command { command: script.to_owned(), status: output.status.to_string(), stderr })
    }
}

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
