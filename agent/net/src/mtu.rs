//! How large a packet a route takes, as it was configured.

use std::io::{self, Read};
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use podsonar_core::target::Family;
use socket2::{Domain, Protocol, Socket, Type};

/// The loopback interface, over which a host talks to its own addresses, has this index in every namespace.
const LOOPBACK: u32 = 1;

/// Room for an answer: the kernel writes no longer ones (`NLMSG_GOODSIZE` is a page, links may need a few).
const ANSWER: usize = 64 << 10;

/// The kernel answers within the request; this only keeps a defect from blocking for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// The MTU of the route to an address in bytes (`rtnetlink(7)`): the route's own `mtu`, else that of the interface it
/// leads over; of several next hops the smallest, which every flow can use.
///
/// What ICMP errors told the kernel about a path is left out (`RTM_F_FIB_MATCH`): that is what probes shall find out.
///
/// # Errors
/// The kernel's: there is no route.
pub fn route_mtu(to: IpAddr) -> io::Result<u32> {
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW.cloexec(),
        Some(Protocol::from(libc::NETLINK_ROUTE)),
    )?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let RouteNetlinkMessage::NewRoute(route) = ask(&socket, route_request(to))? else {
        return Err(foreign());
    };
    if let Some(mtu) = own_mtu(&route) {
        return Ok(mtu);
    }
    let mut smallest = None;
    for interface in interfaces(&route) {
        let mtu = interface_mtu(&socket, interface, Family::of(to))?;
        smallest = Some(smallest.map_or(mtu, |least: u32| least.min(mtu)));
    }
    smallest.ok_or_else(|| io::Error::other("the route leads over no interface"))
}

fn route_request(to: IpAddr) -> RouteNetlinkMessage {
    let mut request = RouteMessage::default();
    request.header.flags = RouteFlags::FibMatch;
    (request.header.address_family, request.header.destination_prefix_length) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    request.attributes.push(RouteAttribute::Destination(RouteAddress::from(to)));
    RouteNetlinkMessage::GetRoute(request)
}

fn own_mtu(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => metrics.iter().find_map(|metric| match metric {
            RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
            _ => None,
        }),
        _ => None,
    })
}

/// The interfaces that a route leads over.
fn interfaces(route: &RouteMessage) -> Vec<u32> {
    if route.header.kind == RouteType::Local {
        return vec![LOOPBACK];
    }
    let mut found = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => found.push(*index),
            RouteAttribute::MultiPath(hops) => found.extend(hops.iter().map(|hop| hop.interface_index)),
            _ => {}
        }
    }
    found
}

/// An interface's MTU; IPv6 has one of its own, which router advertisements set (RFC 4861 §4.6.4).
fn interface_mtu(socket: &Socket, index: u32, family: Family) -> io::Result<u32> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    let answer = ask(socket, RouteNetlinkMessage::GetLink(request))?;
    let RouteNetlinkMessage::NewLink(link) = answer else { return Err(foreign()) };
    let mtu = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    let own = if family == Family::V6 { ipv6_mtu(&link) } else { None };
    mtu.into_iter().chain(own).min().ok_or_else(|| io::Error::other("the interface has no MTU"))
}

fn ipv6_mtu(link: &LinkMessage) -> Option<u32> {
    let families = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(families) => Some(families),
        _ => None,
    })?;
    let settings = families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet6(settings) => Some(settings),
        _ => None,
    })?;
    settings.iter().find_map(|setting| match setting {
        AfSpecInet6::DevConf(devconf) => u32::try_from(devconf.mtu6).ok().filter(|mtu| *mtu > 0),
        _ => None,
    })
}

/// Sends one request and reads its answer.
fn ask(mut socket: &Socket, request: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes)?;
    let mut room = vec![0; ANSWER];
    let length = socket.read(&mut room)?;
    let answer = NetlinkMessage::deserialize(room.get(..length).unwrap_or_default());
    match answer.map_err(io::Error::other)?.payload {
        NetlinkPayload::InnerMessage(answer) => Ok(answer),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(foreign()),
    }
}

fn foreign() -> io::Error {
    io::Error::other("the kernel's answer is no answer to the question")
}
