//! One of eight equal paths dies: how soon its flows are found, and if others are blamed.

use super::{FOUND, Found, in_fault, seconds_until, sum};
use crate::Options;
use anyhow::Result;
use podsonar_lab::Lab;
use podsonar_lab::agent::Launch;
use podsonar_lab::clock::soon;
use podsonar_lab::scrape::Scrape;
use podsonar_lab::world::ecmp::{Ecmp, Flow, PATHS};
use std::net::{IpAddr, SocketAddr};

pub(super) fn run(options: &Options, found: &mut Found) -> Result<()> {
    let lab = Lab::new()?;
    let world = Ecmp::new(&lab, 1)?;
    let (near, far) = (&world.near_link.left, &world.far_link.right);
    let pairs: [(IpAddr, IpAddr); 2] = [(near.v4.into(), far.v4.into()), (near.v6.into(), far.v6.into())];
    let targets = pairs.map(|(_, far)| SocketAddr::new(far, 9).to_string());
    // Echoes are one flow to each address. It is to go on, so that the path is at fault and not the target.
    let mut spared = Vec::new();
    for (near, far) in pairs {
        spared.extend(world.paths_of(Flow::Icmp(near, far))?);
    }
    let (mut slowest, mut named, mut wrongly): (f64, f64, f64) = (0.0, 0.0, 0.0);
    for path in (0..PATHS).filter(|path| !spared.contains(path)).take(options.pick(1, 4)) {
        // An agent that has not met it yet.
        let launch = targets.iter().fold(Launch::on(&world.near), |launch, target| launch.target(target));
        let mut agent = launch.start()?;
        let both = |scrape: &Scrape, name: &str, labels: &[(&str, &str)], least: f64| {
            let of = |family| sum(scrape, name, &[labels, &[("family", family)]].concat());
            ["4", "6"].into_iter().all(|family| of(family) >= least)
        };
        let answered = [("kind", "fixed"), ("protocol", "tcp"), ("result", "reset")];
        seconds_until(&agent, |scrape| both(scrape, "podsonar_probes_total", &answered, 3.0))?;
        world.kill(path)?;
        let seconds = seconds_until(&agent, |scrape| both(scrape, "podsonar_blackholed_flows", &[], 1.0))?;
        found.tell(&format!("path {path}: seconds until flows of both families are found"), seconds);
        // What is not found has no figure, and misses the bound.
        slowest = if seconds > slowest || seconds.is_nan() { seconds } else { slowest };
        for (from, to) in agent.reported_flows() {
            named += 1.0;
            wrongly += if world.uses(Flow::Tcp(from, to), path)? { 0.0 } else { 1.0 };
        }
        wrongly += in_fault(&agent.scrape()?, "mtu");
        world.revive(path)?;
        agent.stop(soon())?;
    }
    found.tell("flows named in the log", named);
    found.at_most("time until it is found", slowest, FOUND.as_secs_f64(), " s");
    found.never("named wrongly", wrongly);
    Ok(())
}
