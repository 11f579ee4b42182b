//! Echo requests that other agents sent to this host: copies of what the kernel answers.

use std::net::IpAddr;

use super::answer::Framing;
use super::ipv4::Packet;
use super::payload::{self, Payload};
use super::{Reject, icmp};
use crate::target::Family;

/// A well-formed echo request with a payload of podsonar's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Which of our addresses it was sent to.
    pub to: IpAddr,
    /// What it carries.
    pub payload: Payload,
}

/// Why an echo request does not count. The text form is a metric label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// Its checksum is wrong: damaged on the way, so the kernel does not answer it either.
    Checksum,
    /// A known sender's, but its sequence cannot be.
    Implausible,
    /// Not as podsonar writes it.
    Malformed,
    /// Shorter than its own headers say.
    Truncated,
    /// Of an agent that we do not know, or not yet.
    UnknownEpoch,
    /// Of another version of podsonar.
    Version,
    /// A known sender's epoch, from an address that is not that sender's.
    WrongAddress,
}

impl Refusal {
    /// Every reason, in label order.
    pub const ALL: [Self; 7] = [
        Self::Checksum,
        Self::Implausible,
        Self::Malformed,
        Self::Truncated,
        Self::UnknownEpoch,
        Self::Version,
        Self::WrongAddress,
    ];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Checksum => "checksum",
            Self::Implausible => "implausible",
            Self::Malformed => "malformed",
            Self::Truncated => "truncated",
            Self::UnknownEpoch => "unknown_epoch",
            Self::Version => "version",
            Self::WrongAddress => "wrong_address",
        }
    }
}

/// Reads an echo request as a raw socket delivers it. IPv4 packets say themselves where they were sent; of IPv6 ones
/// the socket tells (`to`).
///
/// # Errors
/// The [`Refusal`] that says what is wrong with it.
pub fn decode(framing: Framing, to: Option<IpAddr>, bytes: &[u8]) -> Result<Request, Refusal> {
    let (family, to, message) = match framing {
        Framing::Ipv4Header => {
            let packet = Packet::decode(bytes).map_err(refusal)?;
            (Family::V4, packet.destination.into(), packet.payload)
        }
        Framing::Message => (Family::V6, to.ok_or(Refusal::Malformed)?, bytes),
    };
    match icmp::decode_request(family, message) {
        Ok(payload) => Ok(Request { to, payload }),
        Err(Reject::Malformed) if is_of_another_version(message) => Err(Refusal::Version),
        Err(reject) => Err(refusal(reject)),
    }
}

fn is_of_another_version(message: &[u8]) -> bool {
    message.get(icmp::HEADER..).and_then(payload::version).is_some_and(|version| version != payload::VERSION)
}

fn refusal(reject: Reject) -> Refusal {
    match reject {
        Reject::Truncated => Refusal::Truncated,
        Reject::Checksum => Refusal::Checksum,
        Reject::Unrelated | Reject::Malformed | Reject::Unmatched | Reject::Mismatched => Refusal::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::{Heard, LEN, SizeClass};
    use super::*;

    #[test]
    fn a_request_is_read_with_the_address_it_was_sent_to() {
        assert_eq!(decode(Framing::Ipv4Header, None, &v4(&message(Family::V4))), Ok(request("10.0.0.2")));
        let to = Some("fd00::2".parse().unwrap());
        assert_eq!(decode(Framing::Message, to, &message(Family::V6)), Ok(request("fd00::2")));
        assert_eq!(decode(Framing::Message, None, &message(Family::V6)), Err(Refusal::Malformed));
    }

    #[test]
    fn a_damaged_request_fails_its_checksum_as_it_does_in_the_kernel() {
        let mut packet = v4(&message(Family::V4));
        packet[20 + 30] ^= 1;
        assert_eq!(decode(Framing::Ipv4Header, None, &packet), Err(Refusal::Checksum));
    }

    #[test]
    fn another_version_is_told_apart_from_garbage() {
        let to = Some("fd00::2".parse().unwrap());
        let mut next = message(Family::V6);
        next[icmp::HEADER + 4] = 2;
        assert_eq!(decode(Framing::Message, to, &next), Err(Refusal::Version));
        let mut garbage = message(Family::V6);
        garbage[icmp::HEADER + 6] = 1;
        assert_eq!(decode(Framing::Message, to, &garbage), Err(Refusal::Malformed));
    }

    #[test]
    fn replies_and_every_truncation_are_refused() {
        let to = Some("fd00::2".parse().unwrap());
        let mut reply = message(Family::V6);
        reply[0] = 129;
        assert_eq!(decode(Framing::Message, to, &reply), Err(Refusal::Malformed));
        let packet = v4(&message(Family::V4));
        for length in 0..packet.len() {
            assert!(decode(Framing::Ipv4Header, None, &packet[..length]).is_err(), "length {length}");
        }
        let message = message(Family::V6);
        for length in 0..message.len() {
            assert!(decode(Framing::Message, to, &message[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn labels_are_in_order() {
        let labels = Refusal::ALL.map(Refusal::label);
        assert!(labels.is_sorted());
        for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, place);
        }
    }

    const PAYLOAD: Payload = Payload {
        length: LEN as u16,
        class: SizeClass::Normal,
        epoch: 3,
        sequence: 0x1_0002,
        cookie: 4,
        period_ms: 1_000,
        heard: Heard { highest: 9, count: 8 },
    };

    fn request(to: &str) -> Request {
        Request { to: to.parse().unwrap(), payload: PAYLOAD }
    }

    fn message(family: Family) -> Vec<u8> {
        let mut message = Vec::new();
        icmp::encode_request(family, 7, &PAYLOAD, &mut message);
        message
    }

    fn v4(message: &[u8]) -> Vec<u8> {
        let total = u8::try_from(20 + message.len()).unwrap();
        let header = [0x45, 0, 0, total, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        [&header[..], message].concat()
    }
}
