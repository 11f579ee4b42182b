//! When to read the configuration again: on SIGHUP, and when a file is another one than that which was read.
//!
//! Files are looked at each second by what their paths lead to. That also sees a symlink that is swapped, as the
//! kubelet does with a `ConfigMap`, where watches on the file itself see nothing.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file as it was at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    path: PathBuf,
    /// `None`: there was none, or it could not be reached.
    identity: Option<Identity>,
}

/// What differs when a file was written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl File {
    /// The file that a path leads to now.
    pub fn look(path: &Path) -> Self {
        let identity = fs::metadata(path).ok().map(|found| Identity {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        });
        Self { path: path.to_owned(), identity }
    }
}

/// Why the configuration is to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Somebody sent SIGHUP.
    Signal,
    /// A file has changed.
    File(PathBuf),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("SIGHUP"),
            Self::File(path) => write!(f, "{} has changed", path.display()),
        }
    }
}

/// Waits for a reason to read the configuration again.
#[derive(Debug)]
pub struct Watcher {
    hangup: Signal,
    looks: Interval,
    read: Vec<File>,
    /// As they were at the last look.
    seen: Vec<File>,
}

impl Watcher {
    /// Watches files as they were when they were read.
    ///
    /// # Errors
    /// The signal's.
    pub fn new(read: Vec<File>) -> io::Result<Self> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { hangup: signal(SignalKind::hangup())?, looks, seen: read.clone(), read })
    }

    /// Watches other files from now on, or the same as they were when they were read again.
    pub fn watch(&mut self, read: Vec<File>) {
        self.seen.clone_from(&read);
        self.read = read;
    }

    /// Waits for SIGHUP or a changed file. A file that changes must be the same at two looks, so that one which is
    /// being written is not read. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Why {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => return Why::Signal,
                _ = self.looks.tick() => if let Some(path) = self.look() { return Why::File(path) },
            }
        }
    }

    fn look(&mut self) -> Option<PathBuf> {
        let now: Vec<_> = self.read.iter().map(|file| File::look(&file.path)).collect();
        let settled = now == self.seen;
        let changed = now.iter().zip(&self.read).find(|(now, read)| now != read);
        let changed = changed.filter(|_| settled).map(|(now, _)| now.path.clone());
        self.seen = now;
        changed
    }
}
