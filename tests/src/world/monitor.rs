//! [`monitor`]: a host from which all agents of a mesh can be scraped, whatever becomes of the links between them.

use super::mesh::{METRICS, Mesh};
use crate::error::LabError;
use crate::host::Host;
use crate::lab::Lab;
use crate::server::forward;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};

/// Where the first node's agent answers in the monitor, the others on the ports above.
const FIRST: u16 = 9001;

/// A host in which a port for each node leads to its agent's metrics. The network that it has to them is not the one
/// that the agents probe, as a network for management would be.
pub fn monitor(lab: &Lab, mesh: &Mesh) -> Result<Host, LabError> {
    let monitor = lab.host("monitor")?;
    for (address, node) in addresses().zip(&mesh.nodes) {
        forward(&monitor, address, &node.host, METRICS)?;
    }
    Ok(monitor)
}

/// A job for a Prometheus in the monitor. Each agent's `instance` is its node, as the chart's `PodMonitor` has it.
pub fn job(mesh: &Mesh) -> String {
    let mut text = "- job_name: podsonar\n  static_configs:\n".to_owned();
    for (address, node) in addresses().zip(&mesh.nodes) {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "  - {{ targets: ['{address}'], labels: {{ instance: {} }} }}", node.name);
    }
    text
}

fn addresses() -> impl Iterator<Item = SocketAddr> {
    (FIRST..).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}
