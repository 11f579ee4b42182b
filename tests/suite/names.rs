//! Names, from a real name server that changes and fails, to probes on the wire: the agent as it runs for a user.

#[cfg(test)]
#[path = "names/pods.rs"]
mod pods;
#[path = "names/world.rs"]
mod world;

use podsonar_lab::capture::Captured;
use podsonar_lab::packet::{Body, TCP, UDP};
use podsonar_lab::server::dns::{Dns, Zone};
use std::net::IpAddr;
use std::path::Path;
use world::{
    Asking, World, asked, assert_nothing_lost, count, exchanges, probes, queries, unresolved,
    wait_until_asked,
};

/// The target of most tests: its final dot keeps search lists away.
const WWW: &str = "www.lab.test.:9";
const NAME: &str = "www.lab.test.";

#[test]
fn both_families_of_a_name_are_probed_and_its_questions_counted() {
    let world = World::new();
    let _dns = world.serve(&[www("10.77.0.1", "fd77::1")]);
    let capture = world.capture();
    let questions = world.capture_questions();
    let running = world.start(&world.asking(&[WWW]));
    for (address, family) in [("10.77.0.1", "4"), ("fd77::1", "6")] {
        for (protocol, result) in [("icmp", "reply"), ("tcp", "reset")] {
            wait_until_asked(&capture, address, protocol, 3);
            let path = [("protocol", protocol), ("family", family), ("destination", WWW)];
            let scrape = running.until("answered probes", |scrape| probes(scrape, &path, result) >= 2);
            assert!(scrape.sum("podsonar_rtt_seconds_count", &path).unwrap() > 0.0);
        }
    }
    let scrape = running.further(4, NAME, "noerror");
    let server = world.server().to_string();
    let of_server = [("server", server.as_str())];
    let timed = scrape.sum("podsonar_dns_duration_seconds_count", &of_server).unwrap();
    let answered = scrape.sum("podsonar_dns_exchanges_total", &of_server).unwrap();
    assert!(timed > 0.0 && timed <= answered, "{timed} of {answered}");
    assert_eq!(exchanges(&scrape, "searched", "noerror"), 0);
    running.has(2, 0);
    assert_nothing_lost(&scrape);

    // Between two questions, what was asked, what was exchanged and what is on the wire are one number.
    let asked_on_wire = |packets: &[Captured]| {
        let outgoing = packets.iter().filter(|captured| captured.outgoing).filter_map(Captured::packet);
        outgoing.filter(|packet| packet.protocol == UDP).count() as f64
    };
    running.until("each question to have its one result", |scrape| {
        let results = scrape.sum("podsonar_dns_queries_total", &of_server);
        let on_wire = questions.wait_for(podsonar_lab::clock::soon(), |packets| Some(asked_on_wire(packets)));
        results == scrape.sum("podsonar_dns_exchanges_total", &of_server) && results == on_wire.ok()
    });
}

#[test]
fn other_addresses_are_probed_instead_and_the_path_goes_on() {
    let world = World::new();
    let dns = world.serve(&[www("10.77.0.1", "fd77::1")]);
    let running = world.start(&world.asking(&[WWW]));
    let all = |of: &[(&str, &str)]| {
        running.until("replies", |scrape| {
            ["4", "6"].iter().all(|family| {
                let path = [of, &[("family", family)]].concat();
                probes(scrape, &path, "reply") >= 2
            })
        })
    };
    let before = all(&[("protocol", "icmp")]);
    running.has(2, 0);
    let capture = world.capture();
    dns.set_zone(&www("10.77.0.2", "fd77::2")).unwrap();
    for address in ["10.77.0.2", "fd77::2"] {
        for protocol in ["icmp", "tcp"] {
            wait_until_asked(&capture, address, protocol, 4);
        }
    }
    let after = running.agent.scrape().unwrap();
    for family in ["4", "6"] {
        let path = [("protocol", "icmp"), ("family", family)];
        assert!(probes(&after, &path, "reply") > probes(&before, &path, "reply"));
        let labels = [("protocol", "icmp"), ("family", family), ("kind", "name"), ("result", "reply")];
        assert_eq!(after.select("podsonar_probes_total", &labels).count(), 1, "one path");
    }
    running.has(2, 0);
    assert_nothing_lost(&after);
    let packets = capture.stop().unwrap();
    let asked = asked(&packets);
    for (old, new) in [("10.77.0.1", "10.77.0.2"), ("fd77::1", "fd77::2")] {
        let (old, new): (IpAddr, IpAddr) = (old.parse().unwrap(), new.parse().unwrap());
        let first = asked.iter().position(|each| each.0 == new).unwrap();
        assert!(!asked[first..].iter().any(|each| each.0 == old), "{old} is still probed");
    }
}

