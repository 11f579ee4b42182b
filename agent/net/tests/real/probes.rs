//! What a healthy network answers.

use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener};

use podsonar_core::outcome::{SendError, StampSource};
use podsonar_core::target::Family;
use podsonar_core::wire::Channel;
use podsonar_core::wire::answer::{Answer, Key};
use podsonar_core::wire::tcp::Syn;
use podsonar_net::{Batch, Sockets};

use crate::host::{Host, on_a_host, run};
use crate::traffic::*;

#[test]
fn an_echo_is_answered_with_both_kernel_stamps() {
    on_a_host(|| {
        let mut sockets = open(&[ICMP4, ICMP6]);
        for (channel, to) in [(ICMP4, "127.0.0.1"), (ICMP6, "::1")] {
            assert!(sockets.has_stamps(channel));
            warm_up(&mut sockets, channel);
            for cookie in 1..=20 {
                let mut batch = Batch::default();
                echo(&mut batch, to, cookie);
                assert_eq!(send(&mut sockets, channel, &batch), [Ok(())]);
                let seen = drain_until(&mut sockets, channel, |seen| seen.len() >= 2);
                let [Seen::Answer { from, stamp: Some(received), .. }, transmitted] = &seen[..] else {
                    panic!("{seen:?}");
                };
                let Seen::Transmitted { key, stamp, source, .. } = transmitted else { panic!("{seen:?}") };
                assert_eq!(*from, to.parse::<IpAddr>().unwrap());
                assert_eq!(cookies(&seen), [cookie]);
                assert_eq!((*key, *source), (Key::Echo(cookie), StampSource::Software));
                assert!(received.since(*stamp).is_some(), "sent {stamp:?}, received {received:?}");
            }
        }
    });
}

