//! Links carry out the faults they are told, and say what they did.

use podsonar_lab::capture::Captured;
use podsonar_lab::clock::soon;
use podsonar_lab::fault::{Checksum, Corrupt, Faults, Loss, Mtu, Only, Rate, Reorder};
use podsonar_lab::link::{Link, Way};
use podsonar_lab::packet::{self, Body, ICMP, checksum_is_right};
use podsonar_lab::wire::Wire;
use podsonar_lab::{Host, Lab, LabError};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

#[test]
fn perfect_link_carries_both_families_and_counts() {
    let pair = Pair::new(1);
    for address in [IpAddr::V4(pair.link.right.v4), IpAddr::V6(pair.link.right.v6)] {
        pair.left.run(&format!("ping -c 5 -i 0.01 -W 10 {address}")).unwrap();
    }
    for way in [Way::There, Way::Back] {
        let counts = pair.link.counts(way);
        assert_eq!((counts.received, counts.forwarded), (10, 10), "{way:?}");
        assert_eq!(pair.link.overruns(way).unwrap(), 0);
    }
}

#[test]
fn no_packet_is_faster_than_the_delay() {
    let pair = Pair::new(1);
    let delay = |micros| Faults { delay: Duration::from_micros(micros), ..Faults::default() };
    pair.link.set(Way::There, delay(3_000));
    pair.link.set(Way::Back, delay(2_000));
    let capture = pair.left.capture(&pair.link.left.interface).unwrap();
    pair.left.run(&format!("ping -c 50 -i 0.005 -W 10 {}", pair.link.right.v4)).unwrap();
    let wire = Wire::new(&capture.stop().unwrap());
    let rtts: Vec<Duration> = wire.probes().iter().filter_map(podsonar_lab::wire::WireProbe::rtt).collect();
    assert_eq!(rtts.len(), 50);
    assert!(rtts.iter().all(|rtt| *rtt >= Duration::from_millis(5)), "{rtts:?}");
}

#[test]
fn loss_is_one_way_and_the_same_for_the_same_seed() {
    let arrived = |seed| {
        let pair = Pair::new(seed);
        pair.link.set(Way::There, Faults { loss: Loss::Random(0.3), ..Faults::default() });
        let arrived = pair.send_numbers(Way::There, 200);
        assert_eq!(pair.link.counts(Way::There).lost, 200 - arrived.len() as u64);
        assert_eq!(pair.send_numbers(Way::Back, 50).len(), 50, "the way back loses nothing");
        arrived
    };
    assert_eq!(arrived(5), arrived(5));
    assert_ne!(arrived(5), arrived(6));
}

#[test]
fn cut_link_heals() {
    let pair = Pair::new(1);
    pair.link.cut(Way::Back);
    let one = format!("ping -c 1 -W 0.2 {}", pair.link.right.v4);
    assert!(matches!(pair.left.run(&one), Err(LabError::Command { .. })));
    pair.link.set(Way::Back, Faults::default());
    pair.left.run(&format!("ping -c 1 -W 10 {}", pair.link.right.v4)).unwrap();
    assert_eq!(pair.link.counts(Way::Back).lost, 1);
}

#[test]
fn loss_of_tcp_alone_leaves_icmp() {
    let pair = Pair::new(1);
    pair.link.set(Way::There, Faults { loss: Loss::All, only: Only::tcp(), ..Faults::default() });
    pair.left.run(&format!("ping -c 1 -W 10 {}", pair.link.right.v4)).unwrap();
    let target = SocketAddr::new(pair.link.right.v4.into(), 9);
    let connected =
        pair.left.enter(|| TcpStream::connect_timeout(&target, Duration::from_millis(200))).unwrap();
    assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert!(pair.link.counts(Way::There).lost >= 1);
}

#[test]
fn duplicates_arrive_twice_and_held_packets_late() {
    let pair = Pair::new(2);
    let reorder = Reorder { chance: 0.1, hold: Duration::from_millis(20) };
    pair.link.set(Way::There, Faults { duplicate: 0.2, reorder: Some(reorder), ..Faults::default() });
    let arrived = pair.send_numbers(Way::There, 200);
    let counts = pair.link.counts(Way::There);
    assert!(counts.duplicated > 20 && counts.reordered > 5, "{counts:?}");
    assert_eq!(arrived.len() as u64, 200 + counts.duplicated);
    assert!(!arrived.is_sorted());
}

#[test]
fn repaired_corruption_reaches_the_program_and_wrong_checksums_do_not() {
    let pair = Pair::new(3);
    let corrupt = |checksum| Faults { corrupt: Some(Corrupt { chance: 1.0, checksum }), ..Faults::default() };
    pair.link.set(Way::There, corrupt(Checksum::Repaired));
    let arrived = pair.send_numbers(Way::There, 20);
    assert_eq!(arrived.len(), 20);
    assert_ne!(arrived, (0..20).collect::<Vec<_>>());
    let capture = pair.right.capture(&pair.link.right.interface).unwrap();
    pair.link.set(Way::There, corrupt(Checksum::Wrong));
    let ping = format!("ping -c 1 -W 0.2 {}", pair.link.right.v4);
    assert!(matches!(pair.left.run(&ping), Err(LabError::Command { .. })), "the kernel must drop it");
    let packets = capture.stop().unwrap();
    assert!(packets.iter().any(|packet| checksum_is_right(&packet.bytes) == Some(false)));
}

