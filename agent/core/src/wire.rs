//! Bytes and meaning: the packets podsonar sends, and what the packets that come back say.
//!
//! Everything that arrives is hostile: each decoder checks lengths before it reads, never panics, and says with a
//! [`Reject`] why a packet is not an answer.

pub mod answer;
pub mod icmp;
pub mod ipv4;
pub mod payload;
pub mod request;
pub mod tcp;

use crate::target::{Family, Protocol};

/// What a raw socket carries. A full TCP handshake is no such thing: the host's own stack makes its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// ICMP over either IP version.
    Icmp,
    /// TCP segments.
    Tcp,
}

impl Transport {
    /// The transport under a protocol, if its packets are made here.
    pub const fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Icmp => Some(Self::Icmp),
            Protocol::Tcp => Some(Self::Tcp),
            Protocol::Connect => None,
        }
    }

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Icmp => Protocol::Icmp.label(),
            Self::Tcp => Protocol::Tcp.label(),
        }
    }
}

/// One kind of raw socket: a transport over an IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    /// The transport.
    pub protocol: Transport,
    /// The IP version.
    pub family: Family,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 4] = [
        Self { protocol: Transport::Icmp, family: Family::V4 },
        Self { protocol: Transport::Icmp, family: Family::V6 },
        Self { protocol: Transport::Tcp, family: Family::V4 },
        Self { protocol: Transport::Tcp, family: Family::V6 },
    ];

    /// Its place in [`Channel::ALL`], for tables with one entry for each channel.
    pub const fn index(self) -> usize {
        match (self.protocol, self.family) {
            (Transport::Icmp, Family::V4) => 0,
            (Transport::Icmp, Family::V6) => 1,
            (Transport::Tcp, Family::V4) => 2,
            (Transport::Tcp, Family::V6) => 3,
        }
    }
}

/// Why a received packet is not an answer to any probe. The text form is a metric label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// Shorter than its own headers say.
    Truncated,
    /// The checksum is wrong: damaged on the way.
    Checksum,
    /// Not the kind of message that answers a probe, or another process' identifier or port.
    Unrelated,
    /// Ours by identifier, but the payload is not one that podsonar writes.
    Malformed,
    /// Answers no probe that is known: forged, or older than anything remembered.
    Unmatched,
    /// Answers a known probe, but comes from another address or with other contents than were sent.
    Mismatched,
}

impl Reject {
    /// Every reason, in label order.
    pub const ALL: [Self; 6] = [
        Self::Checksum,
        Self::Malformed,
        Self::Mismatched,
        Self::Truncated,
        Self::Unmatched,
        Self::Unrelated,
    ];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Checksum => "checksum",
            Self::Unrelated => "unrelated",
            Self::Malformed => "malformed",
            Self::Unmatched => "unmatched",
            Self::Mismatched => "mismatched",
        }
    }
}

/// The last `N` bytes that start at `at`, if they are there.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Reject> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(Reject::Truncated)
}
