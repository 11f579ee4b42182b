//! The real sockets: one for each channel, raw or datagram, sharing their buffers.

use std::io;
use std::net::IpAddr;

use podsonar_core::outcome::SendError;
use podsonar_core::target::Family;
use podsonar_core::wire::{Channel, Transport};

use crate::inbox::Inbox;
use crate::outbox::Outbox;
use crate::ports::ReservedPorts;
use crate::settings::{Mode, OpenError, Settings};
use crate::socket::{Kind, ProbeSocket, RequestSocket};
use crate::{Batch, Drained, EchoRequest, Received, Sockets, mtu, routes};

/// The longest IPv4 header.
const IP_HEADER: usize = 60;

/// What devices put in front of a sent packet: Ethernet with VLAN tags, or a tunnel's outer headers (VXLAN over
/// IPv6: 70 bytes), before the IP header.
const LINK_HEADERS: usize = 100;

/// The longest TCP header.
const TCP_HEADER: usize = 60;

/// How many identifiers are tried for datagram sockets: one that somebody else has cannot be ours.
const IDENTIFIERS: usize = 16;

/// Sockets on which the kernel stamps what is sent and received.
///
/// Link-local IPv6 targets are out of scope: they would need a scope, and answer as [`SendError::NoSource`].
#[derive(Debug)]
pub struct ProbeSockets {
    sockets: [Option<ProbeSocket>; Channel::ALL.len()],
    modes: [Option<Mode>; Channel::ALL.len()],
    icmp_id: u16,
    ports: [ReservedPorts; Family::ALL.len()],
    requests: [Option<RequestSocket>; Family::ALL.len()],
    outbox: Outbox,
    inbox: Inbox,
}

impl ProbeSockets {
    /// Opens each channel as well as it can be had, and reserves source ports for those of TCP.
    /// [`mode`](Self::mode) then says what each got.
    pub fn open(settings: &Settings) -> Self {
        let small = settings.message_size.max(TCP_HEADER);
        let headers = LINK_HEADERS + IP_HEADER;
        let mut opened = Self {
            sockets: Default::default(),
            modes: Default::default(),
            icmp_id: settings.icmp_id.max(1),
            ports: Default::default(),
            requests: Default::default(),
            outbox: Outbox::default(),
            inbox: Inbox::new(headers + small, headers + settings.largest_message.max(small)),
        };
        for channel in &settings.channels {
            let mode = opened.open_channel(*channel, settings);
            if let Some(slot) = opened.modes.get_mut(channel.index()) {
                *slot = Some(mode);
            }
        }
        opened
    }

    /// Sees other agents' echo requests too from now on, by this IP version, with a receive buffer of so many bytes. It
    /// costs every echo of the network namespace half a microsecond, so only who has peers asks for it.
    ///
    /// # Errors
    /// There is no raw socket, or it lacks something that cannot be done without; then none are seen.
    pub fn listen(&mut self, family: Family, receive_buffer: usize) -> Result<(), OpenError> {
        let socket = RequestSocket::open(family, receive_buffer)?;
        if let Some(place) = self.requests.get_mut(family as usize) {
            *place = Some(socket);
        }
        Ok(())
    }

    /// What a channel got; `None` if it was not asked for.
    pub fn mode(&self, channel: Channel) -> Option<&Mode> {
        self.modes.get(channel.index())?.as_ref()
    }

    /// Whether a channel has a socket.
    pub fn is_open(&self, channel: Channel) -> bool {
        self.socket(channel).is_some()
    }

    /// Why a channel is missing, taken out.
    pub fn take_error(&mut self, channel: Channel) -> Option<OpenError> {
        match self.modes.get_mut(channel.index())?.take()? {
            Mode::Missing(error) => Some(error),
            Mode::Raw | Mode::Datagram => None,
        }
    }

    /// The identifier of our echo requests: the one that was asked for, unless datagram sockets are in use and
    /// another process of this host has it.
    pub fn icmp_id(&self) -> u16 {
        self.icmp_id
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
        self.socket(channel).map_or(0, ProbeSocket::receive_buffer)
    }

    /// Whether the kernel accepted the request to stamp this channel's packets.
    pub fn has_stamps(&self, channel: Channel) -> bool {
        self.socket(channel).is_some_and(ProbeSocket::has_stamps)
    }

    /// How many hops a channel's packets may take from now on.
    pub(crate) fn set_hop_limit(&self, channel: Channel, hops: u32) -> Result<(), OpenError> {
        let Some(socket) = self.socket(channel) else { return Ok(()) };
        let failed = |source| OpenError::Option { channel, what: "hop limit", source };
        socket.set_hop_limit(hops).map_err(failed)
    }

    fn open_channel(&mut self, channel: Channel, settings: &Settings) -> Mode {
        match self.open_raw(channel, settings) {
            Ok(()) => Mode::Raw,
            Err(OpenError::NoPermission { .. }) if channel.protocol == Transport::Icmp => {
                match self.open_datagram(channel, settings) {
                    Ok(()) => Mode::Datagram,
                    Err(error) => Mode::Missing(error),
                }
            }
            Err(error) => Mode::Missing(error),
        }
    }

