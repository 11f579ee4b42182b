//! ICMP echo for both IP versions (RFC 792, RFC 4443 §4) and the meaning of ICMP errors.

use pnet::packet::icmp::echo_request::MutableEchoRequestPacket;
use pnet::packet::icmp::{IcmpCode, IcmpType};
use pnet::util::checksum;

use super::payload::{self, Payload};
use super::{Reject, field};
use crate::outcome::Unreachable;
use crate::target::Family;

/// Length of the ICMP header of an echo message, in bytes.
pub const HEADER: usize = 8;

/// The largest payload that fits an IPv4 packet, in bytes: the largest `--size`.
pub const MAX_PAYLOAD: usize = 65_535 - 20 - HEADER;

/// Headers before an ICMP message in a sent frame are shorter than this: Ethernet, two IP headers and a tunnel's.
const LONGEST_HEADERS: usize = 256;

const fn echo_request(family: Family) -> u8 {
    match family {
        Family::V4 => 8,
        Family::V6 => 128,
    }
}

const fn echo_reply(family: Family) -> u8 {
    match family {
        Family::V4 => 0,
        Family::V6 => 129,
    }
}

/// The header's sequence field for a probe: what is left of its 64-bit sequence.
pub const fn header_sequence(sequence: u64) -> u16 {
    (sequence & 0xffff) as u16
}

/// Appends an echo request.
///
/// The IPv6 checksum stays zero: the kernel fills it in (RFC 3542 §3.1).
pub fn encode_request(family: Family, id: u16, payload: &Payload, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    payload.encode(out);
    let Some(message) = out.get_mut(start..) else { return };
    if let Some(mut header) = MutableEchoRequestPacket::new(message) {
        header.set_icmp_type(IcmpType::new(echo_request(family)));
        header.set_icmp_code(IcmpCode::new(0));
        header.set_identifier(id);
        header.set_sequence_number(header_sequence(payload.sequence));
    }
    if family == Family::V4
        && let sum = checksum(message, 1)
        && let Some(mut header) = MutableEchoRequestPacket::new(message)
    {
        header.set_checksum(sum);
    }
}

/// Reads a reply to an echo request of ours, with `id`, and checks all of it but the cookie.
///
/// The IPv4 checksum is checked here, since raw sockets get a packet before the kernel looks at it; the kernel
/// has checked that of IPv6.
///
/// # Errors
/// The [`Reject`] that says what is wrong with it.
pub fn decode_reply(family: Family, id: u16, message: &[u8]) -> Result<Payload, Reject> {
    let [kind, code, _, _, id_high, id_low, sequence @ ..]: [u8; HEADER] = field(message, 0)?;
    if (kind, code) != (echo_reply(family), 0) || u16::from_be_bytes([id_high, id_low]) != id {
        return Err(Reject::Unrelated);
    }
    checked_payload(family, sequence, message)
}

/// Reads an echo request with a payload of podsonar's, whoever sent it.
///
/// The IPv4 checksum is checked here, as in [`decode_reply`].
///
/// # Errors
/// The [`Reject`] that says what is wrong with it.
pub fn decode_request(family: Family, message: &[u8]) -> Result<Payload, Reject> {
    let [kind, code, _, _, _, _, sequence @ ..]: [u8; HEADER] = field(message, 0)?;
    if (kind, code) != (echo_request(family), 0) {
        return Err(Reject::Unrelated);
    }
    checked_payload(family, sequence, message)
}

/// The payload of an echo message whose header has been read.
fn checked_payload(family: Family, sequence: [u8; 2], message: &[u8]) -> Result<Payload, Reject> {
    if family == Family::V4 && checksum(message, usize::MAX) != 0 {
        return Err(Reject::Checksum);
    }
    let payload = Payload::decode(message.get(HEADER..).ok_or(Reject::Truncated)?)?;
    if u16::from_be_bytes(sequence) != header_sequence(payload.sequence) {
        return Err(Reject::Malformed);
    }
    Ok(payload)
}

/// The cookie of an echo request of ours that starts at `message`: quoted by an ICMP error, or a sent packet
/// that came back with its transmit stamp.
///
/// # Errors
/// [`Reject::Unrelated`] if it is another process' packet, [`Reject::Truncated`] if it ends before the cookie.
pub fn request_cookie(family: Family, id: u16, message: &[u8]) -> Result<u64, Reject> {
    let [kind, code, _, _, id_high, id_low, ..]: [u8; HEADER] = field(message, 0)?;
    if (kind, code) != (echo_request(family), 0) || u16::from_be_bytes([id_high, id_low]) != id {
        return Err(Reject::Unrelated);
    }
    payload::cookie(message.get(HEADER..).ok_or(Reject::Truncated)?)
}

/// The cookie of an echo request of ours that a sent frame ends with, whatever headers stand before it.
///
/// # Errors
/// [`Reject::Unrelated`] if there is none.
pub(super) fn find_request(family: Family, id: u16, frame: &[u8]) -> Result<u64, Reject> {
    // All headers have an even length.
    let starts = (0..frame.len().min(LONGEST_HEADERS)).step_by(2);
    starts
        .filter(|start| payload::starts_at(frame, start + HEADER))
        .find_map(|start| request_cookie(family, id, frame.get(start..)?).ok())
        .ok_or(Reject::Unrelated)
}

