//! Socket addresses as the kernel lays them out (`ip(7)`, `ipv6(7)`), as plain bytes.

use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Room for either family's address; IPv6 is the longer one.
pub(crate) const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();

/// `struct sockaddr_in` or `struct sockaddr_in6`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(4))]
pub(crate) struct Name {
    bytes: [u8; NAME_LEN],
}

const FAMILY: usize = offset_of!(libc::sockaddr_in, sin_family);
const PORT: usize = offset_of!(libc::sockaddr_in, sin_port);
const V4_ADDRESS: usize = offset_of!(libc::sockaddr_in, sin_addr);
const V6_FLOW: usize = offset_of!(libc::sockaddr_in6, sin6_flowinfo);
const V6_ADDRESS: usize = offset_of!(libc::sockaddr_in6, sin6_addr);

const _: () = assert!(
    size_of::<Name>() == NAME_LEN
        && FAMILY == offset_of!(libc::sockaddr_in6, sin6_family)
        && PORT == offset_of!(libc::sockaddr_in6, sin6_port)
        && size_of::<libc::sockaddr_in>() <= NAME_LEN
);

impl Name {
    /// Where a packet goes. The port is zero: raw sockets take none. `flow_label` is IPv6 only, 20 bits.
    pub(crate) fn new(to: IpAddr, flow_label: u32) -> Self {
        let mut name = Self::default();
        match to {
            IpAddr::V4(address) => {
                name.put(FAMILY, (libc::AF_INET as libc::sa_family_t).to_ne_bytes());
                name.put(V4_ADDRESS, address.octets());
            }
            IpAddr::V6(address) => {
                name.put(FAMILY, (libc::AF_INET6 as libc::sa_family_t).to_ne_bytes());
                name.put(V6_FLOW, (flow_label & 0xf_ffff).to_be_bytes());
                name.put(V6_ADDRESS, address.octets());
            }
        }
        name
    }

    /// The length that the kernel wants to be told for this family.
    pub(crate) fn len(&self) -> usize {
        if self.family() == libc::AF_INET { size_of::<libc::sockaddr_in>() } else { NAME_LEN }
    }

    /// The address, if the kernel filled one in: `length` is what it says it wrote.
    pub(crate) fn address(&self, length: usize) -> Option<IpAddr> {
        let written = self.bytes.get(..length)?;
        match self.family() {
            libc::AF_INET => {
                let octets: [u8; 4] = *written.get(V4_ADDRESS..)?.first_chunk()?;
                Some(Ipv4Addr::from(octets).into())
            }
            libc::AF_INET6 => {
                let octets: [u8; 16] = *written.get(V6_ADDRESS..)?.first_chunk()?;
                Some(Ipv6Addr::from(octets).into())
            }
            _ => None,
        }
    }

    /// The address and the port, if the kernel filled them in: `length` is what it says it wrote.
    pub(crate) fn socket_address(&self, length: usize) -> Option<SocketAddr> {
        let port = u16::from_be_bytes(*self.bytes.get(..length)?.get(PORT..)?.first_chunk()?);
        Some(SocketAddr::new(self.address(length)?, port))
    }

    fn family(&self) -> i32 {
        let family = self.bytes.get(FAMILY..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        i32::from(libc::sa_family_t::from_ne_bytes(family))
    }

    fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        if let Some(field) = self.bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *field = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        for address in ["10.1.2.3", "fd00::1:2"] {
            let address: IpAddr = address.parse().unwrap();
            let name = Name::new(address, 0xabcde);
            assert_eq!(name.address(name.len()), Some(address));
            assert_eq!(name.socket_address(name.len()), Some(SocketAddr::new(address, 0)));
        }
    }

    #[test]
    fn the_flow_label_is_cut_to_its_twenty_bits_in_network_order() {
        let name = Name::new("::1".parse().unwrap(), 0xfffa_bcde);
        assert_eq!(name.bytes[V6_FLOW..V6_FLOW + 4], [0, 0x0a, 0xbc, 0xde]);
    }

    #[test]
    fn a_short_or_foreign_name_has_no_address() {
        let name = Name::new("10.1.2.3".parse().unwrap(), 0);
        for length in 0..8 {
            assert_eq!(name.address(length), None, "length {length}");
        }
        assert_eq!(name.address(NAME_LEN + 1), None);
        assert_eq!(Name::default().address(NAME_LEN), None);
    }
}
