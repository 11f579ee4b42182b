//! [`Narrow`]: two hosts with a router between, whose far link carries smaller packets than the near one.
//!
//! ```text
//!          MTU 1500             the narrow MTU
//!   near ──────────── router ────────────────── far
//! ```
//! The router's own kernel refuses what is too large and says so by "fragmentation needed" (RFC 1191) or "packet too
//! big" (RFC 8201), unless it was silenced: then the path is a black hole for large packets.

use super::router;
use crate::error::LabError;
use crate::host::Host;
use crate::lab::{End, Lab};

/// The world. It lives as long as its hosts.
#[derive(Debug)]
pub struct Narrow {
    /// Where a prober runs. Its own link, and so its route, has an MTU of 1500.
    pub near: Host,
    /// What it probes.
    pub far: Host,
    /// The near host's end.
    pub near_end: End,
    /// The far host's end.
    pub far_end: End,
    /// The router's end of the far link.
    router_end: End,
    router: Host,
}

impl Narrow {
    /// Builds the world with so many bytes of IP packet on the far link (1280 or more, as IPv6 wants), and a router that
    /// tells senders.
    pub fn new(lab: &Lab, mtu: u16) -> Result<Self, LabError> {
        let (near, router, far) = (lab.host("near")?, router(lab, "router")?, lab.host("far")?);
        let (to_near, to_far) = (lab.veth(&near, &router)?, lab.veth(&router, &far)?);
        near.route("default", to_near.right.v4)?;
        near.route("default", to_near.right.v6)?;
        far.route("default", to_far.left.v4)?;
        far.route("default", to_far.left.v6)?;
        let (near_end, router_end, far_end) = (to_near.left, to_far.left, to_far.right);
        let world = Self { near, far, near_end, far_end, router_end, router };
        world.narrow(mtu)?;
        Ok(world)
    }

    /// Lets the far link carry so many bytes of IP packet from now on.
    pub fn narrow(&self, mtu: u16) -> Result<(), LabError> {
        for (host, end) in [(&self.router, &self.router_end), (&self.far, &self.far_end)] {
            host.run(&format!("ip link set {} mtu {mtu}", end.interface))?;
        }
        Ok(())
    }

    /// Drops what the router would tell senders of large packets from now on: a black hole. The near host forgets what
    /// it was told before.
    pub fn silence(&self) -> Result<(), LabError> {
        self.router.nft("add table inet silent")?;
        self.router.nft("add chain inet silent output { type filter hook output priority 0 ; }")?;
        for message in
            ["icmp type destination-unreachable icmp code frag-needed", "icmpv6 type packet-too-big"]
        {
            self.router.nft(&format!("add rule inet silent output {message} drop"))?;
        }
        self.forget()
    }

    /// Lets the router tell senders again.
    pub fn speak(&self) -> Result<(), LabError> {
        self.router.nft("delete table inet silent")
    }

    /// Lets the near host forget the path MTU that it was told.
    pub fn forget(&self) -> Result<(), LabError> {
        self.near.run("ip -4 route flush cache")?;
        self.near.run("ip -6 route flush cache").map(drop)
    }
}
