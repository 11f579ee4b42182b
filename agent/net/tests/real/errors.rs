//! Refused sends and ICMP errors, our own and other people's.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use podsonar_core::outcome::SendError;
use podsonar_core::target::Family;
use podsonar_core::wire::Channel;
use podsonar_core::wire::answer::Key;
use podsonar_core::wire::tcp::Syn;
use podsonar_net::{Batch, ProbeSockets, Sockets};

use crate::host::{Host, firewall, on_a_host, run};
use crate::traffic::*;

const GOOD_V4: [&str; 2] = ["127.0.0.1", "127.0.0.3"];
const GOOD_V6: [&str; 2] = ["::1", "::1"];

#[test]
fn the_firewalls_refusal_concerns_its_packet_alone() {
    on_a_host(|| {
        run("ip address add fd00::2/128 dev lo nodad");
        firewall("output", &["ip daddr 127.0.0.2 drop", "ip6 daddr fd00::2 drop"]);
        for_each_channel(|sockets, channel| {
            let bad = if channel.family == Family::V4 { "127.0.0.2" } else { "fd00::2" };
            one_bad_packet_between_good_ones(sockets, channel, bad, SendError::Firewall);
        });
    });
}

#[test]
fn a_firewall_that_rejects_with_an_icmp_error_concerns_its_packet_alone() {
    on_a_host(|| {
        run("ip address add fd00::2/128 dev lo nodad");
        reject("output", "reject", "reject");
        for_each_channel(|sockets, channel| {
            let bad = if channel.family == Family::V4 { "127.0.0.2" } else { "fd00::2" };
            one_bad_packet_between_good_ones(sockets, channel, bad, SendError::Firewall);
        });
    });
}

#[test]
fn a_missing_route_concerns_its_packet_alone() {
    on_a_host(|| {
        for_each_channel(|sockets, channel| {
            let bad = if channel.family == Family::V4 { "192.0.2.1" } else { "2001:db8::1" };
            one_bad_packet_between_good_ones(sockets, channel, bad, SendError::NoRoute);
        });
    });
}

#[test]
fn an_unreachable_route_is_no_route_and_a_prohibited_one_is_denied() {
    on_a_host(|| {
        for net in ["192.0.2.0/24", "2001:db8:1::/64"] {
            run(&format!("ip route add unreachable {net}"));
        }
        for net in ["198.51.100.0/24", "2001:db8:2::/64"] {
            run(&format!("ip route add prohibit {net}"));
        }
        for_each_channel(|sockets, channel| {
            let (unreachable, prohibited) = match channel.family {
                Family::V4 => ("192.0.2.1", "198.51.100.1"),
                Family::V6 => ("2001:db8:1::1", "2001:db8:2::1"),
            };
            one_bad_packet_between_good_ones(sockets, channel, unreachable, SendError::NoRoute);
            one_bad_packet_between_good_ones(sockets, channel, prohibited, SendError::Denied);
        });
    });
}

#[test]
fn a_channel_that_is_not_open_refuses_everything() {
    on_a_host(|| {
        let mut sockets = open(&[ICMP4]);
        let mut batch = Batch::default();
        echo(&mut batch, "::1", 1);
        echo(&mut batch, "::1", 2);
        assert_eq!(send(&mut sockets, ICMP6, &batch), vec![Err(SendError::NoSocket); 2]);
        assert_eq!(drain(&mut sockets, ICMP6), []);
        assert_eq!((sockets.drops(ICMP6), sockets.granted_buffer(ICMP6)), (0, 0));
        assert!(!sockets.has_stamps(ICMP6));
        assert_eq!(sockets.source_ports(Family::V4), []);
    });
}

#[test]
fn an_icmp_error_names_the_destination_and_quotes_the_probe() {
    on_a_host(|| {
        run("ip address add fd00::2/128 dev lo nodad");
        reject("input", "reject with icmp type admin-prohibited", "reject with icmpv6 type admin-prohibited");
        for_each_channel(|sockets, channel| {
            let (to, expected) = match channel.family {
                Family::V4 => ("127.0.0.2", (3, 13)),
                Family::V6 => ("fd00::2", (1, 1)),
            };
            let (batch, key) = probe(sockets, channel, to, 77);
            assert_eq!(send(sockets, channel, &batch), [Ok(())]);
            let errors = errors_of(&drain_until(sockets, channel, |seen| !errors_of(seen).is_empty()));
            assert_eq!(errors, [(to.parse().unwrap(), key, expected)]);
        });
    });
}

#[test]
fn an_unresolvable_neighbour_is_an_icmp_error_too() {
    let (here, there) = (Host::new(), Host::new());
    here.link(&there);
    here.address("eth0", "10.0.0.1/24");
    here.run(|| {
        let mut sockets = open(&[ICMP4]);
        let mut batch = Batch::default();
        echo(&mut batch, "10.0.0.7", 9);
        assert_eq!(send(&mut sockets, ICMP4, &batch), [Ok(())]);
        let errors = errors_of(&drain_until(&mut sockets, ICMP4, |seen| !errors_of(seen).is_empty()));
        assert_eq!(errors, [("10.0.0.7".parse().unwrap(), Key::Echo(9), (3, 1))]);
    });
}

