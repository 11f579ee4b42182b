//! The real servers of the lab serve, and fail as they are told to.

use podsonar_lab::agent::Launch;
use podsonar_lab::clock::soon;
use podsonar_lab::lab::Veth;
use podsonar_lab::scrape::Scrape;
use podsonar_lab::server::dns::{Dns, Zone};
use podsonar_lab::server::nginx::Nginx;
use podsonar_lab::{Host, Lab, scrape, tool};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

#[test]
fn nginx_serves_both_families_and_counts_what_it_accepts() {
    let world = World::new();
    let nginx = world.nginx();
    assert_eq!(nginx.accepted().unwrap(), 0);
    for address in &nginx.addresses {
        assert_eq!(scrape::get(&world.near, *address, "/", &[]).unwrap().text(), "nginx\n");
    }
    assert_eq!(nginx.accepted().unwrap(), 2);
}

#[test]
fn nginx_accepts_nothing_of_half_open_probes() {
    let world = World::new();
    let nginx = world.nginx();
    let targets = nginx.addresses.iter().map(SocketAddr::to_string);
    let launch = targets.fold(Launch::on(&world.near), |launch, target| launch.target(&target));
    let agent = launch.arguments(&["--interval", "250ms", "--protocols", "tcp"]).start().unwrap();
    for family in ["4", "6"] {
        let labels = [("protocol", "tcp"), ("family", family), ("result", "reply")];
        let replies = |scrape: &Scrape| scrape.sum("podsonar_probes_total", &labels);
        let enough = |scrape: &Scrape| replies(scrape).filter(|replies| *replies >= 5.0);
        agent.wait_for_metrics(soon(), "replies to SYNs", enough).unwrap();
    }
    assert_eq!(nginx.accepted().unwrap(), 0);
}

#[test]
fn nginx_accepts_each_full_handshake_that_is_wanted() {
    let world = World::new();
    let nginx = world.nginx();
    let targets = nginx.addresses.iter().map(SocketAddr::to_string);
    let launch = targets.fold(Launch::on(&world.near), |launch, target| launch.target(&target));
    let mut agent = launch.arguments(&["--interval", "250ms", "--protocols", "connect"]).start().unwrap();
    let count = |scrape: &Scrape, result| {
        let labels = [("protocol", "connect"), ("kind", "fixed"), ("result", result)];
        scrape.sum("podsonar_probes_total", &labels).unwrap_or(0.0)
    };
    let enough = |scrape: &Scrape| (count(scrape, "reply") >= 10.0).then(|| scrape.clone());
    let scrape = agent.wait_for_metrics(soon(), "handshakes", enough).unwrap();
    assert_eq!((count(&scrape, "lost"), count(&scrape, "unreachable")), (0.0, 0.0));
    let timed = scrape.sum("podsonar_connect_duration_seconds_count", &[("kind", "fixed")]).unwrap();
    assert!(timed > 0.0);
    assert!(scrape.sum("podsonar_rtt_seconds_count", &[("kind", "fixed")]).unwrap_or(0.0) == 0.0);
    agent.stop(soon()).unwrap();
    assert!(nginx.accepted().unwrap() as f64 >= count(&scrape, "reply"));
}

#[test]
fn hanging_nginx_is_silent_on_its_ports_and_goes_on_afterwards() {
    let world = World::new();
    let nginx = world.nginx();
    let hang = nginx.hang().unwrap();
    for address in &nginx.addresses {
        let connect = || TcpStream::connect_timeout(address, Duration::from_millis(300));
        assert_eq!(world.near.enter(connect).unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        let closed = SocketAddr::new(address.ip(), 9);
        let refused =
            world.near.enter(|| TcpStream::connect_timeout(&closed, Duration::from_secs(5))).unwrap();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused, "its host answers");
        world.near.run(&format!("ping -c 1 -W 10 {}", address.ip())).unwrap();
    }
    drop(hang);
    for address in &nginx.addresses {
        assert_eq!(scrape::get(&world.near, *address, "/", &[]).unwrap().status, 200);
    }
    assert!(nginx.accepted().unwrap() >= 2);
}

