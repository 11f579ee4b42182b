//! Packets as they are on a wire: enough of IPv4, IPv6, ICMP and TCP to tell probes and their answers apart.
//!
//! Written apart from the agent's decoder on purpose: what checks a program must not share its mistakes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP protocol numbers (IANA).
pub const ICMP: u8 = 1;
/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// `ICMPv6`'s protocol number.
pub const ICMPV6: u8 = 58;

/// TCP flag bits (RFC 9293, section 3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
}

/// A decoded packet that borrows its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// The IPv6 flow label; 0 for IPv4.
    pub flow_label: u32,
    /// Whether IPv4 forbids fragmenting; always true for IPv6, whose routers never fragment.
    pub dont_fragment: bool,
    /// IP protocol number (the next header after the fixed header for IPv6: the lab sends no extension headers).
    pub protocol: u8,
    /// Length of the IP header in bytes, where the transport message starts.
    pub header_length: usize,
    /// Length of the whole packet in bytes.
    pub length: usize,
    /// The transport message.
    pub body: Body<'a>,
}

/// A transport message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// An ICMP or `ICMPv6` echo request.
    EchoRequest(Echo<'a>),
    /// An ICMP or `ICMPv6` echo reply.
    EchoReply(Echo<'a>),
    /// A TCP segment.
    Tcp(Tcp),
    /// Anything else, and what is too short or a fragment: its bytes.
    Other(&'a [u8]),
}

/// An echo request's or reply's contents (RFC 792, RFC 4443).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Identifier.
    pub id: u16,
    /// Sequence number.
    pub sequence: u16,
    /// The data after the 8 bytes of header.
    pub payload: &'a [u8],
}

/// A TCP segment's header fields (RFC 9293).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flag bits, see [`flags`].
    pub flags: u8,
}

impl<'a> Packet<'a> {
    /// Decodes a packet that starts with its IP header; `None` for another protocol or a truncated header.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::decode_v4(bytes),
            6 => Self::decode_v6(bytes),
            _ => None,
        }
    }

    fn decode_v4(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; 20] = bytes.first_chunk()?;
        let header_length = usize::from(header[0] & 15) * 4;
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let message = bytes.get(header_length..total.clamp(header_length, bytes.len()))?;
        let protocol = header[9];
        // Neither "more fragments" nor an offset.
        let is_whole = fragment.trailing_zeros() >= 14;
        Some(Self {
            src: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            dst: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            hop_limit: header[8],
            flow_label: 0,
            dont_fragment: fragment & 0x4000 != 0,
            protocol,
            header_length,
            length: bytes.len(),
            body: if is_whole { Body::decode(protocol, message) } else { Body::Other(message) },
        })
    }

    fn decode_v6(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<40>()?;
        let [first, second, third, fourth, length_high, length_low, protocol, hop_limit, ..] = *header;
        let address = |at: usize| header.get(at..at + 16).and_then(|b| <[u8; 16]>::try_from(b).ok());
        let message = rest.get(..usize::from(u16::from_be_bytes([length_high, length_low]))).unwrap_or(rest);
        Some(Self {
            src: Ipv6Addr::from(address(8)?).into(),
            dst: Ipv6Addr::from(address(24)?).into(),
            hop_limit,
            flow_label: u32::from_be_bytes([first, second, third, fourth]) & 0xf_ffff,
            dont_fragment: true,
            protocol,
            header_length: 40,
            length: bytes.len(),
            body: Body::decode(protocol, message),
        })
    }

    /// The TCP segment, if it is one.
    pub fn tcp(&self) -> Option<Tcp> {
        match self.body {
            Body::Tcp(tcp) => Some(tcp),
            _ => None,
        }
    }
}

impl<'a> Body<'a> {
    fn decode(protocol: u8, message: &'a [u8]) -> Self {
        let decoded = match protocol {
            ICMP | ICMPV6 => Self::decode_icmp(protocol, message),
            TCP => Self::decode_tcp(message),
            _ => None,
        };
        decoded.unwrap_or(Self::Other(message))
    }

    fn decode_icmp(protocol: u8, message: &'a [u8]) -> Option<Self> {
        let (&[kind, code, _, _, id0, id1, sequence0, sequence1], payload) =
            message.split_first_chunk::<8>()?;
        let echo = Echo {
            id: u16::from_be_bytes([id0, id1]),
            sequence: u16::from_be_bytes([sequence0, sequence1]),
            payload,
        };
        match (protocol, kind, code) {
            (ICMP, 8, 0) | (ICMPV6, 128, 0) => Some(Self::EchoRequest(echo)),
            (ICMP, 0, 0) | (ICMPV6, 129, 0) => Some(Self::EchoReply(echo)),
            _ => None,
        }
    }

    fn decode_tcp(message: &[u8]) -> Option<Self> {
        let b: &[u8; 20] = message.first_chunk()?;
        Some(Self::Tcp(Tcp {
            src_port: u16::from_be_bytes([b[0], b[1]]),
            dst_port: u16::from_be_bytes([b[2], b[3]]),
            seq: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
            ack: u32::from_be_bytes([b[8], b[9], b[10], b[11]]),
            flags: b[13],
        }))
    }
}