#[test]
fn a_deleted_name_is_no_longer_probed_and_nothing_is_lost() {
    let world = World::new();
    let dns = world.serve(&[www("10.77.0.1", "fd77::1")]);
    let running = world.start(&world.asking(&[WWW]));
    running.until("replies", |scrape| probes(scrape, &[], "reply") >= 4);
    dns.set_zone(&Zone::new("lab.test")).unwrap();
    running.has(0, 1);
    // The driver has taken it over when it says so; from then on nothing leaves.
    let capture = world.capture();
    let scrape = running.further(4, NAME, "nxdomain");
    assert!(!scrape.select("podsonar_rtt_floor_seconds", &[("kind", "name")]).any(|_| true));
    assert_nothing_lost(&scrape);
    assert_eq!(asked(&capture.stop().unwrap()), []);
    // It comes back.
    dns.set_zone(&www("10.77.0.3", "fd77::3")).unwrap();
    let before = probes(&scrape, &[], "reply");
    running.until("replies again", |scrape| unresolved(scrape) == 0 && probes(scrape, &[], "reply") > before);
}

#[test]
fn a_failing_name_server_changes_nothing_but_its_own_counters() {
    let world = World::new();
    let dns = world.serve(&[www("10.77.0.1", "fd77::1")]);
    let running = world.start(&Asking { timeout: "300ms", ..world.asking(&[WWW]) });
    running.until("replies", |scrape| probes(scrape, &[("family", "6")], "reply") >= 1);
    running.until("replies", |scrape| probes(scrape, &[("family", "4")], "reply") >= 1);
    let goes_on = |result: &str| {
        let before = running.agent.scrape().unwrap();
        let scrape = running.further(6, NAME, result);
        for family in ["4", "6"] {
            let path = [("family", family)];
            assert!(probes(&scrape, &path, "reply") > probes(&before, &path, "reply"), "{result}");
        }
        running.has(2, 0);
        assert_nothing_lost(&scrape);
    };
    let silent = dns.process.pause().unwrap();
    goes_on("timeout");
    drop(silent);
    drop(dns);
    goes_on("unreachable");
    let dns = world.serve(&[Zone::broken("lab.test")]);
    goes_on("servfail");
    drop(dns);
    let _dns = world.serve(&[Zone::new("elsewhere.test")]);
    goes_on("refused");
}

#[test]
fn a_name_that_never_resolves_is_no_loss_and_no_obstacle() {
    let world = World::new();
    let _dns = world.serve(&[Zone::new("lab.test")]);
    let names = ["none.lab.test.", "none.lab.test.:80", "none.elsewhere.test."];
    // Some would be unreachable if anything were sent there.
    let running = world.start(&world.asking(&names));
    running.further(2, "none.lab.test.", "nxdomain");
    let scrape = running.further(2, "none.elsewhere.test.", "refused");
    running.has(0, 2);
    assert!(!scrape.select("podsonar_probes_total", &[("kind", "name")]).any(|_| true));
}

#[test]
fn wrong_addresses_are_a_mismatch_and_not_probed() {
    let world = World::new();
    let zone = www("10.77.0.1", "fd77::1").record("right", 1, "A 10.77.0.5");
    let _dns = world.serve(&[zone]);
    let capture = world.capture();
    let running = world.start(&world.asking(&[
        "{ name: www.lab.test., expect: [10.77.0.9] }",
        "{ name: right.lab.test., expect: [10.77.0.5] }",
    ]));
    let scrape = running.further(2, NAME, "mismatch");
    // Nothing is expected of its other family.
    assert!(queries(&scrape, NAME, "noerror") > 0);
    running.further(1, "right.lab.test.", "noerror");
    for address in ["fd77::1", "10.77.0.5"] {
        wait_until_asked(&capture, address, "icmp", 2);
    }
    let asked = asked(&capture.stop().unwrap());
    assert!(!asked.iter().any(|each| each.0 == "10.77.0.1".parse::<IpAddr>().unwrap()));
    let scrape = running.agent.scrape().unwrap();
    assert_eq!(queries(&scrape, "right.lab.test.", "mismatch"), 0);
}

