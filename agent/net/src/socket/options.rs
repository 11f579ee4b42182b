//! How a socket is made, so that it receives our answers, and errors, and nothing else.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use podsonar_core::target::Family;
use podsonar_core::wire::{Channel, Transport};
use socket2::{Domain, Socket, Type};

use super::{Kind, MAX_CALLS};
use crate::inbox::{Inbox, Queue};
use crate::settings::{OpenError, Settings};
use crate::{filter, sys};

/// Packets that are being sent are charged to the send buffer, at about 800 bytes each.
const SEND_BUFFER: usize = 4 << 20;

/// The stamps we always ask for: software ones of sent and received packets. The sent packet comes back with its
/// stamp (no `OPT_TSONLY`) and is recognised by its contents: the kernel's own numbering (`OPT_ID`) skips and
/// consumes numbers when sends fail.
pub(super) const STAMPS: u32 =
    libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_TX_SOFTWARE;

/// Stamps of received packets alone.
pub(super) const RECEIVE_STAMPS: u32 = libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_RX_SOFTWARE;

/// All of them, and the stamp before the queueing discipline.
pub(super) const STAMPS_AND_SCHED: u32 = STAMPS | libc::SOF_TIMESTAMPING_TX_SCHED;

/// Opens the channel's socket.
pub(super) fn open(channel: Channel, kind: &Kind<'_>, settings: &Settings) -> Result<Socket, OpenError> {
    let failed = |what| move |source| OpenError::Option { channel, what, source };
    let socket = create(channel, kind)?;
    match *kind {
        Kind::Raw { icmp_id, ports } => {
            // A raw socket receives from its creation on. So the filter comes first, and what came before it goes.
            socket
                .attach_filter(&filter::answers(channel, icmp_id, ports))
                .map_err(failed("packet filter"))?;
            discard_waiting(&socket).map_err(failed("first drain"))?;
            refuse_other_messages(&socket, channel, ECHO_REPLY)?;
        }
        Kind::Datagram { icmp_id, shared } => bind_identifier(&socket, channel, icmp_id, shared)?,
    }
    set_family_options(&socket, channel)?;
    set_buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, settings.receive_buffer)
        .map_err(failed("receive buffer"))?;
    set_buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER).map_err(failed("send buffer"))?;
    Ok(socket)
}

/// Opens a socket that receives other agents' echo requests, whose payload begins with `magic`, and sends nothing.
pub(super) fn open_requests(
    family: Family,
    magic: [u8; 4],
    receive_buffer: usize,
) -> Result<Socket, OpenError> {
    let channel = Channel { protocol: Transport::Icmp, family };
    let failed = |what| move |source| OpenError::Option { channel, what, source };
    let socket = create(channel, &Kind::Raw { icmp_id: 0, ports: &[] })?;
    socket.attach_filter(&filter::requests(family, magic)).map_err(failed("packet filter"))?;
    discard_waiting(&socket).map_err(failed("first drain"))?;
    refuse_other_messages(&socket, channel, ECHO_REQUEST)?;
    if family == Family::V6 {
        sys::set_option(socket.as_fd(), libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, &[1])
            .map_err(failed("IPV6_RECVPKTINFO"))?;
    }
    set_buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, receive_buffer)
        .map_err(failed("receive buffer"))?;
    Ok(socket)
}

/// Asks for `SO_TIMESTAMPING` stamps from the next packet on.
pub(super) fn request_stamps(socket: &Socket, flags: u32) -> io::Result<()> {
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &[flags])
}

fn create(channel: Channel, kind: &Kind<'_>) -> Result<Socket, OpenError> {
    let domain = match channel.family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let protocol = match (channel.protocol, channel.family) {
        (Transport::Icmp, Family::V4) => socket2::Protocol::ICMPV4,
        (Transport::Icmp, Family::V6) => socket2::Protocol::ICMPV6,
        (Transport::Tcp, _) => socket2::Protocol::TCP,
    };
    let kind = match kind {
        Kind::Raw { .. } => Type::RAW,
        Kind::Datagram { .. } => Type::DGRAM,
    };
    Socket::new(domain, kind.nonblocking(), Some(protocol)).map_err(|source| refused(channel, source))
}

/// Takes an identifier as a datagram socket's own. By default the kernel lets processes share one, and then gives the
/// replies to only one of them.
fn bind_identifier(socket: &Socket, channel: Channel, id: u16, shared: bool) -> Result<(), OpenError> {
    let failed = |source| OpenError::Option { channel, what: "ICMP identifier", source };
    let any = match channel.family {
        Family::V4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, id)),
        Family::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, id)),
    };
    socket.set_reuse_address(shared).map_err(failed)?;
    let bound = socket.bind(&any.into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => OpenError::IdentifierTaken { channel, id },
        _ => failed(source),
    });
    socket.set_reuse_address(false).map_err(failed)?;
    bound
}

