//! Real servers in a host: listeners that tell what their application saw, and whole programs.

pub mod apiserver;
pub mod dns;
pub mod nginx;
pub mod prometheus;

use crate::error::{Doing, LabError};
use crate::host::Host;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// A TCP server that accepts each connection, counts it, and answers the first bytes it gets with a short HTTP
/// response. It ends when dropped.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    host: Host,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicU64,
    stopping: AtomicBool,
}

impl Listener {
    /// Listens in a host; port 0 chooses one.
    pub fn start(host: &Host, address: SocketAddr) -> Result<Self, LabError> {
        let doing = format!("listen on {address} in {}", host.name());
        let listener = host.enter(|| TcpListener::bind(address))?.doing(doing.as_str())?;
        let address = listener.local_addr().doing(doing)?;
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.serve(&listener))
        };
        Ok(Self { address, host: host.clone(), shared, thread: Some(thread) })
    }

    /// Connections that the application has accepted. Half-open ones never are.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn serve(&self, listener: &TcpListener) {
        for connection in listener.incoming() {
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            if let Ok(connection) = connection {
                self.accepted.fetch_add(1, Ordering::Relaxed);
                // What a client does to its own connection is no concern of the server's.
                let _ = answer(connection);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // A connection of our own wakes it. If that fails, so did the listener, and its thread has ended.
        let woken = self.host.enter(|| TcpStream::connect(self.address).is_ok()).unwrap_or(false);
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

fn answer(mut connection: TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
    let mut request = [0; 1024];
    if connection.read(&mut request)? > 0 {
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n")?;
    }
    Ok(())
}

/// A listener whose accept queue is full, as that of a stopped or overloaded application: the kernel drops each SYN to
/// its port without an answer, while other ports answer.
#[derive(Debug)]
pub struct FullListener {
    /// Where it listens.
    pub address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl FullListener {
    /// Listens in a host and fills the queue; port 0 chooses one. The address must be one of the host's own.
    pub fn start(host: &Host, address: SocketAddr) -> Result<Self, LabError> {
        host.enter(|| Self::fill(address))?.doing(format!("fill a listener on {address} in {}", host.name()))
    }

    fn fill(address: SocketAddr) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let listener = Socket::new(domain, Type::STREAM, None)?;
        listener.bind(&SockAddr::from(address))?;
        // A backlog of 0 is a queue of one: it is full when it is longer than the backlog.
        listener.listen(0)?;
        let local = listener.local_addr()?;
        let connection = Socket::new(domain, Type::STREAM, None)?;
        connection.connect(&local)?;
        let address = local.as_socket().ok_or_else(|| io::Error::other("not an IP address"))?;
        Ok(Self { address, _listener: listener, _waiting: vec![connection] })
    }
}

/// Makes a port of a host reachable from the machine, on an address of the machine's own. It ends with this process.
///
/// # Errors
/// [`LabError::Kernel`] if the machine's address is taken.
pub fn publish(host: &Host, outside: SocketAddr, inside: SocketAddr) -> Result<(), LabError> {
    let listener = TcpListener::bind(outside).doing(format!("listen on {outside}"))?;
    carry(listener, host, inside);
    Ok(())
}

/// Makes a port of a host reachable from another host, past all links and their faults. It ends with this process.
///
/// # Errors
/// [`LabError::Kernel`] if the other host's address is taken.
pub fn forward(from: &Host, outside: SocketAddr, to: &Host, inside: SocketAddr) -> Result<(), LabError> {
    let doing = format!("listen on {outside} in {}", from.name());
    let listener = from.enter(|| TcpListener::bind(outside))?.doing(doing)?;
    carry(listener, to, inside);
    Ok(())
}

/// Joins each client to a port of a host.
fn carry(listener: TcpListener, host: &Host, inside: SocketAddr) {
    let host = host.clone();
    thread::spawn(move || {
        for client in listener.incoming().filter_map(Result::ok) {
            // A client whose server is not there sees its connection closed.
            if let Ok(Ok(server)) = host.enter(|| TcpStream::connect(inside)) {
                join(client, server);
            }
        }
    });
}

/// Copies bytes both ways until each side has ended.
fn join(client: TcpStream, server: TcpStream) {
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
    for (mut from, mut to) in [(client, server), (server_too, client_too)] {
        thread::spawn(move || {
            // However it ends, the other side is told.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

/// A new folder for a server's files in a host's own `/run`.
fn folder(host: &Host, name: &str) -> Result<PathBuf, LabError> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let folder = PathBuf::from(format!("/run/{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    host.run(&format!("mkdir {}", folder.display()))?;
    Ok(folder)
}
