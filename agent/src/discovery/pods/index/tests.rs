use std::mem::size_of;

use podsonar_core::config::Selector;
use serde_json::{Value, json};

use super::*;

#[test]
fn a_pod_is_probed_from_running_until_it_terminates() {
    let mut index = index();
    apply(&mut index, 1, &pod("a", "Pending", &[]));
    assert!(probed(&index).is_empty(), "no address yet");
    apply(&mut index, 2, &pod("a", "Pending", &["10.0.0.1"]));
    assert!(probed(&index).is_empty(), "its init containers run");
    apply(&mut index, 3, &pod("a", "Running", &["10.0.0.1"]));
    assert_eq!(probed(&index), ["a 10.0.0.1"]);
    apply(&mut index, 4, &terminating(pod("a", "Running", &["10.0.0.1"])));
    assert!(probed(&index).is_empty());
    apply(&mut index, 5, &pod("a", "Running", &["10.0.0.1"]));
    index.delete(&seen(pod("a", "Running", &["10.0.0.1"])));
    assert!(probed(&index).is_empty());
}

#[test]
fn what_has_ended_or_shares_the_nodes_network_is_not_probed() {
    for phase in ["Succeeded", "Failed", "Unknown", "", "Pending"] {
        assert!(probed(&listed(&[pod("a", phase, &["10.0.0.1"])])).is_empty(), "{phase}");
    }
    let mut host = pod("a", "Running", &["192.0.2.1"]);
    host["spec"]["hostNetwork"] = json!(true);
    assert!(probed(&listed(&[host])).is_empty());
    assert!(probed(&listed(&[pod("a", "Running", &[])])).is_empty());
    assert!(probed(&listed(&[json!({"metadata": {"uid": "a"}}), json!({})])).is_empty());
}

#[test]
fn a_finishing_job_is_probed_until_it_has_finished() {
    let mut job = pod("a", "Running", &["10.0.0.1"]);
    job["metadata"]["ownerReferences"] = json!([{"kind": "Job", "name": "backup", "controller": true}]);
    let mut index = listed(&[job.clone()]);
    assert_eq!(index.pods()[0].id.workload.as_ref(), "Job/backup");
    job["status"]["phase"] = json!("Succeeded");
    apply(&mut index, 5, &job);
    assert!(probed(&index).is_empty(), "its address may be another pod's now");
}

#[test]
fn a_restarted_sandbox_with_another_address_is_another_target() {
    let mut index = listed(&[pod("a", "Running", &["10.0.0.1"])]);
    let mut down = pod("a", "Running", &["10.0.0.1"]);
    down["status"]["conditions"] = json!([{"type": "PodReadyToStartContainers", "status": "False"}]);
    apply(&mut index, 5, &down);
    assert!(probed(&index).is_empty(), "its network is gone, though status has its address");
    down["status"]["conditions"][0]["status"] = json!("True");
    down["status"]["podIPs"] = json!([{"ip": "10.0.0.2"}]);
    apply(&mut index, 9, &down);
    assert_eq!(probed(&index), ["a 10.0.0.2"]);
    assert_eq!(index.pods()[0].running_since, Some(at(9)));
    apply(&mut index, 12, &pod("a", "Running", &["10.0.0.3"]));
    assert_eq!((probed(&index)[0].as_str(), index.pods()[0].running_since), ("a 10.0.0.3", Some(at(12))));
}

#[test]
fn an_address_that_two_pods_claim_is_the_younger_ones() {
    let created = |mut pod: Value, second: u8| {
        pod["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:{second:02}Z"));
        pod
    };
    let old = created(pod("z", "Running", &["10.0.0.1", "fd00::1"]), 1);
    let young = created(pod("a", "Running", &["10.0.0.1"]), 2);
    for order in [[&old, &young], [&young, &old]] {
        let mut index = index();
        for each in order {
            apply(&mut index, 1, each);
        }
        assert_eq!(probed(&index), ["a 10.0.0.1", "z fd00::1"]);
        index.delete(&seen(young.clone()));
        assert_eq!(probed(&index), ["z 10.0.0.1 fd00::1"], "it is claimed by one again");
    }
}

#[test]
fn both_families_of_a_pod_are_probed() {
    assert_eq!(probed(&listed(&[pod("a", "Running", &["fd00::1", "10.0.0.1"])])), ["a 10.0.0.1 fd00::1"]);
}

