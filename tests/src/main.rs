//! `podsonar-lab mesh` and `cluster`: agents on many nodes to watch; `demo`: a small world for any one program;
//! `pictures`: what the README's pictures are drawn from.

mod command;

use clap::{Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use podsonar_lab::fault::{Faults, Loss};
use podsonar_lab::link::Way;
use podsonar_lab::server::dns::{Dns, Zone};
use podsonar_lab::server::{Listener, publish};
use podsonar_lab::{Cgroup, Lab, LabError};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(name = "podsonar-lab", about = "Real hosts and faulty links on this machine", version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a program on a host that is joined to a server (10.0.0.2 and `fd00::2`, TCP port 80 open, a name server that
    /// knows web.demo.test) by a link with delay, jitter and a little loss
    Demo(Demo),
    /// Run agents on nodes with real pods, without Kubernetes, print where to look, and end it on Ctrl-C
    Mesh(command::mesh::Show),
    /// Run a Kubernetes cluster of real parts, print its addresses, and end it on Ctrl-C
    Cluster(command::cluster::Show),
    /// Break a mesh while Prometheus watches, and write what the dashboards' queries gave
    Pictures(command::pictures::Pictures),
}

#[derive(Debug, Parser)]
struct Demo {
    /// Make this TCP port of the host reachable from the machine, on the same port of 127.0.0.1
    #[arg(long, value_name = "PORT")]
    publish: Option<u16>,
    /// Milliseconds that the link adds each way; a tenth of it is jitter
    #[arg(long, default_value_t = 1.0)]
    delay: f64,
    /// Share of packets that vanish each way, between 0 and 1
    #[arg(long, default_value_t = 0.005)]
    loss: f64,
    /// Share of one CPU that the program may use
    #[arg(long)]
    cpu: Option<f64>,
    /// Seed of the link's chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Verb::Demo(demo) => demo.run(),
        Verb::Mesh(show) => show.run(),
        Verb::Cluster(show) => show.run(),
        Verb::Pictures(pictures) => pictures.run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("podsonar-lab: {error}");
        ExitCode::FAILURE
    })
}

impl Demo {
    fn run(&self) -> Result<ExitCode, LabError> {
        // Blocked before any thread starts, so that all have them blocked and one waits for them.
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        signals
            .thread_block()
            .map_err(|error| LabError::Kernel { doing: "block signals".into(), source: error.into() })?;
        let lab = Lab::new()?;
        let (node, server) = (lab.host("node")?, lab.host("server")?);
        let link = lab.link(&node, &server, self.seed)?;
        let delay = Duration::from_secs_f64(self.delay / 1000.0);
        let faults = Faults { delay, jitter: delay / 10, loss: Loss::Random(self.loss), ..Faults::default() };
        link.set(Way::There, faults.clone());
        link.set(Way::Back, faults);
        let _listener = Listener::start(&server, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80)))?;
        let zone = Zone::new("demo.test").record("web", 60, "A 10.0.0.2").record("web", 60, "AAAA fd00::2");
        let _dns = Dns::start(&server, &[link.right.v4.into()], &[zone])?;
        if let Some(port) = self.publish {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            publish(&node, address, address)?;
        }
        let cgroup = self.cpu.map(Cgroup::with_cpu_quota).transpose()?;
        let mut command = Command::new(self.program.first().map_or("", String::as_str));
        command.args(self.program.get(1..).unwrap_or_default());
        if let Some(cgroup) = &cgroup {
            command = cgroup.command(&command);
        }
        let mut process = node.spawn_in_view(command)?;
        let id = Pid::from_raw(process.id().cast_signed());
        thread::spawn(move || {
            while signals.wait().is_ok() {
                // A program that has ended already needs no signal.
                let _ = kill(id, Signal::SIGTERM);
            }
        });
        let code = process.wait_for_end()?.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }
}
