//! Which namespaces admit the agents, and what they can do there.

use crate::release::{Release, enforce};
use crate::shared::{field, file_of_agent};
use crate::steps::Steps;
use crate::{Shared, cluster, minute};
use podsonar_lab::Cluster;
use podsonar_lab::cluster::watched::NAMESPACE;
use podsonar_lab::scrape::Scrape;
use serde_json::{Value, json};

/// Levels of pod security, the widest first.
const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];

#[test]
fn each_way_is_admitted_by_its_level_and_wider_ones_alone() {
    let cluster = cluster();
    let mut steps = Steps::of("admission");
    for level in LEVELS {
        enforce(&cluster, &format!("admits-{level}"), level);
    }
    for (way, narrowest) in [
        ("default", "privileged"),
        ("host-network", "privileged"),
        ("baseline", "baseline"),
        ("restricted", "restricted"),
    ] {
        let pod = pod(&cluster, way);
        let admitted: Vec<_> =
            LEVELS.into_iter().map(|level| (level, admits(&cluster, level, &pod))).collect();
        let narrowest = LEVELS.iter().position(|level| *level == narrowest).unwrap();
        for (number, (level, answer)) in admitted.into_iter().enumerate() {
            assert_eq!(
                answer.is_ok(),
                number <= narrowest,
                "{way} in a namespace that is {level}: {answer:?}"
            );
        }
    }
    steps.done("each way at each level");
}

#[test]
fn a_release_that_its_namespace_refuses_says_why_and_an_upgrade_to_the_right_level_runs() {
    let cluster = cluster();
    let mut steps = Steps::of("admission");
    enforce(&cluster, NAMESPACE, "baseline");
    let refused = Release { helm: "helm", way: "default" };
    refused.install(&cluster, &[]);
    let reason = cluster
        .wait(minute(), "a refused pod", |cluster| {
            let events = cluster.kubectl(&["get", "events", "--namespace", NAMESPACE, "--output=yaml"])?;
            Ok(events.contains("violates PodSecurity").then_some(events))
        })
        .unwrap();
    assert!(reason.contains("NET_RAW"), "{reason}");
    assert_eq!(cluster.agents().unwrap(), []);
    steps.done("refused");

    let baseline = Release { way: "baseline", ..refused };
    baseline.upgrade(&cluster, &[]);
    run(&cluster, &Abilities { user: "0", capabilities: 1 << 13, icmp: "raw", tcp: "raw" });
    steps.done("baseline");

    enforce(&cluster, NAMESPACE, "restricted");
    let restricted = Release { way: "restricted", ..refused };
    restricted.upgrade(&cluster, &[]);
    run(&cluster, &Abilities { user: "65532", capabilities: 0, icmp: "datagram", tcp: "connect" });
    steps.done("restricted");
    restricted.uninstall(&cluster);
}

/// What an agent is and can do.
struct Abilities {
    user: &'static str,
    capabilities: u64,
    icmp: &'static str,
    tcp: &'static str,
}

/// Waits for the agents and sees what they can do, on all nodes and for both families.
fn run(cluster: &Shared, wanted: &Abilities) {
    cluster.wait_for_rollout(NAMESPACE, "daemonset/podsonar", minute()).expect("agents that are ready");
    for node in cluster.nodes() {
        let name = &node.identity.name;
        let status = file_of_agent(node, "status");
        let field = |name| field(&status, name);
        for set in ["CapEff", "CapBnd"] {
            let capabilities = u64::from_str_radix(field(set), 16).expect("capabilities");
            assert_eq!(capabilities, wanted.capabilities, "{set} on {name}");
        }
        assert_eq!(field("Uid").split('\t').next(), Some(wanted.user), "{name}");
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1", "2"), "{name}");
        let is_as_wanted = |page: &Scrape| {
            let is = |protocol, family, mode| {
                let labels = [("protocol", protocol), ("family", family), ("mode", mode)];
                page.select("podsonar_probe_mode", &labels).next().is_some()
            };
            ["4", "6"]
                .into_iter()
                .all(|family| is("icmp", family, wanted.icmp) && is("tcp", family, wanted.tcp))
        };
        cluster
            .wait_for_metrics(name, minute(), "the right way to probe, and answers", |page| {
                let answered = |family| {
                    let labels = [("kind", "agent"), ("family", family), ("result", "reply")];
                    page.sum("podsonar_probes_total", &labels).is_some_and(|count| count > 0.0)
                };
                (is_as_wanted(page) && answered("4") && answered("6")).then_some(())
            })
            .expect("answers");
    }
}

/// A pod as the `DaemonSet` of a way would make it.
fn pod(cluster: &Cluster, way: &'static str) -> Value {
    let objects = Release { helm: "helm", way }.render(cluster);
    let daemon_set = cluster.find(&objects, "DaemonSet").expect("a DaemonSet");
    let mut spec = daemon_set.pointer("/spec/template/spec").expect("a pod").clone();
    // Namespaces here have no such account.
    spec.as_object_mut().expect("fields").remove("serviceAccountName");
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": way}, "spec": spec})
}

/// Whether a namespace of this level would admit a pod, or why not.
fn admits(cluster: &Cluster, level: &str, pod: &Value) -> Result<(), String> {
    let mut pod = pod.clone();
    let metadata = pod.pointer_mut("/metadata").and_then(Value::as_object_mut).expect("an object");
    metadata.insert("namespace".into(), format!("admits-{level}").into());
    cluster.dry_run(&pod.to_string()).map(drop).map_err(|error| error.to_string())
}
