//! The IPv4 header in front of what a raw IPv4 socket receives (`raw(7)`). Raw IPv6 sockets deliver without one.

use std::net::Ipv4Addr;

use super::{Reject, field};

/// A received IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The sender.
    pub source: Ipv4Addr,
    /// The receiver: one of our addresses.
    pub destination: Ipv4Addr,
    /// What follows the header and its options.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes the header off. The kernel has checked the header's checksum (`ip_rcv`) and put fragments together.
    ///
    /// # Errors
    /// [`Reject::Truncated`] if the packet is shorter than its header or its total length say,
    /// [`Reject::Malformed`] if it is not IPv4.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Reject> {
        let [first, _, high, low]: [u8; 4] = field(bytes, 0)?;
        if first >> 4 != 4 {
            return Err(Reject::Malformed);
        }
        let header = usize::from(first & 0xf) * 4;
        let total = usize::from(u16::from_be_bytes([high, low]));
        if header < 20 || total < header {
            return Err(Reject::Malformed);
        }
        let payload = bytes.get(header..total).ok_or(Reject::Truncated)?;
        Ok(Self {
            source: Ipv4Addr::from(field::<4>(bytes, 12)?),
            destination: Ipv4Addr::from(field::<4>(bytes, 16)?),
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_passed_over_and_trailing_bytes_left_out() {
        let packet = Packet::decode(&PACKET).unwrap();
        assert_eq!(packet.source, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(packet.destination, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(packet.payload, b"abc");
    }

    #[test]
    fn every_truncation_is_refused() {
        for length in 0..27 {
            assert_eq!(Packet::decode(&PACKET[..length]), Err(Reject::Truncated), "length {length}");
        }
    }

    #[test]
    fn nonsense_lengths_are_refused() {
        for (position, value) in [(0, 0x65), (0, 0x44), (3, 23)] {
            let mut bytes = PACKET;
            bytes[position] = value;
            assert_eq!(Packet::decode(&bytes), Err(Reject::Malformed), "byte {position} = {value:#x}");
        }
    }

    /// 24 bytes of header (one word of options), total length 27, then two bytes of link padding.
    const PACKET: [u8; 29] = [
        0x46, 0, 0, 27, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1, b'a', b'b', b'c', 0, 0,
    ];
}
