//! How agents of a cluster come to be scraped: by what prometheus-operator makes of the chart's `PodMonitor`, and by the job
//! that the README gives. The agent's pod is as the chart renders it, in a real API server, and Prometheus 3 finds it there.
//! Debian's Prometheus 2 is built without the discovery of Kubernetes: it is given what version 3 discovered.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use podsonar_lab::clock::{soon, wait_until};
use podsonar_lab::dashboard::{Dashboard, filled};
use podsonar_lab::server::apiserver::{self, ApiServer, Settings, Write, objects};
use podsonar_lab::server::prometheus::{Prometheus, Version};
use podsonar_lab::{Agent, Host, Lab, tool};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The versions as the operator knows them: the oldest that podsonar supports, and the one in `tests/tools/prometheus`.
const NUMBERS: [(Version, &str); 2] = [(Version::Two, "2.42.0"), (Version::Three, "3.16.0")];

/// Where the API server is, where the agent, and where another pod.
const API: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 7));
const OTHER: &str = "10.9.0.8";

#[test]
fn agents_are_found_and_named_by_their_node_with_the_pod_monitor_and_with_the_readme_s_job() {
    let mut world = World::new();
    let classic = world.pod_monitor("classic");
    let by_operator =
        world.start(Version::Three, 9090, &world.generated(Version::Three, &classic, None), &[]);
    let by_readme = world.start(Version::Three, 9091, &with_interval(&readme_s_job()), &[]);
    let native = world.with_histograms("native", 9092);
    let both = world.with_histograms("both", 9093);
    for server in [&by_operator, &by_readme, &native, &both] {
        gives_the_labels_of_a_node(server);
    }

    let (in_text, in_protobuf) = ("podsonar_rtt_seconds_bucket", "histogram_count(podsonar_rtt_seconds)");
    for (server, has_classic, has_native) in
        [(&by_operator, true, false), (&native, false, true), (&both, true, true)]
    {
        for (query, expected) in [(in_text, has_classic), (in_protobuf, has_native)] {
            let found = || Ok((server.query(query)?.is_empty() != expected).then_some(()));
            wait_until(soon(), &format!("{query}: {expected}"), found).unwrap();
        }
    }

    let discovered = [&by_operator, &by_readme].map(as_static_targets);
    let [of_operator, of_readme] = &discovered;
    let config = world.generated(Version::Two, &classic, Some(of_operator));
    let two = world.start(Version::Two, 9094, &config, &["--enable-feature=native-histograms"]);
    gives_the_labels_of_a_node(&two);
    wait_until(soon(), "native histograms", || Ok((!two.query(in_protobuf)?.is_empty()).then_some(())))
        .unwrap();
    let job = readme_s_job()
        .replace("  kubernetes_sd_configs: [{ role: pod }]\n", &format!("  static_configs: {of_readme}\n"));
    gives_the_labels_of_a_node(&world.start(Version::Two, 9095, &with_interval(&job), &[]));

    world.server.kill();
    shows(&by_operator, "Failures of watches");
}

/// A node with an API server, in which the agent's pod and another one are, and that agent.
struct World {
    host: Host,
    _agent: Agent,
    server: ApiServer,
    _lab: Lab,
}

impl World {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let host = lab.host("node").unwrap();
        for address in [API, POD] {
            host.address("lo", &format!("{address}/32")).unwrap();
        }
        let server = ApiServer::start(&host, API, Settings::default()).unwrap();
        server.grant().unwrap();
        server.write(&[objects::create_node("node-1", "zone-a"), the_pod(&host)]).unwrap();
        server.write(&[objects::create_pod("other", "node-1"), annotated_stranger()]).unwrap();
        let runs = |address: &str| json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
        for (namespace, name, address) in [
            (apiserver::NAMESPACE, &*own().pod(), POD.to_string()),
            (objects::PODS, "other", OTHER.to_owned()),
            (objects::PODS, "stranger", OTHER.to_owned()),
        ] {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
            server.write(&[Write::merge(&path, runs(&address))]).unwrap();
        }
        let launch = server.launch(&host, &own()).unwrap();
        let agent = launch.listen((POD, 19988).into()).target(&POD.to_string()).start().unwrap();
        Self { host, _agent: agent, server, _lab: lab }
    }

    /// A server as in a pod of this cluster.
    fn start(&self, version: Version, port: u16, config: &str, arguments: &[&str]) -> Prometheus {
        let mut command = version.command().unwrap();
        command.args(arguments).envs(self.server.variables());
        Prometheus::with_config(&self.host, command, port, config).unwrap()
    }

    /// Prometheus 3 with the `PodMonitor` for these histograms.
    fn with_histograms(&self, histograms: &str, port: u16) -> Prometheus {
        let monitor = self.pod_monitor(histograms);
        self.start(Version::Three, port, &self.generated(Version::Three, &monitor, None), &[])
    }

    /// The chart's `PodMonitor`, for these histograms.
    fn pod_monitor(&self, histograms: &str) -> String {
        let wanted = format!("podMonitor.histograms={histograms}");
        let template = ["--show-only", "templates/podmonitor.yaml"];
        rendered(
            &self.host,
            &[&["--set", "podMonitor.enabled=true", "--set", &wanted], &template[..]].concat(),
        )
    }

    /// What the operator makes of a `PodMonitor`; with targets, these instead of the discovery of pods.
    fn generated(&self, version: Version, monitor: &str, targets: Option<&Value>) -> String {
        let (_, number) = NUMBERS.into_iter().find(|(known, _)| *known == version).unwrap();
        let (file, static_file) = (Path::new("/run/podmonitor.yaml"), Path::new("/run/targets.json"));
        self.host.write_file(file, monitor.as_bytes(), 0o644).unwrap();
        let mut command = Command::new(tool::scrapeconfig().unwrap());
        command.arg(number).arg(file);
        if let Some(targets) = targets {
            self.host.write_file(static_file, targets.to_string().as_bytes(), 0o644).unwrap();
            command.arg(static_file);
        }
        output(&self.host, command)
    }
}

