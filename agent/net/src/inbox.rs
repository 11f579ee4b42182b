//! Room for received packets, used again for every system call.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use socket2::Socket;

use crate::control::{CONTROL_LEN, Control};
use crate::name::Name;
use crate::sys::{self, BATCH, ControlBuffer, Slot, Written};

/// With very large packets fewer of them are received at once.
const MAX_BYTES: usize = 1 << 20;
const FEWEST: usize = 8;

/// One packet as the kernel delivered it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) bytes: &'a [u8],
    /// The sender; in the error queue, where the packet in question was going.
    pub(crate) address: Option<IpAddr>,
    pub(crate) control: Control,
    /// The packet was longer than its room, so that its end is missing.
    pub(crate) truncated: bool,
}

/// Which queue of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Data,
    Errors,
}

/// Buffers for one system call's worth of packets.
#[derive(Debug)]
pub(crate) struct Inbox {
    room: usize,
    bytes: Vec<u8>,
    names: Vec<Name>,
    controls: Vec<ControlBuffer>,
    written: Vec<Written>,
}

impl Inbox {
    /// Buffers for packets of up to `room` bytes.
    pub(crate) fn new(room: usize) -> Self {
        let count = (MAX_BYTES / room.max(1)).clamp(FEWEST, BATCH);
        Self {
            room,
            bytes: vec![0; room * count],
            names: vec![Name::default(); count],
            controls: vec![ControlBuffer([0; CONTROL_LEN]); count],
            written: Vec::with_capacity(count),
        }
    }

    /// Receives what waits in the queue, as much as one system call brings, and returns how much that was.
    ///
    /// # Errors
    /// As [`sys::receive`].
    pub(crate) fn fill(&mut self, socket: &Socket, queue: Queue) -> io::Result<usize> {
        let flags = match queue {
            Queue::Data => 0,
            Queue::Errors => libc::MSG_ERRQUEUE,
        };
        let rooms = self.bytes.chunks_exact_mut(self.room);
        let slots = rooms.zip(&mut self.names).zip(&mut self.controls).map(|((bytes, name), control)| Slot {
            bytes,
            name,
            control,
        });
        sys::receive(socket.as_fd(), flags, slots, &mut self.written)?;
        Ok(self.written.len())
    }

    /// The longest packet that is received whole, in bytes.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// How many packets one [`fill`](Self::fill) can bring.
    pub(crate) fn capacity(&self) -> usize {
        self.names.len()
    }

    /// What the last [`fill`](Self::fill) brought.
    pub(crate) fn arrivals(&self) -> impl Iterator<Item = Arrival<'_>> {
        let rooms = self.bytes.chunks_exact(self.room);
        rooms.zip(&self.names).zip(&self.controls).zip(&self.written).map(
            |(((bytes, name), control), written)| Arrival {
                bytes: bytes.get(..written.bytes).unwrap_or(bytes),
                address: name.address(written.name),
                control: Control::parse(control.0.get(..written.control).unwrap_or_default()),
                truncated: written.truncated,
            },
        )
    }
}
