//! Echo requests that other hosts send to us: what a receiver sees of them.

use std::net::{IpAddr, SocketAddr};

use podsonar_core::target::Family;
use podsonar_core::wire::payload::SizeClass;
use podsonar_core::wire::request::{self, Refusal, Request};
use podsonar_net::{Batch, Drained, ProbeSockets, Sockets, read_clocks};
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::{Host, on_a_host, run, sysctl};
use crate::traffic::*;

#[test]
fn each_request_is_seen_once_with_both_addresses_and_its_stamp() {
    let (here, there) = two_hosts();
    for (channel, from, to) in [(ICMP4, "10.0.0.1", "10.0.0.2"), (ICMP6, "fd00::1", "fd00::2")] {
        let mut listener = there.run(move || listening(&[channel.family]));
        here.run(move || {
            let mut sockets = open(&[channel]);
            for cookie in 1..=100 {
                let mut batch = Batch::default();
                echo(&mut batch, to, cookie);
                assert_eq!(send(&mut sockets, channel, &batch), [Ok(())]);
            }
            // The kernel answers them all the same.
            drain_until(&mut sockets, channel, |seen| cookies(seen).len() == 100);
        });
        there.run(move || {
            let seen = requests(&mut listener, channel.family);
            let sequences: Vec<u64> =
                seen.iter().map(|seen| seen.1.as_ref().unwrap().payload.sequence).collect();
            assert_eq!(sequences, (1..=100).collect::<Vec<_>>());
            let now = read_clocks().wall;
            for (source, request, stamp) in seen.iter().skip(50) {
                let Request { to: at, payload } = request.as_ref().unwrap();
                assert_eq!((*source, *at), (ip(from), ip(to)));
                assert_eq!((payload.class, payload.epoch), (SizeClass::Normal, 1));
                let age = now.since(stamp.expect("a stamp")).expect("a stamp of the past");
                assert!(age.as_secs() < 10, "{age:?}");
            }
            assert_eq!(listener.request_drops(channel.family), 0);
        });
    }
}

#[test]
fn requests_that_the_kernel_does_not_answer_are_seen_as_well() {
    let (here, there) = two_hosts();
    let mut listener = there.run(|| {
        sysctl("net.ipv4.icmp_echo_ignore_all", "1");
        sysctl("net.ipv6.icmp.echo_ignore_all", "1");
        listening(&Family::ALL)
    });
    here.run(|| {
        let mut sockets = open(&[ICMP4, ICMP6]);
        for (channel, to) in [(ICMP4, "10.0.0.2"), (ICMP6, "fd00::2")] {
            let mut batch = Batch::default();
            echo(&mut batch, to, 7);
            assert_eq!(send(&mut sockets, channel, &batch), [Ok(())]);
        }
    });
    there.run(move || {
        for family in Family::ALL {
            let seen = until(|| requests(&mut listener, family).pop()).expect("a request");
            assert!(seen.1.is_ok(), "{seen:?}");
        }
    });
}

#[test]
fn replies_and_other_programs_pings_are_not_seen() {
    on_a_host(|| {
        let mut sockets = open(&[ICMP4, ICMP6]);
        for family in Family::ALL {
            sockets.listen(family, BUFFER).unwrap();
        }
        run("ping -c 3 -i 0.01 127.0.0.1");
        run("ping -c 3 -i 0.01 ::1");
        for (channel, to) in [(ICMP4, "127.0.0.1"), (ICMP6, "::1")] {
            let mut batch = Batch::default();
            echo(&mut batch, to, 7);
            assert_eq!(send(&mut sockets, channel, &batch), [Ok(())]);
            drain_until(&mut sockets, channel, |seen| cookies(seen) == [7]);
            // Its own request over loopback, and neither its reply nor the pings.
            assert_eq!(requests(&mut sockets, channel.family).len(), 1);
        }
    });
}

