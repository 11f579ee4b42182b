//! [`Part`]: a program of the cluster, such as kubelet, which a test may stop, kill and start again.

use super::machine::Machine;
use crate::error::{Doing, LabError};
use crate::host::Host;
use crate::process::{Process, command_line};
use nix::sys::signal::Signal;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Where a part runs.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Beside others that see the same process ids.
    Host(Host),
    /// On a node.
    Machine(Arc<Machine>),
}

/// A program that was started; its output goes to a file. Dropping it kills it.
#[derive(Debug)]
pub struct Part {
    name: String,
    place: Place,
    program: PathBuf,
    arguments: Vec<String>,
    /// The program's folder goes first, since parts start each other by name.
    path: String,
    log: PathBuf,
    process: Option<Process>,
}

impl Part {
    /// Starts a program; `NAME.log` in a folder gets what it writes.
    pub(super) fn start(
        place: Place,
        name: &str,
        program: PathBuf,
        arguments: Vec<String>,
        logs: &Path,
    ) -> Result<Self, LabError> {
        let folder = program.parent().unwrap_or(Path::new("/")).display();
        let path = format!("{folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let log = logs.join(format!("{name}.log"));
        let mut part = Self { name: name.to_owned(), place, program, arguments, path, log, process: None };
        part.again()?;
        Ok(part)
    }

    /// Its name, such as `kube-apiserver`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file with what it wrote.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it again after [`Part::kill`], or after it has ended by itself.
    pub fn again(&mut self) -> Result<(), LabError> {
        self.process = None;
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.doing(format!("open {}", self.log.display()))?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().env("PATH", &self.path).env("HOME", "/root");
        command.stdin(Stdio::null()).stdout(log.try_clone().doing("share a log")?).stderr(log);
        let line = command_line(&command);
        let (child, core) = match &self.place {
            Place::Host(host) => (host.start(command)?, host.core()),
            Place::Machine(machine) => (machine.spawn(command)?, machine.host.core()),
        };
        self.process = Some(Process::new(line, child, Arc::clone(core)));
        Ok(())
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it where it is: its sockets stay open and silent.
    pub fn stop(&self) -> Result<(), LabError> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal(Signal::SIGSTOP))
    }

    /// Lets it go on after [`Part::stop`].
    pub fn go_on(&self) -> Result<(), LabError> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal(Signal::SIGCONT))
    }

    /// Nothing, as long as it runs.
    ///
    /// # Errors
    /// [`LabError::Missing`] with the file that tells why, if it has ended.
    pub fn must_run(&mut self) -> Result<(), LabError> {
        let ended = match &mut self.process {
            Some(process) => process.ended()?.map(|status| status.to_string()),
            None => Some("it was killed".to_owned()),
        };
        let Some(status) = ended else { return Ok(()) };
        let hint = format!("{} ended ({status}); see {}", self.name, self.log.display());
        Err(LabError::Missing { what: "a part of the cluster", hint })
    }
}
