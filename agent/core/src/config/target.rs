//! Targets as people write them: `ADDRESS`, `ADDRESS:PORT`, `[v6]`, `[v6]:PORT`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a target cannot be probed. The text follows the target as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetProblem {
    /// A host name.
    #[error("is a host name, which this version does not resolve: write its address")]
    HostName,
    /// Not an address in any notation.
    #[error(
        "is not a target: write ADDRESS, ADDRESS:PORT, [v6] or [v6]:PORT, for example 192.0.2.1:443 or [2001:db8::1]:443"
    )]
    NotAddress,
    /// The port is no port.
    #[error("has no usable port: write a number from 1 to 65535 after the address")]
    Port,
    /// `0.0.0.0` or `::`.
    #[error("is the unspecified address, which no host has: write the host's own address")]
    Unspecified,
    /// A multicast group.
    #[error("is a multicast group: write one host's address")]
    Multicast,
    /// `255.255.255.255`.
    #[error("is the broadcast address: write one host's address")]
    Broadcast,
    /// An IPv4 address in IPv6 clothes.
    #[error("is an IPv4 address written as IPv6: write {0}")]
    Mapped(Ipv4Addr),
    /// An IPv6 link-local address means nothing without an interface.
    #[error(
        "is a link-local address, which needs an interface and cannot be probed: write a global or unique local one"
    )]
    LinkLocal,
}

/// The address and port of a target.
pub(super) fn parse(text: &str) -> Result<(IpAddr, Option<u16>), TargetProblem> {
    let (address, port) = split(text)?;
    let port = port.map(parse_port).transpose()?;
    check(address)?;
    Ok((address, port))
}

fn split(text: &str) -> Result<(IpAddr, Option<&str>), TargetProblem> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').ok_or(TargetProblem::NotAddress)?;
        let address: Ipv6Addr = address.parse().map_err(|_| not_an_address(address))?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or(TargetProblem::NotAddress)?),
        };
        return Ok((address.into(), port));
    }
    if let Ok(address) = text.parse() {
        return Ok((address, None));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    match (host.parse::<Ipv4Addr>(), port) {
        (Ok(address), Some(port)) => Ok((address.into(), Some(port))),
        _ if text.matches(':').count() > 1 || text.contains('/') => Err(not_an_address(text)),
        _ => Err(not_an_address(host)),
    }
}

fn parse_port(text: &str) -> Result<u16, TargetProblem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(TargetProblem::Port),
    }
}

/// Says what text is that is not an address.
fn not_an_address(text: &str) -> TargetProblem {
    if let Some((address, _interface)) = text.split_once('%')
        && address.parse::<Ipv6Addr>().is_ok()
    {
        return TargetProblem::LinkLocal;
    }
    let name_like = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if name_like && text.chars().any(|c| c.is_ascii_alphabetic()) {
        TargetProblem::HostName
    } else {
        TargetProblem::NotAddress
    }
}

/// Refuses what no single host can answer from.
fn check(address: IpAddr) -> Result<(), TargetProblem> {
    match address {
        _ if address.is_unspecified() => Err(TargetProblem::Unspecified),
        _ if address.is_multicast() => Err(TargetProblem::Multicast),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Err(TargetProblem::Broadcast),
        IpAddr::V6(v6) if let Some(v4) = v6.to_ipv4_mapped() => Err(TargetProblem::Mapped(v4)),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(TargetProblem::LinkLocal),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
    }
}
