//! Probes that are tasks instead of packets of the driver: questions to name servers.

pub mod dns;
