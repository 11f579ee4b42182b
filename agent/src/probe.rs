//! Probes that are tasks instead of packets of the driver: questions to name servers.

pub mod dns;
//! Probes that are not packets of ours: the host's own stack carries them out, and this process times them.

pub mod connect;
pub mod errands;