/// Why there is no socket.
fn refused(channel: Channel, source: io::Error) -> OpenError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => OpenError::NoPermission { channel },
        Some(libc::EAFNOSUPPORT) => OpenError::NoFamily { channel },
        _ => OpenError::Socket { channel, source },
    }
}

fn discard_waiting(socket: &Socket) -> io::Result<()> {
    let mut inbox = Inbox::new(1, 1);
    for _ in 0..MAX_CALLS {
        match inbox.fill(socket, Queue::Data) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("packets do not cease"))
}

/// `IP_RECVERR` and `IPV6_RECVERR` bring ICMP errors to the error queue, and make a full interface queue an errno
/// instead of a silent drop.
///
/// Nothing is ever fragmented, and the kernel never takes a path MTU that an ICMP error told it for the interface's:
/// a probe leaves as one packet or is refused (`ip(7)`, `IP_PMTUDISC_PROBE`). Over IPv4 that also saves the random
/// identification of each packet, 4 % of a probe's cost.
fn set_family_options(socket: &Socket, channel: Channel) -> Result<(), OpenError> {
    let set = |what, level, name, value| {
        sys::set_option(socket.as_fd(), level, name, &[value]).map_err(|source| OpenError::Option {
            channel,
            what,
            source,
        })
    };
    match channel.family {
        Family::V4 => {
            set("IP_RECVERR", libc::SOL_IP, libc::IP_RECVERR, 1)?;
            set("IP_MTU_DISCOVER", libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE as u32)
        }
        Family::V6 => {
            let probe = libc::IPV6_PMTUDISC_PROBE as u32;
            set("IPV6_RECVERR", libc::SOL_IPV6, libc::IPV6_RECVERR, 1)?;
            set("IPV6_MTU_DISCOVER", libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
            set("IPV6_DONTFRAG", libc::SOL_IPV6, libc::IPV6_DONTFRAG, 1)?;
            set("IPV6_FLOWINFO_SEND", libc::SOL_IPV6, libc::IPV6_FLOWINFO_SEND, 1)
        }
    }
}

/// Types of ICMP and ICMPv6 messages.
type Types = (u32, usize);

const ECHO_REPLY: Types = (0, 129);
const ECHO_REQUEST: Types = (8, 128);

/// The ICMP filters refuse before the kernel copies a packet for a raw socket. TCP has none; over IPv6 the kernel is
/// told where its checksum belongs.
fn refuse_other_messages(socket: &Socket, channel: Channel, wanted: Types) -> Result<(), OpenError> {
    const SOL_RAW: i32 = 255;
    const ICMP_FILTER: i32 = 1;
    const ICMPV6_FILTER: i32 = 1;
    // Offset of the checksum in a TCP header (RFC 9293 §3.1).
    const TCP_CHECKSUM: u32 = 16;

    let set = |what, level, name, value: &[u32]| {
        sys::set_option(socket.as_fd(), level, name, value).map_err(|source| OpenError::Option {
            channel,
            what,
            source,
        })
    };
    match (channel.protocol, channel.family) {
        (Transport::Icmp, Family::V4) => set("ICMP_FILTER", SOL_RAW, ICMP_FILTER, &[!(1 << wanted.0)]),
        (Transport::Icmp, Family::V6) => {
            let mut refused = [u32::MAX; 8];
            if let Some(word) = refused.get_mut(wanted.1 / 32) {
                *word &= !(1 << (wanted.1 % 32));
            }
            set("ICMP6_FILTER", libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &refused)
        }
        (Transport::Tcp, Family::V4) => Ok(()),
        (Transport::Tcp, Family::V6) => {
            set("IPV6_CHECKSUM", libc::SOL_IPV6, libc::IPV6_CHECKSUM, &[TCP_CHECKSUM])
        }
    }
}

/// Sets a buffer beyond the system's limit if we may (`NET_ADMIN`), else up to it. The kernel doubles the value
/// for its own bookkeeping (`socket(7)`), and what `wanted` says is the doubled size.
fn set_buffer(socket: &Socket, forced: i32, limited: i32, wanted: usize) -> io::Result<()> {
    let half = [u32::try_from(wanted / 2).unwrap_or(u32::MAX).min(i32::MAX as u32 / 2)];
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, forced, &half)
        .or_else(|_| sys::set_option(socket.as_fd(), libc::SOL_SOCKET, limited, &half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_the_family_is_told_apart_from_a_missing_privilege() {
        let channel = Channel { protocol: Transport::Tcp, family: Family::V6 };
        let refused = |errno| refused(channel, io::Error::from_raw_os_error(errno));
        assert!(matches!(refused(libc::EAFNOSUPPORT), OpenError::NoFamily { .. }));
        assert!(matches!(refused(libc::EPERM), OpenError::NoPermission { .. }));
        assert!(matches!(refused(libc::EMFILE), OpenError::Socket { .. }));
    }
}