#[test]
fn since_when_it_runs_is_known_only_if_the_watch_saw_it_start() {
    let mut index = listed(&[pod("a", "Running", &["10.0.0.1"]), pod("b", "Pending", &[])]);
    assert_eq!(index.pods()[0].running_since, None, "it ran before");
    apply(&mut index, 5, &pod("a", "Running", &["10.0.0.1"]));
    assert_eq!(index.pods()[0].running_since, None);
    apply(&mut index, 6, &pod("b", "Running", &["10.0.0.2"]));
    assert_eq!(since(&index, "b"), Some(at(6)));
    apply(&mut index, 7, &pod("c", "Running", &["10.0.0.3"]));
    assert_eq!(since(&index, "c"), None, "its start was not seen");
    apply(&mut index, 8, &pod("d", "Pending", &[]));
    apply(&mut index, 9, &pod("d", "Running", &["10.0.0.4"]));
    apply(&mut index, 10, &pod("d", "Running", &["10.0.0.4"]));
    assert_eq!(since(&index, "d"), Some(at(9)));
    list(&mut index, &[pod("d", "Running", &["10.0.0.4"])]);
    assert_eq!(since(&index, "d"), Some(at(9)), "a new list of a known pod changes nothing");
    apply(&mut index, 11, &pod("e", "Pending", &[]));
    list(&mut index, &[pod("e", "Running", &["10.0.0.5"])]);
    assert_eq!(since(&index, "e"), None, "it started while nobody watched");
    apply(&mut index, 12, &pod("f", "Pending", &[]));
    index.apply(&seen(pod("f", "Running", &["10.0.0.6"])), None);
    assert_eq!(since(&index, "f"), None, "it started some time while the watch was broken");
}

#[test]
fn a_list_replaces_all_at_its_end_and_not_before() {
    let mut index = listed(&[pod("a", "Running", &["10.0.0.1"])]);
    index.begin();
    index.include(&seen(pod("b", "Running", &["10.0.0.2"])));
    assert_eq!(probed(&index), ["a 10.0.0.1"]);
    index.begin();
    index.include(&seen(pod("c", "Running", &["10.0.0.3"])));
    index.complete();
    assert_eq!(probed(&index), ["c 10.0.0.3"], "a list that was broken off leaves nothing behind");
}

#[test]
fn who_is_opted_out_or_not_in_is_not_probed_and_the_agent_itself_neither() {
    let annotated = |uid: &str, value: &str| {
        let mut pod = pod(uid, "Running", &["10.0.0.1"]);
        pod["metadata"]["annotations"] = json!({"podsonar.io/probe": value});
        pod
    };
    assert!(probed(&listed(&[annotated("a", "false")])).is_empty());
    assert_eq!(probed(&listed(&[annotated("a", "true")])).len(), 1);
    assert!(probed(&listed(&[pod("own", "Running", &["10.0.0.1"])])).is_empty());
    let mut index = index();
    index.choose(PodChoice { default_in: false, ..PodChoice::default() });
    list(&mut index, &[annotated("a", "true"), pod("b", "Running", &["10.0.0.2"])]);
    assert_eq!(probed(&index), ["a 10.0.0.1"]);
}

#[test]
fn namespaces_and_labels_choose_too_and_a_new_choice_holds_from_the_next_list_on() {
    let mut other = pod("b", "Running", &["10.0.0.2"]);
    other["metadata"]["namespace"] = json!("kube-system");
    let pods = [pod("a", "Running", &["10.0.0.1"]), other];
    let mut index = listed(&pods);
    assert_eq!(probed(&index).len(), 2);
    index.choose(PodChoice { exclude: vec!["kube-system".into()], ..PodChoice::default() });
    list(&mut index, &pods);
    assert_eq!(probed(&index), ["a 10.0.0.1"]);
    index.choose(PodChoice { include: vec!["kube-system".into()], ..PodChoice::default() });
    list(&mut index, &pods);
    assert_eq!(probed(&index), ["b 10.0.0.2"]);
    let selector = Selector::parse("app in (web)").unwrap();
    index.choose(PodChoice { selector, ..PodChoice::default() });
    list(&mut index, &pods);
    assert_eq!(probed(&index).len(), 2);
    apply(&mut index, 1, &{
        let mut pod = pod("a", "Running", &["10.0.0.1"]);
        pod["metadata"]["labels"] = json!({"app": "db"});
        pod
    });
    assert_eq!(probed(&index), ["b 10.0.0.2"]);
}

