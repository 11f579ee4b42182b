//! The path that the benchmarks probe over: a host with the prober, a link in user space with a delay, and a host that
//! answers for many addresses. A neighbour on a plain veth would answer inside the prober's own send call, and hide
//! what a starved prober does to its figures.

use crate::limit::PORT;
use anyhow::Result;
use podsonar_lab::capture::Capture;
use podsonar_lab::fault::{Faults, Loss};
use podsonar_lab::lab::End;
use podsonar_lab::link::{LinkOptions, Way};
use podsonar_lab::server::Listener;
use podsonar_lab::{Host, Lab, Link};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const PREFIX: &str = "10.200.0.0/16";
const DELAY_EACH_WAY: Duration = Duration::from_micros(250);

/// A prober's host and its targets. Fields drop in order: what uses the lab goes before it.
#[derive(Debug)]
pub(crate) struct Path {
    /// Where probers run.
    pub(crate) node: Host,
    interface: String,
    link: Option<Link>,
    targets: u32,
    _server: Listener,
    _lab: Lab,
}

impl Path {
    /// A path of 500 µs to so many targets, each answering echo requests, and SYNs on [`PORT`]. The forwarder goes
    /// before all ordinary threads, so that load does not make the path slower than it claims to be.
    pub(crate) fn delayed(targets: u32) -> Result<Self> {
        let lab = Lab::new()?;
        let (node, far) = (lab.host("node")?, lab.host("far")?);
        let link = lab.link_with(&node, &far, LinkOptions { seed: 7, cpu: None, realtime: true })?;
        let (left, right) = (link.left.clone(), link.right.clone());
        let path = Self::between(lab, node, &far, (&left, &right), Some(link), targets)?;
        path.lose(Loss::None, Loss::None);
        Ok(path)
    }

    /// The same over a plain veth, which needs no thread that takes CPU from the prober.
    pub(crate) fn direct(targets: u32) -> Result<Self> {
        let lab = Lab::new()?;
        let (node, far) = (lab.host("node")?, lab.host("far")?);
        let veth = lab.veth(&node, &far)?;
        Self::between(lab, node, &far, (&veth.left, &veth.right), None, targets)
    }

    fn between(
        lab: Lab,
        node: Host,
        far: &Host,
        (left, right): (&End, &End),
        link: Option<Link>,
        targets: u32,
    ) -> Result<Self> {
        far.answer_for(PREFIX)?;
        node.route(PREFIX, right.v4)?;
        let server = Listener::start(far, SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))?;
        let interface = left.interface.clone();
        Ok(Self { node, interface, link, targets, _server: server, _lab: lab })
    }

    /// Loses packets of a delayed path from now on, on the way there and on the way back.
    pub(crate) fn lose(&self, there: Loss, back: Loss) {
        let Some(link) = &self.link else { return };
        for (way, loss) in [(Way::There, there), (Way::Back, back)] {
            link.set(way, Faults { delay: DELAY_EACH_WAY, loss, ..Faults::default() });
        }
    }

    /// The targets' addresses.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        (0..self.targets).map(|number| Ipv4Addr::from_bits(FIRST.to_bits() + number).into()).collect()
    }

    /// The targets as the agent's user writes them: probed by ICMP, and by SYN.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.addresses().into_iter().map(|address| SocketAddr::new(address, PORT).to_string()).collect()
    }

    /// Captures on the prober's own interface.
    pub(crate) fn capture(&self) -> Result<Capture> {
        Ok(self.node.capture(&self.interface)?)
    }
}