#[test]
fn a_syn_to_an_open_port_is_answered_and_the_application_accepts_nothing() {
    on_a_host(|| {
        let mut sockets = open(&[TCP4, TCP6]);
        for (channel, to) in [(TCP4, "127.0.0.1"), (TCP6, "::1")] {
            warm_up(&mut sockets, channel);
            let listener = TcpListener::bind((to, 0)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let destination_port = listener.local_addr().unwrap().port();
            let resets_before = half_opens_that_were_reset();
            let ports = sockets.source_ports(channel.family).to_vec();
            assert_eq!(ports.len(), 4);
            for (sequence, source_port) in (0x8000_0000..).zip(&ports) {
                let probe = Syn { source_port: *source_port, destination_port, sequence };
                let mut batch = Batch::default();
                syn(&mut batch, to, probe);
                assert_eq!(send(&mut sockets, channel, &batch), [Ok(())]);
                let seen = drain_until(&mut sockets, channel, |seen| seen.len() >= 2);
                let expected = podsonar_core::wire::tcp::Answer {
                    source_port: destination_port,
                    destination_port: *source_port,
                    sequence,
                    reset: false,
                };
                assert_eq!(answers(&seen), [Answer::Segment(expected)]);
                assert!(
                    matches!(seen[1], Seen::Transmitted { key, .. } if key == Key::Syn(probe)),
                    "transmit stamp: {seen:?}"
                );
            }
            let all_reset = || (half_opens_that_were_reset() == resets_before + 4).then_some(());
            until(all_reset).expect("the kernel must answer each SYN-ACK with RST");
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    });
}

#[test]
fn a_syn_to_a_closed_port_is_reset() {
    on_a_host(|| {
        let mut sockets = open(&[TCP4, TCP6]);
        for (channel, to) in [(TCP4, "127.0.0.1"), (TCP6, "::1")] {
            let source_port = sockets.source_ports(channel.family)[1];
            let mut batch = Batch::default();
            syn(&mut batch, to, Syn { source_port, destination_port: 81, sequence: 7 });
            assert_eq!(send(&mut sockets, channel, &batch), [Ok(())]);
            let seen = drain_until(&mut sockets, channel, |seen| !answers(seen).is_empty());
            assert!(
                matches!(answers(&seen)[..], [Answer::Segment(answer)] if answer.reset && answer.sequence == 7),
                "{seen:?}"
            );
        }
    });
}

#[test]
fn more_packets_than_one_system_call_takes_are_all_sent_in_order() {
    on_a_host(|| {
        let mut sockets = open(&[ICMP4]);
        let mut batch = Batch::default();
        for cookie in 0..200 {
            echo(&mut batch, "127.0.0.1", cookie);
        }
        assert_eq!(send(&mut sockets, ICMP4, &batch), vec![Ok(()); 200]);
        let seen = drain_until(&mut sockets, ICMP4, |seen| cookies(seen).len() >= 200);
        assert_eq!(cookies(&seen), (0..200).collect::<Vec<_>>());
    });
}

#[test]
fn answers_to_others_are_refused() {
    on_a_host(|| {
        let mut ours = open(&[ICMP4, ICMP6, TCP4, TCP6]);
        let mut other_settings = settings(&[ICMP4, ICMP6, TCP4, TCP6]);
        other_settings.icmp_id = ID + 1;
        let mut theirs = podsonar_net::ProbeSockets::open(&other_settings);
        for (channel, to) in [(ICMP4, "127.0.0.1"), (ICMP6, "::1")] {
            let (mut foreign, mut own) = (Batch::default(), Batch::default());
            echo_with_id(&mut foreign, to, 1, ID + 1);
            echo(&mut own, to, 2);
            assert_eq!(send(&mut theirs, channel, &foreign), [Ok(())]);
            assert_eq!(send(&mut ours, channel, &own), [Ok(())]);
            let seen = drain_until(&mut ours, channel, |seen| seen.len() >= 2);
            assert_eq!((cookies(&seen), seen.len()), (vec![2], 2), "{seen:?}");
        }
        for (channel, to) in [(TCP4, "127.0.0.1"), (TCP6, "::1")] {
            for (sockets, sequence) in [(&mut theirs, 1), (&mut ours, 2)] {
                let source_port = sockets.source_ports(channel.family)[0];
                let mut batch = Batch::default();
                syn(&mut batch, to, Syn { source_port, destination_port: 81, sequence });
                assert_eq!(send(sockets, channel, &batch), [Ok(())]);
            }
            let seen = drain_until(&mut ours, channel, |seen| seen.len() >= 2);
            assert!(
                matches!(answers(&seen)[..], [Answer::Segment(answer)] if answer.sequence == 2)
                    && seen.len() == 2,
                "{seen:?}"
            );
        }
    });
}

#[test]
fn each_ipv6_packet_carries_its_own_flow_label() {
    on_a_host(|| {
        let mut sockets = open(&[ICMP6, TCP6]);
        let mut batch = Batch::default();
        for cookie in [0x12345, 0xfedcb] {
            echo(&mut batch, "::1", cookie);
        }
        assert_eq!(send(&mut sockets, ICMP6, &batch), [Ok(()), Ok(())]);
        assert_eq!(flow_labels(&mut sockets, ICMP6, 2), [0x12345, 0xfedcb]);

        let ports = sockets.source_ports(Family::V6).to_vec();
        let mut batch = Batch::default();
        for source_port in &ports {
            syn(&mut batch, "::1", Syn { source_port: *source_port, destination_port: 81, sequence: 1 });
        }
        assert_eq!(send(&mut sockets, TCP6, &batch), vec![Ok(()); ports.len()]);
        let labels: Vec<u32> = ports.iter().copied().map(u32::from).collect();
        assert_eq!(flow_labels(&mut sockets, TCP6, ports.len()), labels);
    });
}

#[test]
fn a_segment_leaves_from_the_address_its_checksum_covers_and_follows_a_changed_route() {
    let (here, there) = (Host::new(), Host::new());
    here.link(&there);
    for address in ["10.0.0.1/24", "10.0.0.2/24"] {
        here.address("eth0", address);
    }
    there.address("eth0", "10.0.0.9/24");
    here.run(|| {
        let mut sockets = open(&[TCP4]);
        // A destination with another source, asked before, must not matter.
        warm_up(&mut sockets, TCP4);
        // The receiver drops a wrong checksum, so that an answer proves it right.
        assert_eq!(answered_address(&mut sockets), Ok("10.0.0.1".parse().unwrap()));
        run("ip route replace 10.0.0.0/24 dev eth0 src 10.0.0.2");
        sockets.refresh_routes();
        assert_eq!(answered_address(&mut sockets), Ok("10.0.0.2".parse().unwrap()));
        run("ip route replace 10.0.0.0/24 dev eth0 src 10.0.0.1");
        run("ip address delete 10.0.0.2/24 dev eth0");
        // The source that is remembered is gone: EINVAL, or ENETUNREACH in newer kernels.
        let refused = answered_address(&mut sockets);
        assert!(matches!(refused, Err(SendError::NoSource | SendError::NoRoute)), "{refused:?}");
        assert_eq!(answered_address(&mut sockets), Ok("10.0.0.1".parse().unwrap()));
    });
}

/// Sends a SYN to a closed port of 10.0.0.9 and tells to which of our addresses the RST came.
fn answered_address(sockets: &mut podsonar_net::ProbeSockets) -> Result<IpAddr, SendError> {
    let source_port = sockets.source_ports(Family::V4)[0];
    let mut batch = Batch::default();
    syn(&mut batch, "10.0.0.9", Syn { source_port, destination_port: 81, sequence: 7 });
    send(sockets, TCP4, &batch)[0]?;
    let seen = drain_until(sockets, TCP4, |seen| !answers(seen).is_empty());
    let bytes = seen.iter().find_map(|seen| match seen {
        Seen::Answer { bytes, .. } => Some(bytes),
        _ => None,
    });
    Ok(IpAddr::from(*bytes.unwrap()[16..].first_chunk::<4>().unwrap()))
}

/// The flow labels in the frames that came back with transmit stamps (Ethernet header, then RFC 8200 §3).
fn flow_labels(sockets: &mut podsonar_net::ProbeSockets, channel: Channel, count: usize) -> Vec<u32> {
    let frame = |seen: &Seen| match seen {
        Seen::Transmitted { frame, .. } => Some(frame.clone()),
        _ => None,
    };
    let seen = drain_until(sockets, channel, |seen| seen.iter().filter_map(frame).count() >= count);
    let first_word = |frame: Vec<u8>| u32::from_be_bytes(*frame[14..].first_chunk().unwrap());
    seen.iter().filter_map(frame).map(|frame| first_word(frame) & 0xf_ffff).collect()
}

/// `TcpAttemptFails` of this namespace: an RST to a half-open connection is one (RFC 4022).
fn half_opens_that_were_reset() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let lines: Vec<Vec<&str>> =
        text.lines().filter(|line| line.starts_with("Tcp:")).map(|line| line.split(' ').collect()).collect();
    let column = lines[0].iter().position(|name| *name == "AttemptFails").unwrap();
    lines[1][column].parse().unwrap()
}
