//! [`Agent`]: the program under test, as it runs for a user.

use crate::cgroup::Cgroup;
use crate::clock::{Deadline, soon, wait_until};
use crate::error::{Doing, LabError};
use crate::host::Host;
use crate::process::Process;
use crate::record::{self, Record};
use crate::scrape::{self, Response, Scrape};
use nix::sys::signal::Signal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

/// What a program may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Privilege {
    /// Root with every capability.
    #[default]
    Everything,
    /// Root with `CAP_NET_RAW` alone and no way to more: as in the `DaemonSet`.
    NetRaw,
    /// An ordinary user (65534) without capabilities.
    Nobody,
}

/// How to start the agent.
#[derive(Debug)]
pub struct Launch<'a> {
    host: &'a Host,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    privilege: Privilege,
    cgroup: Option<&'a Cgroup>,
    listen: SocketAddr,
    records: bool,
}

/// A running `podsonar run`. Dropping it kills it.
#[derive(Debug)]
pub struct Agent {
    /// The process, for its output, signals and CPU time.
    pub process: Process,
    host: Host,
    listen: SocketAddr,
    record: Option<PathBuf>,
}

/// The variable that names the agent's binary.
pub const BINARY_VARIABLE: &str = "PODSONAR_BIN";

/// The variable that names the archive of the agent's image.
pub const IMAGE_VARIABLE: &str = "PODSONAR_IMAGE";
/// The variable that names the archive of an image of the agent with the next versions of what agents share.
pub const NEXT_IMAGE_VARIABLE: &str = "PODSONAR_NEXT_IMAGE";

/// An agent's image for clusters, which `tests/tools/agents.sh` packs: what the variable names.
///
/// # Errors
/// [`LabError::Missing`] if it names none. The lab builds nothing.
pub fn image(variable: &str) -> Result<PathBuf, LabError> {
    let named = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file());
    let hint = || format!("{variable} must name it; `make agents` builds it");
    named.ok_or_else(|| LabError::Missing { what: "the agent's image", hint: hint() })
}

/// The agent's binary: what [`BINARY_VARIABLE`] names, else `podsonar` in the target folder of this program.
///
/// # Errors
/// [`LabError::Missing`] if it is not built. The lab builds nothing.
pub fn binary() -> Result<PathBuf, LabError> {
    let named = env::var_os(BINARY_VARIABLE).map(PathBuf::from);
    let this = env::current_exe().doing("find this program's path")?;
    // Tests and benchmarks are in target/PROFILE/deps, binaries in target/PROFILE.
    let beside = this.ancestors().skip(1).take(2).map(|folder| folder.join("podsonar"));
    let candidates: Vec<PathBuf> = match named {
        Some(path) => vec![path],
        None => beside.collect(),
    };
    let hint =
        || format!("looked for {candidates:?}; build it (cargo build -p podsonar) or set {BINARY_VARIABLE}");
    let found = candidates.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| LabError::Missing { what: "the agent's binary", hint: hint() })
}

impl<'a> Launch<'a> {
    /// The agent in a host, serving on 127.0.0.1:9988 there, without targets yet.
    pub fn on(host: &'a Host) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 9988));
        let (arguments, variables, privilege) = (Vec::new(), Vec::new(), Privilege::default());
        Self { host, arguments, variables, privilege, cgroup: None, listen, records: false }
    }

    /// Adds a target.
    #[must_use]
    pub fn target(self, target: &str) -> Self {
        self.arguments(&["--target", target])
    }

    /// Adds arguments of `podsonar run`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Sets a variable of the agent's environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Limits what the agent may do.
    #[must_use]
    pub fn privilege(mut self, privilege: Privilege) -> Self {
        self.privilege = privilege;
        self
    }

    /// Starts the agent in a cgroup.
    #[must_use]
    pub fn cgroup(mut self, cgroup: &'a Cgroup) -> Self {
        self.cgroup = Some(cgroup);
        self
    }

    /// Serves on another address.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Lets the agent write records, for [`Agent::records`].
    #[must_use]
    pub fn records(mut self) -> Self {
        self.records = true;
        self
    }