impl Tcp {
    /// Whether the segment asks for a connection: SYN without ACK.
    pub fn is_syn(self) -> bool {
        self.flags & (flags::SYN | flags::ACK) == flags::SYN
    }

    /// Whether the segment accepts a connection: SYN with ACK.
    pub fn is_syn_ack(self) -> bool {
        self.flags & (flags::SYN | flags::ACK) == flags::SYN | flags::ACK
    }

    /// Whether the segment resets.
    pub fn is_rst(self) -> bool {
        self.flags & flags::RST != 0
    }
}

/// Builds an IPv4 packet around a transport message whose checksum it makes right.
pub fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, message: &[u8]) -> Vec<u8> {
    let [high, low] = (20 + message.len() as u16).to_be_bytes();
    let mut packet = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(src.octets());
    packet.extend(dst.octets());
    let checksum = finish_sum(sum(&packet, 0));
    put(&mut packet, 10, checksum);
    packet.extend(message);
    repair_checksum(&mut packet);
    packet
}

/// Builds an IPv6 packet around a transport message whose checksum it makes right.
pub fn ipv6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, message: &[u8]) -> Vec<u8> {
    let [high, low] = (message.len() as u16).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, high, low, protocol, 64];
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(message);
    repair_checksum(&mut packet);
    packet
}

/// Makes the checksum of an ICMP, `ICMPv6`, TCP or UDP message right (RFC 1071). Other packets stay as they are.
pub fn repair_checksum(bytes: &mut [u8]) {
    if let Some((at, checksum)) = right_checksum(bytes) {
        put(bytes, at, checksum);
    }
}

/// Whether the transport checksum of a packet is right; `None` where the lab knows of none.
pub fn checksum_is_right(bytes: &[u8]) -> Option<bool> {
    let (at, checksum) = right_checksum(bytes)?;
    Some(bytes.get(at..at + 2)? == checksum.to_be_bytes())
}

/// Where the transport checksum is, and what it should be.
fn right_checksum(bytes: &[u8]) -> Option<(usize, u16)> {
    let packet = Packet::decode(bytes)?;
    let message = bytes.get(packet.header_length..)?;
    let offset = match packet.protocol {
        ICMP | ICMPV6 => 2,
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    let pseudo = match (packet.src, packet.dst) {
        _ if packet.protocol == ICMP => 0,
        (IpAddr::V4(src), IpAddr::V4(dst)) => sum(&dst.octets(), sum(&src.octets(), 0)),
        (IpAddr::V6(src), IpAddr::V6(dst)) => sum(&dst.octets(), sum(&src.octets(), 0)),
        _ => return None,
    };
    let lengths = if packet.protocol == ICMP { 0 } else { message.len() as u32 + u32::from(packet.protocol) };
    let (before, rest) = message.split_at_checked(offset)?;
    let after = rest.get(2..)?;
    // The offset is even, so the two parts add up as one.
    let checksum = finish_sum(sum(after, sum(before, pseudo + lengths)));
    // In UDP zero means "no checksum" (RFC 768).
    let checksum = if packet.protocol == UDP && checksum == 0 { 0xffff } else { checksum };
    Some((packet.header_length + offset, checksum))
}

/// Adds big-endian 16-bit words, the last padded by zero.
fn sum(bytes: &[u8], start: u32) -> u32 {
    let word = |pair: &[u8]| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    };
    bytes.chunks(2).fold(start, |sum, pair| sum + word(pair))
}

fn finish_sum(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_requests_decode_to_what_was_built() {
        let (v4, v6) = echoes();
        for bytes in [v4, v6] {
            let packet = Packet::decode(&bytes).unwrap();
            let echo = Echo { id: 0x1234, sequence: 7, payload: b"payload" };
            assert_eq!(packet.body, Body::EchoRequest(echo));
            assert_eq!(packet.length, bytes.len());
            assert_eq!(checksum_is_right(&bytes), Some(true));
        }
    }

    #[test]
    fn every_truncation_decodes_without_panic_to_less() {
        let (v4, v6) = echoes();
        for bytes in [v4, v6] {
            let whole = Packet::decode(&bytes).unwrap();
            for length in 0..bytes.len() {
                assert_ne!(Packet::decode(&bytes[..length]), Some(whole), "{length} bytes");
            }
        }
    }

    #[test]
    fn fragments_are_other() {
        let (mut bytes, _) = echoes();
        bytes[6] |= 0x20;
        assert!(matches!(Packet::decode(&bytes).unwrap().body, Body::Other(_)));
    }

    fn echoes() -> (Vec<u8>, Vec<u8>) {
        let message = |kind| [&[kind, 0, 0, 0, 0x12, 0x34, 0, 7], &b"payload"[..]].concat();
        let v4 = ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), ICMP, &message(8));
        let v6 = ipv6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), ICMPV6, &message(128));
        (v4, v6)
    }
}