#[test]
fn dns_server_answers_from_its_zones_and_fails_in_each_way() {
    let world = World::new();
    let [v4, v6] = world.addresses();
    let mut zone = Zone::new("lab.test")
        .record("www", 60, "A 10.0.0.7")
        .record("www", 60, "AAAA fd00::7")
        .record("now", 0, "A 10.0.0.8")
        .record("one", 60, "CNAME two")
        .record("two", 60, "CNAME www")
        .large_text("large", 60, 3000)
        .delegation("lame", "10.255.255.1".parse().unwrap());
    for last in 1..=100 {
        zone = zone.record("many", 60, &format!("A 10.1.0.{last}"));
    }
    let _dns = Dns::start(&world.far, &[v4, v6], &[zone, Zone::broken("broken.test")]).unwrap();
    for server in [v4, v6] {
        let ask = |question: &str| world.ask(server, question);
        assert_eq!(ask("www.lab.test A"), answer("NOERROR", &["www.lab.test. 60 A 10.0.0.7"]));
        assert_eq!(ask("www.lab.test AAAA"), answer("NOERROR", &["www.lab.test. 60 AAAA fd00::7"]));
        assert_eq!(ask("now.lab.test A"), answer("NOERROR", &["now.lab.test. 0 A 10.0.0.8"]));
        let chain = [
            "one.lab.test. 60 CNAME two.lab.test.",
            "two.lab.test. 60 CNAME www.lab.test.",
            "www.lab.test. 60 A 10.0.0.7",
        ];
        assert_eq!(ask("one.lab.test A"), answer("NOERROR", &chain));
        assert_eq!(ask("one.lab.test MX"), answer("NOERROR", &chain[..2]), "no data at the end of a chain");
        assert_eq!(ask("www.lab.test MX"), answer("NOERROR", &[]));
        assert_eq!(ask("none.lab.test A"), answer("NXDOMAIN", &[]));
        assert_eq!(ask("www.elsewhere.test A"), answer("REFUSED", &[]));
        assert_eq!(ask("www.broken.test A"), answer("SERVFAIL", &[]));
        assert_eq!(ask("www.lame.lab.test A"), answer("NOERROR", &[]), "a referral");
        for (question, records) in [("large.lab.test TXT", 1), ("many.lab.test A", 100)] {
            let truncated = ask(&format!("{question} +ignore"));
            assert!(truncated.flags.contains(" tc"), "{truncated:?}");
            let whole = ask(&format!("{question} +tcp"));
            assert!(!whole.flags.contains(" tc") && whole.records.len() == records, "{whole:?}");
        }
    }
}

#[test]
fn dns_server_changes_its_zone_while_it_serves() {
    let world = World::new();
    let [v4, _] = world.addresses();
    let zone = |address| Zone::new("lab.test").record("www", 1, &format!("A {address}"));
    let dns = Dns::start(&world.far, &[v4], &[zone("10.0.0.7")]).unwrap();
    assert_eq!(world.ask(v4, "www.lab.test A").records, ["www.lab.test. 1 A 10.0.0.7"]);
    for address in ["10.0.0.8", "10.0.0.9"] {
        dns.set_zone(&zone(address)).unwrap();
        assert_eq!(world.ask(v4, "www.lab.test A").records, [format!("www.lab.test. 1 A {address}")]);
    }
}

#[test]
fn stopped_dns_server_is_silent_and_answers_late() {
    let world = World::new();
    let [v4, _] = world.addresses();
    let dns = Dns::start(&world.far, &[v4], &[Zone::new("lab.test").record("www", 1, "A 10.0.0.7")]).unwrap();
    let paused = dns.process.pause().unwrap();
    let mut command = std::process::Command::new(tool::server("kdig").unwrap());
    command.args([&format!("@{v4}"), "www.lab.test", "A", "+retry=0", "+timeout=1"]);
    let output = world.near.output(command).unwrap();
    assert!(!output.status.success(), "{output:?}");
    let capture = world.near.capture(&world.veth.left.interface).unwrap();
    drop(paused);
    // The answer to what was asked meanwhile.
    capture.wait_for(soon(), |packets| packets.iter().find(|packet| !packet.outgoing).map(drop)).unwrap();
    assert_eq!(world.ask(v4, "www.lab.test A").status, "NOERROR");
}

/// A client's host and a server's.
struct World {
    near: Host,
    far: Host,
    veth: Veth,
}

/// What kdig says of an answer.
#[derive(Debug)]
struct Answer {
    status: String,
    flags: String,
    records: Vec<String>,
}

impl World {
    fn new() -> Self {
        let lab = Lab::new().expect("a lab");
        let (near, far) = (lab.host("near").expect("a host"), lab.host("far").expect("a host"));
        let veth = lab.veth(&near, &far).expect("a veth pair");
        Self { near, far, veth }
    }

    fn addresses(&self) -> [IpAddr; 2] {
        [self.veth.right.v4.into(), self.veth.right.v6.into()]
    }

    fn nginx(&self) -> Nginx {
        Nginx::start(&self.far, &self.addresses().map(|address| SocketAddr::new(address, 80))).expect("nginx")
    }

    fn ask(&self, server: IpAddr, question: &str) -> Answer {
        let kdig = tool::server("kdig").expect("kdig");
        let text = self.near.run(&format!("{} @{server} {question}", kdig.display())).expect("an answer");
        let after = |mark: &str| {
            let (_, rest) = text.split_once(mark).expect(mark);
            rest.split_once(';').map_or(rest, |(value, _)| value).trim().to_owned()
        };
        let answers = text.split_once(";; ANSWER SECTION:\n").map_or("", |(_, rest)| rest);
        let answers = answers.lines().take_while(|line| !line.is_empty());
        let record = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "IN").collect();
            words.join(" ")
        };
        Answer {
            status: after("status: "),
            flags: format!(" {}", after("Flags: ")),
            records: answers.map(record).collect(),
        }
    }
}

/// What an [`Answer`] is compared with.
fn answer(status: &str, records: &[&str]) -> (String, Vec<String>) {
    (status.to_owned(), records.iter().map(|&record| record.to_owned()).collect())
}

impl PartialEq<(String, Vec<String>)> for Answer {
    fn eq(&self, (status, records): &(String, Vec<String>)) -> bool {
        self.status == *status && self.records == *records
    }
}
