//! [`Process`]: a program in a host, killed on drop, its output read by lines.

use crate::clock::{Deadline, soon, wait_until};
use crate::error::{Doing, LabError};
use crate::lab::Core;
use crate::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A running program. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Process {
    line: String,
    child: Child,
    output: Arc<Output>,
    /// Keeps the lab alive: its init cannot end before this process is reaped.
    _core: Arc<Core>,
}

impl Process {
    pub(crate) fn new(line: String, mut child: Child, core: Arc<Core>) -> Self {
        let output = Arc::new(Output::default());
        if let Some(stdout) = child.stdout.take() {
            output.collect(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            output.collect(stderr);
        }
        Self { line, child, output, _core: core }
    }

    /// The process id, as this process and `/proc` see it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines written so far, standard output and standard error in the order of their arrival.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().lines.clone()
    }

    /// Waits for a line that satisfies a condition, among those written already or later, and returns it.
    ///
    /// # Errors
    /// [`LabError::Deadline`] with all lines, when time is up or the program has closed its output.
    pub fn wait_for_line(
        &self,
        deadline: Deadline,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String, LabError> {
        let mut state = self.output.lock();
        let mut looked_at = 0;
        loop {
            if let Some(line) = state.lines.iter().skip(looked_at).find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            looked_at = state.lines.len();
            if deadline.passed() || state.open == 0 {
                let waiting_for = format!("a line of `{}`", self.line);
                return Err(LabError::Deadline { waiting_for, seen: state.lines.join("\n") });
            }
            let waited = self.output.changed.wait_timeout(state, deadline.left());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        kill(self.pid(), signal).doing(format!("send {signal} to `{}`", self.line))
    }

    /// Stops all its threads as `SIGSTOP` does, and waits until they are. It goes on when the guard drops.
    pub fn pause(&self) -> Result<Paused<'_>, LabError> {
        let paused = Paused(self);
        self.signal(Signal::SIGSTOP)?;
        let is_stopped = |stat: &String| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"));
        wait_until(soon(), &format!("`{}` to stop", self.line), || {
            let doing = format!("read the state of `{}`", self.line);
            let threads = fs::read_dir(format!("/proc/{}/task", self.id())).doing(doing.as_str())?;
            let states = threads.map(|thread| fs::read_to_string(thread?.path().join("stat")));
            let states: Vec<String> = states.collect::<Result<_, _>>().doing(doing)?;
            Ok(states.iter().all(is_stopped).then_some(()))
        })?;
        Ok(paused)
    }

    /// Nothing, as long as the program has not ended.
    ///
    /// # Errors
    /// [`LabError::Command`] with all that it wrote, if it has.
    pub fn must_run(&mut self) -> Result<(), LabError> {
        let Some(status) = self.ended()? else { return Ok(()) };
        let stderr = self.all_output(soon())?.join("\n");
        Err(LabError::Command { command: self.line.clone(), status: status.to_string(), stderr })
    }

    /// Waits until the program ends by itself.
    ///
    /// # Errors
    /// [`LabError::Deadline`] with what it has written, when it still runs then.
    pub fn wait(&mut self, deadline: Deadline) -> Result<ExitStatus, LabError> {
        let doing = format!("wait for `{}`", self.line);
        let handle = sys::pidfd(self.child.id()).doing(doing.as_str())?;
        if !readable_before(&handle, deadline).doing(doing.as_str())? {
            let waiting_for = format!("the end of `{}`", self.line);
            return Err(LabError::Deadline { waiting_for, seen: self.lines().join("\n") });
        }
        self.child.wait().doing(doing)
    }

    /// Waits, for ever, until the program ends by itself.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus, LabError> {
        self.child.wait().doing(format!("wait for `{}`", self.line))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, LabError> {
        self.child.try_wait().doing(format!("look at `{}`", self.line))
    }

    /// Waits until its output is closed and returns all lines.
    pub fn all_output(&self, deadline: Deadline) -> Result<Vec<String>, LabError> {
        let mut state = self.output.lock();
        while state.open > 0 {
            if deadline.passed() {
                let waiting_for = format!("the end of the output of `{}`", self.line);
                return Err(LabError::Deadline { waiting_for, seen: state.lines.join("\n") });
            }
            let waited = self.output.changed.wait_timeout(state, deadline.left());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state.lines.clone())
    }

    /// CPU time of all its threads so far, user and kernel, in the scheduler's nanoseconds.
    pub fn cpu_time(&self) -> Result<Duration, LabError> {
        let doing = format!("read the CPU time of `{}`", self.line);
        let clock: ClockId = clock_getcpuclockid(self.pid()).doing(doing.as_str())?;
        Ok(clock.now().doing(doing)?.into())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

/// Keeps a program stopped. Dropping it lets the program go on.
#[derive(Debug)]
pub struct Paused<'a>(&'a Process);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // Fails only for a process that has ended.
        let _ = self.0.signal(Signal::SIGCONT);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command line, for messages.
pub(crate) fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<Written>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Written {
    lines: Vec<String>,
    open: usize,
}

impl Output {
    /// Reads lines on a thread until the pipe closes. The thread is not joined: a grandchild may hold the pipe longer
    /// than the program lives, until the lab ends.
    fn collect(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        self.lock().open += 1;
        let output = Arc::clone(self);
        thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                line.clear();
                output.lock().lines.push(text);
                output.changed.notify_all();
            }
            output.lock().open -= 1;
            output.changed.notify_all();
        });
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn readable_before(handle: &OwnedFd, deadline: Deadline) -> nix::Result<bool> {
    loop {
        let millis = deadline.left().as_millis().min(1000) as u16;
        let mut fds = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(0) if deadline.passed() => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}
