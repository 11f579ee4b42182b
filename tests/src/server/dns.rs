//! [`Dns`]: a real authoritative name server (Knot DNS), which can be made to fail.
//!
//! | what a client sees | how |
//! |---|---|
//! | answers, chains, any TTL, no data, NXDOMAIN | the records of a [`Zone`] |
//! | REFUSED | a name in none of its zones |
//! | SERVFAIL | a name in a [`Zone::broken`] one |
//! | a referral, lame if nobody serves there | [`Zone::delegation`] |
//! | TC over UDP, the whole over TCP | more records than [`UDP_PAYLOAD`] holds |
//! | silence, then late answers | [`Process::pause`] of [`Dns::process`] |

use super::folder;
use crate::clock::{soon, wait_until};
use crate::error::LabError;
use crate::host::Host;
use crate::process::Process;
use crate::tool;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The largest answer over UDP in bytes, however much the client allows.
pub const UDP_PAYLOAD: u16 = 1232;

/// A zone: its name, and records below it.
#[derive(Debug, Clone)]
pub struct Zone {
    name: String,
    /// Lines of a zone file (RFC 1035, section 5); none if the zone is broken.
    lines: Option<String>,
}

/// A running name server on port 53 of its addresses, UDP and TCP. Dropping it kills it.
#[derive(Debug)]
pub struct Dns {
    /// The process.
    pub process: Process,
    host: Host,
    folder: PathBuf,
    serial: AtomicU32,
}

impl Zone {
    /// A zone without names in it, such as `lab.test`.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), lines: Some(String::new()) }
    }

    /// A zone that the server has no contents of: SERVFAIL for each name in it.
    pub fn broken(name: &str) -> Self {
        Self { name: name.to_owned(), lines: None }
    }

    /// Adds a record: a name relative to the zone (`@` is the zone itself), its time to live in seconds, and type and
    /// data, such as `A 10.0.0.2` or `CNAME other`.
    #[must_use]
    pub fn record(mut self, name: &str, ttl: u32, data: &str) -> Self {
        if let Some(lines) = &mut self.lines {
            let _ = writeln!(lines, "{name} {ttl} {data}");
        }
        self
    }

    /// Adds a pod's name, as a cluster's name server has it: its address with dashes, below its namespace.
    #[must_use]
    pub fn pod(self, namespace: &str, address: Ipv4Addr) -> Self {
        let name = format!("{}.{namespace}", address.to_string().replace('.', "-"));
        self.record(&name, 30, &format!("A {address}"))
    }

    /// Adds a TXT record of so many bytes of text.
    #[must_use]
    pub fn large_text(self, name: &str, ttl: u32, bytes: usize) -> Self {
        let strings = (0..bytes).step_by(255).map(|at| format!("\"{}\"", "x".repeat((bytes - at).min(255))));
        let data = format!("TXT {}", strings.collect::<Vec<_>>().join(" "));
        self.record(name, ttl, &data)
    }

    /// Delegates a name below the zone to a name server; lame if none serves it there.
    #[must_use]
    pub fn delegation(self, name: &str, server: IpAddr) -> Self {
        let kind = if server.is_ipv4() { "A" } else { "AAAA" };
        self.record(name, 300, &format!("NS ns.{name}")).record(
            &format!("ns.{name}"),
            300,
            &format!("{kind} {server}"),
        )
    }

    /// The zone file. The server itself is the name server in it; negative answers may be kept for a second.
    fn text(&self, serial: u32) -> Option<String> {
        let lines = self.lines.as_ref()?;
        let name = &self.name;
        Some(format!(
            "$ORIGIN {name}.\n@ 300 SOA ns.invalid. root.invalid. {serial} 3600 600 86400 1\n@ 300 NS ns.invalid.\n{lines}"
        ))
    }
}

impl Dns {
    /// Starts it on addresses of its host and waits until it serves its zones.
    pub fn start(host: &Host, addresses: &[IpAddr], zones: &[Zone]) -> Result<Self, LabError> {
        let folder = folder(host, "knot")?;
        let path = folder.display();
        let listen: Vec<String> = addresses.iter().map(|address| format!("{address}@53")).collect();
        let mut config = format!(
            "server:\n  rundir: {path}\n  user: root:root\n  listen: [ {} ]\n  udp-max-payload: {UDP_PAYLOAD}\n  \
             udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
             control:\n  listen: {path}/control\n\
             database:\n  storage: {path}/database\n\
             log:\n- target: stdout\n  any: info\n\
             template:\n- id: default\n  storage: {path}\n\
             zone:\n",
            listen.join(", ")
        );
        for zone in zones {
            let _ = writeln!(config, "- domain: {0}\n  file: {0}.zone", zone.name);
        }
        let file = folder.join("knot.conf");
        host.write_file(&file, config.as_bytes(), 0o644)?;
        for (zone, text) in zones.iter().filter_map(|zone| Some((zone, zone.text(1)?))) {
            host.write_file(&folder.join(format!("{}.zone", zone.name)), text.as_bytes(), 0o644)?;
        }
        let mut command = Command::new(tool::server("knotd")?);
        command.arg("--config").arg(&file);
        let process = host.spawn(command)?;
        let mut dns = Self { process, host: host.clone(), folder, serial: AtomicU32::new(2) };
        // It takes commands once its sockets are open and its zones are loaded.
        wait_until(soon(), "the name server to start", || {
            dns.process.must_run()?;
            Ok(dns.control("status").ok())
        })?;
        Ok(dns)
    }

    /// Replaces one of its zones by other contents, and waits until they are served.
    pub fn set_zone(&self, zone: &Zone) -> Result<(), LabError> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let name = &zone.name;
        let broken = || LabError::Missing { what: "a zone's contents", hint: format!("{name} is broken") };
        let text = zone.text(serial).ok_or_else(broken)?;
        self.host.write_file(&self.folder.join(format!("{name}.zone")), text.as_bytes(), 0o644)?;
        self.control(&format!("zone-reload {name}"))
    }

    /// Gives it a command and waits until that is carried out.
    fn control(&self, command: &str) -> Result<(), LabError> {
        let (knotc, folder) = (tool::server("knotc")?, self.folder.display());
        self.host
            .run(&format!("{} --blocking --socket {folder}/control {command}", knotc.display()))
            .map(drop)
    }
}
