//! Pods and nodes that fall silent, and pods that go.

use crate::{INTERVAL, World, faults, soon, status, sum};
use podsonar_lab::clock::Deadline;
use podsonar_lab::fault::{Faults, Loss};
use podsonar_lab::link::Way;
use podsonar_lab::scrape::Scrape;
use podsonar_lab::world::mesh::NAMESPACE;
use std::time::Duration;

/// From a broken path to the first loss.
const TOLD_WITHIN: Duration = INTERVAL.saturating_mul(2).saturating_add(Duration::from_secs(3));

#[test]
fn a_pod_that_goes_together_with_its_network_is_no_loss_anywhere() {
    let world = World::whole();
    let (node, pod) = (world.node(2), &world.node(2).pods[0]);
    let before = pod.link.counts(Way::There).refused;
    pod.cut().unwrap();
    // It leaves the manifests when the first probe has vanished: agents cannot know yet.
    world.wait_for(soon(), "a probe that vanishes", |_| {
        (pod.link.counts(Way::There).refused > before).then_some(())
    });
    node.tell_of(|other| other.name != pod.name).unwrap();
    world.wait_for(soon(), "the pod to be forgotten", |pages| {
        let forgotten = |page: &Scrape| sum(page, "podsonar_targets", &[("kind", "pod")]) == 5;
        let held = |page: &Scrape| sum(page, "podsonar_held_losses", &[]) > 0;
        pages.iter().all(|page| forgotten(page) && !held(page)).then_some(())
    });
    let discarded = [("kind", "pod"), ("reason", "discarded")];
    let discarded: u64 =
        world.pages().iter().map(|page| sum(page, "podsonar_probes_void_total", &discarded)).sum();
    assert!(discarded >= 1, "{discarded}");
    world.go_on(20);
    assert_eq!(world.losses(), Vec::<String>::new());
    for node in &world.mesh.nodes {
        assert_eq!(faults(node).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn a_pod_that_stays_without_its_network_is_lost_in_time_and_named() {
    let world = World::whole();
    let pod = &world.node(2).pods[0];
    pod.cut().unwrap();
    let lost = [("kind", "pod"), ("destination", "node-2"), ("result", "lost"), ("protocol", "icmp")];
    world.wait_for(Deadline::after(TOLD_WITHIN), "losses told by all agents", |pages| {
        pages.iter().all(|page| sum(page, "podsonar_probes_total", &lost) >= 1).then_some(())
    });
    let address = pod.address.to_string();
    let names = [
        ("destination", "node-2"),
        ("destination_zone", "z2"),
        ("destination_namespace", NAMESPACE),
        ("destination_pod", &pod.name),
        ("destination_ip", &address),
        ("protocol", "icmp"),
        ("state", "silent"),
    ];
    world.wait_for(soon(), "the pod to be named", |pages| {
        pages.iter().all(|page| page.sum("podsonar_unhealthy_target", &names).is_some()).then_some(())
    });
    let place = format!("pod {NAMESPACE}/{} ({address}:80) on node-2: by icmp: silent", pod.name);
    for node in &world.mesh.nodes {
        let status = status(node).unwrap();
        assert!(status.contains(&place), "{status}");
        assert!(!status.contains("its agent does not answer"), "{status}");
    }
    // Nothing else is in doubt.
    for page in world.pages() {
        let others = crate::losses(&page).into_iter().filter(|loss| !is_of(loss, "pod", "node-2"));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new());
    }
}

#[test]
fn a_node_that_is_cut_off_is_lost_in_time_with_all_on_it_and_heals() {
    let world = World::whole();
    let node = world.node(2);
    node.link.set_both(&Faults { loss: Loss::All, ..Faults::default() });
    let others = |pages: &[Scrape]| [pages[0].clone(), pages[2].clone()];
    for kind in ["agent", "pod"] {
        let lost = [("kind", kind), ("destination", "node-2"), ("result", "lost"), ("protocol", "icmp")];
        world.wait_for(Deadline::after(TOLD_WITHIN), "losses told by the other agents", |pages| {
            let others = others(pages);
            others.iter().all(|page| sum(page, "podsonar_probes_total", &lost) >= 1).then_some(())
        });
    }
    for number in [1, 3] {
        world.wait_for(soon(), "the status to say so", |_| {
            let status = status(world.node(number)).ok()?;
            let said = status.contains("node-2: nothing answers, of 3 targets there (zone z2)");
            (said && !status.contains("pod web/")).then_some(())
        });
    }
    node.link.set_both(&Faults::default());
    // SYNs come back later: they go once in half a minute to what does not answer.
    let heard = [("kind", "agent"), ("state", "answering")];
    world.wait_for(soon(), "the node to be heard again", |pages| {
        let pods = |page: &Scrape| {
            let state = |state| sum(page, "podsonar_targets", &[("kind", "pod"), ("state", state)]);
            state("answering") + state("tcp_filtered")
        };
        pages.iter().all(|page| sum(page, "podsonar_targets", &heard) == 2 && pods(page) == 6).then_some(())
    });
    for number in [1, 3] {
        let faults = faults(world.node(number)).unwrap();
        assert!(!faults.iter().any(|fault| fault.trim_start().starts_with("node ")), "{faults:?}");
    }
    for page in others(&world.pages()) {
        let elsewhere =
            crate::losses(&page).into_iter().filter(|loss| !loss.contains("\"destination\": \"node-2\""));
        assert_eq!(elsewhere.collect::<Vec<_>>(), Vec::<String>::new());
    }
}

fn is_of(loss: &str, kind: &str, destination: &str) -> bool {
    [("kind", kind), ("destination", destination)]
        .iter()
        .all(|(label, value)| loss.contains(&format!("\"{label}\": \"{value}\"")))
}
