//! Control messages of received packets (`cmsg(3)`), read without trusting a length in them.

use std::mem::{offset_of, size_of};
use std::net::Ipv6Addr;

use podsonar_core::time::WallTime;

/// Room for everything that the kernel adds to one packet with our options: a stamp (64 bytes) and an error with
/// its sender (64 bytes for IPv6).
pub(crate) const CONTROL_LEN: usize = 192;

/// What the kernel said beside one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Control {
    /// The software stamp (`SO_TIMESTAMPING`).
    pub(crate) stamp: Option<WallTime>,
    /// Why this packet is in the error queue (`IP_RECVERR`, `IPV6_RECVERR`).
    pub(crate) error: Option<ExtendedError>,
    /// Where an IPv6 packet was sent (`IPV6_RECVPKTINFO`, RFC 3542 §6.1).
    pub(crate) to: Option<Ipv6Addr>,
}

/// `struct sock_extended_err` (`ip(7)`): what we use of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtendedError {
    pub(crate) origin: u8,
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) info: u32,
}

const HEADER: usize = size_of::<libc::cmsghdr>();

// The kernel writes a size_t length on 64-bit machines whatever the C library calls it, and 64-bit times.
const _: () = assert!(size_of::<usize>() == 8 && HEADER == 16 && size_of::<libc::timespec>() == 16);

impl Control {
    /// Reads a control buffer; what is unknown or cut off is left out.
    pub(crate) fn parse(mut buffer: &[u8]) -> Self {
        let mut control = Self::default();
        while let Some((level, kind, data, rest)) = split_message(buffer) {
            match (level, kind) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => control.stamp = stamp(data),
                (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
                    control.error = extended_error(data);
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                    let address = field(data, offset_of!(libc::in6_pktinfo, ipi6_addr));
                    control.to = address.map(|octets: [u8; 16]| Ipv6Addr::from(octets));
                }
                _ => {}
            }
            buffer = rest;
        }
        control
    }
}

/// Level, type and data of the first message, and what follows it.
fn split_message(buffer: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let length = usize::from_ne_bytes(field(buffer, offset_of!(libc::cmsghdr, cmsg_len))?);
    let level = i32::from_ne_bytes(field(buffer, offset_of!(libc::cmsghdr, cmsg_level))?);
    let kind = i32::from_ne_bytes(field(buffer, offset_of!(libc::cmsghdr, cmsg_type))?);
    let data = buffer.get(HEADER..length)?;
    // The last message need not be padded.
    let next = length.checked_next_multiple_of(size_of::<usize>())?.min(buffer.len());
    Some((level, kind, data, buffer.get(next..)?))
}

/// The first of the three times of `struct scm_timestamping`; zero means that there is none.
fn stamp(data: &[u8]) -> Option<WallTime> {
    let seconds = i64::from_ne_bytes(field(data, offset_of!(libc::timespec, tv_sec))?);
    let nanos = i64::from_ne_bytes(field(data, offset_of!(libc::timespec, tv_nsec))?);
    let since_epoch = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    (since_epoch != 0).then_some(WallTime::from_nanos(since_epoch))
}

fn extended_error(data: &[u8]) -> Option<ExtendedError> {
    let [origin] = field(data, offset_of!(libc::sock_extended_err, ee_origin))?;
    let [kind] = field(data, offset_of!(libc::sock_extended_err, ee_type))?;
    let [code] = field(data, offset_of!(libc::sock_extended_err, ee_code))?;
    let info = u32::from_ne_bytes(field(data, offset_of!(libc::sock_extended_err, ee_info))?);
    Some(ExtendedError { origin, kind, code, info })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_error_and_address_are_read_in_any_order_and_others_passed_over() {
        let stamp = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &times(7, 9));
        let error = message(libc::SOL_IPV6, libc::IPV6_RECVERR, &error_bytes());
        let other = message(libc::SOL_SOCKET, libc::SCM_RIGHTS, &[1, 2, 3]);
        let expected = Control {
            stamp: Some(WallTime::from_nanos(7_000_000_009)),
            error: Some(ExtendedError { origin: 2, kind: 3, code: 13, info: 5 }),
            to: Some(Ipv6Addr::LOCALHOST),
        };
        let to = message(
            libc::SOL_IPV6,
            libc::IPV6_PKTINFO,
            &[&Ipv6Addr::LOCALHOST.octets()[..], &[7, 0, 0, 0]].concat(),
        );
        assert_eq!(Control::parse(&[&other[..], &stamp, &error, &to].concat()), expected);
        assert_eq!(Control::parse(&[&to[..], &error, &other, &stamp].concat()), expected);
    }

    #[test]
    fn a_zero_time_is_no_stamp() {
        let bytes = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &times(0, 0));
        assert_eq!(Control::parse(&bytes), Control::default());
    }

    #[test]
    fn every_truncation_ends_the_reading_without_a_wrong_value() {
        let stamp = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &times(7, 9));
        let error = message(libc::SOL_IP, libc::IP_RECVERR, &error_bytes());
        let whole = Control::parse(&[&stamp[..], &error].concat());
        for length in 0..stamp.len() + error.len() {
            let cut = Control::parse(&[&stamp[..], &error].concat()[..length]);
            assert!(cut.stamp.is_none() || cut.stamp == whole.stamp, "length {length}");
            assert!(cut.error.is_none() || cut.error == whole.error, "length {length}");
        }
    }

    #[test]
    fn impossible_lengths_end_the_reading() {
        for length in [0, 1, HEADER - 1, HEADER + 1_000, usize::MAX, usize::MAX - 7] {
            let mut bytes = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &times(7, 9));
            bytes[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Control::parse(&bytes), Control::default(), "length {length}");
        }
    }

    #[test]
    fn impossible_times_are_no_stamp() {
        let bytes = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &times(i64::MAX, 1));
        assert_eq!(Control::parse(&bytes), Control::default());
    }

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn times(seconds: i64, nanos: i64) -> Vec<u8> {
        [seconds, nanos, 0, 0, 0, 0].iter().flat_map(|number| number.to_ne_bytes()).collect()
    }

    fn error_bytes() -> Vec<u8> {
        let mut bytes = 111_u32.to_ne_bytes().to_vec();
        bytes.extend([2, 3, 13, 0]);
        bytes.extend(5_u32.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes
    }
}
