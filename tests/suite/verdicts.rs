//! What the agent says is at fault: an application, a filter, a flow, a path for large packets, or something on its own
//! host. On real packets, with the lab's truth beside it.

use podsonar_lab::agent::Launch;
use podsonar_lab::clock::{Deadline, soon};
use podsonar_lab::fault::{Faults, Loss};
use podsonar_lab::link::Way;
use podsonar_lab::scrape::Scrape;
use podsonar_lab::server::Listener;
use podsonar_lab::server::nginx::Nginx;
use podsonar_lab::world::ecmp::{Ecmp, Flow, PATHS};
use podsonar_lab::world::narrow::Narrow;
use podsonar_lab::{Agent, Host, Lab};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Within this time each fault must be found.
const FOUND: Duration = Duration::from_mins(1);

#[test]
fn a_hanging_application_is_the_listeners_and_not_loss() {
    let lab = Lab::new().unwrap();
    let (near, far) = (lab.host("near").unwrap(), lab.host("far").unwrap());
    let wire = lab.veth(&near, &far).unwrap();
    let address = SocketAddr::from((wire.right.v4, 8080));
    let nginx = Nginx::start(&far, &[address]).unwrap();
    let before = nginx.accepted().unwrap();
    let mut agent = Launch::on(&near)
        .target(&address.to_string())
        .arguments(&["--interval", "500ms", "--timeout", "300ms"])
        .start()
        .unwrap();
    let tcp = |result: &'static str| vec![("protocol", "tcp"), ("kind", "fixed"), ("result", result)];
    let count = |scrape: &Scrape, result| scrape.sum("podsonar_probes_total", &tcp(result)).unwrap_or(0.0);
    wait(&agent, "answers of nginx", |scrape| count(scrape, "reply") >= 3.0);
    {
        let _hang = nginx.hang().unwrap();
        wait(&agent, "silence of the listener", |scrape| count(scrape, "listener") >= 3.0);
        let scrape = agent.scrape().unwrap();
        let state = [("kind", "fixed"), ("state", "listener")];
        assert_eq!(scrape.sum("podsonar_targets", &state), Some(1.0));
        let trouble = [("destination", address.to_string()), ("state", "listener".into())];
        let trouble = trouble.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(scrape.sum("podsonar_unhealthy_target", &trouble), Some(1.0));
    }
    // Backed off meanwhile: one SYN in half a minute.
    wait(&agent, "answers of nginx again", |scrape| {
        scrape.sum("podsonar_targets", &[("kind", "fixed"), ("state", "answering")]) == Some(1.0)
    });
    let scrape = agent.scrape().unwrap();
    assert_eq!(scrape.sum("podsonar_probes_total", &tcp("lost")), Some(0.0), "nothing was lost");
    assert_eq!(scrape.sum("podsonar_probes_total", &[("protocol", "icmp"), ("result", "lost")]), Some(0.0));
    assert_eq!(nginx.accepted().unwrap(), before, "the application accepted nothing of it");
    agent.stop(soon()).unwrap();
}

#[test]
fn filtered_icmp_is_told_from_a_silent_target() {
    let lab = Lab::new().unwrap();
    let (near, far) = (lab.host("near").unwrap(), lab.host("far").unwrap());
    let wire = lab.veth(&near, &far).unwrap();
    let listener = Listener::start(&far, SocketAddr::from((wire.right.v4, 0))).unwrap();
    far.nft("add table inet f").unwrap();
    far.nft("add chain inet f input { type filter hook input priority 0 ; }").unwrap();
    far.nft("add rule inet f input meta l4proto icmp drop").unwrap();
    let mut agent = Launch::on(&near)
        .target(&listener.address.to_string())
        .arguments(&["--interval", "250ms", "--timeout", "200ms"])
        .start()
        .unwrap();
    let state = |scrape: &Scrape, state| {
        scrape.sum("podsonar_targets", &[("kind", "fixed"), ("state", state)]) == Some(1.0)
    };
    wait(&agent, "filtered ICMP", |scrape| state(scrape, "icmp_filtered"));
    far.nft("add rule inet f input drop").unwrap();
    wait(&agent, "silence", |scrape| state(scrape, "silent"));
    far.nft("flush chain inet f input").unwrap();
    wait(&agent, "answers", |scrape| state(scrape, "answering"));
    agent.stop(soon()).unwrap();
}

