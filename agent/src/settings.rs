//! From the command line, files and the environment to a complete configuration.
//!
//! Everything outside the program is read here and nowhere else; what it means is decided in
//! `podsonar_core::config`. All problems are reported at once. The same can be read again while the agent runs.

mod flags;
mod read;

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use podsonar_core::config::{Configuration, DEFAULT_PORT, Downward, Host, Problem, Written, setting};

use crate::reload::File;

pub use self::flags::{Ask, Cli, Command, Flags};

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// What Kubernetes says.
    pub downward: Downward,
    /// `PODSONAR_LOG`.
    pub log_level: Option<String>,
    /// `PODSONAR_CONFIG`.
    pub config: Option<PathBuf>,
    /// The kernel's host name.
    pub host_name: Option<String>,
}

impl Environment {
    /// Reads it; an empty variable counts as absent.
    pub fn read() -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
        let host_name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
        Self {
            downward: Downward {
                service_host: text("KUBERNETES_SERVICE_HOST"),
                service_port: text("KUBERNETES_SERVICE_PORT"),
                node_name: text("NODE_NAME"),
                pod_name: text("POD_NAME"),
                pod_namespace: text("POD_NAMESPACE"),
                pod_uid: text("POD_UID"),
                pod_ips: text("POD_IPS"),
                host_ips: text("HOST_IPS"),
            },
            log_level: text("PODSONAR_LOG"),
            config: variable("PODSONAR_CONFIG").map(PathBuf::from),
            host_name: host_name.map(|name| name.trim().to_owned()),
        }
    }
}

/// Where settings come from: it can be read again and again.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The flags.
    pub flags: Flags,
    /// The environment.
    pub environment: Environment,
}

/// A complete and valid configuration, and how to read it again.
#[derive(Debug)]
pub struct Settings {
    /// What is in force.
    pub configuration: Configuration,
    /// What it was made of.
    pub read: Read,
    /// Where that came from.
    pub sources: Sources,
}

impl Settings {
    /// Reads everything and says what it means.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(sources: Sources) -> Result<Self, Vec<Problem>> {
        let read = sources.read();
        let configuration = read.resolve()?;
        Ok(Self { configuration, read, sources })
    }

    /// Every setting as a configuration file, with comments that say where each value comes from.
    pub fn print(&self) -> String {
        self.read.written.print(&self.read.host)
    }
}

/// What was read from the sources, and what was wrong with them.
#[derive(Debug)]
pub struct Read {
    /// Everything that could be read.
    pub written: Written,
    /// What this machine says where nothing is written.
    pub host: Host,
    /// The files that were read, or should have been, each as it was before it was read.
    pub files: Vec<File>,
    /// The file that says whom to ask for names.
    pub resolv_conf: File,
    /// Files that cannot be read or understood.
    pub problems: Vec<Problem>,
}

impl Sources {
    /// Reads flags, environment and files.
    pub fn read(&self) -> Read {
        read::read(self)
    }
}

impl Read {
    /// Where an agent with these settings is asked from its own host, whatever else may be wrong with them.
    pub fn local_address(&self) -> SocketAddr {
        let listen = self.written.get(&setting::LISTEN).and_then(|(text, _)| text.parse().ok());
        let at: SocketAddr = listen.unwrap_or(([0, 0, 0, 0], DEFAULT_PORT).into());
        // A socket on [::] takes IPv4 too; a host without IPv6 has no such socket.
        if at.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, at.port()).into() } else { at }
    }

    /// What it means.
    ///
    /// # Errors
    /// All problems at once.
    pub fn resolve(&self) -> Result<Configuration, Vec<Problem>> {
        let resolved = self.written.resolve(&self.host);
        if self.problems.is_empty() {
            return resolved;
        }
        // Nothing to probe is no news if something could not be read.
        let news = resolved.err().into_iter().flatten().filter(|problem| problem.at.is_some());
        let mut problems: Vec<_> = self.problems.iter().cloned().chain(news).collect();
        Problem::in_order(&mut problems);
        Err(problems)
    }
}

#[cfg(test)]
mod tests;
