//! Ten minutes of random loss: it is loss, and no flow, no path, no application and no name is blamed for it.

use super::{Found, LOOK, in_fault, logged, sum};
use crate::Options;
use crate::load::pass;
use anyhow::Result;
use podsonar_lab::Lab;
use podsonar_lab::agent::Launch;
use podsonar_lab::clock::{Deadline, soon};
use podsonar_lab::fault::{Faults, Loss};
use podsonar_lab::link::Way;
use podsonar_lab::server::Listener;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Share of the packets that vanish on the way there.
const SHARE: f64 = 0.05;
/// How far the agent's share may be from that: four standard deviations of a short run.
const APART: f64 = 0.03;
const DELAY: Duration = Duration::from_micros(250);
/// One that is open and one that is closed.
const PORTS: [u16; 2] = [80, 9];
/// Hosts of each family.
const HOSTS: u16 = 5;

pub(super) fn run(options: &Options, found: &mut Found) -> Result<()> {
    let lab = Lab::new()?;
    let (near, far) = (lab.host("near")?, lab.host("far")?);
    let link = lab.link(&near, &far, 5)?;
    link.set(Way::There, Faults { delay: DELAY, loss: Loss::Random(SHARE), ..Faults::default() });
    link.set(Way::Back, Faults { delay: DELAY, ..Faults::default() });
    for prefix in ["10.77.0.0/16", "fd77::/64"] {
        far.answer_for(prefix)?;
    }
    near.route("10.77.0.0/16", link.right.v4)?;
    near.route("fd77::/64", link.right.v6)?;
    let _listener = Listener::start(&far, SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORTS[0])))?;
    let mut launch = Launch::on(&near);
    for port in PORTS {
        for host in 1..=HOSTS {
            launch = launch
                .target(&format!("10.77.{port}.{host}:{port}"))
                .target(&format!("[fd77::{port}:{host}]:{port}"));
        }
    }
    let mut agent = launch.start()?;

    let time = options.seconds(20, 600);
    let end = Deadline::after(time);
    let (mut flows, mut mtus): (f64, f64) = (0.0, 0.0);
    while !end.passed() {
        pass(LOOK.min(end.left()));
        let scrape = agent.scrape()?;
        flows = flows.max(in_fault(&scrape, "flow"));
        mtus = mtus.max(in_fault(&scrape, "mtu"));
    }
    let scrape = agent.scrape()?;
    let count = |result| sum(&scrape, "podsonar_probes_total", &[("kind", "fixed"), ("result", result)]);
    let [answered, lost] = [count("reply") + count("reset"), count("lost")];
    let large = |result| sum(&scrape, "podsonar_mtu_probes_total", &[("result", result)]);
    found.tell("seconds", time.as_secs_f64());
    found.tell("probes", answered + lost);
    found.tell("of them lost, %", lost / (answered + lost) * 100.0);
    found.tell("large probes", large("answered") + large("lost"));
    found.tell("of them lost", large("lost"));
    found.tell("SYNs sent to explain silence", sum(&scrape, "podsonar_boost_probes_total", &[]));
    found.never("flows blamed", flows + logged(&agent, "black-holed flow"));
    found.never("paths blamed for large packets", mtus + logged(&agent, "MTU black hole"));
    found.never("losses blamed on listeners", count("listener"));
    found.at_most(
        "share of loss, apart from the link's",
        (lost / (answered + lost) - SHARE).abs(),
        APART,
        "",
    );
    agent.stop(soon())?;
    Ok(())
}