#[test]
fn one_dead_path_of_eight_is_found_by_its_flows() {
    let lab = Lab::new().unwrap();
    let world = Ecmp::new(&lab, 1).unwrap();
    let targets =
        [SocketAddr::from((world.far_link.right.v4, 9)), SocketAddr::from((world.far_link.right.v6, 9))];
    let near = [IpAddr::V4(world.near_link.left.v4), IpAddr::V6(world.near_link.left.v6)];
    let launch =
        targets.iter().fold(Launch::on(&world.near), |launch, target| launch.target(&target.to_string()));
    let mut agent = launch.arguments(&["--interval", "350ms", "--timeout", "300ms"]).start().unwrap();
    wait(&agent, "answers of both families", |scrape| {
        ["4", "6"].iter().all(|family| {
            let answers = [("protocol", "tcp"), ("family", *family), ("kind", "fixed"), ("result", "reset")];
            scrape.sum("podsonar_probes_total", &answers).unwrap_or(0.0) > 1.0
        })
    });
    // A path that no echoes take, so that ICMP goes on.
    let echoes: Vec<_> = near
        .iter()
        .zip(&targets)
        .flat_map(|(near, far)| world.paths_of(Flow::Icmp(*near, far.ip())).unwrap())
        .collect();
    let dead = (0..PATHS).find(|path| !echoes.contains(path)).unwrap();
    world.kill(dead).unwrap();
    for target in &targets {
        let destination = target.to_string();
        let flows = [("destination", destination.as_str())];
        wait(&agent, "black-holed flows", |scrape| {
            scrape.sum("podsonar_blackholed_flows", &flows).is_some_and(|flows| flows > 0.0)
        });
    }
    let scrape = agent.scrape().unwrap();
    assert_eq!(scrape.sum("podsonar_edges_in_fault", &[("fault", "flow")]), Some(2.0));
    assert_eq!(scrape.sum("podsonar_mtu_blackholed", &[]), None);
    let flows = agent.reported_flows();
    assert!(!flows.is_empty(), "{:#?}", agent.process.lines());
    for (from, to) in flows {
        let flow = Flow::Tcp(from, to);
        assert!(world.uses(flow, dead).unwrap(), "{flow:?} does not take the dead path");
    }
    world.revive(dead).unwrap();
    wait(&agent, "flows that are healed", |scrape| scrape.sum("podsonar_blackholed_flows", &[]).is_none());
    agent.stop(soon()).unwrap();
}

#[test]
fn a_path_for_small_packets_only_is_a_black_hole_if_nobody_says_so() {
    let lab = Lab::new().unwrap();
    let world = Narrow::new(&lab, 1_400).unwrap();
    let targets = [world.far_end.v4.to_string(), format!("[{}]", world.far_end.v6)];
    let every = |scrape: &Scrape, name: &str, wanted: Option<f64>| {
        targets.iter().all(|target| scrape.sum(name, &[("destination", target)]) == wanted)
    };
    world.silence().unwrap();
    let mut agent = with_large_probes(&world.near, &targets);
    wait(&agent, "the black hole and the size that passes", |scrape| {
        every(scrape, "podsonar_mtu_blackholed", Some(1.0))
            && every(scrape, "podsonar_path_mtu_bytes", Some(1_400.0))
    });
    let scrape = agent.scrape().unwrap();
    assert_eq!(scrape.sum("podsonar_edges_in_fault", &[("fault", "mtu")]), Some(2.0));
    assert_eq!(scrape.sum("podsonar_probes_total", &[("result", "lost")]), Some(0.0), "small ones pass");
    assert_eq!(scrape.sum("podsonar_probes_total", &[("result", "unreachable")]), None);
    world.speak().unwrap();
    wait(&agent, "the end of the black hole", |scrape| every(scrape, "podsonar_mtu_blackholed", None));
    wait(&agent, "the size that is told", |scrape| every(scrape, "podsonar_path_mtu_bytes", Some(1_400.0)));
    agent.stop(soon()).unwrap();
}

