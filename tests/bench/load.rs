//! Things that compete with a prober for the CPU, and the passing of time.

use anyhow::Result;
use podsonar_lab::{Cgroup, Host, Process};
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

/// How scarce the CPU is for a prober.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nothing else runs.
    Idle,
    /// 5 % of one CPU, enforced by the kernel each 100 ms.
    Quota,
    /// 10 % of one CPU, shared with a thread that takes all it gets.
    QuotaSpin,
    /// A busy loop for each CPU.
    Busy,
    /// [`Condition::QuotaSpin`] and [`Condition::Busy`].
    Both,
}

impl Condition {
    /// All five.
    pub(crate) const ALL: [Self; 5] = [Self::Idle, Self::Quota, Self::QuotaSpin, Self::Busy, Self::Both];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Quota => "5 % quota",
            Self::QuotaSpin => "10 % quota + spin",
            Self::Busy => "busy CPUs",
            Self::Both => "quota + spin + busy",
        }
    }

    /// Whether a quota is part of it.
    fn quota(self) -> Option<f64> {
        match self {
            Self::Idle | Self::Busy => None,
            Self::Quota => Some(0.05),
            Self::QuotaSpin | Self::Both => Some(0.1),
        }
    }

    /// Makes the condition: what competes runs from now on, and a prober started in [`Pressure::cgroup`] is under it.
    /// It lasts until the returned guard drops, which must be after the prober's end.
    pub(crate) fn impose(self, host: &Host) -> Result<Pressure> {
        let cgroup = self.quota().map(Cgroup::with_cpu_quota).transpose()?;
        let spin = || -> Result<Command> {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("spin");
            Ok(command)
        };
        let mut loops = Vec::new();
        if matches!(self, Self::Busy | Self::Both) {
            for _ in 0..thread::available_parallelism()?.get() {
                loops.push(host.spawn(spin()?)?);
            }
        }
        if let (Self::QuotaSpin | Self::Both, Some(cgroup)) = (self, &cgroup) {
            loops.push(host.spawn(cgroup.command(&spin()?))?);
        }
        Ok(Pressure { loops, cgroup })
    }
}

/// Keeps a [`Condition`] up. Fields drop in order: programs end before their group is removed.
#[derive(Debug)]
pub(crate) struct Pressure {
    #[expect(dead_code, reason = "held for their end")]
    loops: Vec<Process>,
    cgroup: Option<Cgroup>,
}

impl Pressure {
    /// The group in which a prober must run, if there is one.
    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// A prober's command, such that it runs in the group.
    pub(crate) fn command(&self, command: Command) -> Command {
        match &self.cgroup {
            Some(cgroup) => cgroup.command(&command),
            None => command,
        }
    }

    /// A condition without anything in it.
    pub(crate) fn none() -> Self {
        Self { loops: Vec::new(), cgroup: None }
    }
}

/// Runs until it is killed.
pub(crate) fn spin() -> Result<ExitCode> {
    loop {
        black_box(());
    }
}

/// Lets time pass. A measurement takes a stretch of time; nothing is synchronised by it.
#[expect(
    clippy::disallowed_methods,
    reason = "a measurement lasts a stretch of time, there is no event to wait for"
)]
pub(crate) fn pass(time: Duration) {
    thread::sleep(time);
}
