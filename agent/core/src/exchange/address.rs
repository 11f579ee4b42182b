//! Which addresses a peer may name as a pod's or a node's: an agent must not become somebody's tool to reach what
//! only this host reaches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is nobody's that a peer could name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forbidden {
    /// `0.0.0.0/8` (RFC 1122 §3.2.1.3) and `::`.
    Unspecified,
    /// `127.0.0.0/8` and `::1`: this host itself.
    Loopback,
    /// `169.254.0.0/16` (RFC 3927), in which clouds have their metadata services, and `fe80::/10`.
    LinkLocal,
    /// `224.0.0.0/4` and `ff00::/8`.
    Multicast,
    /// `255.255.255.255`. The rest of `240.0.0.0/4` is used for pods by some.
    Broadcast,
    /// A cloud's metadata service outside the link-local range: see [`METADATA_V4`] and [`METADATA_V6`].
    Metadata,
    /// An IPv6 form of an IPv4 address: mapped and compatible (RFC 4291 §2.5.5), NAT64 (RFC 6052, RFC 8215), 6to4
    /// (RFC 3056), Teredo (RFC 4380). No pod has one, and each would lead to any of the above.
    Translated,
}

/// Metadata services of clouds that are not link-local: Azure's, Alibaba's.
pub const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];

/// Metadata services of clouds over IPv6, as the first 32 bits of their prefixes: `fd00:ec2::/32` (AWS: metadata, DNS,
/// time, pod identity), `fd20:ce::/32` (Google), `fd00:42::/32` (Scaleway), `fd00:c1::/32` (Oracle).
pub const METADATA_V6: [[u16; 2]; 4] =
    [[0xfd00, 0x0ec2], [0xfd20, 0x00ce], [0xfd00, 0x0042], [0xfd00, 0x00c1]];

/// Whether a peer may not name it, and why.
pub fn forbidden(address: IpAddr) -> Option<Forbidden> {
    match address {
        IpAddr::V4(address) => forbidden_v4(address),
        IpAddr::V6(address) => forbidden_v6(address),
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<Forbidden> {
    match address.octets() {
        [0, ..] => Some(Forbidden::Unspecified),
        [127, ..] => Some(Forbidden::Loopback),
        [169, 254, ..] => Some(Forbidden::LinkLocal),
        [224..=239, ..] => Some(Forbidden::Multicast),
        [255, 255, 255, 255] => Some(Forbidden::Broadcast),
        _ if METADATA_V4.contains(&address) => Some(Forbidden::Metadata),
        _ => None,
    }
}

fn forbidden_v6(address: Ipv6Addr) -> Option<Forbidden> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Forbidden::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Forbidden::Loopback),
        // Compatible, mapped, and translated (RFC 2765: `::ffff:0:a.b.c.d`); then 64:ff9b::/96 and 64:ff9b:1::/48, between
        // which is nobody, 6to4, Teredo.
        [0, 0, 0, 0, 0 | 0xffff, 0 | 0xffff, _, _]
        | [0x0064, 0xff9b, ..]
        | [0x2002, ..]
        | [0x2001, 0, ..] => Some(Forbidden::Translated),
        [0xfe80..=0xfebf, ..] => Some(Forbidden::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Forbidden::Multicast),
        [first, second, ..] if METADATA_V6.contains(&[first, second]) => Some(Forbidden::Metadata),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_host_reaches_is_forbidden() {
        for (text, reason) in [
            ("0.0.0.0", Forbidden::Unspecified),
            ("0.1.2.3", Forbidden::Unspecified),
            ("::", Forbidden::Unspecified),
            ("127.0.0.1", Forbidden::Loopback),
            ("127.255.255.254", Forbidden::Loopback),
            ("::1", Forbidden::Loopback),
            ("169.254.169.254", Forbidden::LinkLocal),
            ("169.254.170.2", Forbidden::LinkLocal),
            ("fe80::1", Forbidden::LinkLocal),
            ("febf::1", Forbidden::LinkLocal),
            ("224.0.0.1", Forbidden::Multicast),
            ("239.255.255.255", Forbidden::Multicast),
            ("ff02::1", Forbidden::Multicast),
            ("255.255.255.255", Forbidden::Broadcast),
            ("168.63.129.16", Forbidden::Metadata),
            ("100.100.100.200", Forbidden::Metadata),
            ("fd00:ec2::254", Forbidden::Metadata),
            ("fd00:ec2::23", Forbidden::Metadata),
            ("fd20:ce::254", Forbidden::Metadata),
            ("fd00:c1::a9fe:a9fe", Forbidden::Metadata),
            ("fd00:42::42", Forbidden::Metadata),
        ] {
            assert_eq!(forbidden(text.parse().unwrap()), Some(reason), "{text}");
        }
    }

    #[test]
    fn every_ipv6_form_of_an_ipv4_address_is_forbidden() {
        let bad = [[169, 254, 169, 254], [127, 0, 0, 1], [224, 0, 0, 1], [0, 0, 0, 0], [10, 0, 0, 1]];
        for [a, b, c, d] in bad {
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            for text in [
                format!("::ffff:{a}.{b}.{c}.{d}"),
                format!("::ffff:0:{a}.{b}.{c}.{d}"),
                format!("64:ff9b::{a}.{b}.{c}.{d}"),
                format!("64:ff9b:1::{a}.{b}.{c}.{d}"),
                format!("64:ff9b:1:{high:x}:{low:x}::"),
                format!("2002:{high:x}:{low:x}::1"),
                format!("2001::{high:x}:{low:x}"),
            ] {
                assert_eq!(forbidden(text.parse().unwrap()), Some(Forbidden::Translated), "{text}");
            }
        }
        assert_eq!(forbidden("::169.254.169.254".parse().unwrap()), Some(Forbidden::Translated));
    }

    #[test]
    fn what_pods_have_is_allowed() {
        for text in [
            "10.244.1.7",
            "172.16.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "100.100.100.100",
            "240.1.2.3",
            "192.0.2.1",
            "2001:db8::1",
            "2600:1f18::1",
            "fd00:10:244::7",
            "fd12:3456::1",
            "fc00::1",
        ] {
            assert_eq!(forbidden(text.parse().unwrap()), None, "{text}");
        }
    }
}