/// The agent that is scraped.
fn own() -> objects::Agent {
    objects::Agent { node: "node-1".into(), uid: "own".into(), address: POD.to_string() }
}

/// The agent's pod, as the `DaemonSet` controller makes it from what the chart renders with annotations.
fn the_pod(host: &Host) -> Write {
    let text =
        rendered(host, &["--set", "scrapeAnnotations=true", "--show-only", "templates/daemonset.yaml"]);
    let mut pod = serde_saphyr::from_str::<Value>(&text).unwrap().pointer("/spec/template").unwrap().clone();
    let (own, name) = (own(), own().pod());
    for (part, key, value) in [("metadata", "name", name), ("spec", "nodeName", own.node)] {
        pod.get_mut(part).and_then(Value::as_object_mut).unwrap().insert(key.to_owned(), value.into());
    }
    Write::create(&format!("/api/v1/namespaces/{}/pods", apiserver::NAMESPACE), pod)
}

/// Another application's pod, which wants to be scraped too.
fn annotated_stranger() -> Write {
    let object = json!({
        "metadata": {"name": "stranger", "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "80"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "web"}]},
    });
    Write::create(&format!("/api/v1/namespaces/{}/pods", objects::PODS), object)
}

/// What Helm makes of the chart.
fn rendered(host: &Host, arguments: &[&str]) -> String {
    let mut command = Command::new(tool::chart("helm").unwrap());
    command.args(["template", "podsonar"]).arg(repository().join("helm/podsonar"));
    command.args(["--namespace", apiserver::NAMESPACE]).args(arguments);
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(folder, "/run/helm");
    }
    output(host, command)
}

/// What a command that succeeds says.
fn output(host: &Host, command: Command) -> String {
    let output = host.output(command).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The README's scrape configuration.
fn readme_s_job() -> String {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, block) = readme.split_once("<!-- scrape:begin -->\n```yaml\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

fn with_interval(config: &str) -> String {
    format!("global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n{config}")
}

/// The one target of a server as its discovery told of it, for a server without discovery.
fn as_static_targets(server: &Prometheus) -> Value {
    let targets = server.targets().unwrap();
    let [target] = &targets[..] else { panic!("one target: {targets:#?}") };
    let mut labels = target.get("discoveredLabels").and_then(Value::as_object).unwrap().clone();
    let address = labels.remove("__address__").unwrap();
    // The server sets these itself for each job.
    labels.retain(|name, _| name.starts_with("__meta_"));
    json!([{"targets": [address], "labels": labels}])
}

/// Prometheus scrapes the agent and nobody else, and adds to its series the job, the agent's namespace and its node.
fn gives_the_labels_of_a_node(server: &Prometheus) {
    let expected = [("instance", "node-1"), ("job", "podsonar"), ("namespace", apiserver::NAMESPACE)];
    let expected = BTreeMap::from(expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let up = || Ok(server.query("up")?.into_iter().find(|sample| sample.value > 0.0));
    let up = wait_until(soon(), "a scrape", up).unwrap();
    assert_eq!(up.labels, expected);
    let targets = server.targets().unwrap();
    assert_eq!(targets.len(), 1, "{targets:#?}");
    let [sample] = &server.query("podsonar_build_info").unwrap()[..] else { panic!("one agent") };
    for (name, value) in &expected {
        assert_eq!(sample.labels.get(name), Some(value), "{name}");
    }
    for name in ["pod", "container", "endpoint"] {
        assert_eq!(sample.labels.get(name), None, "{name}");
    }
}

/// A panel about the agents has data.
fn shows(server: &Prometheus, title: &str) {
    let dashboard = Dashboard::read(&repository().join("dashboards/grafana/agents.json")).unwrap();
    let values = dashboard.chosen("node-1", "10s");
    for query in &dashboard.panel(title).unwrap().queries {
        let text = filled(&query.text, &values).unwrap();
        let found = || Ok(server.query(&text)?.iter().any(|sample| sample.value.is_finite()).then_some(()));
        wait_until(soon(), &format!("data of {title}: {text}"), found).unwrap();
    }
}
