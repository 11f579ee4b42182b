//! The real sockets: one raw socket for each channel, sharing their buffers.

use podsonar_core::outcome::SendError;
use podsonar_core::target::Family;
use podsonar_core::wire::{Channel, Transport};

use crate::inbox::Inbox;
use crate::outbox::Outbox;
use crate::ports::ReservedPorts;
use crate::settings::{OpenError, Settings};
use crate::socket::RawSocket;
use crate::{Batch, Drained, Received, Sockets};

/// The longest IPv4 header.
const IP_HEADER: usize = 60;

/// What devices put in front of a sent packet: Ethernet with VLAN tags, or a tunnel's outer headers (VXLAN over
/// IPv6: 70 bytes), before the IP header.
const LINK_HEADERS: usize = 100;

/// The longest TCP header.
const TCP_HEADER: usize = 60;

/// Raw sockets on which the kernel stamps what is sent and received.
///
/// Link-local IPv6 targets are out of scope: they would need a scope, and answer as [`SendError::NoSource`].
#[derive(Debug)]
pub struct RawSockets {
    sockets: [Option<RawSocket>; Channel::ALL.len()],
    ports: [ReservedPorts; Family::ALL.len()],
    outbox: Outbox,
    inbox: Inbox,
}

impl RawSockets {
    /// Opens the channels and reserves source ports for those of TCP.
    ///
    /// # Errors
    /// The first thing that is missing, as one line for the user.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        let message = settings.message_size.max(TCP_HEADER);
        let mut opened = Self {
            sockets: Default::default(),
            ports: Default::default(),
            outbox: Outbox::default(),
            inbox: Inbox::new(LINK_HEADERS + IP_HEADER + message),
        };
        for channel in &settings.channels {
            opened.open_channel(*channel, settings)?;
        }
        Ok(opened)
    }

    /// The reserved source ports of a family: none if its TCP channel is not open.
    pub fn source_ports(&self, family: Family) -> &[u16] {
        let [v4, v6] = &self.ports;
        match family {
            Family::V4 => v4.numbers(),
            Family::V6 => v6.numbers(),
        }
    }

    /// Size of a channel's receive buffer in bytes as the kernel granted it, zero if the channel is not open.
    pub fn granted_buffer(&self, channel: Channel) -> usize {
        self.socket(channel).map_or(0, RawSocket::receive_buffer)
    }

    /// Whether the kernel accepted the request to stamp this channel's packets.
    pub fn has_stamps(&self, channel: Channel) -> bool {
        self.socket(channel).is_some_and(RawSocket::has_stamps)
    }

    fn open_channel(&mut self, channel: Channel, settings: &Settings) -> Result<(), OpenError> {
        let family = channel.family;
        let ports = match channel.protocol {
            Transport::Icmp => ReservedPorts::default(),
            Transport::Tcp => ReservedPorts::reserve(family, settings.flows)
                .map_err(|source| OpenError::Ports { family, count: settings.flows, source })?,
        };
        let socket = RawSocket::open(channel, settings, ports.numbers())?;
        if let Some(slot) = self.sockets.get_mut(channel.index()) {
            *slot = Some(socket);
        }
        if channel.protocol == Transport::Tcp {
            let [v4, v6] = &mut self.ports;
            match family {
                Family::V4 => *v4 = ports,
                Family::V6 => *v6 = ports,
            }
        }
        Ok(())
    }

    fn socket(&self, channel: Channel) -> Option<&RawSocket> {
        self.sockets.get(channel.index())?.as_ref()
    }

    fn socket_mut(&mut self, channel: Channel) -> Option<&mut RawSocket> {
        self.sockets.get_mut(channel.index())?.as_mut()
    }
}

impl Sockets for RawSockets {
    fn send(&mut self, channel: Channel, packets: &Batch, results: &mut Vec<Result<(), SendError>>) {
        let Self { sockets, outbox, .. } = self;
        match sockets.get_mut(channel.index()).and_then(Option::as_mut) {
            Some(socket) => socket.send(outbox, packets, results),
            None => results.extend(packets.iter().map(|_| Err(SendError::NoSocket))),
        }
    }

    fn receive(&mut self, channel: Channel, each: &mut dyn FnMut(Received<'_>)) -> Drained {
        let Self { sockets, inbox, .. } = self;
        let socket = sockets.get_mut(channel.index()).and_then(Option::as_mut);
        socket.map_or(Drained::Completely, |socket| socket.receive(inbox, each))
    }

    fn drops(&mut self, channel: Channel) -> u64 {
        self.socket_mut(channel).map_or(0, RawSocket::drops)
    }

    fn request_sched_stamps(&mut self, channel: Channel) {
        if let Some(socket) = self.socket_mut(channel) {
            socket.request_sched_stamps();
        }
    }

    fn refresh_routes(&mut self) {
        self.sockets.iter_mut().flatten().for_each(RawSocket::refresh_routes);
    }
}
