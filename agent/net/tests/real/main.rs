//! Real packets on real sockets, in network namespaces of their own. Needs root (`CAP_SYS_ADMIN` for the
//! namespaces) and the programs `ip`, `tc` and `nft`: without them these tests fail.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod datagram;
mod datagrams;
mod errors;
mod host;
mod interception;
mod limits;
mod mtu;
mod open;
mod ports;
mod probes;
mod requests;
mod stamps;
mod traffic;
