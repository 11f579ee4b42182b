//! What is probed, by whom and under which names.

use crate::{World, soon, sum};
use podsonar_lab::capture::Captured;
use podsonar_lab::packet::Body;
use podsonar_lab::world::mesh::PORT;
use std::collections::BTreeSet;
use std::net::IpAddr;

#[test]
fn pods_are_probed_by_icmp_and_tcp_by_their_observers_alone_and_told_by_their_nodes() {
    let mut world = World::new(4, "observers: { max: 2 }\n");
    let pods: Vec<_> = world.mesh.nodes.iter().flat_map(|node| &node.pods).collect();
    let capture =
        |pod: &&podsonar_lab::world::mesh::Pod| pod.host.capture(&pod.link.right.interface).unwrap();
    let captures: Vec<_> = pods.iter().map(capture).collect();
    world.mesh.start_agents().unwrap();
    // The own agent and two others.
    let wanted = 8 * 3;
    let answering = [("kind", "pod"), ("state", "answering")];
    world.wait_for(soon(), "all pods seen", |pages| {
        let seen: u64 = pages.iter().map(|page| sum(page, "podsonar_targets", &answering)).sum();
        (seen == wanted).then_some(())
    });
    // Some rounds by both protocols; and what the wire had by then is known afterwards.
    world.go_on(50);
    let captured = captures.into_iter().map(|capture| capture.stop().unwrap());
    let mut wires = captured.map(|packets| Probes::of(&packets)).collect::<Vec<_>>().into_iter();
    world.go_on(20);
    let pages = world.pages();
    let nodes = &world.mesh.nodes;
    for node in nodes {
        let own = IpAddr::from(node.address);
        let wires = [wires.next().unwrap(), wires.next().unwrap()];
        for wire in &wires {
            assert_eq!(wire.icmp.len(), 3, "{:?}", wire.icmp);
            assert!(wire.icmp.contains(&own), "{:?}", wire.icmp);
            assert_eq!(wire.icmp, wire.tcp, "the same by both protocols");
            // The second pod serves nothing, but says that it does.
            assert_eq!(wire.ports, BTreeSet::from([PORT]));
        }
        for (page, observer) in pages.iter().zip(nodes) {
            let place = |protocol, result| {
                let labels = [
                    ("kind", "pod"),
                    ("protocol", protocol),
                    ("result", result),
                    ("source", &*observer.name),
                    ("source_zone", &*observer.zone),
                    ("destination", &*node.name),
                    ("destination_zone", &*node.zone),
                ];
                sum(page, "podsonar_probes_total", &labels) > 0
            };
            let sees = |wire: &Probes| wire.icmp.contains(&observer.address.into());
            let [first, second] = wires.each_ref().map(sees);
            assert_eq!(place("icmp", "reply"), first || second, "{} of {}", observer.name, node.name);
            assert_eq!(place("tcp", "reply"), first, "{} of {}", observer.name, node.name);
            assert_eq!(place("tcp", "reset"), second, "{} of {}", observer.name, node.name);
        }
    }
    assert_eq!(world.losses(), Vec::<String>::new());
}

/// Who sent what to a pod.
#[derive(Default)]
struct Probes {
    icmp: BTreeSet<IpAddr>,
    tcp: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

impl Probes {
    fn of(packets: &[Captured]) -> Self {
        let mut probes = Self::default();
        for packet in packets.iter().filter(|packet| !packet.outgoing).filter_map(Captured::packet) {
            match packet.body {
                Body::EchoRequest(_) => {
                    probes.icmp.insert(packet.src);
                }
                Body::Tcp(segment) if segment.is_syn() => {
                    probes.tcp.insert(packet.src);
                    probes.ports.insert(segment.dst_port);
                }
                _ => {}
            }
        }
        probes
    }
}
