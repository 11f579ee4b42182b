//! From what a socket delivered to what the engine can match: the only way in for bytes from the network.

use super::ipv4::Packet;
use super::payload::Payload;
use super::{Channel, Reject, Transport, icmp, tcp};
use crate::target::Family;

/// A well-formed answer. Whether it answers a probe of ours is for the engine to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// An echo reply.
    Echo(Payload),
    /// A SYN-ACK or RST.
    Segment(tcp::Answer),
}

/// What names a probe on the wire, as its own packet shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The cookie of an echo request.
    Echo(u64),
    /// The ports and sequence number of a SYN.
    Syn(tcp::Syn),
    /// A full handshake: its packets are not ours to match, so the number is ours.
    Connect(u64),
}

/// Where a received packet begins, as the kernel delivers it to a kind of socket (`raw(7)`, `icmp(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// With its IPv4 header: raw IPv4 sockets.
    Ipv4Header,
    /// With its transport message: raw IPv6 sockets, and datagram sockets of either family.
    Message,
}

impl Framing {
    /// What raw sockets of a family deliver.
    pub const fn of_raw(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ipv4Header,
            Family::V6 => Self::Message,
        }
    }
}

/// Reads a packet from a socket's data queue as the kernel delivers it.
///
/// # Errors
/// The [`Reject`] that says why it answers nothing.
pub fn decode(channel: Channel, framing: Framing, icmp_id: u16, bytes: &[u8]) -> Result<Answer, Reject> {
    let (message, addresses) = match framing {
        Framing::Ipv4Header => {
            let packet = Packet::decode(bytes)?;
            (packet.payload, Some((packet.source, packet.destination)))
        }
        Framing::Message => (bytes, None),
    };
    match channel.protocol {
        Transport::Icmp => icmp::decode_reply(channel.family, icmp_id, message).map(Answer::Echo),
        Transport::Tcp => tcp::decode_answer(message, addresses).map(Answer::Segment),
    }
}

/// Reads the quote of an ICMP error: the start of a transport message that somebody on this host sent.
///
/// # Errors
/// The [`Reject`] that says why it is none of ours.
pub fn decode_quote(channel: Channel, icmp_id: u16, message: &[u8]) -> Result<Key, Reject> {
    match channel.protocol {
        Transport::Icmp => icmp::request_cookie(channel.family, icmp_id, message).map(Key::Echo),
        Transport::Tcp => tcp::decode_sent(message).map(Key::Syn),
    }
}

/// Reads a sent frame that came back with its transmit stamp. Where the message starts depends on the device
/// (tunnels add headers), but it always ends the frame.
///
/// # Errors
/// The [`Reject`] that says why it is none of ours.
pub fn decode_sent(channel: Channel, icmp_id: u16, frame: &[u8]) -> Result<Key, Reject> {
    match channel.protocol {
        Transport::Icmp => icmp::find_request(channel.family, icmp_id, frame).map(Key::Echo),
        Transport::Tcp => {
            let start = frame.len().checked_sub(tcp::SYN_LEN).ok_or(Reject::Truncated)?;
            decode_quote(channel, icmp_id, frame.get(start..).ok_or(Reject::Truncated)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::{Heard, LEN, SizeClass};
    use super::*;

    #[test]
    fn an_echo_reply_is_read_with_and_without_the_header_in_front() {
        let heard = Heard::default();
        let (length, class) = (LEN as u16, SizeClass::Normal);
        let payload = Payload { length, class, epoch: 1, sequence: 2, cookie: 3, period_ms: 4, heard };
        let channel = Channel { protocol: Transport::Icmp, family: Family::V4 };
        let mut message = Vec::new();
        icmp::encode_request(Family::V4, 7, &payload, &mut message);
        // Request becomes reply: type 8 becomes 0, and the ones' complement sum grows by as much.
        message[0] = 0;
        let sum = u16::from_be_bytes([message[2], message[3]]);
        let (grown, carry) = sum.overflowing_add(0x0800);
        message[2..4].copy_from_slice(&(grown + u16::from(carry)).to_be_bytes());
        let total = u8::try_from(20 + message.len()).unwrap();
        let header = [0x45, 0, 0, total, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let packet = [&header[..], &message].concat();
        let read = |framing, bytes| decode(channel, framing, 7, bytes);
        assert_eq!(read(Framing::Ipv4Header, &packet), Ok(Answer::Echo(payload)));
        assert_eq!(read(Framing::Message, &message), Ok(Answer::Echo(payload)));
        assert_eq!(read(Framing::Ipv4Header, &message), Err(Reject::Malformed));
        assert_eq!(read(Framing::Message, &packet), Err(Reject::Unrelated));
    }
}
