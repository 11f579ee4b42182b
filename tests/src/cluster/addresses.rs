//! Who has which address in a cluster. Nodes have those of their links, `10.0.x.1` and `fd00:0:0:x::1`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The API server's.
pub(super) const API_V4: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 1);
/// The API server's, of the other family.
pub(super) const API_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x201, 0, 0, 0, 0, 0, 1);
/// The Service `kubernetes`, always the first of its range.
pub(super) const SERVICE_V4: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 1);
/// The Service `kube-dns`.
pub(super) const DNS_V4: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 10);
/// Of Services.
pub(super) const SERVICES: [&str; 2] = ["10.203.0.0/24", "fd00:203::/112"];
/// Of pods.
pub(super) const PODS: [&str; 2] = ["10.202.0.0/16", "fd00:202::/48"];
/// All of the above, and nodes: what a node sends to the router.
pub(super) const EVERYTHING: [&str; 2] = ["10.0.0.0/8", "fd00::/16"];

/// Of the pods of a node, both families.
pub(super) fn pods_of(node: u8) -> [String; 2] {
    [format!("10.202.{node}.0/24"), format!("fd00:202:0:{node}::/64")]
}