#[test]
fn rate_limit_drops_what_the_queue_cannot_hold() {
    let pair = Pair::new(1);
    let rate = Rate { bits_per_second: 1_000_000, queue: Duration::from_millis(20) };
    pair.link.set(Way::There, Faults { rate: Some(rate), ..Faults::default() });
    let arrived = pair.send_numbers(Way::There, 500);
    let counts = pair.link.counts(Way::There);
    assert!(counts.queue_full > 0, "{counts:?}");
    assert_eq!(arrived.len() as u64 + counts.queue_full, 500);
}

#[test]
fn too_large_packets_are_answered_or_vanish() {
    let pair = Pair::new(1);
    let mtu = |answer| Faults { mtu: Some(Mtu { bytes: 1300, answer }), ..Faults::default() };
    for (address, header) in [(IpAddr::V4(pair.link.right.v4), 28), (IpAddr::V6(pair.link.right.v6), 48)] {
        let ping = |size: u32| {
            let line = format!("ping -M do -c 1 -W 0.3 -s {} {address}", size - header);
            pair.left.run(&line).map_err(|error| error.to_string())
        };
        pair.link.set(Way::There, mtu(false));
        ping(1300).unwrap();
        ping(1301).unwrap_err();
        let route = pair.left.run(&format!("ip route get {address}")).unwrap();
        assert!(!route.contains("mtu"), "a black hole tells nothing: {route}");
        pair.link.set(Way::There, mtu(true));
        ping(1301).unwrap_err();
        let route = pair.left.run(&format!("ip route get {address}")).unwrap();
        assert!(route.contains("mtu 1300"), "the kernel learns the MTU: {route}");
    }
}

#[test]
fn injected_packet_arrives_as_it_is() {
    let pair = Pair::new(1);
    let capture = pair.left.capture(&pair.link.left.interface).unwrap();
    let (far, near) = (pair.link.right.v4, pair.link.left.v4);
    let forged = packet::ipv4(far, near, ICMP, &[&[0, 0, 0, 0, 1, 2, 3, 4], &b"forged"[..]].concat());
    pair.link.inject(Way::Back, &forged).unwrap();
    let seen = capture.wait_for(soon(), |packets| packets.first().cloned()).unwrap();
    assert_eq!((seen.outgoing, &*seen.bytes), (false, forged.as_slice()));
}

#[test]
fn twenty_thousand_flooded_pings_pass_without_loss() {
    let pair = Pair::new(1);
    pair.link.set_both(&Faults { delay: Duration::from_micros(250), ..Faults::default() });
    let capture = pair.left.capture(&pair.link.left.interface).unwrap();
    // Ten are always on their way: the link is never idle.
    pair.left.run(&format!("ping -q -l 10 -f -c 20000 {}", pair.link.right.v4)).unwrap();
    let packets = capture.stop().unwrap();
    assert_eq!(packets.iter().filter(|packet| is_reply(packet)).count(), 20_000);
    assert_eq!(pair.link.counts(Way::Back).forwarded, 20_000);
}

struct Pair {
    left: Host,
    right: Host,
    link: Link,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let lab = Lab::new().expect("a lab");
        let (left, right) = (lab.host("left").expect("a host"), lab.host("right").expect("a host"));
        let link = lab.link(&left, &right, seed).expect("a link");
        Self { left, right, link }
    }

    /// Sends datagrams numbered from 0 and returns the numbers that arrive. A last one, over a perfect link and long
    /// after the others, says that no more will come.
    fn send_numbers(&self, way: Way, count: u32) -> Vec<u32> {
        let (from, to, target) = match way {
            Way::There => (&self.left, &self.right, self.link.right.v4),
            Way::Back => (&self.right, &self.left, self.link.left.v4),
        };
        let receiver = to.enter(|| UdpSocket::bind((target, 0))).expect("in the host").expect("a socket");
        let target = receiver.local_addr().expect("its address");
        let sender = from.enter(|| UdpSocket::bind("0.0.0.0:0")).expect("in the host").expect("a socket");
        for number in 0..count {
            sender.send_to(&number.to_be_bytes(), target).expect("sent");
        }
        self.link.wait_until_idle(soon()).expect("all packets carried");
        receiver.set_nonblocking(true).expect("a mode");
        let mut buffer = [0; 4];
        let mut numbers = Vec::new();
        while let Ok(4) = receiver.recv(&mut buffer) {
            numbers.push(u32::from_be_bytes(buffer));
        }
        numbers
    }
}

fn is_reply(captured: &Captured) -> bool {
    matches!(captured.packet().map(|packet| packet.body), Some(Body::EchoReply(_)))
}