#[test]
fn the_search_list_is_walked_as_the_resolver_does_and_told_apart() {
    let world = World::new();
    let zones = [
        Zone::new("a.test"),
        Zone::new("b.test").record("web", 1, "A 10.77.0.7"),
        Zone::new("lab.test"),
        Zone::broken("broken.test"),
    ];
    let _dns = world.serve(&zones);
    let names = ["web", "none.lab.test"];
    let running = world.start(&Asking { search: Some(&["a.test", "b.test"]), ..world.asking(&names) });
    // A: not in a.test, there in b.test. AAAA: exists in b.test without one.
    let scrape = running.further(2, "web", "noerror");
    assert!(exchanges(&scrape, "searched", "noerror") > 0);
    assert!(exchanges(&scrape, "searched", "nxdomain") > 0);
    assert_eq!(exchanges(&scrape, "as_written", "noerror"), 0);
    assert!(queries(&running.further(1, "web", "nodata"), "web", "nxdomain") == 0);
    // It has dots enough to be tried as written first, and is nowhere.
    let scrape = running.further(2, "none.lab.test", "nxdomain");
    assert!(exchanges(&scrape, "as_written", "nxdomain") > 0);
    running.until("replies", |scrape| probes(scrape, &[("destination", "web")], "reply") > 0);

    // The server fails on one candidate: what comes later does not hide that, unless it is an answer.
    running.reload(&Asking { search: Some(&["broken.test", "b.test"]), ..world.asking(&names) });
    running.further(2, "none.lab.test", "servfail");
    let scrape = running.further(2, "web", "noerror");
    assert!(exchanges(&scrape, "searched", "servfail") > 0);
    assert!(exchanges(&scrape, "searched", "nxdomain") > 0);
    assert_nothing_lost(&scrape);
}

#[test]
fn a_dead_server_delays_neither_another_one_nor_any_probe() {
    let world = World::new();
    let _dns = world.serve(&[www("10.77.0.1", "fd77::1")]);
    let dead: IpAddr = "10.77.0.53".parse().unwrap();
    world.far.nft("add table ip silent").unwrap();
    world.far.nft("add chain ip silent in { type filter hook input priority 0 ; }").unwrap();
    world.far.nft("add rule ip silent in udp dport 53 drop").unwrap();
    let running = world.start(&Asking {
        servers: Some(vec![dead, world.server()]),
        targets: &["10.77.0.1"],
        interval: "50ms",
        ..world.asking(&["www.lab.test."])
    });
    let silent = [("server", "10.77.0.53"), ("result", "timeout")];
    let scrape = running.until("the dead server's timeouts", |scrape| {
        scrape.sum("podsonar_dns_queries_total", &silent).unwrap_or(0.0) >= 4.0
    });
    let server = world.server().to_string();
    let of_other = [("server", server.as_str())];
    let timed = scrape.sum("podsonar_dns_duration_seconds_count", &of_other).unwrap();
    let quick = [("server", server.as_str()), ("le", "0.5")];
    assert!(timed > 4.0);
    assert_eq!(scrape.sum("podsonar_dns_duration_seconds_bucket", &quick), Some(timed));
    assert_eq!(scrape.sum("podsonar_dns_duration_seconds_count", &silent[..1]), Some(0.0));
    // A machine that is busy may skip a few; waiting for 2 s would skip most.
    let answered = scrape.sum("podsonar_probes_total", &[("result", "reply")]).unwrap();
    let skipped = scrape.sum("podsonar_probes_void_total", &[("reason", "skipped")]).unwrap_or(0.0);
    assert!(skipped * 10.0 < answered, "{skipped} skipped, {answered} answered");
    assert_eq!(count(&scrape, "podsonar_probes_void_total", &[("reason", "unknown")]), 0);
    assert_nothing_lost(&scrape);
    running.has(2, 0);
}

