//! Ready-made topologies with routers between the hosts, both families alike.

pub mod ecmp;
pub mod mesh;
pub mod monitor;
pub mod narrow;

use crate::error::LabError;
use crate::host::Host;
use crate::lab::Lab;

/// A host that forwards, whatever way a packet came.
fn router(lab: &Lab, name: &str) -> Result<Host, LabError> {
    let router = lab.host(name)?;
    let settings = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
    ];
    for (key, value) in settings {
        router.sysctl(key, value)?;
    }
    Ok(router)
}
