//! The exchange between agents: each serves the list of its own node's pods at `/v1/node`, and fetches its peers'.
//!
//! [`Mesh`] is the server: its own listener, for known callers alone. [`fetch`](fetch::fetch) asks a peer once, on a
//! fresh connection, and is the HTTP probe between nodes too. What a peer says is not trusted: it is bounded in bytes,
//! pods and time, and [`accept`] takes from it only what a node may say of itself.
//!
//! A list changes when a pod comes, goes or begins or ceases to answer. Ages, which always change, are kept out of it,
//! so that "not modified" is the rule: the list has the instants at which pods became Running on its agent's own clock,
//! and each answer, 200 or 304, carries in its headers what that clock shows ([`payload::CLOCK`]) and how old the
//! agent's knowledge is ([`payload::WATCH_AGE`]). A third says to each caller whether it is probed
//! ([`payload::PROBES_YOU`]).

pub mod accept;
pub mod callers;
mod capped;
pub mod fetch;
mod guests;
mod http;
pub mod lists;
pub mod payload;
pub mod server;

pub use self::callers::Callers;
pub use self::fetch::{FetchRequest, Fetched, Known};
pub use self::server::Mesh;

/// Most pods of a node that are told or believed. A node has 30 to 250, by the limits that clouds and kubelets set
/// (110 by default, 250 with GKE and EKS, 500 the most that `OpenShift` supports).
pub const MAX_PODS: usize = 1_000;

/// Most bytes of a list: a pod takes some 250, with the longest possible names 900.
pub const MAX_BYTES: usize = 1 << 20;

/// Most bytes of a list as it is sent, packed or not: so much of each fetch under way may be in memory. Packed, a pod
/// takes some 50.
pub const MAX_SENT: usize = 1 << 18;
