//! Pods' names: what the agent asks a real name server about pods of a file, and what it probes then.

use super::world::{World, asked, count, queries};
use podsonar_lab::server::dns::{Dns, Zone};
use std::fmt::Write;
use std::net::IpAddr;

const PODS: &str = "/run/pods.yaml";

/// A pod: namespace, name, addresses, and whether it is one of the cluster's name server.
type Pod<'a> = (&'a str, &'a str, &'a [&'a str], bool);

const WEB: Pod<'_> = ("web", "web-1", &["10.77.0.1", "fd77::1"], false);
const DB: Pod<'_> = ("data", "db-0", &["10.77.0.2"], false);

#[test]
fn pods_names_resolve_to_their_addresses_which_are_then_probed_once_each_time() {
    let world = World::new();
    let _dns = world.serve(&[cluster()
        .record("10-77-0-1.web.pod", 1, "A 10.77.0.1")
        .record("fd77--1.web.pod", 1, "AAAA fd77::1")
        .record("10-77-0-2.data.pod", 1, "A 10.77.0.2")]);
    let capture = world.capture();
    let running = world.start_as(&[(PODS, manifests(&[WEB, DB])), configuration(&world, "")]);
    let scrape = running.until("answers and probes of both families", |scrape| {
        let answered = |protocol: &str, family: &str, result: &str| {
            let labels = [("protocol", protocol), ("family", family), ("result", result)];
            let of = [&labels[..], &[("kind", "name"), ("destination", "pod")]].concat();
            count(scrape, "podsonar_probes_total", &of) >= 3
        };
        queries(scrape, "pod", "noerror") >= 6
            && queries(scrape, "bare_pod", "nxdomain") >= 1
            && ["4", "6"]
                .iter()
                .all(|family| answered("icmp", family, "reply") && answered("tcp", family, "reset"))
    });
    for wrong in ["nxdomain", "nodata", "mismatch", "timeout", "servfail", "unreachable", "not_sent"] {
        assert_eq!(queries(&scrape, "pod", wrong), 0, "{wrong}");
    }
    assert_eq!(queries(&scrape, "bare_pod", "noerror"), 0);
    let lost = [("kind", "name"), ("result", "lost")];
    assert_eq!(count(&scrape, "podsonar_probes_total", &lost), 0);
    // The pods are targets, what their names resolve to is none.
    assert_eq!(count(&scrape, "podsonar_targets", &[("kind", "name")]), 0);
    assert_eq!(scrape.select("podsonar_rtt_seconds_count", &[("kind", "name"), ("family", "4")]).count(), 2);
    let packets = capture.stop().unwrap();
    let to: IpAddr = "10.77.0.2".parse().unwrap();
    assert!(asked(&packets).contains(&(to, "icmp")) && asked(&packets).contains(&(to, "tcp")));
}

#[test]
fn a_wrong_address_is_a_mismatch_and_not_probed_for_its_name() {
    let world = World::new();
    let _dns = world.serve(&[cluster().record("10-77-0-2.data.pod", 1, "A 10.77.0.3")]);
    let running = world.start_as(&[(PODS, manifests(&[DB])), configuration(&world, "")]);
    let scrape = running.further(3, "pod", "mismatch");
    assert_eq!(count(&scrape, "podsonar_probes_total", &[("kind", "name")]), 0);
    running.until("the pod itself answers", |scrape| {
        count(scrape, "podsonar_probes_total", &[("kind", "pod"), ("result", "reply")]) >= 1
    });
}

#[test]
fn a_name_server_without_pods_names_is_told_as_such() {
    let world = World::new();
    // As CoreDNS with `pods disabled`.
    let _dns = world.serve(&[cluster()]);
    let running = world.start_as(&[(PODS, manifests(&[WEB, DB])), configuration(&world, "")]);
    let scrape = running.further(12, "pod", "nxdomain");
    assert_eq!(queries(&scrape, "pod", "noerror"), 0);
    assert_eq!(count(&scrape, "podsonar_probes_total", &[("kind", "name")]), 0);
    running.says("the name server has no pods' names");
}

#[test]
fn a_bare_pod_name_that_resolves_is_seen() {
    let world = World::new();
    let _dns = world.serve(&[cluster().record("*.web.svc", 1, "A 10.77.0.9")]);
    let running = world.start_as(&[(PODS, manifests(&[WEB])), configuration(&world, "")]);
    running.further(1, "bare_pod", "noerror");
}

#[test]
fn of_two_replicas_of_the_name_server_the_dead_one_is_told_apart() {
    let world = World::new();
    let alive = world.server().to_string();
    let zones = [cluster().record("10-77-0-2.data.pod", 1, "A 10.77.0.2")];
    let _dns = Dns::start(&world.names, &[world.server()], &zones).unwrap();
    let replicas: [Pod<'_>; 3] = [
        DB,
        ("kube-system", "coredns-a", &[&alive], true),
        ("kube-system", "coredns-b", &["10.77.0.53"], true),
    ];
    let service = configuration(&world, "  endpoints: true\n");
    let running = world.start_as(&[(PODS, manifests(&replicas)), service]);
    let of = |server: &str, result: &str| {
        let labels = [("server", server), ("name", "pod"), ("result", result)];
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
        move |scrape: &podsonar_lab::scrape::Scrape| {
            let labels: Vec<_> =
                labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
            count(scrape, "podsonar_dns_queries_total", &labels)
        }
    };
    let (answered, refused) = (of(&alive, "noerror"), of("10.77.0.53", "unreachable"));
    let scrape = running.until("both replicas", |scrape| answered(scrape) >= 3 && refused(scrape) >= 3);
    assert_eq!((of(&alive, "unreachable")(&scrape), of("10.77.0.53", "noerror")(&scrape)), (0, 0));
}

fn cluster() -> Zone {
    Zone::new("cluster.local")
}

fn configuration(world: &World, more: &str) -> (&'static str, String) {
    let text = format!(
        "log: {{ level: debug }}\nkubernetes: 'off'\nmesh: {{ listen: '127.0.0.1:19989' }}\n\
         probes: {{ own_pods_interval: 1s }}\npods: {{ file: {PODS} }}\n\
         dns:\n  interval: 1s\n  timeout: 500ms\n  max_qps: 20\n  servers: [{}]\n  cluster_domain: cluster.local\n  \
         search: [web.svc.cluster.local, svc.cluster.local, cluster.local]\n  ndots: 5\n{more}",
        world.server()
    );
    (super::world::FILE, text)
}

fn manifests(pods: &[Pod<'_>]) -> String {
    let mut text = String::new();
    for (namespace, name, addresses, coredns) in pods {
        let addresses: Vec<_> = addresses.iter().map(|address| format!("{{ ip: '{address}' }}")).collect();
        let made = if *coredns {
            "labels: { pod-template-hash: '7d4b9' }, ownerReferences: [{ kind: ReplicaSet, name: coredns-7d4b9, controller: true }]"
        } else {
            "labels: {}"
        };
        let _ = writeln!(
            text,
            "---\nkind: Pod\nmetadata: {{ namespace: {namespace}, name: {name}, {made} }}\n\
             status: {{ podIPs: [{}] }}",
            addresses.join(", ")
        );
    }
    text
}
