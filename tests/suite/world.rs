//! The ready-made topologies do what they say, without the agent.

use podsonar_lab::capture::Captured;
use podsonar_lab::clock::{soon, wait_until};
use podsonar_lab::packet::Body;
use podsonar_lab::wire::{ProbeKey, Reply, Wire};
use podsonar_lab::world::ecmp::{Ecmp, Flow, PATHS};
use podsonar_lab::world::narrow::Narrow;
use podsonar_lab::{Host, Lab, LabError};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

#[test]
fn with_one_of_eight_paths_dead_the_flows_over_it_are_silent_and_no_others() {
    let lab = Lab::new().unwrap();
    let world = Ecmp::new(&lab, 1).unwrap();
    for (near, far) in [
        (IpAddr::V4(world.near_link.left.v4), IpAddr::V4(world.far_link.right.v4)),
        (IpAddr::V6(world.near_link.left.v6), IpAddr::V6(world.far_link.right.v6)),
    ] {
        let target = SocketAddr::new(far, 9);
        let ports: Vec<u16> = (40_000..40_064).collect();
        let flow = |port| Flow::Tcp(SocketAddr::new(near, port), target);
        let there: BTreeSet<usize> =
            ports.iter().map(|port| world.paths_of(flow(*port)).unwrap()[0]).collect();
        assert_eq!(there.len(), PATHS, "64 flows use every path");
        // A path that echoes do not take, so that they go on.
        let echo = world.paths_of(Flow::Icmp(near, far)).unwrap();
        let dead = (0..PATHS).find(|path| !echo.contains(path)).unwrap();
        world.kill(dead).unwrap();
        let (silent, alive): (Vec<u16>, Vec<u16>) =
            ports.iter().partition(|port| world.uses(flow(**port), dead).unwrap());
        assert!(!silent.is_empty() && alive.len() > silent.len(), "{silent:?}");
        let answered = answered_ports(&world, near, target, &ports, alive.len());
        assert_eq!(answered, alive.iter().copied().collect(), "{near}");
        world.near.run(&format!("ping -c 2 -i 0.01 -W 10 {far}")).unwrap();
        world.revive(dead).unwrap();
        assert_eq!(answered_ports(&world, near, target, &silent, silent.len()).len(), silent.len());
    }
}

/// The ports from which a SYN to a closed port was answered, as captured until so many answers were there.
fn answered_ports(
    world: &Ecmp,
    near: IpAddr,
    target: SocketAddr,
    ports: &[u16],
    expected: usize,
) -> BTreeSet<u16> {
    let capture = world.near.capture(&world.near_link.left.interface).expect("a capture");
    let start = |port: u16| {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(near, port).into())?;
        socket.set_nonblocking(true)?;
        // It goes on in the background: that is no failure.
        let _ = socket.connect(&target.into());
        Ok::<_, std::io::Error>(socket)
    };
    let sockets: Vec<_> = world
        .near
        .enter(|| ports.iter().map(|port| start(*port).expect("a socket")).collect())
        .expect("in the host");
    let answered = |packets: &[Captured]| {
        let wire = Wire::new(packets);
        let port = |probe: &podsonar_lab::wire::WireProbe| match probe.key {
            ProbeKey::Syn { source_port, .. } => {
                probe.first_reply.filter(|(_, reply)| *reply == Reply::Reset).map(|_| source_port)
            }
            ProbeKey::Echo { .. } => None,
        };
        wire.probes().iter().filter_map(port).collect::<BTreeSet<u16>>()
    };
    capture
        .wait_for(soon(), |packets| (answered(packets).len() >= expected).then_some(()))
        .expect("the answers");
    drop(sockets);
    answered(&capture.stop().expect("packets"))
}

#[test]
fn the_router_before_a_narrow_link_tells_senders_of_large_packets() {
    let world = narrow();
    for far in both(&world) {
        ping(&world.near, far, 1300).unwrap();
        ping(&world.near, far, 1301).unwrap_err();
        // The kernel learns when the router's message has arrived.
        wait_until(soon(), "the path MTU", || {
            Ok(world.near.run(&format!("ip route get {far}"))?.contains("mtu 1300").then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn silenced_router_makes_a_black_hole_of_large_packets() {
    let world = narrow();
    world.silence().unwrap();
    for far in both(&world) {
        let capture = world.near.capture(&world.near_end.interface).unwrap();
        ping(&world.near, far, 1300).unwrap();
        ping(&world.near, far, 1301).unwrap_err();
        ping(&world.near, far, 1500).unwrap_err();
        ping(&world.near, far, 84).unwrap();
        assert!(!world.near.run(&format!("ip route get {far}")).unwrap().contains("mtu"));
        let packets = capture.stop().unwrap();
        let lengths: Vec<usize> =
            packets.iter().filter(|one| is_request(one)).map(|one| one.bytes.len()).collect();
        assert_eq!(lengths, [1300, 1301, 1500, 84], "they left");
        let wire = Wire::new(&packets);
        let answers: Vec<u32> = wire.probes().iter().map(|probe| probe.replies).collect();
        assert_eq!(answers, [1, 0, 0, 1]);
    }
    world.speak().unwrap();
    let [far, _] = both(&world);
    ping(&world.near, far, 1301).unwrap_err();
    wait_until(soon(), "the path MTU", || {
        Ok(world.near.run(&format!("ip route get {far}"))?.contains("mtu 1300").then_some(()))
    })
    .unwrap();
}

fn narrow() -> Narrow {
    Narrow::new(&Lab::new().expect("a lab"), 1300).expect("a world")
}

fn both(world: &Narrow) -> [IpAddr; 2] {
    [world.far_end.v4.into(), world.far_end.v6.into()]
}

/// One echo request in a packet of so many bytes that must not be fragmented.
fn ping(from: &Host, to: IpAddr, packet: usize) -> Result<(), LabError> {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    from.run(&format!("ping -M do -c 1 -W 0.5 -s {} {to}", packet - headers)).map(drop)
}

fn is_request(captured: &Captured) -> bool {
    captured.outgoing && matches!(captured.packet().map(|packet| packet.body), Some(Body::EchoRequest(_)))
}
