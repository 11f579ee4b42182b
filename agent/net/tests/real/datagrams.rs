//! Questions by UDP: their stamps, their strangers, their errors.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podsonar_core::outcome::{SendError, StampSource};
use podsonar_core::time::WallTime;
use podsonar_net::{Arrival, Datagram, Datagrams, read_clocks};

use crate::host::{firewall, on_a_host, run};

#[test]
fn a_question_and_its_answer_are_stamped_by_the_kernel_in_both_families() {
    on_a_host(|| {
        let datagrams = Datagrams::new();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(address).unwrap();
            // The kernel begins to stamp a moment after it was asked to: until it does, ask again.
            loop {
                let before = read_clocks();
                let mut asked = datagrams.send(server.local_addr().unwrap(), b"question", 100).unwrap();
                let from = answer(&server, b"answer");
                let Some(came) = stamp(&mut asked, true, b"answer") else { continue };
                let (left, source) = asked.transmitted().unwrap();
                let after = read_clocks();
                assert_eq!(source, StampSource::Software);
                assert!(before.wall <= left && left <= came && came <= after.wall);
                assert_ne!(from.port(), 0);
                break;
            }
        }
    });
}

#[test]
fn each_question_has_a_port_of_its_own() {
    on_a_host(|| {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let datagrams = Datagrams::new();
        let asked: Vec<_> =
            (0..8).map(|_| datagrams.send(server.local_addr().unwrap(), b"q", 100).unwrap()).collect();
        let mut ports: Vec<_> = asked.iter().map(|_| answer(&server, b"a").port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), asked.len());
    });
}

#[test]
fn a_strangers_packet_is_seen_with_its_address_and_waiting_goes_on() {
    on_a_host(|| {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
        let mut asked = Datagrams::new().send(server.local_addr().unwrap(), b"q", 100).unwrap();
        let (_, us) = server.recv_from(&mut [0; 10]).unwrap();
        stranger.send_to(b"forged", us).unwrap();
        stamp(&mut asked, false, b"forged");
        server.send_to(b"right", us).unwrap();
        stamp(&mut asked, true, b"right");
        assert_eq!(asked.receive(), None);
    });
}

#[test]
fn an_answer_longer_than_its_room_says_so() {
    on_a_host(|| {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut asked = Datagrams::new().send(server.local_addr().unwrap(), b"q", 4).unwrap();
        answer(&server, b"12345");
        wait(&asked);
        assert!(matches!(asked.receive(), Some(Arrival::Packet { bytes: b"1234", cut: true, .. })));
    });
}

#[test]
fn icmp_errors_are_told_as_such_in_both_families() {
    on_a_host(|| {
        for (address, kind, code) in [("127.0.0.1:9", 3, 3), ("[::1]:9", 1, 4)] {
            let mut asked = Datagrams::new().send(address.parse().unwrap(), b"q", 100).unwrap();
            loop {
                wait(&asked);
                if let Some(heard) = asked.receive() {
                    assert_eq!(heard, Arrival::Unreachable { kind, code }, "{address}");
                    break;
                }
            }
        }
    });
}

#[test]
fn what_does_not_leave_this_host_is_an_error_with_its_reason() {
    on_a_host(|| {
        let datagrams = Datagrams::new();
        let send = |to: &str| datagrams.send(to.parse::<SocketAddr>().unwrap(), b"q", 100).map(drop);
        assert_eq!(send("10.0.0.1:53"), Err(SendError::NoRoute));
        firewall("output", &["udp dport 53 drop"]);
        assert_eq!(send("127.0.0.1:53"), Err(SendError::Firewall));
        run("nft flush ruleset");
    });
}

/// Answers the next question and tells who asked.
fn answer(server: &UdpSocket, bytes: &[u8]) -> SocketAddr {
    let (_, from) = server.recv_from(&mut [0; 100]).unwrap();
    server.send_to(bytes, from).unwrap();
    from
}

/// Waits for a packet, which must be this one, and gives its stamp.
fn stamp(asked: &mut Datagram, from: bool, expected: &[u8]) -> Option<WallTime> {
    loop {
        wait(asked);
        match asked.receive() {
            None => {}
            Some(Arrival::Packet { from_asked, bytes, cut: false, stamp }) => {
                assert_eq!((from_asked, bytes), (from, expected));
                return stamp;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until the socket has anything, if only an entry in its error queue.
fn wait(asked: &Datagram) {
    poll(&mut [PollFd::new(asked.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
}