#[test]
fn truncated_answers_are_asked_for_over_tcp() {
    let world = World::new();
    let many = (1..=100)
        .fold(Zone::new("lab.test"), |zone, last| zone.record("many", 1, &format!("A 10.77.1.{last}")));
    let _dns = world.serve(&[many]);
    let questions = world.capture_questions();
    let capture = world.capture();
    let running = world.start(&world.asking(&["many.lab.test."]));
    let scrape = running.further(2, "many.lab.test.", "noerror");
    assert!(exchanges(&scrape, "as_written", "noerror") >= 2);
    for last in [1, 16] {
        wait_until_asked(&capture, &format!("10.77.1.{last}"), "icmp", 2);
    }
    running.has(16, 0);
    let packets = questions.stop().unwrap();
    let over_tcp = packets.iter().filter_map(Captured::packet).filter(|packet| packet.protocol == TCP);
    assert!(over_tcp.filter(|packet| matches!(packet.body, Body::Tcp(tcp) if tcp.is_syn())).count() >= 2);
}

#[test]
fn a_reload_adds_and_removes_names() {
    let world = World::new();
    let zone = www("10.77.0.1", "fd77::1").record("one", 1, "A 10.77.0.11").record("two", 1, "A 10.77.0.12");
    let _dns = world.serve(&[zone]);
    let running = world.start(&world.asking(&["one.lab.test.", NAME]));
    let replies = |scrape: &_, destination: &str| probes(scrape, &[("destination", destination)], "reply");
    let before = running
        .until("replies", |scrape| replies(scrape, NAME) >= 2 && replies(scrape, "one.lab.test.") >= 2);
    running.reload(&world.asking(&[NAME, "two.lab.test."]));
    let loaded = [("result", "ok")];
    running.until("the reload", |scrape| {
        scrape.sum("podsonar_config_reloads_total", &loaded) == Some(1.0)
            && replies(scrape, "two.lab.test.") >= 2
    });
    let capture = world.capture();
    let scrape = running.further(4, "two.lab.test.", "noerror");
    assert!(replies(&scrape, NAME) > replies(&before, NAME));
    assert!(replies(&scrape, "one.lab.test.") >= replies(&before, "one.lab.test."), "it is retained");
    let asked = asked(&capture.stop().unwrap());
    assert!(asked.iter().any(|each| each.0 == "10.77.0.12".parse::<IpAddr>().unwrap()));
    assert!(!asked.iter().any(|each| each.0 == "10.77.0.11".parse::<IpAddr>().unwrap()));
    running.has(3, 0);
    assert_nothing_lost(&scrape);
}

#[test]
fn what_is_not_configured_is_as_resolv_conf_has_it_also_when_that_changes() {
    let world = World::new();
    let zones = [
        Zone::new("a.test").record("web", 1, "A 10.77.0.21"),
        Zone::new("b.test").record("web", 1, "A 10.77.0.22"),
    ];
    let _dns = world.serve(&zones);
    let _other = Dns::start(&world.far, &["10.77.0.53".parse().unwrap()], &zones).unwrap();
    resolv_conf(&world, &format!("nameserver {}\nsearch a.test\n", world.server()));
    // Its own, in this host's mounts alone.
    world.near.run("mount --bind /run/resolv.conf /etc/resolv.conf").unwrap();
    let capture = world.capture();
    let running = world.start(&Asking { servers: None, search: None, ..world.asking(&["web"]) });
    wait_until_asked(&capture, "10.77.0.21", "icmp", 2);
    resolv_conf(&world, "nameserver 10.77.0.53\nsearch b.test\noptions ndots:2\n");
    wait_until_asked(&capture, "10.77.0.22", "icmp", 2);
    let scrape = running.until("the other server's answers", |scrape| {
        let other = [("server", "10.77.0.53"), ("name", "web"), ("result", "noerror")];
        scrape.sum("podsonar_dns_queries_total", &other).unwrap_or(0.0) >= 2.0
    });
    assert_eq!(scrape.sum("podsonar_config_last_reload_successful", &[]), Some(1.0));
    assert_nothing_lost(&scrape);
}

fn www(v4: &str, v6: &str) -> Zone {
    Zone::new("lab.test").record("www", 1, &format!("A {v4}")).record("www", 1, &format!("AAAA {v6}"))
}

fn resolv_conf(world: &World, text: &str) {
    world.near.write_file(Path::new("/run/resolv.conf"), text.as_bytes(), 0o644).expect("a file");
}
