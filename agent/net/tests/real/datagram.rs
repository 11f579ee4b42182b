//! Datagram ICMP sockets: all that a process without `CAP_NET_RAW` may have.

use podsonar_core::outcome::{SendError, StampSource};
use podsonar_core::target::Family;
use podsonar_core::wire::Channel;
use podsonar_core::wire::answer::Key;
use podsonar_net::{Batch, Mode, OpenError, ProbeSockets, Settings};
use rustix::thread::CapabilitySet;
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::{firewall, on_a_host, run, sysctl};
use crate::open::give_up;
use crate::traffic::*;

#[test]
fn an_echo_is_answered_with_both_kernel_stamps_under_our_own_identifier() {
    on_an_unprivileged_host(|| {
        let mut sockets = open_datagram(&settings(&[ICMP4, ICMP6]));
        assert_eq!(sockets.icmp_id(), ID);
        for (channel, to) in [(ICMP4, "127.0.0.1"), (ICMP6, "::1")] {
            assert!(sockets.has_stamps(channel));
            warm_up(&mut sockets, channel);
            let mut batch = Batch::default();
            echo(&mut batch, to, 7);
            assert_eq!(send(&mut sockets, channel, &batch), [Ok(())]);
            let seen = drain_until(&mut sockets, channel, |seen| seen.len() >= 2);
            let [Seen::Answer { from, stamp: Some(received), .. }, transmitted] = &seen[..] else {
                panic!("{seen:?}");
            };
            let Seen::Transmitted { key, stamp, source, .. } = transmitted else { panic!("{seen:?}") };
            assert_eq!((from.to_string(), cookies(&seen)), (to.to_owned(), vec![7]));
            assert_eq!((*key, *source), (Key::Echo(7), StampSource::Software));
            assert!(received.since(*stamp).is_some(), "sent {stamp:?}, received {received:?}");
        }
    });
}

#[test]
fn packets_carry_their_flow_labels() {
    on_an_unprivileged_host(|| {
        let mut sockets = open_datagram(&settings(&[ICMP6]));
        let mut batch = Batch::default();
        echo(&mut batch, "::1", 0xabcde);
        assert_eq!(send(&mut sockets, ICMP6, &batch), [Ok(())]);
        let transmitted = |seen: &Seen| match seen {
            Seen::Transmitted { frame, .. } => Some(u32::from_be_bytes(*frame[14..].first_chunk().unwrap())),
            _ => None,
        };
        let seen =
            drain_until(&mut sockets, ICMP6, |seen| seen.iter().any(|each| transmitted(each).is_some()));
        assert_eq!(seen.iter().find_map(transmitted).map(|word| word & 0xf_ffff), Some(0xabcde));
    });
}

#[test]
fn an_identifier_of_another_process_is_left_to_it() {
    on_an_unprivileged_host(|| {
        // Identifiers are the whole machine's: one that the other tests do not use.
        let wanted = 0x7054;
        let other = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::ICMPV6)).unwrap();
        other.bind(&"[::]:28756".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        let sockets = open_datagram(&Settings { icmp_id: wanted, ..settings(&[ICMP4, ICMP6]) });
        assert_eq!(sockets.icmp_id(), wanted + 1);
        // And ours is nobody else's.
        let thief = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4)).unwrap();
        let taken = thief.bind(&"0.0.0.0:28757".parse::<std::net::SocketAddr>().unwrap().into());
        assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    });
}

#[test]
fn refusals_concern_their_packet_alone() {
    on_an_unprivileged_host(|| {
        let mut sockets = open_datagram(&settings(&[ICMP4, ICMP6]));
        for (channel, good, bad) in [(ICMP4, "127.0.0.1", "192.0.2.1"), (ICMP6, "::1", "2001:db8::1")] {
            let mut batch = Batch::default();
            for (cookie, to) in [(1, good), (2, bad), (3, good)] {
                echo(&mut batch, to, cookie);
            }
            assert_eq!(send(&mut sockets, channel, &batch), [Ok(()), Err(SendError::NoRoute), Ok(())]);
            drain_until(&mut sockets, channel, |seen| cookies(seen) == [1, 3]);
        }
    });
}

#[test]
fn an_icmp_error_names_the_destination_and_quotes_the_probe() {
    on_a_host(|| {
        run("ip address add fd00::2/128 dev lo nodad");
        firewall(
            "input",
            &[
                "ip daddr 127.0.0.2 icmp type echo-request reject with icmp type admin-prohibited",
                "ip6 daddr fd00::2 icmpv6 type echo-request reject with icmpv6 type admin-prohibited",
            ],
        );
        lose_privileges();
        let mut sockets = open_datagram(&settings(&[ICMP4, ICMP6]));
        for (channel, to, expected) in [(ICMP4, "127.0.0.2", (3, 13)), (ICMP6, "fd00::2", (1, 1))] {
            let mut batch = Batch::default();
            echo(&mut batch, to, 77);
            assert_eq!(send(&mut sockets, channel, &batch), [Ok(())]);
            let error = |seen: &Seen| match seen {
                Seen::Error { to, key, kind, code, mtu } => {
                    Some((to.to_string(), *key, (*kind, *code), *mtu))
                }
                _ => None,
            };
            let seen =
                drain_until(&mut sockets, channel, |seen| seen.iter().any(|each| error(each).is_some()));
            assert_eq!(seen.iter().find_map(error), Some((to.to_owned(), Key::Echo(77), expected, None)));
        }
    });
}

#[test]
fn tcp_has_no_such_way() {
    on_an_unprivileged_host(|| {
        let mut sockets = ProbeSockets::open(&settings(&[ICMP4, TCP4, TCP6]));
        assert!(matches!(sockets.mode(ICMP4), Some(Mode::Datagram)));
        assert!(sockets.mode(ICMP6).is_none(), "it was not asked for");
        for channel in [TCP4, TCP6] {
            assert!(sockets.source_ports(channel.family).is_empty());
            assert!(matches!(sockets.take_error(channel), Some(OpenError::NoPermission { .. })));
        }
    });
}

/// Opens channels of which each must get a datagram socket.
pub(crate) fn open_datagram(settings: &Settings) -> ProbeSockets {
    let sockets = ProbeSockets::open(settings);
    for channel in &settings.channels {
        assert!(matches!(sockets.mode(*channel), Some(Mode::Datagram)), "{:?}", sockets.mode(*channel));
    }
    sockets
}

/// Takes `CAP_NET_RAW` off this thread, whose group may use datagram ICMP sockets in its namespace from now on.
pub(crate) fn lose_privileges() {
    sysctl("net.ipv4.ping_group_range", "0 0");
    give_up(CapabilitySet::NET_RAW);
}

fn on_an_unprivileged_host(body: impl FnOnce() + Send + 'static) {
    on_a_host(|| {
        lose_privileges();
        body();
    });
}

/// The channels that datagram sockets serve.
pub(crate) const ICMP: [Channel; Family::ALL.len()] = [ICMP4, ICMP6];
