//! Half-open SYNs and the segments that answer them (RFC 9293 §3.5, §3.10.7.3).

use std::net::Ipv4Addr;

use pnet::packet::tcp::{MutableTcpPacket, TcpFlags, TcpPacket, ipv4_checksum};

use super::{Reject, field};
use crate::target::Family;

/// Length of a probe's TCP header with its options, in bytes.
///
/// With the options that ordinary stacks send the whole frame also exceeds Ethernet's 60 bytes, so that no driver
/// pads it and its tail stays the segment.
pub const SYN_LEN: usize = 28;

/// Maximum segment size (RFC 9293 §3.7.1), two no-operations, selective acknowledgements permitted (RFC 2018).
const fn options(family: Family) -> [u8; 8] {
    let [high, low] = match family {
        Family::V4 => 1460_u16.to_be_bytes(),
        Family::V6 => 1440_u16.to_be_bytes(),
    };
    [2, 4, high, low, 1, 1, 4, 2]
}

/// The ports and the sequence number that make one SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syn {
    /// A port that this agent has reserved.
    pub source_port: u16,
    /// The target's port.
    pub destination_port: u16,
    /// The initial sequence number: the probe's cookie on the wire.
    pub sequence: u32,
}

/// Appends a SYN. Its checksum stays zero: the kernel fills it in for IPv6 (`IPV6_CHECKSUM`), and
/// [`fill_checksum`] for IPv4.
pub fn encode_syn(family: Family, syn: Syn, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; SYN_LEN - 8]);
    out.extend_from_slice(&options(family));
    let Some(mut segment) = out.get_mut(start..).and_then(MutableTcpPacket::new) else { return };
    segment.set_source(syn.source_port);
    segment.set_destination(syn.destination_port);
    segment.set_sequence(syn.sequence);
    segment.set_data_offset((SYN_LEN / 4) as u8);
    segment.set_flags(TcpFlags::SYN);
    segment.set_window(64_240);
}

/// Writes the checksum of an IPv4 segment, which covers both addresses (RFC 9293 §3.1).
pub fn fill_checksum(segment: &mut [u8], source: Ipv4Addr, destination: Ipv4Addr) {
    if let Some(mut packet) = MutableTcpPacket::new(segment) {
        packet.set_checksum(0);
        let sum =
            ipv4_checksum(&packet.to_immutable(), &source.octets().into(), &destination.octets().into());
        packet.set_checksum(sum);
    }
}

/// A segment that answers some SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The port that answers.
    pub source_port: u16,
    /// The port of ours that is answered.
    pub destination_port: u16,
    /// The sequence number of the SYN that is answered.
    pub sequence: u32,
    /// RST instead of SYN-ACK.
    pub reset: bool,
}

/// Reads a SYN-ACK or an RST; both acknowledge the SYN's sequence number plus one (RFC 9293 §3.10.7.1).
///
/// `addresses` are source and destination of an IPv4 packet, whose checksum is checked here; the kernel has
/// checked IPv6. A segment that has not left this machine may carry the sum of the pseudo header alone, for the
/// network card to complete (checksum offload).
///
/// # Errors
/// The [`Reject`] that says what is wrong with it.
pub fn decode_answer(segment: &[u8], addresses: Option<(Ipv4Addr, Ipv4Addr)>) -> Result<Answer, Reject> {
    let packet = TcpPacket::new(segment).ok_or(Reject::Truncated)?;
    let header = usize::from(packet.get_data_offset()) * 4;
    if header < TcpPacket::minimum_packet_size() {
        return Err(Reject::Malformed);
    }
    if segment.len() < header {
        return Err(Reject::Truncated);
    }
    let flags = packet.get_flags();
    let reset = flags & TcpFlags::RST != 0;
    let answers = flags & TcpFlags::ACK != 0 && (reset || flags & TcpFlags::SYN != 0);
    if !answers {
        return Err(Reject::Unrelated);
    }
    if let Some((source, destination)) = addresses {
        let stated = packet.get_checksum();
        let right = ipv4_checksum(&packet, &source.octets().into(), &destination.octets().into());
        let is_right = |sum| canonical(stated) == canonical(sum);
        if !is_right(right) && !is_right(pseudo_header_sum(segment.len(), source, destination)) {
            return Err(Reject::Checksum);
        }
    }
    Ok(Answer {
        source_port: packet.get_source(),
        destination_port: packet.get_destination(),
        sequence: packet.get_acknowledgement().wrapping_sub(1),
        reset,
    })
}

/// Reads the first eight bytes of a SYN of ours: quoted by an ICMP error, or a sent packet that came back with
/// its transmit stamp.
///
/// # Errors
/// [`Reject::Truncated`] below eight bytes.
pub fn decode_sent(segment: &[u8]) -> Result<Syn, Reject> {
    Ok(Syn {
        source_port: u16::from_be_bytes(field(segment, 0)?),
        destination_port: u16::from_be_bytes(field(segment, 2)?),
        sequence: u32::from_be_bytes(field(segment, 4)?),
    })
}

/// Zero has two forms in ones' complement, and one segment in 65,536 has that sum: Linux writes `0xffff` where it sums
/// itself what a card would have (`CSUM_MANGLED_0`), others write 0 (RFC 1624 §3).
fn canonical(sum: u16) -> u16 {
    if sum == 0xffff { 0 } else { sum }
}

