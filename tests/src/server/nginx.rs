//! [`Nginx`]: a real HTTP server, which can be made to hang as applications do.

use super::folder;
use crate::clock::{soon, wait_until};
use crate::error::{Doing, LabError};
use crate::host::Host;
use crate::process::{Paused, Process};
use crate::scrape;
use crate::tool;
use std::fmt::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Connections that the kernel completes before nginx accepts them; one more fills the queue.
const BACKLOG: usize = 8;

/// A running nginx: one process, serving a short text on each of its addresses. Dropping it kills it.
#[derive(Debug)]
pub struct Nginx {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// The process.
    pub process: Process,
    host: Host,
    own: AtomicU64,
}

/// A stopped nginx whose accept queues are full: the kernel drops each SYN to its ports without an answer. It goes on
/// when this drops.
#[derive(Debug)]
pub struct Hang<'a> {
    _waiting: Vec<TcpStream>,
    _paused: Paused<'a>,
}

impl Nginx {
    /// Starts it on addresses of its host, of both families as wanted, and waits until each is served.
    pub fn start(host: &Host, addresses: &[SocketAddr]) -> Result<Self, LabError> {
        let folder = folder(host, "nginx")?;
        let path = folder.display();
        let mut listens = String::new();
        for address in addresses {
            let _ = write!(listens, "listen {address} backlog={BACKLOG}; ");
        }
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr warn; events {{}}\n\
             http {{ access_log off; client_body_temp_path {path}/1; proxy_temp_path {path}/2;\n\
             fastcgi_temp_path {path}/3; uwsgi_temp_path {path}/4; scgi_temp_path {path}/5;\n\
             server {{ {listens}\n\
             location / {{ return 200 \"nginx\\n\"; }} location = /status {{ stub_status; }} }} }}\n"
        );
        let file = folder.join("nginx.conf");
        host.write_file(&file, config.as_bytes(), 0o644)?;
        let mut command = Command::new(tool::server("nginx")?);
        command.args(["-e", "stderr", "-p"]).arg(&folder).arg("-c").arg(&file);
        let process = host.spawn(command)?;
        let mut nginx =
            Self { addresses: addresses.to_vec(), process, host: host.clone(), own: AtomicU64::new(0) };
        nginx.wait_until_ready()?;
        Ok(nginx)
    }

    /// Connections that nginx accepted from others so far, by its own count. Half-open ones never are.
    pub fn accepted(&self) -> Result<u64, LabError> {
        // What the lab itself connected for is accepted a moment later, after a hang.
        wait_until(soon(), "nginx to accept the lab's own connections", || {
            let text = self.get(*self.first()?, "/status")?.text();
            // "server accepts handled requests", then their numbers on a line of their own.
            let numbers =
                text.lines().nth(2).and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            let all = numbers.ok_or(LabError::Malformed { what: "nginx' status", text })?;
            Ok(all.checked_sub(self.own.load(Ordering::Relaxed)))
        })
    }

    /// Makes it hang: stops the process and fills the queue of each address by connections from its own host.
    pub fn hang(&self) -> Result<Hang<'_>, LabError> {
        let paused = self.process.pause()?;
        let mut waiting = Vec::new();
        for address in self.addresses.iter().flat_map(|address| [address; BACKLOG + 1]) {
            let connect = || TcpStream::connect_timeout(address, Duration::from_secs(5));
            waiting.push(self.host.enter(connect)?.doing(format!("fill the queue of {address}"))?);
            self.own.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Hang { _waiting: waiting, _paused: paused })
    }

    fn get(&self, address: SocketAddr, path: &str) -> Result<scrape::Response, LabError> {
        let response = scrape::get(&self.host, address, path, &[])?;
        self.own.fetch_add(1, Ordering::Relaxed);
        Ok(response)
    }

    fn first(&self) -> Result<&SocketAddr, LabError> {
        let none = || LabError::Missing { what: "an address of nginx", hint: "give it one".into() };
        self.addresses.first().ok_or_else(none)
    }

    fn wait_until_ready(&mut self) -> Result<(), LabError> {
        for address in self.addresses.clone() {
            wait_until(soon(), "nginx to serve", || {
                self.process.must_run()?;
                Ok(self.get(address, "/").ok().filter(|response| response.status == 200).map(drop))
            })?;
        }
        Ok(())
    }
}
