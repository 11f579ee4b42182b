//! Agents that end and begin again, or that probe others than before.

use crate::{World, losses, soon, sum};
use nix::sys::signal::Signal;
use podsonar_lab::clock::{Deadline, ask_each};
use podsonar_lab::scrape::Scrape;
use podsonar_lab::world::mesh;
use std::time::Duration;

#[test]
fn an_agent_that_ends_and_begins_again_is_no_loss_and_no_false_direction() {
    let mut world = World::whole();
    world.go_on(10);
    let mut leaving = world.mesh.nodes[1].agent.take().unwrap();
    leaving.process.signal(Signal::SIGTERM).unwrap();
    // What it says until its end counts too.
    let mut last = leaving.scrape().unwrap();
    let status = ask_each(Duration::from_millis(20), soon(), "the agent's end", || {
        if let Ok(page) = leaving.scrape() {
            last = page;
        }
        leaving.process.ended()
    });
    assert!(status.unwrap().success(), "{:?}", leaving.process.lines());
    assert_eq!(losses(&last), Vec::<String>::new());
    // Long enough for a silence to be noticed: five intervals.
    let before: Vec<_> = [1, 3].map(|number| world.page(number)).to_vec();
    let heard = |page: &_, from| sum(page, "podsonar_inbound_probes_total", &[("source", from)]);
    ask_each(crate::PAUSE, Deadline::after(Duration::from_secs(30)), "eight probes of the others", || {
        let pages = [1, 3].map(|number| world.page(number));
        for page in &pages {
            assert_eq!(losses(page), Vec::<String>::new());
            assert_eq!(sum(page, "podsonar_edges_in_fault", &[]), 0);
        }
        let enough = [("node-3", 0), ("node-1", 1)]
            .iter()
            .all(|(from, at)| heard(&pages[*at], *from) >= heard(&before[*at], *from) + 8);
        Ok(enough.then_some(()))
    })
    .unwrap();
    world.mesh.start_agent(1).unwrap();
    mesh::wait_until_seen(&world.mesh, soon()).unwrap();
    world.go_on(30);
    assert_eq!(world.losses(), Vec::<String>::new());
    for page in world.pages() {
        for name in ["lost", "outages"] {
            let counted = sum(&page, &format!("podsonar_inbound_{name}_total"), &[]);
            assert_eq!(counted, 0, "{name}");
        }
        assert_eq!(sum(&page, "podsonar_edges_in_fault", &[]), 0);
    }
    for from in ["node-1", "node-3"] {
        assert!(heard(&world.page(2), from) > 0, "{from}");
    }
}

#[test]
fn an_agent_that_sees_another_cluster_and_has_chosen_others_is_not_called_silent() {
    let mut world = World::new(4, "");
    world.mesh.start_agents().unwrap();
    mesh::wait_until_seen(&world.mesh, soon()).unwrap();
    // The others still count on it, as on one that knows of new nodes before they do.
    world.node(2).configure(&format!("{}peers: {{ max: 2 }}\n", crate::SETTINGS)).unwrap();
    let not_chosen = |pages: &[Scrape]| sum(&pages[1], "podsonar_peers", &[("state", "not_chosen")]);
    world.wait_for(soon(), "node-2 to choose two of three", |pages| (not_chosen(pages) == 1).then_some(()));
    // Twice as long as it takes until a silence is one.
    let heard = |page: &Scrape, from| sum(page, "podsonar_inbound_probes_total", &[("source", from)]);
    let rounds = |pages: &[Scrape]| heard(&pages[0], "node-3").min(heard(&pages[2], "node-1"));
    let before = rounds(&world.pages());
    world.wait_for(soon(), "ten rounds of the others", |pages| {
        for page in pages {
            assert_eq!(sum(page, "podsonar_edges_in_fault", &[]), 0);
        }
        (rounds(pages) >= before + 10).then_some(())
    });
    // It is heard again when it comes back, and nothing of that is an outage.
    world.node(2).configure(crate::SETTINGS).unwrap();
    world.wait_for(soon(), "node-2 to choose all", |pages| (not_chosen(pages) == 0).then_some(()));
    let all = |pages: &[Scrape]| [0, 2, 3].map(|place| heard(&pages[place], "node-2"));
    let before = all(&world.pages());
    world.wait_for(soon(), "node-2 to be heard by all", |pages| {
        all(pages).iter().zip(before).all(|(now, before)| *now >= before + 5).then_some(())
    });
    for page in world.pages() {
        for name in ["lost", "outages"] {
            assert_eq!(sum(&page, &format!("podsonar_inbound_{name}_total"), &[]), 0, "{name}");
        }
        assert_eq!(sum(&page, "podsonar_edges_in_fault", &[]), 0);
    }
}
