//! Targets as people write them: `ADDRESS`, `ADDRESS:PORT`, `[v6]`, `[v6]:PORT`, `NAME`, `NAME:PORT`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::query::pods::{BARE_POD_NAMES, POD_NAMES};

/// Names that the metrics use for pods' names in general.
const RESERVED: [&str; 2] = [POD_NAMES, BARE_POD_NAMES];

/// The longest name (RFC 1035 §2.3.4), without a dot at its end.
const MAX_NAME: usize = 253;

/// The longest part of a name between two dots.
const MAX_LABEL: usize = 63;

/// Why a target cannot be probed. The text follows the target as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetProblem {
    /// Not an address in any notation, and no name.
    #[error(
        "is not a target: write ADDRESS, ADDRESS:PORT, [v6], [v6]:PORT, NAME or NAME:PORT, \
         for example 192.0.2.1:443, [2001:db8::1]:443 or db.example:5432"
    )]
    NotTarget,
    /// Not a name in the sense of DNS.
    #[error(
        "is not a name: 1 to 63 letters, digits, `-` or `_` between two dots, no `-` at their ends, 253 in all"
    )]
    NotName,
    /// A word that has a meaning in the metrics.
    #[error("is a word that the metrics keep for themselves: write the name with its domain")]
    Reserved,
    /// The port is no port.
    #[error("has no usable port: write a number from 1 to 65535 after the {0}")]
    Port(&'static str),
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

/// Whom a target names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom<'a> {
    Address(IpAddr),
    Name(&'a str),
}

/// Whom a target names, and its port.
pub(super) fn parse(text: &str) -> Result<(Whom<'_>, Option<u16>), TargetProblem> {
    let (whom, port) = split(text)?;
    let kind = match whom {
        Whom::Address(_) => "address",
        Whom::Name(_) => "name",
    };
    let port = port.map(|port| parse_port(port).ok_or(TargetProblem::Port(kind))).transpose()?;
    match whom {
        Whom::Address(address) => check(address)?,
        Whom::Name(name) => check_name(name)?,
    }
    Ok((whom, port))
}

/// The same name has one spelling: letters are small, the dot that makes it absolute stays.
pub(super) fn normal(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Whether text is a domain, as in a search list.
pub(super) fn is_domain(text: &str) -> bool {
    text == "." || looks_like_name(text) && check_name(text) != Err(TargetProblem::NotName)
}

fn split(text: &str) -> Result<(Whom<'_>, Option<&str>), TargetProblem> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').ok_or(TargetProblem::NotTarget)?;
        let address: Ipv6Addr = address.parse().map_err(|_| not_a_target(address))?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or(TargetProblem::NotTarget)?),
        };
        return Ok((Whom::Address(address.into()), port));
    }
    if let Ok(address) = text.parse() {
        return Ok((Whom::Address(address), None));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    match host.parse::<Ipv4Addr>() {
        Ok(address) => Ok((Whom::Address(address.into()), port)),
        Err(_) if looks_like_name(host) && !port.is_some_and(|port| port.contains([':', '/'])) => {
            Ok((Whom::Name(host), port))
        }
        Err(_) => Err(not_a_target(text)),
    }
}

/// Letters somewhere behind the last dot: so 1.2.3 and 256.1.1.1 are mistakes, not names.
fn looks_like_name(text: &str) -> bool {
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    last.bytes().any(|byte| byte.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn check_name(text: &str) -> Result<(), TargetProblem> {
    let relative = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if relative.len() > MAX_NAME || !relative.split('.').all(is_label) {
        return Err(TargetProblem::NotName);
    }
    if RESERVED.contains(&&*normal(relative)) {
        return Err(TargetProblem::Reserved);
    }
    Ok(())
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port > 0)
}

fn not_a_target(text: &str) -> TargetProblem {
    match text.split_once('%') {
        Some((address, _interface)) if address.parse::<Ipv6Addr>().is_ok() => TargetProblem::LinkLocal,
        _ => TargetProblem::NotTarget,
    }
}

/// Refuses what no single host can answer from.
pub(super) fn check(address: IpAddr) -> Result<(), TargetProblem> {
    match address {
        _ if address.is_unspecified() => Err(TargetProblem::Unspecified),
        _ if address.is_multicast() => Err(TargetProblem::Multicast),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Err(TargetProblem::Broadcast),
        IpAddr::V6(v6) if let Some(v4) = v6.to_ipv4_mapped() => Err(TargetProblem::Mapped(v4)),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(TargetProblem::LinkLocal),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
    }
}