    /// Starts the agent and waits until it says that it is ready.
    ///
    /// # Errors
    /// With the agent's output if it ends instead.
    pub fn start(self) -> Result<Agent, LabError> {
        let mut command = self.privilege.command(self.host, &binary()?)?;
        command.arg("run").arg("--listen").arg(self.listen.to_string()).args(&self.arguments);
        command.envs(self.variables);
        let record = self.records.then(record_path);
        if let Some(path) = &record {
            // It exists and is everybody's, so that every privilege may append to it.
            self.host.write_file(path, &[], 0o666)?;
            command.arg("--record").arg(path);
        }
        if let Some(cgroup) = self.cgroup {
            command = cgroup.command(&command);
        }
        let process = self.host.spawn(command)?;
        let mut agent = Agent { process, host: self.host.clone(), listen: self.listen, record };
        agent.wait_until_ready(soon())?;
        Ok(agent)
    }
}

impl Privilege {
    /// A command that runs a program with this privilege.
    pub fn command(self, host: &Host, program: &Path) -> Result<Command, LabError> {
        let mut command = Command::new("setpriv");
        match self {
            Self::Everything => return Ok(Command::new(program)),
            Self::NetRaw => {
                command
                    .args(["--bounding-set=-all,+net_raw", "--inh-caps=-all", "--no-new-privs"])
                    .arg(program);
            }
            Self::Nobody => {
                // The target folder may be closed to others: the host's own /run is not.
                let name = program.file_name().unwrap_or_default();
                let copy = Path::new("/run").join(name);
                let contents = fs::read(program).doing(format!("read {}", program.display()))?;
                host.write_file(&copy, &contents, 0o755)?;
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
                command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]).arg(copy);
            }
        }
        Ok(command)
    }
}

impl Agent {
    /// Asks for a path by HTTP.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response, LabError> {
        scrape::get(&self.host, self.listen, path, headers)
    }

    /// Its metrics, from the text format.
    pub fn scrape(&self) -> Result<Scrape, LabError> {
        Scrape::parse(&self.get("/metrics", &[])?.text())
    }

    /// All finished probes that it has written so far but those of the control; none without [`Launch::records`].
    pub fn records(&self) -> Result<Vec<Record>, LabError> {
        let Some(path) = &self.record else { return Ok(Vec::new()) };
        let mut records = record::parse(&self.host.read_file(path)?)?;
        records.retain(|record| record.kind != "control");
        Ok(records)
    }

    /// Waits until a condition on its metrics holds, and returns what it found.
    pub fn wait_for_metrics<T>(
        &self,
        deadline: Deadline,
        waiting_for: &str,
        found: impl Fn(&Scrape) -> Option<T>,
    ) -> Result<T, LabError> {
        wait_until(deadline, waiting_for, || Ok(found(&self.scrape()?)))
    }

    /// The flows that its log calls black-holed, as sockets of both ends, in the order in which they were found.
    pub fn reported_flows(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let flow = |line: String| {
            // "flow=tcp ADDRESS port PORT to ADDRESS:PORT"
            let (_, flow) = line.split_once("flow=tcp ")?;
            let mut words = flow.split_whitespace();
            let (from, port) = (words.next()?.parse().ok()?, words.nth(1)?.parse().ok()?);
            Some((SocketAddr::new(from, port), words.nth(1)?.parse().ok()?))
        };
        let lines = self.process.lines().into_iter();
        lines.filter(|line| line.contains("black-holed flow")).filter_map(flow).collect()
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(&mut self, deadline: Deadline) -> Result<ExitStatus, LabError> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(deadline)
    }

    fn wait_until_ready(&mut self, deadline: Deadline) -> Result<(), LabError> {
        wait_until(deadline, "the agent to be ready", || {
            self.process.must_run()?;
            // Nobody listens yet, or not yet ready: both are answers to be asked for again.
            Ok(self.get("/readyz", &[]).ok().filter(|response| response.status == 200).map(drop))
        })
    }
}

/// A path in a host's own `/run` that no other agent writes to.
fn record_path() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    PathBuf::from(format!("/run/record-{}.jsonl", NUMBER.fetch_add(1, Ordering::Relaxed)))
}
