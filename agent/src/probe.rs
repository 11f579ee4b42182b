//! Probes that are not packets of ours: the host's own stack carries them out, on a thread of their own.

pub mod connect;
pub mod dns;
pub mod errands;
pub mod runner;
