//! [`Ecmp`]: two hosts, two routers, and eight equal paths between the routers.
//!
//! ```text
//!                                8 veth pairs
//!   near ────── link ────── router ═════════════════ router ────── link ────── far
//! ```
//! Each router chooses the path of a packet by the hash of its flow (`fib_multipath_hash_policy=1`: addresses, protocol,
//! ports), so the packets of a flow keep to one path each way, and all echoes of two hosts too.
//!
//! The hosts are joined to their routers by links in user space, since a veth hands a packet over with the hash that
//! the sending socket drew for it, and the router would go by that: another for each connection, and for each time that
//! TCP sends again. No wire carries it.

use super::router;
use crate::error::LabError;
use crate::host::Host;
use crate::lab::{End, Lab, Veth};
use crate::link::Link;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// How many paths there are.
pub const PATHS: usize = 8;

/// The world. Dropping it takes its links down.
#[derive(Debug)]
pub struct Ecmp {
    /// Where a prober runs.
    pub near: Host,
    /// What it probes.
    pub far: Host,
    /// The near host, on the left, and its router.
    pub near_link: Link,
    /// The far router, on the left, and the far host.
    pub far_link: Link,
    /// The near and the far router, with the interface towards its host.
    routers: [(Host, String); 2],
    paths: Vec<Veth>,
}

/// Packets that take one path each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Of TCP: the near socket and the far one.
    Tcp(SocketAddr, SocketAddr),
    /// Of ICMP or `ICMPv6`: the near address and the far one.
    Icmp(IpAddr, IpAddr),
}

impl Ecmp {
    /// Builds the world, with all paths alive. The seed decides all chance on the two links.
    pub fn new(lab: &Lab, seed: u64) -> Result<Self, LabError> {
        let (near, far) = (lab.host("near")?, lab.host("far")?);
        let (first, second) = (router(lab, "near router")?, router(lab, "far router")?);
        let (near_link, far_link) = (lab.link(&near, &first, seed)?, lab.link(&second, &far, !seed)?);
        let paths: Vec<Veth> = (0..PATHS).map(|_| lab.veth(&first, &second)).collect::<Result<_, _>>()?;
        near.route("default", near_link.right.v4)?;
        near.route("default", near_link.right.v6)?;
        far.route("default", far_link.left.v4)?;
        far.route("default", far_link.left.v6)?;
        spread(&first, &far_link.right, paths.iter().map(|path| &path.right))?;
        spread(&second, &near_link.left, paths.iter().map(|path| &path.left))?;
        let routers = [(first, near_link.right.interface.clone()), (second, far_link.left.interface.clone())];
        Ok(Self { near, far, near_link, far_link, routers, paths })
    }

    /// Lets a path, from 0 on, lose everything both ways. Nobody is told: the interfaces stay up and the routes stay.
    pub fn kill(&self, path: usize) -> Result<(), LabError> {
        let interface = self.interface(path)?;
        for (router, _) in &self.routers {
            router.nft(&format!("add table inet dead{path}"))?;
            router.nft(&format!(
                "add chain inet dead{path} forward {{ type filter hook forward priority 0 ; }}"
            ))?;
            router.nft(&format!("add rule inet dead{path} forward oifname {interface} drop"))?;
        }
        Ok(())
    }

    /// Lets a killed path carry packets again.
    pub fn revive(&self, path: usize) -> Result<(), LabError> {
        self.routers.iter().try_for_each(|(router, _)| router.nft(&format!("delete table inet dead{path}")))
    }

    /// The paths that a flow takes, there and back, as the routers themselves say.
    pub fn paths_of(&self, flow: Flow) -> Result<[usize; 2], LabError> {
        let (near, far, there, back) = match flow {
            Flow::Tcp(near, far) => {
                let ports = |from: SocketAddr, to: SocketAddr| {
                    format!("ipproto tcp sport {} dport {}", from.port(), to.port())
                };
                (near.ip(), far.ip(), ports(near, far), ports(far, near))
            }
            Flow::Icmp(near, far) => {
                let protocol = if near.is_ipv4() { "ipproto icmp" } else { "ipproto ipv6-icmp" };
                (near, far, protocol.to_owned(), protocol.to_owned())
            }
        };
        let [(first, from_near), (second, from_far)] = &self.routers;
        Ok([
            self.path(first, &format!("{far} from {near} iif {from_near} {there}"))?,
            self.path(second, &format!("{near} from {far} iif {from_far} {back}"))?,
        ])
    }

    /// Whether a flow would suffer from the death of a path.
    pub fn uses(&self, flow: Flow, path: usize) -> Result<bool, LabError> {
        Ok(self.paths_of(flow)?.contains(&path))
    }

    /// Asks a router which way a packet goes.
    fn path(&self, router: &Host, packet: &str) -> Result<usize, LabError> {
        let text = router.run(&format!("ip route get {packet}"))?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "dev").skip(1);
        let interface = words.next().unwrap_or_default();
        let path = self.paths.iter().position(|path| path.left.interface == interface);
        path.ok_or(LabError::Malformed { what: "a route over one of the paths", text })
    }

    /// A path's interface, of the same name in both routers.
    fn interface(&self, path: usize) -> Result<&str, LabError> {
        let hint = || format!("there are {PATHS} paths");
        let found = self.paths.get(path).ok_or_else(|| LabError::Missing { what: "a path", hint: hint() })?;
        Ok(&found.left.interface)
    }
}

/// Spreads the packets to an end's networks evenly over next hops, by the hash of their flows.
fn spread<'a>(router: &Host, to: &End, over: impl Iterator<Item = &'a End>) -> Result<(), LabError> {
    router.sysctl("net.ipv4.fib_multipath_hash_policy", "1")?;
    router.sysctl("net.ipv6.fib_multipath_hash_policy", "1")?;
    let (mut v4, mut v6) = (format!("ip route add {}/32", to.v4), format!("ip route add {}/128", to.v6));
    for hop in over {
        let _ = write!(v4, " nexthop via {}", hop.v4);
        let _ = write!(v6, " nexthop via {}", hop.v6);
    }
    router.run(&v4)?;
    router.run(&v6).map(drop)
}
