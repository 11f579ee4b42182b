//! Whether this host hands ICMP errors to the process that caused them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use podsonar_core::target::Family;
use socket2::Socket;

use crate::clock::monotonic;
use crate::inbox::{Inbox, Queue};
use crate::sys;
use crate::ticker::Ticker;

/// How often we look.
const LOOK: Duration = Duration::from_millis(5);

/// Sends a datagram to a closed port of loopback and waits for the ICMP error in the error queue (`IP_RECVERR`,
/// `IPV6_RECVERR`).
///
/// # Errors
/// The kernel's: a socket or the option cannot be had.
pub fn icmp_errors_arrive(family: Family, patience: Duration) -> io::Result<bool> {
    let (loopback, level, name): (IpAddr, _, _) = match family {
        Family::V4 => (Ipv4Addr::LOCALHOST.into(), libc::SOL_IP, libc::IP_RECVERR),
        Family::V6 => (Ipv6Addr::LOCALHOST.into(), libc::SOL_IPV6, libc::IPV6_RECVERR),
    };
    // A port that was just given back is closed.
    let closed = UdpSocket::bind((loopback, 0))?.local_addr()?;
    let asking = Socket::from(UdpSocket::bind((loopback, 0))?);
    asking.set_nonblocking(true)?;
    sys::set_option(asking.as_fd(), level, name, &[1])?;
    asking.send_to(b"podsonar", &closed.into())?;
    let ticker = Ticker::new()?;
    let mut inbox = Inbox::new(64, 64);
    let until = monotonic() + patience;
    loop {
        if inbox.fill(&asking, Queue::Errors).is_ok() {
            let from_icmp = |origin| matches!(origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6);
            return Ok(inbox
                .arrivals()
                .any(|each| each.control.error.is_some_and(|error| from_icmp(error.origin))));
        }
        if monotonic() >= until {
            return Ok(false);
        }
        ticker.wait_until(Some(monotonic() + LOOK))?;
    }
}
