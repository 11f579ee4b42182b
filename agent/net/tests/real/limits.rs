//! Buffers, drops and floods.

use std::net::{Ipv6Addr, SocketAddr};

use podsonar_net::{Batch, Drained, ProbeSockets, Sockets};
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::on_a_host;
use crate::traffic::*;

#[test]
fn a_full_buffer_is_counted_as_drops() {
    on_a_host(|| {
        let mut small = settings(&[ICMP4]);
        small.receive_buffer = 16 << 10;
        let mut sockets = ProbeSockets::open(&small);
        assert!((8 << 10..=32 << 10).contains(&sockets.granted_buffer(ICMP4)));
        assert_eq!(sockets.drops(ICMP4), 0);
        flood(&mut sockets, 10);
        let kept = cookies(&drain(&mut sockets, ICMP4)).len() as u64;
        let dropped = sockets.drops(ICMP4);
        assert!(kept > 0 && dropped > 0, "kept {kept}, dropped {dropped}");
        assert!(dropped + kept >= 640, "kept {kept}, dropped {dropped}");
    });
}

#[test]
fn damaged_packets_are_not_dropped_answers() {
    on_a_host(|| {
        let mut sockets = open(&[ICMP6]);
        // An echo reply to us with a wrong checksum: the kernel refuses it and raises the socket's own counter.
        let mut packet = vec![0; 40 + 64];
        packet[0] = 0x60;
        packet[5] = 64;
        packet[6] = 58;
        packet[7] = 64;
        packet[23] = 1;
        packet[39] = 1;
        packet[40] = 129;
        packet[44..46].copy_from_slice(&ID.to_be_bytes());
        let forger = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).unwrap();
        let to = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        for _ in 0..5 {
            forger.send_to(&packet, &to.into()).unwrap();
        }
        assert_eq!(drain(&mut sockets, ICMP6), []);
        assert_eq!(sockets.drops(ICMP6), 0);
    });
}

#[test]
fn a_large_buffer_keeps_everything() {
    on_a_host(|| {
        let mut sockets = open(&[ICMP4]);
        assert!(sockets.granted_buffer(ICMP4) >= 4 << 20);
        flood(&mut sockets, 20);
        assert_eq!(cookies(&drain(&mut sockets, ICMP4)).len(), 20 * 64);
        assert_eq!(sockets.drops(ICMP4), 0);
    });
}

#[test]
fn one_drain_is_bounded_and_the_next_goes_on() {
    on_a_host(|| {
        let mut large = settings(&[ICMP4]);
        large.receive_buffer = 64 << 20;
        let mut sockets = ProbeSockets::open(&large);
        flood(&mut sockets, 300);
        let mut count = [0; 2];
        let mut drain = |count: &mut usize| {
            sockets.receive(ICMP4, &mut |received| {
                *count += usize::from(matches!(received, podsonar_net::Received::Packet { .. }));
            })
        };
        assert_eq!(drain(&mut count[0]), Drained::Partly);
        assert_eq!(drain(&mut count[1]), Drained::Completely);
        assert_eq!(count, [256 * 64, 44 * 64]);
    });
}

#[test]
fn packets_longer_than_expected_are_cut_and_harm_nothing() {
    on_a_host(|| {
        let mut sockets = open(&[ICMP4]);
        let mut batch = Batch::default();
        batch.push("127.0.0.1".parse().unwrap(), 0, |out| {
            // An echo request of ours by id, of 10,000 bytes, checksummed.
            let mut bytes = vec![0; 10_000];
            bytes[0] = 8;
            bytes[4..6].copy_from_slice(&ID.to_be_bytes());
            let sum = !(0x0800 + ID);
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            out.extend(bytes);
        });
        echo(&mut batch, "127.0.0.1", 3);
        assert_eq!(send(&mut sockets, ICMP4, &batch), [Ok(()), Ok(())]);
        let seen = drain_until(&mut sockets, ICMP4, |seen| cookies(seen) == [3]);
        assert!(matches!(&seen[0], Seen::Foreign(why) if why.starts_with("Truncated")), "{seen:?}");
    });
}

/// Sends batches of 64 echoes to loopback, which answers them inside the send, and receives nothing meanwhile.
fn flood(sockets: &mut ProbeSockets, batches: u64) {
    for number in 0..batches {
        let mut batch = Batch::default();
        for cookie in 0..64 {
            echo(&mut batch, "127.0.0.1", number * 64 + cookie);
        }
        assert_eq!(send(sockets, ICMP4, &batch), vec![Ok(()); 64]);
    }
}
