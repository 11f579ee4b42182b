//! A path begins to swallow large packets: how soon that is found, and if anything else is blamed.

use super::{FOUND, Found, in_fault, logged, seconds_until, sum};
use crate::Options;
use anyhow::Result;
use podsonar_lab::Lab;
use podsonar_lab::agent::Launch;
use podsonar_lab::clock::soon;
use podsonar_lab::scrape::Scrape;
use podsonar_lab::world::narrow::Narrow;

/// What the far link carries before and after, in bytes.
const WIDE: u16 = 1_500;
const NARROW: u16 = 1_400;

pub(super) fn run(_: &Options, found: &mut Found) -> Result<()> {
    let lab = Lab::new()?;
    let world = Narrow::new(&lab, WIDE)?;
    // Nobody tells senders of large packets.
    world.silence()?;
    let targets = [world.far_end.v4.to_string(), world.far_end.v6.to_string()];
    let launch = targets.iter().fold(Launch::on(&world.near), |launch, target| launch.target(target));
    let mut agent = launch.start()?;
    let every = |scrape: &Scrape, name: &str, value: u16| {
        targets.iter().all(|target| scrape.sum(name, &[("destination", target)]) == Some(f64::from(value)))
    };
    let known = seconds_until(&agent, |scrape| every(scrape, "podsonar_path_mtu_bytes", WIDE))?;
    world.narrow(NARROW)?;
    let seconds = seconds_until(&agent, |scrape| every(scrape, "podsonar_mtu_blackholed", 1))?;
    let measured = seconds_until(&agent, |scrape| every(scrape, "podsonar_path_mtu_bytes", NARROW))?;
    let scrape = agent.scrape()?;
    world.narrow(WIDE)?;
    let healed = seconds_until(&agent, |scrape| in_fault(scrape, "mtu") == 0.0)?;
    found.tell("seconds until the path's MTU is known, from the start", known);
    found.tell("seconds until the black hole is found in both families", seconds);
    found.tell("seconds more until the size that passes is known", measured);
    found.tell("seconds until it is no more, after it has healed", healed);
    found.at_most("time until it is found", seconds, FOUND.as_secs_f64(), " s");
    found.at_most("time until it is gone", healed, FOUND.as_secs_f64(), " s");
    let small = |result| sum(&scrape, "podsonar_probes_total", &[("kind", "fixed"), ("result", result)]);
    found.never("small packets lost", small("lost") + small("unreachable"));
    found.never("flows blamed", in_fault(&scrape, "flow") + logged(&agent, "black-holed flow"));
    agent.stop(soon())?;
    Ok(())
}