#[test]
fn a_path_mtu_that_routers_tell_is_no_black_hole() {
    let lab = Lab::new().unwrap();
    let world = Narrow::new(&lab, 1_300).unwrap();
    let targets = [world.far_end.v4.to_string(), format!("[{}]", world.far_end.v6)];
    let mut agent = with_large_probes(&world.near, &targets);
    wait(&agent, "the path MTU", |scrape| {
        let mtu = |target| scrape.sum("podsonar_path_mtu_bytes", &[("destination", target)]);
        targets.iter().all(|target| mtu(target) == Some(1_300.0))
    });
    let scrape = agent.scrape().unwrap();
    assert_eq!(scrape.sum("podsonar_mtu_blackholed", &[]), None);
    assert!(
        scrape.sum("podsonar_mtu_probes_total", &[("family", "6"), ("result", "too_big")]).unwrap() > 0.0
    );
    agent.stop(soon()).unwrap();
}

#[test]
fn random_loss_blames_no_flow_and_no_path() {
    let lab = Lab::new().unwrap();
    let (near, far) = (lab.host("near").unwrap(), lab.host("far").unwrap());
    let link = lab.link(&near, &far, 5).unwrap();
    for way in [Way::There, Way::Back] {
        link.set(way, Faults { loss: Loss::Random(0.05), ..Faults::default() });
    }
    let target = SocketAddr::from((link.right.v4, 9)).to_string();
    let mut agent = with_large_probes(&near, &[target]);
    wait(&agent, "many probes", |scrape| {
        let tcp = [("protocol", "tcp"), ("kind", "fixed")];
        scrape.sum("podsonar_probes_total", &tcp).unwrap_or(0.0) >= 60.0
    });
    let scrape = agent.scrape().unwrap();
    assert!(scrape.sum("podsonar_probes_total", &[("result", "lost")]).unwrap() > 0.0);
    for fault in ["flow", "mtu"] {
        assert_eq!(scrape.sum("podsonar_edges_in_fault", &[("fault", fault)]), Some(0.0), "{fault}");
    }
    assert_eq!(scrape.sum("podsonar_probes_total", &[("result", "listener")]), None);
    agent.stop(soon()).unwrap();
}

#[test]
fn where_something_answers_for_everybody_tcp_is_not_measured() {
    let lab = Lab::new().unwrap();
    let (near, far) = (lab.host("near").unwrap(), lab.host("far").unwrap());
    let wire = lab.veth(&near, &far).unwrap();
    near.route("default", wire.right.v4).unwrap();
    let proxy = Listener::start(&near, "0.0.0.0:15001".parse().unwrap()).unwrap();
    near.nft("add table ip mesh").unwrap();
    near.nft("add chain ip mesh output { type nat hook output priority -100 ; }").unwrap();
    let redirect = format!("add rule ip mesh output oifname != lo meta l4proto tcp redirect to :{}", 15001);
    near.nft(&redirect).unwrap();
    let target = SocketAddr::from((wire.right.v4, 9)).to_string();
    let mut agent = Launch::on(&near).target(&target).arguments(&["--interval", "250ms"]).start().unwrap();
    wait(&agent, "intercepted probes", |scrape| {
        let intercepted = [("protocol", "tcp"), ("kind", "fixed"), ("reason", "intercepted")];
        scrape.sum("podsonar_probes_void_total", &intercepted).unwrap_or(0.0) >= 3.0
    });
    let scrape = agent.scrape().unwrap();
    let answered = [("protocol", "tcp"), ("kind", "fixed")];
    assert_eq!(scrape.sum("podsonar_probes_total", &answered), Some(0.0));
    assert!(agent.process.lines().iter().any(|line| line.contains("answers SYNs for everybody")));
    assert_eq!(proxy.accepted(), 0);
    agent.stop(soon()).unwrap();
}

/// An agent whose large probes are a second apart.
fn with_large_probes(host: &Host, targets: &[String]) -> Agent {
    let config = Path::new("/run/podsonar.yaml");
    host.write_file(config, b"mtu: { interval: 1s }\n", 0o644).expect("a file");
    let launch = targets.iter().fold(Launch::on(host), |launch, target| launch.target(target));
    let arguments = ["--config", "/run/podsonar.yaml", "--interval", "250ms", "--timeout", "200ms"];
    launch.arguments(&arguments).start().expect("the agent")
}

fn wait(agent: &Agent, what: &str, holds: impl Fn(&Scrape) -> bool) {
    let found = agent.wait_for_metrics(Deadline::after(FOUND), what, |scrape| holds(scrape).then_some(()));
    let state = || format!("{:#?}\n{:#?}", agent.process.lines(), agent.scrape());
    assert!(found.is_ok(), "{found:?}\n{}", state());
}
