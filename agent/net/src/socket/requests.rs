//! The socket that sees other agents' echo requests, which the kernel answers by itself.

use std::net::IpAddr;
use std::os::fd::AsFd;

use podsonar_core::target::Family;
use podsonar_core::wire::answer::Framing;
use podsonar_core::wire::payload::MAGIC;
use podsonar_core::wire::{Channel, Transport};
use socket2::Socket;

use super::drops::DropCounter;
use super::{drain, options};
use crate::inbox::{Inbox, Queue};
use crate::settings::OpenError;
use crate::{Drained, EchoRequest, sys};

/// Receives copies of echo requests, and sends nothing.
#[derive(Debug)]
pub(crate) struct RequestSocket {
    socket: Socket,
    framing: Framing,
    drops: DropCounter,
}

impl RequestSocket {
    /// Opens it.
    ///
    /// # Errors
    /// The [`OpenError`] that names what it needs.
    pub(crate) fn open(family: Family, receive_buffer: usize) -> Result<Self, OpenError> {
        let channel = Channel { protocol: Transport::Icmp, family };
        let socket = options::open_requests(family, MAGIC, receive_buffer)?;
        // Without stamps a request is taken to come when it is looked at.
        let _ = options::request_stamps(&socket, options::RECEIVE_STAMPS);
        let memory = sys::memory(socket.as_fd()).map_err(|source| OpenError::Option {
            channel,
            what: "drop counter (SO_MEMINFO)",
            source,
        })?;
        Ok(Self { socket, framing: Framing::of_raw(family), drops: DropCounter::new(&memory) })
    }

    /// Drains it.
    pub(crate) fn receive(&mut self, inbox: &mut Inbox, each: &mut dyn FnMut(EchoRequest<'_>)) -> Drained {
        if let Ok(memory) = sys::memory(self.socket.as_fd()) {
            self.drops.drain_begins(&memory);
        }
        let (mut packets, mut bytes) = (0, 0);
        let framing = self.framing;
        let drained = drain(&self.socket, inbox, Queue::Data, &mut |arrival| {
            (packets, bytes) = (packets + 1, bytes + arrival.length);
            if let Some(from) = arrival.address {
                let (to, stamp) = (arrival.control.to.map(IpAddr::V6), arrival.control.stamp);
                each(EchoRequest { from, to, framing, bytes: arrival.bytes, stamp });
            }
        });
        self.drops.drained(packets, bytes);
        drained
    }

    /// How many packets were dropped, since it was opened, while its buffer may have been full.
    pub(crate) fn drops(&mut self) -> u64 {
        if let Ok(memory) = sys::memory(self.socket.as_fd()) {
            self.drops.count(&memory);
        }
        self.drops.total()
    }
}
