//! What is there to probe. Each kind of source keeps its own state and gives snapshots of it.

pub mod endpoints;
pub mod names;
pub mod pod_names;
pub mod resolv_conf;
