//! Packets on their way to the kernel, at most one system call's worth.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::os::fd::AsFd;

use podsonar_core::outcome::SendError;
use podsonar_core::wire::tcp;
use socket2::Socket;

use crate::errno::{may_be_foreign, send_error};
use crate::name::Name;
use crate::sys::{self, BATCH, Message, SourceAddress};

/// How often one packet is offered to the kernel: each foreign errno costs one offer.
const OFFERS: usize = 3;

/// Collects packets and sends them, one result for each in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    packets: Vec<Packet>,
}

#[derive(Debug)]
struct Packet {
    bytes: Range<usize>,
    to: Name,
    source: Option<SourceAddress>,
}

impl Outbox {
    /// Adds a packet; [`is_full`](Self::is_full) tells when to send.
    pub(crate) fn push(&mut self, to: IpAddr, flow_label: u32, message: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        let bytes = start..self.bytes.len();
        self.packets.push(Packet { bytes, to: Name::new(to, flow_label), source: None });
    }

    /// Adds a TCP segment over IPv4 with its checksum for `source`, and makes it leave from there.
    pub(crate) fn push_segment(&mut self, source: Ipv4Addr, to: Ipv4Addr, segment: &[u8]) {
        self.push(to.into(), 0, segment);
        let Some(packet) = self.packets.last_mut() else { return };
        packet.source = Some(SourceAddress::new(source));
        if let Some(segment) = self.bytes.get_mut(packet.bytes.clone()) {
            tcp::fill_checksum(segment, source, to);
        }
    }

    /// Whether it holds as many packets as one system call takes.
    pub(crate) fn is_full(&self) -> bool {
        self.packets.len() >= BATCH
    }

    /// Sends everything and appends one result for each packet.
    ///
    /// The kernel may return an errno that an ICMP error about somebody else's packet left on the socket. So
    /// pending errors are cleared first, and an errno that may be foreign is believed only from a packet that was
    /// offered again right after clearing.
    pub(crate) fn flush(&mut self, socket: &Socket, results: &mut Vec<Result<(), SendError>>) {
        if self.packets.is_empty() {
            return;
        }
        clear_pending(socket);
        let mut done = 0;
        let mut offers = 0;
        while done < self.packets.len() {
            offers += 1;
            match self.offer(done, socket) {
                Ok(accepted) => {
                    results.extend((0..accepted).map(|_| Ok(())));
                    done += accepted;
                    offers = 0;
                }
                Err(error) if may_be_foreign(&error) && offers < OFFERS => clear_pending(socket),
                Err(error) => {
                    results.push(Err(send_error(&error)));
                    done += 1;
                    offers = 0;
                }
            }
        }
        self.bytes.clear();
        self.packets.clear();
    }

    /// Offers all packets from `first` on. After a smaller count the next offer begins with the packet that
    /// failed, which then shows its errno.
    fn offer(&self, first: usize, socket: &Socket) -> io::Result<usize> {
        let messages = self.packets.iter().skip(first).filter_map(|packet| {
            let bytes = self.bytes.get(packet.bytes.clone())?;
            Some(Message { bytes, to: &packet.to, source: packet.source.as_ref() })
        });
        sys::send(socket.as_fd(), messages)
    }
}

/// Takes a pending errno off the socket (`SO_ERROR`).
fn clear_pending(socket: &Socket) {
    // Both answers are the same news: the errno, if there was one, is gone.
    let _ = socket.take_error();
}
