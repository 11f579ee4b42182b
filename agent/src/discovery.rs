//! What is there to probe. Each kind of source keeps its own state and gives snapshots of it.

pub mod names;
pub mod resolv_conf;