#[test]
fn pods_come_in_order_of_uid_so_that_a_view_finds_them() {
    let index = listed(&[pod("c", "Running", &["10.0.0.3"]), pod("a", "Running", &["10.0.0.1"])]);
    assert!(index.pods().is_sorted_by_key(|pod| Arc::clone(&pod.id.uid)));
}

#[test]
fn a_pod_costs_less_than_400_bytes() {
    let pods: Vec<_> = (0..240)
        .map(|number| {
            let uid = format!("0b8f4c5e-5d7c-4f43-8a63-{number:012}");
            let mut pod =
                pod(&uid, "Running", &[&format!("10.0.{}.{}", number / 200, number % 200 + 1), "fd00::1"]);
            pod["metadata"]["name"] = json!(format!("web-frontend-7d4b9c6f8-{number:05}"));
            pod["metadata"]["ownerReferences"] =
                json!([{"kind": "ReplicaSet", "name": "web-frontend-7d4b9c6f8", "controller": true}]);
            pod
        })
        .collect();
    let index = listed(&pods);
    let pods = index.pods();
    // A shared string has two counters beside its text; a B-tree is at least half full, with pointers beside.
    let text = |text: &Arc<str>| text.len() + 2 * size_of::<usize>();
    let entries = index.entries.len() * (size_of::<Arc<str>>() + size_of::<Entry>()) * 2;
    let names: usize =
        pods.iter().map(|pod| size_of::<PodId>() + 16 + text(&pod.id.uid) + text(&pod.id.name)).sum();
    let told: usize =
        pods.iter().map(|pod| size_of::<Pod>() + pod.addresses.capacity() * size_of::<IpAddr>()).sum();
    let workloads: Vec<_> = pods.iter().map(|pod| Arc::as_ptr(&pod.id.workload)).collect();
    assert!(
        workloads.windows(2).all(|pair| std::ptr::addr_eq(pair[0], pair[1])),
        "shared words are stored once"
    );
    let (kept, told) = ((entries + names) / pods.len(), told / pods.len());
    assert!(kept < 400, "{kept} bytes in the index");
    assert!(told < 200, "{told} bytes more in a snapshot");
}

#[test]
fn pods_without_a_uid_are_passed_over() {
    let mut index = listed(&[pod("", "Running", &["10.0.0.1"])]);
    apply(&mut index, 1, &pod("", "Running", &["10.0.0.1"]));
    assert!(probed(&index).is_empty());
}

fn pod(uid: &str, phase: &str, addresses: &[&str]) -> Value {
    let addresses: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "metadata": {"uid": uid, "name": format!("pod-{uid}"), "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": phase, "podIPs": addresses},
    })
}

fn terminating(mut pod: Value) -> Value {
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    pod
}

fn seen(object: Value) -> SeenPod {
    serde_json::from_value(object).unwrap()
}

fn index() -> Index {
    Index::new("own".into(), PodChoice::default())
}

fn listed(pods: &[Value]) -> Index {
    let mut index = index();
    list(&mut index, pods);
    index
}

fn list(index: &mut Index, pods: &[Value]) {
    index.begin();
    for pod in pods {
        index.include(&seen(pod.clone()));
    }
    index.complete();
}

fn apply(index: &mut Index, second: u64, pod: &Value) {
    index.apply(&seen(pod.clone()), Some(at(second)));
}

fn at(second: u64) -> Instant {
    Instant::from_nanos(second * 1_000_000_000)
}

fn since(index: &Index, uid: &str) -> Option<Instant> {
    index.pods().iter().find(|pod| &*pod.id.uid == uid).and_then(|pod| pod.running_since)
}

fn probed(index: &Index) -> Vec<String> {
    let line = |pod: &Pod| {
        let addresses: Vec<_> = pod.addresses.iter().map(ToString::to_string).collect();
        format!("{} {}", pod.id.uid, addresses.join(" "))
    };
    index.pods().iter().map(line).collect()
}
