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

/// Reads a packet from a socket's data queue as the kernel delivers it: IPv4 with its header, IPv6 without.
///
/// # Errors
/// The [`Reject`] that says why it answers nothing.
pub fn decode(channel: Channel, icmp_id: u16, bytes: &[u8]) -> Result<Answer, Reject> {
    let (message, addresses) = match channel.family {
        Family::V4 => {
            let packet = Packet::decode(bytes)?;
            (packet.payload, Some((packet.source, packet.destination)))
        }
        Family::V6 => (bytes, None),
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