#[test]
fn damaged_requests_are_told_apart_over_ipv4_and_refused_by_the_kernel_over_ipv6() {
    on_a_host(|| {
        let mut listener = listening(&Family::ALL);
        for (family, to, kernel_refuses) in [(Family::V4, "127.0.0.1", false), (Family::V6, "::1", true)] {
            let mut batch = Batch::default();
            echo(&mut batch, to, 7);
            let whole = batch.iter().next().unwrap().bytes.to_vec();
            for damaged in [false, true] {
                forge(family, to, &whole, damaged);
                let seen = requests(&mut listener, family);
                match (damaged, kernel_refuses) {
                    (false, _) => assert!(matches!(seen[..], [(_, Ok(_), _)]), "{seen:?}"),
                    (true, false) => {
                        assert!(matches!(seen[..], [(_, Err(Refusal::Checksum), _)]), "{seen:?}");
                    }
                    (true, true) => assert_eq!(seen, []),
                }
            }
            // No full buffer, so no gap becomes unknown because of them.
            assert_eq!(listener.request_drops(family), 0);
        }
    });
}

#[test]
fn a_full_buffer_is_counted_as_drops_of_requests() {
    on_a_host(|| {
        let mut sockets = open(&[ICMP4]);
        sockets.listen(Family::V4, 16 << 10).unwrap();
        for number in 0..10 {
            let mut batch = Batch::default();
            for cookie in 0..64 {
                echo(&mut batch, "127.0.0.1", number * 64 + cookie);
            }
            assert_eq!(send(&mut sockets, ICMP4, &batch), vec![Ok(()); 64]);
        }
        let kept = requests(&mut sockets, Family::V4).len() as u64;
        let dropped = sockets.request_drops(Family::V4);
        assert!(kept > 0 && dropped > 0, "kept {kept}, dropped {dropped}");
        assert!(dropped + kept >= 640, "kept {kept}, dropped {dropped}");
        assert_eq!(sockets.drops(ICMP4), 0, "the replies have a buffer of their own");
    });
}

#[test]
fn who_does_not_listen_sees_nothing() {
    on_a_host(|| {
        let mut sockets = open(&[ICMP4]);
        let mut batch = Batch::default();
        echo(&mut batch, "127.0.0.1", 7);
        assert_eq!(send(&mut sockets, ICMP4, &batch), [Ok(())]);
        assert_eq!(requests(&mut sockets, Family::V4), []);
        assert_eq!(sockets.request_drops(Family::V4), 0);
    });
}

type Seen = (IpAddr, Result<Request, Refusal>, Option<podsonar_core::time::WallTime>);

/// All requests that wait now.
fn requests(sockets: &mut ProbeSockets, family: Family) -> Vec<Seen> {
    let mut seen = Vec::new();
    let drained = sockets.receive_requests(family, &mut |request| {
        let read = request::decode(request.framing, request.to, request.bytes);
        seen.push((request.from, read, request.stamp));
    });
    assert_eq!(drained, Drained::Completely);
    seen
}

fn listening(families: &[Family]) -> ProbeSockets {
    let mut sockets = open(&[]);
    for family in families {
        sockets.listen(*family, BUFFER).unwrap();
    }
    sockets
}

/// Sends an echo request, as somebody else would, with its checksum right or wrong.
fn forge(family: Family, to: &str, request: &[u8], damaged: bool) {
    let mut bytes = request.to_vec();
    let socket = match family {
        Family::V4 => {
            bytes[40] ^= u8::from(damaged);
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap()
        }
        // The kernel would write the checksum: so the header is ours too.
        Family::V6 => {
            let mut header = vec![0x60, 0, 0, 0, 0, u8::try_from(bytes.len()).unwrap(), 58, 64];
            for _ in 0..2 {
                header.extend([0; 15]);
                header.push(1);
            }
            let sum = checksum(&header, &bytes) ^ u16::from(damaged);
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            bytes = [header, bytes].concat();
            Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).unwrap()
        }
    };
    socket.send_to(&bytes, &SocketAddr::new(ip(to), 0).into()).unwrap();
}

/// The checksum of an `ICMPv6` message whose own is zero (RFC 4443 §2.3).
fn checksum(header: &[u8], message: &[u8]) -> u16 {
    let length = u16::try_from(message.len()).unwrap();
    let words = header[8..].chunks(2).chain(message.chunks(2));
    let sum = words.map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum = sum.sum::<u32>() + u32::from(length) + 58;
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap()
}

fn two_hosts() -> (Host, Host) {
    let (here, there) = (Host::new(), Host::new());
    here.link(&there);
    for (host, v4, v6) in [(&here, "10.0.0.1/24", "fd00::1/64"), (&there, "10.0.0.2/24", "fd00::2/64")] {
        host.address("eth0", v4);
        host.address("eth0", v6);
    }
    (here, there)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const BUFFER: usize = 1 << 20;
