//! Packets as large as a link takes, and larger.

use std::net::IpAddr;

use podsonar_core::outcome::SendError;
use podsonar_core::target::Family;
use podsonar_core::wire::payload::{Heard, Payload, SizeClass};
use podsonar_core::wire::{Channel, icmp};
use podsonar_net::{Batch, ProbeSockets, Received, Sockets, route_mtu};

use crate::datagram::{ICMP, lose_privileges, open_datagram};
use crate::host::{Host, run, sysctl};
use crate::traffic::*;

#[test]
fn what_the_interface_cannot_carry_whole_is_refused_and_never_fragmented() {
    for open in [open as fn(&[Channel]) -> ProbeSockets, unprivileged] {
        let (here, _there) = two_hosts();
        here.run(move || {
            let mut sockets = open(&ICMP);
            for (channel, to, header) in [(ICMP4, "10.0.0.2", 20), (ICMP6, "fd00::2", 40)] {
                let largest = 1_500 - header;
                assert_eq!(send(&mut sockets, channel, &message(to, largest)), [Ok(())]);
                assert_eq!(
                    send(&mut sockets, channel, &message(to, largest + 1)),
                    [Err(SendError::TooBig)],
                    "{channel:?}"
                );
                // One of them, whole, and nothing that came of the other.
                assert_eq!(reply_length(&mut sockets, channel), largest);
                assert_eq!(drain(&mut sockets, channel), []);
            }
        });
    }
}

#[test]
fn jumbo_frames_come_back_whole_with_their_stamps() {
    for open in [open as fn(&[Channel]) -> ProbeSockets, unprivileged] {
        let (here, there) = two_hosts();
        for host in [&here, &there] {
            host.run(|| run("ip link set eth0 mtu 9500"));
        }
        here.run(move || {
            let mut sockets = open(&ICMP);
            for (channel, to) in [(ICMP4, "10.0.0.2"), (ICMP6, "fd00::2")] {
                let sent = message(to, 9_216);
                assert_eq!(send(&mut sockets, channel, &sent), [Ok(())]);
                // Type, code and checksum differ, and the kernel writes the checksum.
                let same = |bytes: &[u8]| bytes.ends_with(&sent.iter().next().unwrap().bytes[4..]);
                let (mut whole, mut frame) = (false, false);
                until(|| {
                    sockets.receive(channel, &mut |received| match received {
                        Received::Packet { bytes, .. } => whole |= same(bytes),
                        Received::Transmitted { frame: bytes, .. } => frame |= same(bytes),
                        Received::Error { .. } => panic!("{received:?}"),
                    });
                    (whole && frame).then_some(())
                })
                .unwrap_or_else(|| panic!("{channel:?}: reply {whole}, frame {frame}"));
            }
        });
    }
}

#[test]
fn a_router_tells_the_mtu_and_the_next_probe_leaves_all_the_same() {
    for open in [open as fn(&[Channel]) -> ProbeSockets, unprivileged] {
        let (here, _router, _there) = three_hosts();
        here.run(move || {
            let mut sockets = open(&ICMP);
            for (channel, to) in [(ICMP4, "10.0.1.2"), (ICMP6, "fd00:1::2")] {
                // The second finds a path MTU in the kernel's memory, which must not make it a local refusal.
                for _ in 0..2 {
                    assert_eq!(send(&mut sockets, channel, &message(to, 1_400)), [Ok(())]);
                    assert_eq!(told_mtu(&mut sockets, channel), (to.parse().unwrap(), 1_300), "{channel:?}");
                }
                assert_eq!(route_mtu(to.parse().unwrap()).unwrap(), 1_500, "the route's, not the path's");
            }
        });
    }
}

#[test]
fn a_syn_hears_no_mtu_but_its_socket_does_not_mind() {
    let (here, _router, _there) = three_hosts();
    here.run(|| {
        let mut sockets = open(&[ICMP4, TCP4]);
        assert_eq!(send(&mut sockets, ICMP4, &message("10.0.1.2", 1_400)), [Ok(())]);
        told_mtu(&mut sockets, ICMP4);
        warm_up(&mut sockets, TCP4);
    });
}

