//! `podsonar-lab cluster`: a Kubernetes cluster for a person to look at.

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use podsonar_lab::cluster::Settings;
use podsonar_lab::server::publish;
use podsonar_lab::{Cluster, LabError, clock};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
pub(crate) struct Show {
    /// How many nodes
    #[arg(long, default_value_t = 6)]
    nodes: u8,
    /// Over how many zones they are spread
    #[arg(long, default_value_t = 3)]
    zones: u8,
    /// IPv6 beside IPv4
    #[arg(long)]
    dual_stack: bool,
    /// The archive of the agent's image: it runs on each node then
    #[arg(long, value_name = "ARCHIVE")]
    agents: Option<PathBuf>,
    /// The API server answers on this port of the machine's loopback, the first node's agent on the next
    #[arg(long, default_value_t = 16443)]
    port: u16,
}

impl Show {
    pub(crate) fn run(&self) -> Result<ExitCode, LabError> {
        // Blocked before any thread starts, so that all have them blocked and one waits for them.
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        signals
            .thread_block()
            .map_err(|error| LabError::Kernel { doing: "block signals".into(), source: error.into() })?;
        let begin = clock::now();
        let images = self.agents.iter().cloned().collect();
        let (nodes, zones, dual_stack) = (self.nodes, self.zones, self.dual_stack);
        let cluster = Cluster::start(Settings { nodes, zones, dual_stack, images, ..Settings::default() })?;
        let kubeconfig = cluster.publish(self.port)?;
        println!(
            "{nodes} nodes in {zones} zones are up after {:.1} s:",
            (clock::now() - begin).as_secs_f64()
        );
        for node in cluster.nodes() {
            println!("  {} in {}: {}", node.identity.name, node.identity.zone, node.addresses().0);
        }
        println!("  export KUBECONFIG={}", kubeconfig.display());
        println!("  logs are in {}", cluster.folder().display());
        if self.agents.is_some() {
            self.watch(&cluster)?;
        }
        println!("Ctrl-C ends it.");
        signals
            .wait()
            .map_err(|error| LabError::Kernel { doing: "wait for signals".into(), source: error.into() })?;
        drop(cluster);
        println!("all of it is gone");
        Ok(ExitCode::SUCCESS)
    }

    /// Runs the agents and makes one's metrics reachable.
    fn watch(&self, cluster: &Cluster) -> Result<(), LabError> {
        cluster.install_agents(clock::Deadline::after(std::time::Duration::from_mins(1)))?;
        let agent = cluster.agent("node1")?;
        let Some(address) = agent.addresses.first() else { return Ok(()) };
        let outside = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port + 1));
        publish(cluster.router(), outside, (*address, podsonar_lab::cluster::watched::METRICS_PORT).into())?;
        println!("  agents run on all nodes; node1's: http://{outside}/metrics");
        Ok(())
    }
}
