//! What there is to probe, from where it is known; each part publishes snapshots.
//!
//! [`pods`], [`node`] and [`peers`] follow the Kubernetes API by a [`watch`] each, through one [`api::Api`]. What they
//! make of what they see is decided by pure indexes.

pub mod api;
pub mod endpoints;
pub mod files;
pub mod found;
pub mod names;
pub mod node;
pub mod peers;
pub mod pod_names;
pub mod pods;
pub mod resolv_conf;
pub mod watch;