#[test]
fn the_mtu_of_a_route_is_its_own_else_that_of_its_device() {
    let (here, _there) = two_hosts();
    let elsewhere = Host::new();
    here.link_as("eth1", &elsewhere);
    here.run(|| {
        run("ip link set eth0 mtu 1460");
        run("ip route add 10.9.0.0/16 via 10.0.0.2 mtu 1380");
        run("ip route add 10.8.0.0/16 via 10.0.0.2 mtu lock 1370");
        run("ip route add 10.7.0.0/16 via 10.0.0.2");
        run("ip -6 route add fd09::/64 via fd00::2 mtu 1390");
        run("ip -6 route add fd07::/64 via fd00::2");
        // Several next hops: the smallest is what every flow can use.
        run("ip link set eth1 mtu 1420");
        run("ip address add 10.2.0.1/24 dev eth1");
        run("ip route add 10.6.0.0/16 nexthop via 10.0.0.2 nexthop via 10.2.0.2");
        let mtu = |to: &str| route_mtu(to.parse().unwrap()).unwrap_or_else(|error| panic!("{to}: {error}"));
        for (to, expected) in [
            ("10.9.1.1", 1_380),
            ("10.8.1.1", 1_370),
            ("10.7.1.1", 1_460),
            ("10.6.1.1", 1_420),
            ("10.0.0.2", 1_460),
            ("127.0.0.1", 65_536),
            ("10.0.0.1", 65_536),
            ("fd09::1", 1_390),
            ("fd07::1", 1_460),
            ("fd00::2", 1_460),
            ("::1", 65_536),
        ] {
            assert_eq!(mtu(to), expected, "{to}");
        }
        // A router advertisement may lower IPv6 alone.
        sysctl("net.ipv6.conf.eth0.mtu", "1400");
        assert_eq!((mtu("fd07::1"), mtu("10.7.1.1")), (1_400, 1_460));
        for nowhere in ["192.0.2.1", "2001:db8::1"] {
            assert!(route_mtu(nowhere.parse().unwrap()).is_err(), "{nowhere}");
        }
    });
}

#[test]
fn a_source_address_is_the_one_that_packets_leave_from() {
    let (here, _there) = two_hosts();
    here.run(|| {
        let mut sockets = open(&[]);
        for (to, expected) in [
            ("10.0.0.2", Some("10.0.0.1")),
            ("fd00::2", Some("fd00::1")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("192.0.2.1", None),
            ("2001:db8::1", None),
        ] {
            let source = sockets.source_of(to.parse().unwrap()).map(|source| source.to_string());
            assert_eq!(source.as_deref(), expected, "to {to}");
        }
    });
}

/// Datagram sockets for a thread that loses its privileges here.
fn unprivileged(channels: &[Channel]) -> ProbeSockets {
    lose_privileges();
    open_datagram(&settings(channels))
}

/// One echo request of `length` bytes with its ICMP header.
fn message(to: &str, length: usize) -> Batch {
    let to: IpAddr = to.parse().unwrap();
    let heard = Heard::default();
    let payload = Payload {
        length: (length - icmp::HEADER) as u16,
        class: SizeClass::Normal,
        epoch: 1,
        sequence: 5,
        cookie: 5,
        period_ms: 1_000,
        heard,
    };
    let mut batch = Batch::default();
    let family = Family::of(to);
    batch.push(to, 5, |out| icmp::encode_request(family, ID, &payload, out));
    batch
}

/// The length of the first reply, from the ICMP header on.
fn reply_length(sockets: &mut ProbeSockets, channel: Channel) -> usize {
    let mut length = None;
    until(|| {
        sockets.receive(channel, &mut |received| {
            if let Received::Packet { bytes, framing, .. } = received {
                let header = if framing == podsonar_core::wire::answer::Framing::Ipv4Header { 20 } else { 0 };
                length = Some(bytes.len() - header);
            }
        });
        length
    })
    .expect("a reply")
}

/// Destination and MTU of the first error about size.
fn told_mtu(sockets: &mut ProbeSockets, channel: Channel) -> (IpAddr, u32) {
    let told = |seen: &Seen| match seen {
        Seen::Error { to, mtu: Some(mtu), .. } => Some((*to, *mtu)),
        _ => None,
    };
    let seen = drain_until(sockets, channel, |seen| seen.iter().any(|each| told(each).is_some()));
    seen.iter().find_map(told).unwrap()
}

fn two_hosts() -> (Host, Host) {
    let (here, there) = (Host::new(), Host::new());
    here.link(&there);
    for (host, number) in [(&here, 1), (&there, 2)] {
        host.address("eth0", &format!("10.0.0.{number}/24"));
        host.address("eth0", &format!("fd00::{number}/64"));
    }
    (here, there)
}

/// Here and there, with a router between that has only 1,300 bytes for the second link.
fn three_hosts() -> (Host, Host, Host) {
    let (here, router, there) = (Host::new(), Host::new(), Host::new());
    here.link_as("eth0", &router);
    router.link_as("eth1", &there);
    for (host, device, number) in [(&here, "eth0", 1), (&router, "eth0", 9)] {
        host.address(device, &format!("10.0.0.{number}/24"));
        host.address(device, &format!("fd00::{number}/64"));
    }
    for (host, device, number) in [(&router, "eth1", 9), (&there, "eth1", 2)] {
        host.address(device, &format!("10.0.1.{number}/24"));
        host.address(device, &format!("fd00:1::{number}/64"));
    }
    router.run(|| {
        sysctl("net.ipv4.ip_forward", "1");
        sysctl("net.ipv6.conf.all.forwarding", "1");
        run("ip link set eth1 mtu 1300");
    });
    here.run(|| {
        run("ip route add default via 10.0.0.9");
        run("ip -6 route add default via fd00::9");
    });
    there.run(|| {
        run("ip route add default via 10.0.1.9");
        run("ip -6 route add default via fd00:1::9");
    });
    (here, router, there)
}
