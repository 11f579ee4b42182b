//! `podsonar-lab pictures`: what the README's pictures are drawn from. A mesh in which two things break and are put right
//! again, a Prometheus that watches, and what its dashboards' queries give.

use clap::Parser;
use podsonar_lab::clock::{self, Deadline, ask_each, unix_seconds};
use podsonar_lab::dashboard::{Dashboard, Query, filled};
use podsonar_lab::fault::{Faults, Loss, Only};
use podsonar_lab::link::Way;
use podsonar_lab::server::prometheus::{Format, Prometheus, Version};
use podsonar_lab::world::mesh::{self, Mesh, Node};
use podsonar_lab::world::monitor;
use podsonar_lab::{Lab, LabError};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
pub(crate) struct Pictures {
    /// The folder with the dashboards
    #[arg(long, default_value = "dashboards/grafana")]
    dashboards: PathBuf,
    /// Where the answers go, as JSON
    #[arg(long)]
    answers: PathBuf,
}

/// Two nodes in each.
const ZONES: [&str; 6] = ["zone-1", "zone-1", "zone-2", "zone-2", "zone-3", "zone-3"];

/// The node that loses what it sends, and the zone to which the way becomes longer.
const LOSSY: &str = "node-5";
const FAR: &str = "zone-2";

/// What lines over time look back over.
const WINDOW: Duration = Duration::from_secs(30);
/// How long all is well, before and after.
const WELL: Duration = Duration::from_mins(1);
/// How long something is broken.
const BROKEN: Duration = Duration::from_mins(2);

/// A picture: panels side by side.
struct Picture {
    file: &'static str,
    title: &'static str,
    /// By dashboard and title.
    panels: [(&'static str, &'static str); 2],
}

const PICTURES: [Picture; 3] = [
    Picture {
        file: "overview",
        title: "podsonar / overview: node-5 loses 20 % of what it sends",
        panels: [("overview", "Loss, zone to zone"), ("overview", "Loss, node to node")],
    },
    Picture {
        file: "latency",
        title: "podsonar / overview: the way to zone-2 takes 8 ms more",
        panels: [
            ("overview", "Round trip, zone to zone, median"),
            ("overview", "Round trip by zone pair, median"),
        ],
    },
    Picture {
        file: "direction",
        title: "podsonar / node: node-5, which loses 20 % of what it sends",
        panels: [("node", "One way: out and in"), ("node", "Round trips: from and to")],
    },
];

const SETTINGS: &str = "preflight: { interception: false }\nprobes: { agents_interval: 250ms }\n\
     exchange: { interval: 1s, timeout: 900ms }\n";

impl Pictures {
    pub(crate) fn run(&self) -> Result<ExitCode, LabError> {
        let lab = Lab::new()?;
        let mut mesh = Mesh::new(&lab, &ZONES, 1)?;
        for node in &mesh.nodes {
            node.configure(SETTINGS)?;
            node.link.set_both(&usual(node));
        }
        mesh.start_agents()?;
        mesh::wait_until_seen(&mesh, clock::soon())?;
        let host = monitor::monitor(&lab, &mesh)?;
        let job = monitor::job(&mesh);
        let prometheus = Prometheus::with_jobs(&host, Version::Three, Format::Native, 9090, &job)?;
        pass(WINDOW)?;
        let begin = unix_seconds();
        pass(WELL)?;
        let broken = unix_seconds();
        break_things(&mesh);
        pass(BROKEN)?;
        let healed = unix_seconds();
        for node in &mesh.nodes {
            node.link.set_both(&usual(node));
        }
        pass(WELL)?;
        let end = unix_seconds();
        let mut pictures = Vec::new();
        for Picture { file, title: picture, panels } in PICTURES {
            let mut drawn = Vec::new();
            for (name, title) in panels {
                let dashboard = Dashboard::read(&self.dashboards.join(format!("{name}.json")))?;
                let window = format!("{}s", WINDOW.as_secs());
                let values = dashboard.chosen(LOSSY, &window);
                let panel = dashboard.panel(title)?;
                let answer = |query: &Query| -> Result<Value, LabError> {
                    let text = filled(&query.text, &values)?;
                    let series = if query.over_time {
                        prometheus.range(&text, begin, end)?
                    } else {
                        prometheus.at(&text, healed)?
                    };
                    Ok(json!({ "legend": query.legend, "overTime": query.over_time, "series": series }))
                };
                let answers = panel.queries.iter().map(answer).collect::<Result<Vec<_>, _>>()?;
                drawn.push(json!({ "title": title, "unit": panel.unit, "answers": answers }));
            }
            pictures.push(json!({ "file": file, "title": picture, "panels": drawn }));
        }
        let all = json!({ "begin": begin, "broken": broken, "healed": healed, "pictures": pictures });
        std::fs::write(&self.answers, all.to_string()).map_err(|error| LabError::Kernel {
            doing: format!("write {}", self.answers.display()),
            source: error,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// One node loses a fifth of what it sends to others; the way to a zone is 8 ms longer.
fn break_things(mesh: &Mesh) {
    for node in &mesh.nodes {
        if node.name == LOSSY {
            let loss = Loss::Random(0.2);
            node.link.set(Way::Back, Faults { loss, only: Only::icmp(), ..usual(node) });
        }
        if node.zone == FAR {
            let delay = usual(node).delay + Duration::from_millis(8);
            node.link.set(Way::There, Faults { delay, ..usual(node) });
        }
    }
}

/// The third zone is farther away than the others.
fn usual(node: &Node) -> Faults {
    let delay = Duration::from_millis(if node.zone == "zone-3" { 3 } else { 1 });
    Faults { delay, jitter: Duration::from_micros(100), ..Faults::default() }
}

/// Lets so much time pass: it is what the pictures show.
fn pass(time: Duration) -> Result<(), LabError> {
    let end = Deadline::after(time);
    let margin = Deadline::after(time + Duration::from_secs(5));
    ask_each(Duration::from_millis(200), margin, "time to pass", || Ok(end.passed().then_some(())))
}
