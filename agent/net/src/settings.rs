//! What opening needs to know, and why it can fail.

use std::io;

use podsonar_core::target::Family;
use podsonar_core::wire::{Channel, Transport};

/// What [`ProbeSockets::open`](crate::ProbeSockets::open) is to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The channels in use, and no others: each raw socket costs every echo or connection of the network
    /// namespace about a microsecond.
    pub channels: Vec<Channel>,
    /// The identifier of our echo requests; replies to others are refused.
    pub icmp_id: u16,
    /// How many TCP source ports to reserve for each family.
    pub flows: u16,
    /// Size of each receive buffer in bytes, in the kernel's accounting: about 832 for each small packet, and for
    /// each transmit stamp. Without `NET_ADMIN` the kernel grants no more than twice `net.core.rmem_max`.
    pub receive_buffer: usize,
    /// The usual ICMP message, header included, in bytes.
    pub message_size: usize,
    /// The largest ICMP message that is ever sent, header included, in bytes: room for it takes memory only when one
    /// comes.
    pub largest_message: usize,
}

/// How a channel's packets are sent and received.
#[derive(Debug)]
pub enum Mode {
    /// By a raw socket (`raw(7)`).
    Raw,
    /// By a datagram ICMP socket (`icmp(7)`), since a raw one is not permitted. The kernel writes the identifier and
    /// the checksum, and hands over replies to our identifier alone.
    Datagram,
    /// Not at all.
    Missing(OpenError),
}

/// Why a channel could not be opened, in one line that names the channel and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process may open neither raw sockets (`capabilities(7)`) nor, for ICMP, datagram ones (`icmp(7)`).
    #[error(
        "cannot probe by {}: the capability CAP_NET_RAW is missing (run as root, or `setcap cap_net_raw+ep` on the \
         program, or add NET_RAW to the container's securityContext.capabilities){}",
        describe(*.channel),
        or_groups(*.channel)
    )]
    NoPermission {
        /// The first channel that was refused.
        channel: Channel,
    },
    /// The host does not have this IP version.
    #[error("cannot probe by {}: this host has no {}", describe(*.channel), ip(.channel.family))]
    NoFamily {
        /// The channel that cannot be.
        channel: Channel,
    },
    /// Datagram sockets are told apart by their identifier, and all that were tried are in use.
    #[error("cannot probe by {}: the ICMP identifier {id} is another process's; try again", describe(*.channel))]
    IdentifierTaken {
        /// The channel in question.
        channel: Channel,
        /// The last one that was tried.
        id: u16,
    },
    /// The socket could not be made for another reason.
    #[error("cannot probe by {}: {source}", describe(*.channel))]
    Socket {
        /// The channel in question.
        channel: Channel,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refuses an option that cannot be done without.
    #[error("cannot probe by {}: the kernel refuses the socket option {what}: {source}", describe(*.channel))]
    Option {
        /// The channel in question.
        channel: Channel,
        /// Which option.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Source ports could not be reserved.
    #[error(
        "cannot reserve {count} TCP source ports for {}: {source} (widen the sysctl net.ipv4.ip_local_port_range, or \
         raise the limit of open files)",
        ip(*.family)
    )]
    Ports {
        /// For which IP version.
        family: Family,
        /// How many.
        count: u16,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The other way to ICMP.
fn or_groups(channel: Channel) -> &'static str {
    match channel.protocol {
        Transport::Icmp => {
            "; without it, the sysctl net.ipv4.ping_group_range must cover one of this process's groups"
        }
        Transport::Tcp => "",
    }
}

fn describe(channel: Channel) -> String {
    let protocol = match channel.protocol {
        Transport::Icmp => "ICMP",
        Transport::Tcp => "TCP",
    };
    format!("{protocol} over {}", ip(channel.family))
}

fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_one_line_with_channel_and_remedy() {
        let channel = Channel { protocol: Transport::Icmp, family: Family::V6 };
        assert_eq!(
            OpenError::NoPermission { channel }.to_string(),
            "cannot probe by ICMP over IPv6: the capability CAP_NET_RAW is missing (run as root, or `setcap \
             cap_net_raw+ep` on the program, or add NET_RAW to the container's securityContext.capabilities); \
             without it, the sysctl net.ipv4.ping_group_range must cover one of this process's groups"
        );
        assert_eq!(
            OpenError::NoFamily { channel }.to_string(),
            "cannot probe by ICMP over IPv6: this host has no IPv6"
        );
        let source = io::Error::from_raw_os_error(libc::ENOPROTOOPT);
        assert_eq!(
            OpenError::Option { channel, what: "IPV6_RECVERR", source }.to_string(),
            "cannot probe by ICMP over IPv6: the kernel refuses the socket option IPV6_RECVERR: Protocol not \
             available (os error 92)"
        );
    }
}