#[test]
fn errors_about_the_batch_itself_disturb_no_other_packet() {
    on_a_host(|| {
        run("ip address add fd00::2/128 dev lo nodad");
        reject("input", "reject", "reject");
        for_each_channel(|sockets, channel| {
            let (good, rejected) = match channel.family {
                Family::V4 => ("127.0.0.1", "127.0.0.2"),
                Family::V6 => ("::1", "fd00::2"),
            };
            let mut batch = Batch::default();
            for number in 0..100 {
                push(&mut batch, sockets, channel, if number % 2 == 0 { good } else { rejected }, number);
            }
            assert_eq!(send(sockets, channel, &batch), vec![Ok(()); 100], "{channel:?}");
            let seen = drain_until(sockets, channel, |seen| answers(seen).len() >= 50);
            assert_eq!(answers(&seen).len(), 50);
        });
    });
}

#[test]
fn a_storm_of_foreign_errors_disturbs_no_send_and_no_answer() {
    let host = Host::new();
    let storm_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&storm_over);
    host.run(move || {
        firewall("input", &["ip daddr 127.0.0.2 reject with icmp type host-unreachable"]);
        // Threads belong to the namespace of the thread that starts them.
        let storm = std::thread::spawn(move || {
            let rejected = SocketAddr::from(([127, 0, 0, 2], 80));
            let mut errors = 0;
            for _ in 0..1_000_000 {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                errors += u32::from(TcpStream::connect(rejected).is_err());
            }
            errors
        });
        let mut sockets = open(&[TCP4]);
        for round in 0..200 {
            let mut batch = Batch::default();
            for number in 0..10 {
                push(&mut batch, &sockets, TCP4, "127.0.0.1", round * 10 + number);
            }
            assert_eq!(send(&mut sockets, TCP4, &batch), vec![Ok(()); 10], "round {round}");
            drain_until(&mut sockets, TCP4, |seen| answers(seen).len() >= 10);
        }
        storm_over.store(true, Ordering::Relaxed);
        assert!(storm.join().unwrap() > 0, "there was no storm");
    });
}

#[test]
fn a_full_interface_queue_is_an_error_and_not_silence() {
    let (here, there) = (Host::new(), Host::new());
    here.link(&there);
    here.address("eth0", "10.0.0.1/24");
    there.address("eth0", "10.0.0.2/24");
    here.run(|| {
        let mut sockets = open(&[ICMP4]);
        let mut batch = Batch::default();
        echo(&mut batch, "10.0.0.2", 1);
        send(&mut sockets, ICMP4, &batch);
        drain_until(&mut sockets, ICMP4, |seen| cookies(seen) == [1]);
        run("tc qdisc add dev eth0 root tbf rate 8kbit burst 1600 limit 2000");
        let mut batch = Batch::default();
        for cookie in 0..64 {
            echo(&mut batch, "10.0.0.2", cookie);
        }
        let results = send(&mut sockets, ICMP4, &batch);
        assert_eq!(results.first(), Some(&Ok(())));
        assert_eq!(results.last(), Some(&Err(SendError::QueueFull)));
    });
}

/// Rejects probes to 127.0.0.2 and fd00::2, but not the ICMP errors, which go to the same addresses.
fn reject(hook: &str, v4: &str, v6: &str) {
    let rules = [
        format!("ip daddr 127.0.0.2 icmp type echo-request {v4}"),
        format!("ip daddr 127.0.0.2 tcp dport 81 {v4}"),
        format!("ip6 daddr fd00::2 icmpv6 type echo-request {v6}"),
        format!("ip6 daddr fd00::2 tcp dport 81 {v6}"),
    ];
    firewall(hook, &rules.each_ref().map(String::as_str));
}

/// Runs the body for each channel on fresh sockets.
fn for_each_channel(body: impl Fn(&mut ProbeSockets, Channel)) {
    for channel in Channel::ALL {
        body(&mut open(&[channel]), channel);
    }
}

fn one_bad_packet_between_good_ones(
    sockets: &mut ProbeSockets,
    channel: Channel,
    bad: &str,
    expected: SendError,
) {
    let [first, last] = if channel.family == Family::V4 { GOOD_V4 } else { GOOD_V6 };
    let refused = Err(expected);
    // In every place of the batch: sendmmsg treats the first packet differently.
    for (order, results) in [
        ([bad, first, last], [refused, Ok(()), Ok(())]),
        ([first, bad, last], [Ok(()), refused, Ok(())]),
        ([first, last, bad], [Ok(()), Ok(()), refused]),
    ] {
        let mut batch = Batch::default();
        for (number, to) in (0..).zip(order) {
            push(&mut batch, sockets, channel, to, number);
        }
        assert_eq!(send(sockets, channel, &batch), results, "{channel:?} {order:?}");
        let seen = drain_until(sockets, channel, |seen| answers(seen).len() >= 2);
        assert_eq!(answers(&seen).len(), 2);
    }
}

fn probe(sockets: &ProbeSockets, channel: Channel, to: &str, number: u32) -> (Batch, Key) {
    let mut batch = Batch::default();
    let key = push(&mut batch, sockets, channel, to, number);
    (batch, key)
}

fn push(batch: &mut Batch, sockets: &ProbeSockets, channel: Channel, to: &str, number: u32) -> Key {
    match sockets.source_ports(channel.family) {
        [] => {
            echo(batch, to, number.into());
            Key::Echo(number.into())
        }
        ports => {
            let source_port = ports[number as usize % ports.len()];
            let probe = Syn { source_port, destination_port: 81, sequence: number };
            syn(batch, to, probe);
            Key::Syn(probe)
        }
    }
}

/// Destination, probe, and type and code of each ICMP error.
fn errors_of(seen: &[Seen]) -> Vec<(IpAddr, Key, (u8, u8))> {
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Error { to, key, kind, code, .. } => Some((*to, *key, (*kind, *code))),
            _ => None,
        })
        .collect()
}
