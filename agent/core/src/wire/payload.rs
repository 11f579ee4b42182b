//! The payload of an ICMP echo probe: 56 bytes, so that a default probe has the 64 bytes of ICMP that `ping(8)` sends.
//!
//! All numbers are big endian. The layout is versioned: a reader uses only the version it knows, and golden
//! vectors in the tests pin it.
//!
//! ```text
//!  0  magic "PSNR"      4   version 1       5   size class      6   length of the payload (2)
//!  8  epoch            16   sequence       24   cookie
//! 32  period in ms (4) 36   zero (4)
//! 40  heard: highest   48   heard: count   56…  pattern, byte i = i mod 256
//! ```

use std::time::Duration;

use super::{Reject, field};

/// Length of the payload without padding, in bytes: also the smallest and the default `--size`.
pub const LEN: usize = 56;

/// Offset of the cookie, which ICMP errors must quote to count.
const COOKIE: usize = 24;

/// How each payload begins, so that a filter can tell.
pub const MAGIC: [u8; 4] = *b"PSNR";
/// The layout that is written, and the only one that is used.
pub(super) const VERSION: u8 = 1;

/// What an echo probe carries, and an echo reply must bring back unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Its own length with padding, in bytes: at least [`LEN`].
    pub length: u16,
    /// Normal or large; sequences are counted for each class.
    pub class: SizeClass,
    /// Which run of which agent sent it: 64 random bits, new at each start; 0 in probes to others than agents, since who
    /// knows it can pass for us.
    pub epoch: u64,
    /// Position among all probes of this epoch to this address in this size class, from 1, without gaps.
    pub sequence: u64,
    /// The keyed value that only the sender can know.
    pub cookie: u64,
    /// The sender's interval to this destination, in milliseconds: tells a listener when silence is silence.
    pub period_ms: u32,
    /// What the sender heard from the destination's agent.
    pub heard: Heard,
}

/// What an agent received from the peer it writes to; zeros when it heard nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// The highest sequence up to which the receiver awaits nothing any more: the highest received, unless one before
    /// it was overtaken a moment ago.
    pub highest: u64,
    /// How many of the sequences up to there were received, or were dropped by the receiver's own host. Counting may
    /// begin anywhere, so only the difference of two reports says something.
    pub count: u64,
}

/// Probes of different size can meet different fates (MTU), so each class has its own sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SizeClass {
    /// The configured size.
    Normal,
    /// As large as the path may carry.
    Large,
}

impl Payload {
    /// Appends the payload, padded with the pattern to its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let class = match self.class {
            SizeClass::Normal => 0,
            SizeClass::Large => 1,
        };
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, class]);
        out.extend_from_slice(&self.length.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.cookie.to_be_bytes());
        out.extend_from_slice(&self.period_ms.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.heard.highest.to_be_bytes());
        out.extend_from_slice(&self.heard.count.to_be_bytes());
        out.extend((LEN..usize::from(self.length)).map(|position| (position % 256) as u8));
    }

    /// Reads a payload and checks every byte of it.
    ///
    /// # Errors
    /// [`Reject::Truncated`] below [`LEN`] bytes; [`Reject::Malformed`] for anything podsonar does not write,
    /// other versions included.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let padding = bytes.get(LEN..).ok_or(Reject::Truncated)?;
        let header: [u8; 8] = field(bytes, 0)?;
        let reserved: [u8; 4] = field(bytes, 36)?;
        let [m0, m1, m2, m3, version, class, length @ ..] = header;
        let length = u16::from_be_bytes(length);
        let class = match class {
            0 => SizeClass::Normal,
            1 => SizeClass::Large,
            _ => return Err(Reject::Malformed),
        };
        let intact = [m0, m1, m2, m3] == MAGIC
            && version == VERSION
            && usize::from(length) == bytes.len()
            && reserved == [0; 4]
            && padding.iter().zip(LEN..).all(|(byte, position)| *byte == (position % 256) as u8);
        if !intact {
            return Err(Reject::Malformed);
        }
        Ok(Self {
            length,
            class,
            epoch: u64::from_be_bytes(field(bytes, 8)?),
            sequence: u64::from_be_bytes(field(bytes, 16)?),
            cookie: cookie(bytes)?,
            period_ms: u32::from_be_bytes(field(bytes, 32)?),
            heard: Heard {
                highest: u64::from_be_bytes(field(bytes, 40)?),
                count: u64::from_be_bytes(field(bytes, 48)?),
            },
        })
    }

    /// The interval as the payload states it: milliseconds, saturating.
    pub fn period_ms(interval: Duration) -> u32 {
        u32::try_from(interval.as_millis()).unwrap_or(u32::MAX)
    }
}

/// The version of a payload of podsonar's, whichever it is.
pub(super) fn version(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [m0, m1, m2, m3, version, ..] if [*m0, *m1, *m2, *m3] == MAGIC => Some(*version),
        _ => None,
    }
}

/// Whether a payload of ours may start there.
pub(super) fn starts_at(bytes: &[u8], at: usize) -> bool {
    field(bytes, at) == Ok(MAGIC)
}

/// The cookie alone: ICMP errors may quote only the first part of a packet (RFC 1812 §4.3.2.3).
///
/// # Errors
/// [`Reject::Truncated`] if the quote ends before it, [`Reject::Malformed`] if it does not start as ours does.
pub(super) fn cookie(bytes: &[u8]) -> Result<u64, Reject> {
    if field(bytes, 0)? != MAGIC {
        return Err(Reject::Malformed);
    }
    Ok(u64::from_be_bytes(field(bytes, COOKIE)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_pinned_by_a_golden_vector() {
        let mut bytes = Vec::new();
        golden().encode(&mut bytes);
        assert_eq!(
            bytes,
            [
                &b"PSNR\x01\x01\x00\x3a"[..],
                b"\x01\x02\x03\x04\x05\x06\x07\x08",
                b"\x00\x00\x00\x00\x00\x00\x00\x2a",
                b"\xde\xad\xbe\xef\x00\x11\x22\x33",
                b"\x00\x00\x03\xe8\x00\x00\x00\x00",
                b"\x00\x00\x00\x00\x00\x00\x00\x07",
                b"\x00\x00\x00\x00\x00\x00\x00\x06",
                b"\x38\x39",
            ]
            .concat()
        );
        assert_eq!(Payload::decode(&bytes), Ok(golden()));
    }

    #[test]
    fn every_truncation_is_refused() {
        let mut bytes = Vec::new();
        golden().encode(&mut bytes);
        for length in 0..bytes.len() {
            let expected = if length < LEN { Reject::Truncated } else { Reject::Malformed };
            assert_eq!(Payload::decode(&bytes[..length]), Err(expected), "length {length}");
        }
    }

    #[test]
    fn a_change_anywhere_is_seen() {
        let mut bytes = Vec::new();
        golden().encode(&mut bytes);
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 0x10;
            assert_ne!(Payload::decode(&changed), Ok(golden()), "byte {position}");
        }
    }

    fn golden() -> Payload {
        Payload {
            length: 58,
            class: SizeClass::Large,
            epoch: 0x0102_0304_0506_0708,
            sequence: 42,
            cookie: 0xdead_beef_0011_2233,
            period_ms: 1_000,
            heard: Heard { highest: 7, count: 6 },
        }
    }
}