/// What an ICMP error says, or `None` if this type is no error that ends a probe (redirects, source quench).
pub const fn unreachable(family: Family, kind: u8, code: u8) -> Option<Unreachable> {
    Some(match (family, kind, code) {
        (Family::V4, 3, 0 | 6 | 11) | (Family::V6, 1, 0) => Unreachable::Network,
        (Family::V4, 3, 1 | 7 | 8 | 12) | (Family::V6, 1, 3) => Unreachable::Host,
        (Family::V4, 3, 2) | (Family::V6, 4, 1) => Unreachable::Protocol,
        (Family::V4, 3, 3) | (Family::V6, 1, 4) => Unreachable::Port,
        (Family::V4, 3, 4) | (Family::V6, 2, _) => Unreachable::TooBig,
        (Family::V4, 3, 9 | 10 | 13..=15) | (Family::V6, 1, 1 | 5 | 6) => Unreachable::Prohibited,
        (Family::V4, 11, _) | (Family::V6, 3, _) => Unreachable::TimeExceeded,
        (Family::V4, 3 | 12, _) | (Family::V6, 1 | 4, _) => Unreachable::Other,
        (Family::V4 | Family::V6, _, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::payload::{Heard, LEN, SizeClass};
    use super::*;

    #[test]
    fn a_reply_is_the_request_with_another_type() {
        for family in Family::ALL {
            assert_eq!(decode_reply(family, 7, &reply(family, LEN)), Ok(PAYLOAD));
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        for family in Family::ALL {
            let message = reply(family, LEN);
            for length in 0..message.len() {
                assert!(decode_reply(family, 7, &message[..length]).is_err(), "{family:?} {length}");
            }
            let request = request(family, LEN);
            for length in 0..HEADER + 32 {
                assert!(request_cookie(family, 7, &request[..length]).is_err(), "{family:?} {length}");
            }
        }
    }

    #[test]
    fn a_damaged_v4_reply_fails_its_checksum() {
        let mut message = reply(Family::V4, LEN);
        message[30] ^= 1;
        assert_eq!(decode_reply(Family::V4, 7, &message), Err(Reject::Checksum));
    }

    #[test]
    fn a_request_is_found_in_a_frame_whatever_stands_before_it() {
        for length in [LEN, 1_472] {
            let request = request(Family::V4, length);
            for headers in [0, 20, 34, 84, 134] {
                let frame = [&vec![8; headers][..], &request].concat();
                assert_eq!(find_request(Family::V4, 7, &frame), Ok(PAYLOAD.cookie), "{headers} {length}");
            }
            assert_eq!(find_request(Family::V4, 8, &request), Err(Reject::Unrelated));
        }
    }

    #[test]
    fn requests_and_other_ids_are_unrelated() {
        for family in Family::ALL {
            assert_eq!(decode_reply(family, 7, &request(family, LEN)), Err(Reject::Unrelated));
            assert_eq!(decode_reply(family, 8, &reply(family, LEN)), Err(Reject::Unrelated));
            assert_eq!(request_cookie(family, 8, &request(family, LEN)), Err(Reject::Unrelated));
            assert_eq!(request_cookie(family, 7, &request(family, LEN)), Ok(PAYLOAD.cookie));
        }
    }

    #[test]
    fn a_header_sequence_that_differs_from_the_payload_is_malformed() {
        let mut message = reply(Family::V6, LEN);
        message[7] ^= 1;
        assert_eq!(decode_reply(Family::V6, 7, &message), Err(Reject::Malformed));
    }

    #[test]
    fn errors_have_fixed_meanings_and_other_messages_have_none() {
        assert_eq!(unreachable(Family::V4, 3, 13), Some(Unreachable::Prohibited));
        assert_eq!(unreachable(Family::V4, 3, 200), Some(Unreachable::Other));
        assert_eq!(unreachable(Family::V6, 2, 0), Some(Unreachable::TooBig));
        assert_eq!(unreachable(Family::V6, 1, 3), Some(Unreachable::Host));
        assert_eq!(unreachable(Family::V4, 5, 0), None);
        assert_eq!(unreachable(Family::V6, 135, 0), None);
    }

    const PAYLOAD: Payload = Payload {
        length: LEN as u16,
        class: SizeClass::Normal,
        epoch: 3,
        sequence: 0x1_0002,
        cookie: 0x1122_3344_5566_7788,
        period_ms: 1000,
        heard: Heard { highest: 0, count: 0 },
    };

    fn request(family: Family, length: usize) -> Vec<u8> {
        let mut message = Vec::new();
        encode_request(family, 7, &Payload { length: length as u16, ..PAYLOAD }, &mut message);
        message
    }

    fn reply(family: Family, length: usize) -> Vec<u8> {
        let mut message = request(family, length);
        message[0] = echo_reply(family);
        message[2..4].fill(0);
        let sum = checksum(&message, 1);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }
}
