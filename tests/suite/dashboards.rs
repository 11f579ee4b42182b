//! Every query of every dashboard, asked of real servers: Prometheus 2.42 with native histograms alone and Prometheus 3
//! with classic ones alone, which scrape a mesh in which something of each kind is broken.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

use podsonar_lab::clock::{Deadline, ask_each, soon, unix_seconds, wait_until};
use podsonar_lab::dashboard::{Dashboard, Variable, filled};
use podsonar_lab::fault::{Faults, Loss, Mtu, Only};
use podsonar_lab::link::Way;
use podsonar_lab::packet::ICMP;
use podsonar_lab::scrape::Scrape;
use podsonar_lab::server::Listener;
use podsonar_lab::server::dns::{Dns, Zone};
use podsonar_lab::server::prometheus::{Format, Prometheus, Version};
use podsonar_lab::world::mesh::{Mesh, NAMESPACE, PORT};
use podsonar_lab::world::monitor;
use podsonar_lab::{Lab, LabError};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// The dashboards, by their files.
const NAMES: [&str; 5] = ["overview", "node", "workload", "dns", "agents"];

/// Panels that have nothing to show here, and why: they have data in `scraping.rs`. Their queries are asked all the same,
/// and must be understood.
const EMPTY_HERE: [(&str, &str, &str); 1] =
    [("agents", "Failures of watches", "the mesh has no Kubernetes API to watch")];

/// Where the name server is: on the router.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 53);

/// Another address that leads to it, and answers come from its own.
const MISTRANSLATED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 54);

const SETTINGS: &str = "probes: { agents_interval: 500ms, pods_interval: 1s, own_pods_interval: 1s }\n\
     exchange: { interval: 1s, timeout: 900ms }\nmtu: { interval: 1s }\npreflight: { interception: false }\n\
     dns: { servers: [10.77.0.53, 10.77.0.54], search: [demo.test], cluster_domain: cluster.local, interval: 1s, max_qps: 20,\n\
     \x20 names: [\"right.demo.test.:53\", { name: wrong.demo.test., expect: [10.9.9.9], protocols: [] }] }\n";

#[test]
fn every_query_of_every_panel_and_every_variable_finds_data_in_a_mesh_with_faults() {
    let world = World::new();
    world.break_things();
    let (empty, open): (Vec<_>, Vec<_>) = world.questions().into_iter().partition(Question::is_empty_here);
    for (name, title, why) in EMPTY_HERE {
        assert!(empty.iter().any(|question| question.is_of(name, title)), "no panel {title}: {why}");
    }
    world.wait_for_answers(open);
    world.wait_for_values();
    for question in &empty {
        assert!(!world.answers(question).unwrap(), "it is not empty here: {}", question.title);
    }
}

/// What is scraped for so long has data in every panel. Windows of loss are a minute long, all else is told in ten seconds.
const WITHIN: Duration = Duration::from_secs(90);

/// A query of a panel, for one of the servers.
struct Question {
    name: &'static str,
    title: String,
    text: String,
    over_time: bool,
    server: usize,
}

impl Question {
    fn is_of(&self, name: &str, title: &str) -> bool {
        self.name == name && self.title == title
    }

    fn is_empty_here(&self) -> bool {
        EMPTY_HERE.iter().any(|(name, title, _)| self.is_of(name, title))
    }
}

/// Three nodes in two zones with two pods each, a name server, and two servers that scrape.
struct World {
    /// When the servers began, in Unix seconds.
    begin: f64,
    servers: [Prometheus; 2],
    mesh: Mesh,
    _listeners: Vec<Listener>,
    _dns: Dns,
    _lab: Lab,
}

