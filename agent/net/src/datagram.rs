//! One UDP question and what comes back for it, with kernel stamps, on a socket of its own.
//!
//! A fresh socket takes a fresh source port: connection tracking pins a used one to one server behind a service
//! address, and a port that nobody can guess is half of what makes forged answers hard.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use podsonar_core::outcome::{SendError, StampSource};
use podsonar_core::time::WallTime;
use socket2::{Domain, Protocol, Socket, Type};

use crate::control::{CONTROL_LEN, Control};
use crate::errno::send_error;
use crate::name::Name;
use crate::sys::{self, ControlBuffer, Slot, Written};

/// Software stamps both ways. `OPT_TSONLY` brings a transmit stamp without the packet, which nobody has to recognise
/// here, as a socket sends but one. Some devices (netkit) take no stamp of their own, so the one before the queueing
/// discipline is asked for too.
const STAMPS: u32 = libc::SOF_TIMESTAMPING_SOFTWARE
    | libc::SOF_TIMESTAMPING_RX_SOFTWARE
    | libc::SOF_TIMESTAMPING_TX_SOFTWARE
    | libc::SOF_TIMESTAMPING_TX_SCHED
    | libc::SOF_TIMESTAMPING_OPT_TSONLY;

const TAKEN_BY_DRIVER: u32 = 0; // SCM_TSTAMP_SND
const TAKEN_BEFORE_QUEUE: u32 = 1; // SCM_TSTAMP_SCHED

/// One question has at most so many entries in its error queue, or somebody floods us: some stamps and ICMP errors.
const MAX_ENTRIES: usize = 64;

/// Entries of the error queue that are read at once: two stamps, and those of a tunnel's outer packet.
const ENTRIES: usize = 4;

/// Makes [`Datagram`]s, and keeps the kernel stamping packets meanwhile.
///
/// The kernel stamps received packets only while some socket wants it, and starts and stops lazily: without this one,
/// each question's socket would switch stamping on, too late for its own answer, and off again, at a price for all
/// processors.
#[derive(Debug)]
pub struct Datagrams {
    _stamping: Option<Socket>,
}

impl Datagrams {
    /// Asks the kernel for stamps. If it refuses, datagrams work and have none.
    pub fn new() -> Self {
        let open = |domain| {
            let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
            request_stamps(&socket).map(|()| socket)
        };
        Self { _stamping: open(Domain::IPV4).or_else(|_: io::Error| open(Domain::IPV6)).ok() }
    }

    /// Sends `bytes` from a fresh port. Answers of up to `room` bytes will be received whole.
    ///
    /// # Errors
    /// Why nothing left this host.
    pub fn send(&self, to: SocketAddr, bytes: &[u8], room: usize) -> Result<Datagram, SendError> {
        let socket = open(to).map_err(|error| send_error(&error))?;
        socket.send_to(bytes, &to.into()).map_err(|error| send_error(&error))?;
        Ok(Datagram { socket, to, inbox: Inbox::new(room), transmitted: None, unreachable: None })
    }
}

impl Default for Datagrams {
    fn default() -> Self {
        Self::new()
    }
}

/// A question that was sent. Dropping it closes the socket: what comes later is nobody's.
///
/// The socket is not connected, so that packets from other addresses arrive and can be counted.
#[derive(Debug)]
pub struct Datagram {
    socket: Socket,
    to: SocketAddr,
    inbox: Inbox,
    transmitted: Option<(WallTime, StampSource)>,
    unreachable: Option<(u8, u8)>,
}

/// What came back for a [`Datagram`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival<'a> {
    /// A packet to our port, from anybody.
    Packet {
        /// Its sender is whom we asked, by address and port.
        from_asked: bool,
        /// Its payload, as much as there was room for.
        bytes: &'a [u8],
        /// It was longer than that.
        cut: bool,
        /// The kernel's receive stamp.
        stamp: Option<WallTime>,
    },
    /// An ICMP error about our question.
    Unreachable {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
    },
}

impl Datagram {
    /// The next thing that waits, packets first; `None` if nothing does. Never blocks.
    pub fn receive(&mut self) -> Option<Arrival<'_>> {
        for _ in 0..MAX_ENTRIES {
            match self.inbox.fill_packet(&self.socket) {
                Ok(()) => return Some(self.inbox.packet(self.to)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The errno of an ICMP error, which waits in the error queue too. Reading it took it off.
                Err(_) => {}
            }
        }
        self.read_errors();
        let (kind, code) = self.unreachable.take()?;
        Some(Arrival::Unreachable { kind, code })
    }

