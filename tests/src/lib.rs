//! podsonar's lab: real hosts, links, faults and captures for tests and benchmarks, on one machine, without a trace
//! on that machine.
//!
//! ```no_run
//! use podsonar_lab::{Lab, fault::{Faults, Loss}, link::Way};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), podsonar_lab::LabError> {
//! let lab = Lab::new()?; // a process-id namespace: all that runs in it dies with it
//! let node = lab.host("node")?; // network namespaces
//! let pod = lab.host("pod")?;
//! let link = lab.link(&node, &pod, 7)?; // seed 7; addresses are given out, see link.left and link.right
//! link.set(Way::There, Faults { delay: Duration::from_micros(500), ..Faults::default() });
//! link.set(Way::Back, Faults { loss: Loss::Random(0.1), ..Faults::default() });
//! let capture = node.capture(&link.left.interface)?; // the ground truth
//! node.run(&format!("ping -c 10 -i 0.01 {}", link.right.v4)).ok(); // loss may make ping fail
//! let packets = capture.stop()?;
//! # Ok(()) }
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`lab`] | [`Lab`]: owns everything; two ways to join hosts: [`Lab::veth`] (the kernel's wire) and [`Lab::link`] |
//! | [`host`] | [`Host`]: a network namespace; run, spawn and enter it, addresses, routes, sysctls, nft |
//! | [`process`] | [`Process`]: a program in a host; its output by lines, killed on drop |
//! | [`fault`] | what a link does to a packet, decided purely from a seed |
//! | [`link`] | the forwarder in user space that carries those decisions out (the kernel here has no netem) |
//! | [`capture`] | packets as the kernel stamped them on an interface |
//! | [`wire`] | pairs captured requests with their replies: what a prober should have reported |
//! | [`packet`] | decodes IPv4 and IPv6 packets; the lab's own, so that it checks the agent's independently |
//! | [`agent`] | [`agent::Launch`] starts `podsonar run` in a host, [`Agent`] asks for its metrics and records |
//! | [`record`], [`scrape`] | what the agent writes and serves, read by the lab's own readers |
//! | [`cgroup`] | a CPU quota for the agent or its rivals |
//! | [`server`] | listeners that count what their application accepts, or have a full accept queue; real nginx, DNS server, Prometheus |
//! | [`world`] | ready-made topologies: equal-cost paths, a hop with a smaller MTU, nodes with pods and agents; who scrapes those |
//! | [`dashboard`] | Grafana's dashboards as Prometheus sees them: the queries of their panels |
//! | [`cluster`] | a whole Kubernetes cluster, each node on a link of its own |
//! | [`tool`] | where those real programs are |
//! | [`clock`] | clocks and deadlines |
//! | [`sys`] | the only unsafe code |
//!
//! `podsonar-lab mesh` runs agents on nodes with pods and `podsonar-lab demo -- PROGRAM` any program behind a faulty
//! link, for a person to watch.
//!
//! # How nothing is left behind
//! A [`Lab`] starts one process as init of a new process-id namespace; it lives until its standard input ends, which
//! the kernel sees to when this process dies, however it dies. With the init the kernel kills everything in the
//! namespace. Network and mount namespaces are held by file descriptors of this process and by processes of the lab,
//! so they go too, with their interfaces, routes and rules. Nothing is given a name under `/run/netns`. Only a
//! [`cgroup`] is not in a namespace: one whose owner was killed is removed when the next lab starts.
//!
//! # Privileges
//! The lab needs root. Where something is missing the calls fail with what and why; no test passes silently.

pub mod agent;
pub mod capture;
pub mod cgroup;
pub mod clock;
pub mod cluster;
pub mod dashboard;
mod error;
pub mod fault;
pub mod host;
pub mod lab;
pub mod link;
pub mod packet;
pub mod process;
pub mod record;
pub mod scrape;
pub mod server;
#[expect(
    unsafe_code,
    reason = "the lab's only module with unsafe code: what nix and socket2 have no safe call for"
)]
pub mod sys;
pub mod tool;

pub mod wire;
pub mod world;

pub use agent::Agent;
pub use cgroup::Cgroup;
pub use cluster::Cluster;
pub use error::LabError;
pub use host::Host;
pub use lab::Lab;
pub use link::Link;
pub use process::Process;