impl World {
    /// All agents have seen everything but one pod, which is still to come, and the servers have seen all agents: what
    /// happens before a first scrape is no increase.
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let mut mesh = Mesh::new(&lab, &["zone-1", "zone-1", "zone-2"], 2).unwrap();
        let dns = name_server(&mesh);
        let pods = mesh.nodes.iter().flat_map(|node| &node.pods);
        let listeners =
            pods.map(|pod| Listener::start(&pod.host, (pod.address, PORT).into()).unwrap()).collect();
        for node in &mesh.nodes {
            node.configure(SETTINGS).unwrap();
        }
        mesh.nodes[1].tell_of(|pod| pod.name != "web-2-2").unwrap();
        mesh.start_agents().unwrap();
        let host = monitor::monitor(&lab, &mesh).unwrap();
        let job = monitor::job(&mesh);
        let start =
            |version, format, port| Prometheus::with_jobs(&host, version, format, port, &job).unwrap();
        let servers = [start(Version::Two, Format::Native, 9090), start(Version::Three, Format::Text, 9091)];
        let world =
            Self { begin: unix_seconds(), servers, mesh, _listeners: listeners, _dns: dns, _lab: lab };
        world.wait_for("all but one to be seen", |page| {
            let answering = |kind| page.sum("podsonar_targets", &[("kind", kind), ("state", "answering")]);
            answering("agent") == Some(2.0) && answering("pod") == Some(5.0)
        });
        for server in &world.servers {
            wait_until(soon(), "a scrape of each agent", || {
                let found = server.query("up == 1")?;
                Ok((found.len() == world.mesh.nodes.len()).then_some(()))
            })
            .unwrap();
        }
        world
    }

    /// A new pod; a pod without a network; a node that loses some of what it sends; one that hears nothing of another;
    /// a way that is too narrow; a way on which some flows are dead.
    fn break_things(&self) {
        let [_, second, third] = &self.mesh.nodes[..] else { panic!("three nodes") };
        second.tell_of(|_| true).unwrap();
        self.wait_for("the new pod", |page| {
            page.sum("podsonar_targets", &[("kind", "pod"), ("state", "answering")]) == Some(6.0)
        });
        third.pods[0].cut().unwrap();
        let loss = Loss::Random(0.2);
        third.link.set(Way::Back, Faults { loss, only: Only::icmp(), ..Faults::default() });
        let deaf_to = IpAddr::from(third.address);
        let only = Only::matching(move |packet| packet.protocol == ICMP && packet.src == deaf_to);
        let mtu = Some(Mtu { bytes: 1000, answer: false });
        second.link.set(Way::There, Faults { loss: Loss::All, only, mtu, ..Faults::default() });
        let only = Only::one_flow_of(4);
        second.pods[0].link.set(Way::There, Faults { loss: Loss::All, only, ..Faults::default() });
    }

    fn wait_for(&self, what: &str, so: impl Fn(&Scrape) -> bool) {
        for node in &self.mesh.nodes {
            node.agent().unwrap().wait_for_metrics(soon(), what, |page| so(page).then_some(())).unwrap();
        }
    }

    /// All queries, for both servers.
    fn questions(&self) -> Vec<Question> {
        let mut questions = Vec::new();
        for name in NAMES {
            let dashboard = dashboard(name);
            // The first node sees the others.
            let values = dashboard.chosen("node-1", "10s");
            for panel in &dashboard.panels {
                for query in &panel.queries {
                    let text = filled(&query.text, &values).unwrap();
                    questions.extend((0..self.servers.len()).map(|server| Question {
                        name,
                        title: panel.title.clone(),
                        text: text.clone(),
                        over_time: query.over_time,
                        server,
                    }));
                }
            }
        }
        questions
    }

    /// Waits until there is an answer to each.
    fn wait_for_answers(&self, mut open: Vec<Question>) {
        let asked = ask_each(Duration::from_secs(1), Deadline::after(WITHIN), "data of every query", || {
            let mut left = Vec::new();
            for question in open.drain(..) {
                if !self.answers(&question)? {
                    left.push(question);
                }
            }
            open = left;
            Ok(open.is_empty().then_some(()))
        });
        let words = |question: &Question| {
            let Question { name, title, text, server, .. } = question;
            format!("{name}, {title}, server {server}: nothing for\n{text}\n")
        };
        let words: String = open.iter().map(words).collect();
        assert!(asked.is_ok(), "{asked:?}\n{words}");
    }

    /// Waits until each variable that asks for a label's values has some. No server here adds a label `cluster`.
    fn wait_for_values(&self) {
        for name in NAMES {
            for Variable { name: variable, values, .. } in dashboard(name).variables {
                let Some(values) = values.filter(|_| variable != "cluster") else { continue };
                let series = filled(&values.series, &[("cluster", ".*")]).unwrap();
                let query = format!("group by ({}) ({series})", values.label);
                let what = format!("values of {variable} in {name}: {query}");
                for server in &self.servers {
                    wait_until(soon(), &what, || {
                        let found = server.query(&query)?;
                        let named = found.iter().any(|sample| sample.labels.contains_key(&values.label));
                        Ok(named.then_some(()))
                    })
                    .unwrap();
                }
            }
        }
    }

    /// Whether there is a number: now, or for what is drawn over time at any moment since the servers began. That the
    /// server understands the query is no question.
    fn answers(&self, question: &Question) -> Result<bool, LabError> {
        let (server, now) = (&self.servers[question.server], unix_seconds());
        let series = if question.over_time {
            server.range(&question.text, self.begin, now)?
        } else {
            server.at(&question.text, now)?
        };
        Ok(series.as_array().is_some_and(|series| series.iter().flat_map(numbers).any(f64::is_finite)))
    }
}

/// The numbers of a series: one, or one for each moment.
fn numbers(series: &Value) -> Vec<f64> {
    let points = series.get("values").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let points = points.iter().chain(series.get("value"));
    points.filter_map(|point| point.get(1)?.as_str()?.parse().ok()).collect()
}

fn dashboard(name: &str) -> Dashboard {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dashboards/grafana");
    Dashboard::read(&folder.join(format!("{name}.json"))).unwrap()
}

/// Serves pods' names and two others. What is sent to the other address gets there too, and the answers come from the
/// right one: such is a translation of addresses that works one way.
fn name_server(mesh: &Mesh) -> Dns {
    mesh.router.address("lo", &format!("{NAME_SERVER}/32")).unwrap();
    for rule in [
        "add table ip translation",
        "add chain ip translation there { type filter hook prerouting priority -300 ; }",
        &format!("add rule ip translation there ip daddr {MISTRANSLATED} ip daddr set {NAME_SERVER}"),
    ] {
        mesh.router.nft(rule).unwrap();
    }
    let pods = mesh.nodes.iter().flat_map(|node| &node.pods);
    let names = pods.fold(Zone::new("pod.cluster.local"), |zone, pod| zone.pod(NAMESPACE, pod.address));
    let own = format!("A {NAME_SERVER}");
    let demo = Zone::new("demo.test").record("right", 30, &own).record("wrong", 30, &own);
    Dns::start(&mesh.router, &[NAME_SERVER.into()], &[names, demo]).unwrap()
}
