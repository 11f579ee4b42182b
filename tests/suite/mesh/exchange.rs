//! What agents do where they cannot, or may not, ask each other for their pods.

use crate::{World, soon, sum};
use podsonar_lab::link::Way;
use podsonar_lab::scrape::{self, Scrape};
use podsonar_lab::world::mesh::Node;
use std::net::SocketAddr;

#[test]
fn a_blocked_exchange_is_told_and_makes_no_loss() {
    let mut world = World::new(3, "");
    block(world.node(2));
    world.mesh.start_agents().unwrap();
    let others = |pages: &[Scrape]| [pages[0].clone(), pages[2].clone()];
    world.wait_for(soon(), "the others to say so", |pages| {
        let told = |page: &Scrape| {
            let timeouts = [("result", "timeout"), ("destination_zone", "z2")];
            let state = |state| sum(page, "podsonar_peers", &[("state", state)]);
            sum(page, "podsonar_exchange_total", &timeouts) >= 3 && (state("untold"), state("told")) == (1, 1)
        };
        others(pages).iter().all(told).then_some(())
    });
    // The blocked node's own questions go out, and its agent is probed.
    world.wait_for(soon(), "what is known to be probed", |pages| {
        let answering =
            |page: &Scrape, kind| sum(page, "podsonar_targets", &[("kind", kind), ("state", "answering")]);
        let counts = pages.iter().map(|page| (answering(page, "agent"), answering(page, "pod")));
        (counts.collect::<Vec<_>>() == [(2, 4), (2, 6), (2, 4)]).then_some(())
    });
    world.go_on(20);
    assert_eq!(world.losses(), Vec::<String>::new());
}

#[test]
fn a_pod_that_goes_while_the_exchange_is_blocked_is_unknown_and_not_lost() {
    let world = World::whole();
    let (node, pod) = (world.node(2), &world.node(2).pods[0]);
    block(node);
    let before = pod.link.counts(Way::There).refused;
    pod.cut().unwrap();
    world.wait_for(soon(), "a probe that vanishes", |_| {
        (pod.link.counts(Way::There).refused > before).then_some(())
    });
    node.tell_of(|other| other.name != pod.name).unwrap();
    let unknown = [("kind", "pod"), ("reason", "unknown")];
    world.wait_for(soon(), "the others to know nothing", |pages| {
        let timeouts = [("result", "timeout"), ("destination_zone", "z2")];
        let told = |page: &Scrape| {
            sum(page, "podsonar_probes_void_total", &unknown) >= 3
                && sum(page, "podsonar_exchange_total", &timeouts) >= 3
        };
        [&pages[0], &pages[2]].into_iter().all(told).then_some(())
    });
    assert_eq!(world.losses(), Vec::<String>::new());
}

#[test]
fn an_unknown_caller_is_refused_by_its_address() {
    let world = World::whole();
    let node = world.node(1);
    let server = SocketAddr::from((node.address, 19989));
    let refused = scrape::get(&world.mesh.router, server, "/v1/node", &[]).unwrap();
    assert_eq!(refused.status, 403);
    let text = refused.text();
    assert!(text.starts_with(&format!("{} is no agent that is known here", node.link.left.v4)), "{text}");
    assert!(sum(&world.page(1), "podsonar_exchange_served_total", &[("result", "forbidden")]) >= 1);
    let peer = scrape::get(&world.node(2).host, server, "/v1/node", &[]).unwrap();
    assert_eq!(peer.status, 200);
    assert!(peer.text().contains("web-1-1"), "{}", peer.text());
}

/// Drops all that comes to a node's exchange.
fn block(node: &Node) {
    node.host.nft("add table inet closed").unwrap();
    node.host.nft("add chain inet closed input { type filter hook input priority 0 ; }").unwrap();
    node.host.nft("add rule inet closed input tcp dport 19989 drop").unwrap();
}