/// What a segment under checksum offload carries: the folded sum of the pseudo header, not inverted.
fn pseudo_header_sum(length: usize, source: Ipv4Addr, destination: Ipv4Addr) -> u16 {
    const TCP: u32 = 6;
    let halves = |address: Ipv4Addr| (u32::from(address) >> 16) + (u32::from(address) & 0xffff);
    let mut sum = halves(source) + halves(destination) + TCP + length as u32;
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_is_pinned_by_a_golden_vector() {
        let mut bytes = Vec::new();
        encode_syn(Family::V4, SYN, &mut bytes);
        fill_checksum(&mut bytes, A, B);
        let golden = b"\x9c\x40\x00\x50\x01\x02\x03\x04\x00\x00\x00\x00\x70\x02\xfa\xf0";
        assert_eq!(&bytes[..16], golden);
        assert_eq!(&bytes[18..], b"\x00\x00\x02\x04\x05\xb4\x01\x01\x04\x02");
        let sum = ipv4_checksum(&TcpPacket::new(&bytes).unwrap(), &A.octets().into(), &B.octets().into());
        assert_eq!(bytes[16..18], sum.to_be_bytes());
        assert_eq!(decode_sent(&bytes), Ok(SYN));
    }

    #[test]
    fn syn_ack_and_reset_answer_and_nothing_else_does() {
        let all = [
            (TcpFlags::SYN | TcpFlags::ACK, Ok(false)),
            (TcpFlags::RST | TcpFlags::ACK, Ok(true)),
            (TcpFlags::ACK, Err(Reject::Unrelated)),
            (TcpFlags::SYN, Err(Reject::Unrelated)),
            (TcpFlags::RST, Err(Reject::Unrelated)),
            (TcpFlags::FIN | TcpFlags::ACK, Err(Reject::Unrelated)),
            (0, Err(Reject::Unrelated)),
        ];
        for (flags, expected) in all {
            let segment = answer(flags);
            assert_eq!(
                decode_answer(&segment, Some((B, A))).map(|answer| answer.reset),
                expected,
                "{flags:#x}"
            );
        }
    }

    #[test]
    fn an_answer_names_the_syn_it_answers() {
        let answer = decode_answer(&answer(TcpFlags::SYN | TcpFlags::ACK), Some((B, A))).unwrap();
        assert_eq!(
            answer,
            Answer { source_port: 80, destination_port: 40_000, sequence: SYN.sequence, reset: false }
        );
    }

    #[test]
    fn every_truncation_is_refused() {
        let segment = answer(TcpFlags::SYN | TcpFlags::ACK);
        for length in 0..segment.len() {
            assert_eq!(decode_answer(&segment[..length], None), Err(Reject::Truncated), "length {length}");
        }
        for length in 0..8 {
            assert_eq!(decode_sent(&segment[..length]), Err(Reject::Truncated), "length {length}");
        }
    }

    #[test]
    fn a_damaged_answer_fails_its_checksum_and_an_offloaded_one_passes() {
        let mut segment = answer(TcpFlags::SYN | TcpFlags::ACK);
        segment[15] ^= 1;
        assert_eq!(decode_answer(&segment, Some((B, A))), Err(Reject::Checksum));
        let partial = pseudo_header_sum(segment.len(), B, A);
        segment[16..18].copy_from_slice(&partial.to_be_bytes());
        assert!(decode_answer(&segment, Some((B, A))).is_ok());
    }

    #[test]
    fn a_checksum_of_zero_is_right_in_both_its_forms() {
        let mut segment = answer(TcpFlags::SYN | TcpFlags::ACK);
        // The window takes up the rest.
        let rest = u16::from_be_bytes([segment[16], segment[17]]);
        segment[14..16].copy_from_slice(&rest.to_be_bytes());
        for zero in [0_u16, 0xffff] {
            segment[16..18].copy_from_slice(&zero.to_be_bytes());
            assert!(decode_answer(&segment, Some((B, A))).is_ok(), "{zero:#x}");
        }
        segment[16..18].copy_from_slice(&1_u16.to_be_bytes());
        assert_eq!(decode_answer(&segment, Some((B, A))), Err(Reject::Checksum));
    }

    #[test]
    fn an_impossible_header_length_is_malformed() {
        let mut segment = answer(TcpFlags::SYN | TcpFlags::ACK);
        segment[12] = 0x40;
        assert_eq!(decode_answer(&segment, None), Err(Reject::Malformed));
    }

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const SYN: Syn = Syn { source_port: 40_000, destination_port: 80, sequence: 0x0102_0304 };

    fn answer(flags: u8) -> Vec<u8> {
        let mut segment = vec![0; 24];
        let mut packet = MutableTcpPacket::new(&mut segment).unwrap();
        packet.set_source(SYN.destination_port);
        packet.set_destination(SYN.source_port);
        packet.set_acknowledgement(SYN.sequence.wrapping_add(1));
        packet.set_data_offset(6);
        packet.set_flags(flags);
        fill_checksum(&mut segment, B, A);
        segment
    }
}