    /// Whether an ICMP error about it has been heard, which [`receive`](Self::receive) will tell.
    pub fn is_unreachable(&self) -> bool {
        self.unreachable.is_some()
    }

    /// When it left by the kernel's best stamp, if there is one yet. Reads the error queue if a better one may wait.
    pub fn transmitted(&mut self) -> Option<(WallTime, StampSource)> {
        if self.transmitted.is_none_or(|(_, source)| source != StampSource::Software) {
            self.read_errors();
        }
        self.transmitted
    }

    /// Reads the error queue, and notes transmit stamps and the first ICMP error about our question.
    fn read_errors(&mut self) {
        let Self { socket, to, inbox, transmitted, unreachable } = self;
        for _ in 0..MAX_ENTRIES / ENTRIES {
            if inbox.fill_errors(socket).is_err() {
                return;
            }
            for (control, about) in inbox.entries() {
                let Some(error) = control.error else { continue };
                match (error.origin, error.info) {
                    (libc::SO_EE_ORIGIN_TIMESTAMPING, TAKEN_BY_DRIVER) => {
                        *transmitted = control.stamp.map(|stamp| (stamp, StampSource::Software));
                    }
                    (libc::SO_EE_ORIGIN_TIMESTAMPING, TAKEN_BEFORE_QUEUE) if transmitted.is_none() => {
                        *transmitted = control.stamp.map(|stamp| (stamp, StampSource::Sched));
                    }
                    (libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6, _)
                        if about.is_some_and(|about| same(about, *to)) =>
                    {
                        unreachable.get_or_insert((error.kind, error.code));
                    }
                    _ => {}
                }
            }
            if inbox.written.len() < ENTRIES {
                return;
            }
        }
    }
}

impl AsFd for Datagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Datagram {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Whether two addresses are the same host and port: the kernel fills in a scope that nobody wrote.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip(), one.port()) == (other.ip(), other.port())
}

fn open(to: SocketAddr) -> io::Result<Socket> {
    let (level, recverr) = match to {
        SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_RECVERR),
        SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVERR),
    };
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    sys::set_option(socket.as_fd(), level, recverr, &[1])?;
    // Without stamps the question can be asked all the same.
    let _ = request_stamps(&socket);
    Ok(socket)
}

fn request_stamps(socket: &Socket) -> io::Result<()> {
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &[STAMPS])
}

/// Room for one packet, or for some entries of the error queue, whose packets nobody looks at.
#[derive(Debug)]
struct Inbox {
    bytes: Vec<u8>,
    names: [Name; ENTRIES],
    controls: [ControlBuffer; ENTRIES],
    written: Vec<Written>,
}

impl Inbox {
    fn new(room: usize) -> Self {
        Self {
            bytes: vec![0; room],
            names: Default::default(),
            controls: [ControlBuffer([0; CONTROL_LEN]); ENTRIES],
            written: Vec::with_capacity(ENTRIES),
        }
    }

    fn fill_packet(&mut self, socket: &Socket) -> io::Result<()> {
        let Self { bytes, names: [name, ..], controls: [control, ..], written } = self;
        sys::receive(
            socket.as_fd(),
            0,
            std::iter::once(Slot { start: bytes, rest: &mut [], name, control }),
            written,
        )
    }

    fn fill_errors(&mut self, socket: &Socket) -> io::Result<()> {
        let rooms = self.names.iter_mut().zip(&mut self.controls);
        let slots = rooms.map(|(name, control)| Slot { start: &mut [], rest: &mut [], name, control });
        sys::receive(socket.as_fd(), libc::MSG_ERRQUEUE, slots, &mut self.written)
    }

    fn packet(&self, asked: SocketAddr) -> Arrival<'_> {
        let (control, from) = self.entries().next().unwrap_or_default();
        let written = self.written.first().copied().unwrap_or_default();
        let bytes = self.bytes.get(..written.bytes).unwrap_or(&self.bytes);
        let from_asked = from.is_some_and(|from| same(from, asked));
        Arrival::Packet { from_asked, bytes, cut: written.truncated, stamp: control.stamp }
    }

    /// What the kernel said beside each packet, and its sender, or in the error queue where it was going.
    fn entries(&self) -> impl Iterator<Item = (Control, Option<SocketAddr>)> {
        self.names.iter().zip(&self.controls).zip(&self.written).map(|((name, control), written)| {
            let control = Control::parse(control.0.get(..written.control).unwrap_or_default());
            (control, name.socket_address(written.name))
        })
    }
}
