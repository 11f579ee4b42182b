//! Transmit stamps are recognised by the end of the frame, whatever the device puts in front.

use podsonar_core::outcome::StampSource;
use podsonar_core::target::Family;
use podsonar_core::wire::Channel;
use podsonar_core::wire::answer::Key;
use podsonar_core::wire::tcp::Syn;
use podsonar_net::{Batch, ProbeSockets, Sockets};

use crate::host::{Host, on_a_host, run};
use crate::traffic::*;

#[test]
fn sent_frames_are_recognised_on_loopback() {
    on_a_host(|| {
        stamped(ICMP4, "127.0.0.1");
        stamped(ICMP6, "::1");
        stamped(TCP4, "127.0.0.1");
        stamped(TCP6, "::1");
    });
}

#[test]
fn sent_frames_are_recognised_on_veth() {
    let (here, _there) = two_hosts();
    here.run(|| {
        stamped(ICMP4, "10.0.0.2");
        stamped(ICMP6, "fd00::2");
        stamped(TCP4, "10.0.0.2");
        stamped(TCP6, "fd00::2");
    });
}

#[test]
fn sent_frames_are_recognised_inside_a_tunnel() {
    let (here, there) = two_hosts();
    for (host, local, remote) in [(&here, "fd00::1", "fd00::2"), (&there, "fd00::2", "fd00::1")] {
        let device =
            format!("ip link add vx0 type vxlan id 7 local {local} remote {remote} dstport 4789 dev eth0");
        host.run(move || {
            run(&device);
            run("ip link set vx0 up");
        });
    }
    here.address("vx0", "10.1.0.1/24");
    there.address("vx0", "10.1.0.2/24");
    here.address("vx0", "fd01::1/64");
    there.address("vx0", "fd01::2/64");
    here.run(|| {
        stamped(ICMP4, "10.1.0.2");
        stamped(ICMP6, "fd01::2");
        stamped(TCP4, "10.1.0.2");
        stamped(TCP6, "fd01::2");
    });
}

#[test]
fn stamps_from_before_the_queue_come_only_when_asked_for() {
    on_a_host(|| {
        let mut sockets = open(&[ICMP4]);
        warm_up(&mut sockets, ICMP4);
        assert_eq!(sources(&mut sockets, 1, 2), [StampSource::Software]);
        sockets.request_sched_stamps(ICMP4);
        assert_eq!(sources(&mut sockets, 2, 3), [StampSource::Sched, StampSource::Software]);
    });
}

/// Where the stamps of one echo were taken, after `events` things came back.
fn sources(sockets: &mut ProbeSockets, cookie: u64, events: usize) -> Vec<StampSource> {
    let mut batch = Batch::default();
    echo(&mut batch, "127.0.0.1", cookie);
    assert_eq!(send(sockets, ICMP4, &batch), [Ok(())]);
    let seen = drain_until(sockets, ICMP4, |seen| seen.len() >= events);
    assert_eq!((cookies(&seen), seen.len()), (vec![cookie], events), "{seen:?}");
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Transmitted { source, .. } => Some(*source),
            _ => None,
        })
        .collect()
}

/// Probes until an answer and a software transmit stamp of the same probe have come.
fn stamped(channel: Channel, to: &str) {
    let mut sockets = open(&[channel]);
    let mut batch = Batch::default();
    let key = match sockets.source_ports(channel.family) {
        [] => {
            echo(&mut batch, to, 42);
            Key::Echo(42)
        }
        [port, ..] => {
            let probe = Syn { source_port: *port, destination_port: 81, sequence: 42 };
            syn(&mut batch, to, probe);
            Key::Syn(probe)
        }
    };
    assert_eq!(send(&mut sockets, channel, &batch), [Ok(())]);
    drain_until(&mut sockets, channel, |seen| {
        let transmitted = |seen: &Seen| matches!(seen, Seen::Transmitted { key: of, source: StampSource::Software, .. } if *of == key);
        !answers(seen).is_empty() && seen.iter().any(transmitted)
    });
}

fn two_hosts() -> (Host, Host) {
    let (here, there) = (Host::new(), Host::new());
    here.link(&there);
    for (host, number) in [(&here, 1), (&there, 2)] {
        host.address("eth0", &format!("10.0.0.{number}/24"));
        host.address("eth0", &format!("fd00::{number}/64"));
    }
    assert_eq!(Family::ALL.len(), 2, "both families are covered");
    (here, there)
}
