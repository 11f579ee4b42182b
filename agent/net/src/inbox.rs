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

/// Packets up to this length have a room of their own, in bytes: all of these rooms are soon resident.
const SMALL: usize = 2_048;

/// One packet as the kernel delivered it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) bytes: &'a [u8],
    /// The sender; in the error queue, where the packet in question was going.
    pub(crate) address: Option<IpAddr>,
    pub(crate) control: Control,
    /// How long the packet was on arrival, in bytes; longer than `bytes` if it was cut.
    pub(crate) length: usize,
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
///
/// Each packet has a small room, and goes on in a large one where it does not fit. Memory that was never written is
/// not resident, so large rooms cost nothing until a large packet comes.
#[derive(Debug)]
pub(crate) struct Inbox {
    small: usize,
    large: usize,
    small_rooms: Vec<u8>,
    /// Each begins with a gap as long as a small room: there the packet's start is copied, so that it is in one piece.
    large_rooms: Vec<u8>,
    names: Vec<Name>,
    controls: Vec<ControlBuffer>,
    written: Vec<Written>,
}

impl Inbox {
    /// Buffers for packets of up to `large` bytes, most of which have no more than `small`.
    pub(crate) fn new(small: usize, large: usize) -> Self {
        let small = small.clamp(1, SMALL);
        let large = large.max(small);
        let count = (MAX_BYTES / large).clamp(FEWEST, BATCH);
        Self {
            small,
            large,
            small_rooms: vec![0; small * count],
            large_rooms: vec![0; large * count],
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
        let small = self.small;
        let starts = self.small_rooms.chunks_exact_mut(small);
        let rests = self.large_rooms.chunks_exact_mut(self.large).map(|room| room.get_mut(small..));
        let slots = starts.zip(rests).zip(&mut self.names).zip(&mut self.controls).map(
            |(((start, rest), name), control)| Slot { start, rest: rest.unwrap_or_default(), name, control },
        );
        sys::receive(socket.as_fd(), flags, slots, &mut self.written)?;
        self.join();
        Ok(self.written.len())
    }

    /// Makes each packet that is longer than its small room one piece.
    fn join(&mut self) {
        let starts = self.small_rooms.chunks_exact(self.small);
        let wholes = self.large_rooms.chunks_exact_mut(self.large);
        for ((start, whole), written) in starts.zip(wholes).zip(&self.written) {
            if written.bytes > start.len()
                && let Some(gap) = whole.get_mut(..start.len())
            {
                gap.copy_from_slice(start);
            }
        }
    }

    /// How many packets one [`fill`](Self::fill) can bring.
    pub(crate) fn capacity(&self) -> usize {
        self.names.len()
    }

    /// What the last [`fill`](Self::fill) brought.
    pub(crate) fn arrivals(&self) -> impl Iterator<Item = Arrival<'_>> {
        let starts = self.small_rooms.chunks_exact(self.small);
        let wholes = self.large_rooms.chunks_exact(self.large);
        starts.zip(wholes).zip(&self.names).zip(&self.controls).zip(&self.written).map(
            |((((start, whole), name), control), written)| {
                let room = if written.bytes > start.len() { whole } else { start };
                Arrival {
                    bytes: room.get(..written.bytes).unwrap_or(room),
                    address: name.address(written.name),
                    control: Control::parse(control.0.get(..written.control).unwrap_or_default()),
                    length: written.bytes,
                    truncated: written.truncated,
                }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn packets_of_every_length_are_in_one_piece_and_too_long_ones_are_cut() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let lengths = [0, 1, 99, 100, 101, 5_000, 9_000, 9_001, 60];
        for length in lengths {
            sender.send_to(&bytes(length), to).unwrap();
        }
        receiver.set_nonblocking(true).unwrap();
        let receiver = Socket::from(receiver);
        let mut inbox = Inbox::new(100, 9_000);
        assert_eq!(inbox.fill(&receiver, Queue::Data).unwrap(), lengths.len());
        for (arrival, length) in inbox.arrivals().zip(lengths) {
            assert_eq!(arrival.bytes, bytes(length.min(9_000)), "length {length}");
            assert_eq!(arrival.truncated, length > 9_000);
        }
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|position| (position % 251) as u8).collect()
    }
}