    fn open_raw(&mut self, channel: Channel, settings: &Settings) -> Result<(), OpenError> {
        let family = channel.family;
        let ports = match channel.protocol {
            Transport::Icmp => ReservedPorts::default(),
            Transport::Tcp => ReservedPorts::reserve(family, settings.flows)
                .map_err(|source| OpenError::Ports { family, count: settings.flows, source })?,
        };
        let kind = Kind::Raw { icmp_id: self.icmp_id, ports: ports.numbers() };
        let socket = ProbeSocket::open(channel, &kind, settings)?;
        self.put(channel, socket);
        if channel.protocol == Transport::Tcp {
            *self.ports_mut(family) = ports;
        }
        Ok(())
    }

    /// Both families have one identifier, so only the first may choose another one than was asked for. The kernel
    /// knows identifiers by number alone, whatever the IP version: the first lends its own to the second.
    fn open_datagram(&mut self, channel: Channel, settings: &Settings) -> Result<(), OpenError> {
        let first = self.sockets.iter().flatten().next();
        let failed = |source| OpenError::Option { channel, what: "ICMP identifier", source };
        if let Some(first) = first {
            first.share_identifier(true).map_err(failed)?;
        }
        let tries = if first.is_some() { 1 } else { IDENTIFIERS };
        let kind = |icmp_id| Kind::Datagram { icmp_id, shared: first.is_some() };
        let mut icmp_id = self.icmp_id;
        let mut opened = ProbeSocket::open(channel, &kind(icmp_id), settings);
        for _ in 1..tries {
            if !matches!(opened, Err(OpenError::IdentifierTaken { .. })) {
                break;
            }
            icmp_id = icmp_id.wrapping_add(1).max(1);
            opened = ProbeSocket::open(channel, &kind(icmp_id), settings);
        }
        if let Some(first) = first {
            first.share_identifier(false).map_err(failed)?;
        }
        self.put(channel, opened?);
        self.icmp_id = icmp_id;
        Ok(())
    }

    fn put(&mut self, channel: Channel, socket: ProbeSocket) {
        if let Some(slot) = self.sockets.get_mut(channel.index()) {
            *slot = Some(socket);
        }
    }

    fn ports_mut(&mut self, family: Family) -> &mut ReservedPorts {
        let [v4, v6] = &mut self.ports;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    fn socket(&self, channel: Channel) -> Option<&ProbeSocket> {
        self.sockets.get(channel.index())?.as_ref()
    }

    fn socket_mut(&mut self, channel: Channel) -> Option<&mut ProbeSocket> {
        self.sockets.get_mut(channel.index())?.as_mut()
    }

    /// Lets the socket receive at exactly the ports that are held, in one step: no packet falls between.
    fn listen_to_ports(&self, family: Family) -> io::Result<()> {
        let [v4, v6] = &self.ports;
        let held = match family {
            Family::V4 => v4.held(),
            Family::V6 => v6.held(),
        };
        match self.socket(Channel { protocol: Transport::Tcp, family }) {
            Some(socket) => socket.receive_at(&held),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Sockets for ProbeSockets {
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
        self.socket_mut(channel).map_or(0, ProbeSocket::drops)
    }

    fn receive_requests(&mut self, family: Family, each: &mut dyn FnMut(EchoRequest<'_>)) -> Drained {
        let Self { requests, inbox, .. } = self;
        let socket = requests.get_mut(family as usize).and_then(Option::as_mut);
        socket.map_or(Drained::Completely, |socket| socket.receive(inbox, each))
    }

    fn request_drops(&mut self, family: Family) -> u64 {
        let socket = self.requests.get_mut(family as usize).and_then(Option::as_mut);
        socket.map_or(0, RequestSocket::drops)
    }

    fn request_sched_stamps(&mut self, channel: Channel) {
        if let Some(socket) = self.socket_mut(channel) {
            socket.request_sched_stamps();
        }
    }

    fn refresh_routes(&mut self) {
        self.sockets.iter_mut().flatten().for_each(ProbeSocket::refresh_routes);
    }

    fn renew_ports(&mut self, family: Family, count: usize) -> io::Result<Vec<(u16, u16)>> {
        let renewed = self.ports_mut(family).renew(family, count)?;
        if let Err(error) = self.listen_to_ports(family) {
            self.ports_mut(family).undo(&renewed);
            return Err(error);
        }
        Ok(renewed)
    }

    fn retire_ports(&mut self, family: Family, ports: &[u16]) {
        self.ports_mut(family).retire(ports);
        // A filter that still passes them harms nothing: what comes there matches no probe.
        let _ = self.listen_to_ports(family);
    }

    fn route_mtu(&mut self, to: IpAddr) -> Option<u32> {
        mtu::route_mtu(to).ok()
    }

    fn source_of(&mut self, to: IpAddr) -> Option<IpAddr> {
        routes::source_of(to).ok()
    }
}
