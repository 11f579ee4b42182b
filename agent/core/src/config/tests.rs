use super::*;

use std::collections::HashSet;

#[test]
fn an_address_means_icmp_and_a_port_adds_tcp() {
    let probing = probing("targets: ['127.0.0.1', '127.0.0.1:8080', '[::1]', '::1', '[::1]:80']");
    let streams: Vec<_> = probing.planned.iter().map(name_and_protocol).collect();
    assert_eq!(
        streams,
        [
            ("127.0.0.1", "icmp"),
            ("127.0.0.1:8080", "icmp"),
            ("127.0.0.1:8080", "tcp"),
            ("[::1]", "icmp"),
            ("[::1]:80", "icmp"),
            ("[::1]:80", "tcp"),
        ]
    );
    assert_eq!((probing.max_pps, probing.size, probing.flows, probing.closed_port), (20_000, 56, 32, 1));
    assert_eq!(times(&probing.planned[0]), (1_000, 800));
    assert_eq!((probing.mtu, probing.retain), (Some(Duration::from_secs(10)), Duration::from_mins(15)));
    assert_eq!(probing.targets(), 4);
}

#[test]
fn duplicates_keep_the_first_spelling_and_settings() {
    let file = "targets: [{target: '2001:db8::1', interval: 5s}, '2001:DB8:0::1', '[2001:db8::1]']";
    let probing = probing(file);
    assert_eq!(probing.planned.len(), 1);
    assert_eq!(&*probing.planned[0].stream.target.destination, "2001:db8::1");
    assert_eq!(times(&probing.planned[0]), (5_000, 800));
}

#[test]
fn a_target_may_have_times_and_protocols_of_its_own() {
    let file = "probes: {protocols: [icmp]}\n\
                targets: [192.0.2.1:80, {target: '192.0.2.2:80', timeout: 10s, interval: 60s, protocols: connect}]";
    let probing = probing(file);
    let streams: Vec<_> = probing.planned.iter().map(name_and_protocol).collect();
    assert_eq!(streams, [("192.0.2.1:80", "icmp"), ("192.0.2.2:80", "connect")]);
    assert_eq!(times(&probing.planned[1]), (60_000, 10_000));
}

#[test]
fn icmp_alone_may_be_fast_and_patient() {
    let file = "probes: {protocols: [icmp], interval: 10ms, timeout: 60s}\ntargets: [192.0.2.1:80]";
    assert_eq!(probing(file).planned.len(), 1);
}

#[test]
fn a_name_is_asked_for_once_and_probed_with_each_port() {
    let file = "targets: ['db.example:5432', 'DB.example', 'db.example:5432']\n\
                dns: {names: [{name: db.example, expect: [192.0.2.1]}, {name: www.example., protocols: []}], \
                max_qps: 5, servers: [192.0.2.53, '[2001:db8::53]:5353']}";
    let probing = probing(file);
    let names: Vec<_> = probing.dns.names.iter().map(|each| (&*each.name, each.expect.len())).collect();
    assert_eq!(names, [("db.example", 1), ("www.example.", 0)]);
    let plans: Vec<_> = probing.named.iter().map(|plan| (&*plan.written, &*plan.name, plan.port)).collect();
    assert_eq!(plans, [("db.example:5432", "db.example", Some(5432)), ("DB.example", "db.example", None)]);
    let servers: Vec<_> = probing.dns.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:5353"]);

    let streams = probing.named[0].planned(&["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
    assert!(streams.iter().all(|each| each.stream.target.kind == Kind::Name));
    let streams: Vec<_> = streams.iter().map(name_and_protocol).collect();
    let each = [("db.example:5432", "icmp"), ("db.example:5432", "tcp")];
    assert_eq!(streams, [each, each].concat());
    assert_eq!(probing.named[1].protocols, [Protocol::Icmp]);
}

#[test]
fn what_is_not_written_about_dns_is_as_the_host_has_it() {
    let found = probing("targets: [a.example]\ndns: {max_qps: 10}").dns;
    assert_eq!((found.servers, found.search, found.ndots), (resolver().servers, resolver().search, 5));
    assert_eq!(found.timeout, resolver().timeout);
    let found = probing("targets: [a.example]\ndns: {max_qps: 10, timeout: 3s}").dns;
    assert_eq!(found.timeout, Duration::from_secs(3));
}

#[test]
fn peers_have_zone_port_and_an_address_of_each_family() {
    let probing = probing("mesh: {peers: ['n2@b=[2001:db8::2]:7', 'n3=192.0.2.3', 'n2@b=192.0.2.2:7']}");
    let peers: Vec<_> = probing.mesh.peers.iter().map(|peer| (&*peer.node, &*peer.zone)).collect();
    assert_eq!(peers, [("n2", "b"), ("n3", "")]);
    assert_eq!(
        probing.mesh.peers[0].addresses,
        ["192.0.2.2", "2001:db8::2"].map(|text| text.parse::<IpAddr>().unwrap())
    );
    assert_eq!(probing.mesh.peers.iter().map(|peer| peer.mesh_port).collect::<Vec<_>>(), [7, 19_989]);
    assert!(probing.mesh.enabled && !probing.mesh.kubernetes && probing.planned.is_empty());
}

#[test]
fn inside_a_cluster_nothing_has_to_be_written() {
    let text = |text: &str| Some(text.to_owned());
    let downward = Downward {
        service_host: text("10.96.0.1"),
        service_port: text("443"),
        node_name: text("node-1"),
        pod_name: text("podsonar-x"),
        pod_namespace: text("monitoring"),
        pod_uid: text("0b8f4c5e"),
        pod_ips: text("10.0.0.2"),
        host_ips: text("192.0.2.1"),
    };
    let mesh = Written::default().resolve(&Host { downward, ..host() }).unwrap().probing.mesh;
    assert!(mesh.enabled && mesh.kubernetes);
}

#[test]
fn the_clusters_domain_is_the_hosts_unless_it_is_written() {
    let found = |dns: &str| {
        let mut written = Written::default();
        written.read("f", &format!("targets: [192.0.2.1]\ndns: {dns}")).unwrap();
        let search = ["web.svc.cluster.local", "svc.cluster.local", "cluster.local"];
        let resolver = Resolver { search: search.map(str::to_owned).into(), ..resolver() };
        let dns = written.resolve(&Host { resolver, ..host() }).unwrap().probing.dns;
        (dns.cluster_domain, dns.bare_names, dns.endpoints)
    };
    assert_eq!(found("{max_qps: 1}"), (Some("cluster.local".into()), true, None));
    assert_eq!(found("{search: [a.test]}").0.as_deref(), Some("cluster.local"));
    assert_eq!(found("{cluster_domain: k8s.example.}").0.as_deref(), Some("k8s.example"));
    assert_eq!(found("{pods: false, cluster_domain: k8s.example}"), (None, false, None));
    let coredns =
        Endpoints { namespace: "kube-system".into(), workload: "Deployment/coredns".into(), port: 53 };
    assert_eq!(found("{endpoints: true}").2, Some(coredns));
    let other = found("{endpoints: true, endpoints_workload: 'openshift-dns/DaemonSet/dns-default:5353'}").2;
    assert_eq!(other.map(|other| (other.workload, other.port)), Some(("DaemonSet/dns-default".into(), 5353)));
}

#[test]
fn the_strongest_place_wins_and_targets_add_up() {
    let mut written = Written::default();
    written.set(&setting::INTERVAL, Origin::Flag("--interval"), "3s");
    written.set(&setting::TARGETS, Origin::Flag("--target"), " 192.0.2.1 ");
    written.set(&setting::SOURCE, Origin::Variable("NODE_NAME"), "node");
    written.read("f", "source: file\nprobes: {interval: 2s, timeout: 1ms}\ntargets: [192.0.2.2]").unwrap();
    written.read_targets("t", "# all\n\n192.0.2.3 # gateway\n  [::1]:80\r\n#10.0.0.2\n");
    let Configuration { agent, probing } = written.resolve(&host()).unwrap();
    assert_eq!(agent.source, "node");
    assert!(probing.planned.iter().all(|each| times(each) == (3_000, 1)));
    let targets: Vec<_> = probing.planned.iter().map(|each| name_and_protocol(each).0).collect();
    assert_eq!(targets, ["192.0.2.1", "192.0.2.2", "192.0.2.3", "[::1]:80", "[::1]:80"]);
}

#[test]
fn lines_of_a_targets_file_are_counted() {
    let mut written = Written::default();
    written.read_targets("t", "# all\n\n10.0.0.1 # gateway\n 0.0.0.0\r\n");
    let problems = written.resolve(&host()).unwrap_err();
    assert!(problems[0].to_string().starts_with("t:4: `0.0.0.0` is the unspecified"), "{}", problems[0]);
}

#[test]
fn a_running_agent_keeps_what_only_a_restart_changes() {
    let read = |text: &str| {
        let mut written = Written::default();
        written.read("f", text).unwrap();
        written
    };
    let running = read("probes: {max_pps: 3, size: 100}\nrecord: a\ntargets: [192.0.2.1]");
    let mut again =
        read("probes: {max_pps: 100}\nlisten: '[::]:1'\nrecord: a\ntargets: [192.0.2.1, 192.0.2.2]");
    let mut kept: Vec<_> = setting::ALL.iter().filter(|setting| !setting.live).collect();
    kept.retain(|setting| again.keep(setting, &running));
    let kept: Vec<_> = kept.into_iter().map(|setting| setting.key).collect();
    assert_eq!(kept, ["listen", "probes.size", "probes.max_pps"]);
    let Configuration { agent, probing } = again.resolve(&host()).unwrap();
    assert_eq!(agent.listen, Listen::Everywhere { port: DEFAULT_PORT });
    assert_eq!((probing.max_pps, probing.size, probing.planned.len()), (3, 100, 2));

    // What is new must also hold under what stays.
    let mut again = read("probes: {interval: 500ms, max_pps: 100}\ntargets: [192.0.2.1, 192.0.2.2]");
    assert!(again.keep(&setting::MAX_PPS, &running));
    let problems = again.resolve(&host()).unwrap_err();
    let message =
        "probes.max_pps 3: the targets need 4 probes per second; set 4 or more, or raise the interval";
    assert_eq!(problems[0].to_string(), message);
}

#[test]
fn settings_are_declared_once_with_valid_defaults() {
    let keys: HashSet<_> = setting::ALL.iter().map(|setting| setting.key).collect();
    assert_eq!(keys.len(), setting::ALL.len());
    let buckets = Buckets::default();
    assert_eq!((buckets.rtt.len(), buckets.dns.len(), buckets.loss_burst.len()), (9, 10, 7));
    let Configuration { agent, .. } = configuration("targets: [192.0.2.1]");
    assert_eq!(
        (agent.log_format, agent.log_level, agent.zone),
        (LogFormat::Text, LogLevel::Info, String::new())
    );
}

proptest::proptest! {
    #[test]
    fn no_file_panics(text in "([a-z]{1,8}(\\.[a-z_]{1,9})?:|- |\\[|\\]|\\{|\\}|, |&a |\\*a|!t |'|[0-9]{1,3}|[a-z.:%/]{1,6}|\n *|\t|#|\\PC){0,40}") {
        let mut written = Written::default();
        let _ = written.read("f", &text);
        written.read_targets("t", &text);
        let _ = written.resolve(&host());
        let _ = written.print(&host());
    }
}

fn probing(file: &str) -> Probing {
    configuration(file).probing
}

fn configuration(file: &str) -> Configuration {
    let mut written = Written::default();
    written.read("f", file).unwrap();
    written.resolve(&host()).unwrap()
}

fn host() -> Host {
    Host { name: Some("host".into()), resolver: resolver(), ..Host::default() }
}

fn resolver() -> Resolver {
    let servers = vec!["10.96.0.10:53".parse().unwrap()];
    Resolver {
        servers,
        search: vec!["svc.cluster.local".into(), "cluster.local".into()],
        ndots: 5,
        timeout: Duration::from_secs(1),
    }
}

fn name_and_protocol(planned: &Planned) -> (&str, &'static str) {
    (&planned.stream.target.destination, planned.stream.protocol.label())
}

fn times(planned: &Planned) -> (u128, u128) {
    (planned.interval.as_millis(), planned.timeout.as_millis())
}

#[test]
fn icmp_beside_a_port_is_presumed_unless_somebody_wrote_it() {
    for (file, presumed) in [
        ("targets: [192.0.2.1:80]", true),
        ("targets: [192.0.2.1]", false),
        ("probes: {protocols: [icmp, tcp]}\ntargets: [192.0.2.1:80]", false),
        ("targets: [{target: '192.0.2.1:80', protocols: [icmp, tcp]}]", false),
        ("targets: ['web.:80']", true),
    ] {
        let probing = probing(file);
        let named = probing.named.iter().flat_map(|plan| plan.planned(&["192.0.2.1".parse().unwrap()]));
        let planned: Vec<_> = probing.planned.iter().cloned().chain(named).collect();
        assert!(planned.iter().any(|plan| plan.stream.protocol == Protocol::Icmp), "{file}");
        for plan in planned {
            let icmp = plan.stream.protocol == Protocol::Icmp;
            assert_eq!(plan.presumed, presumed && icmp, "{file}: {plan:?}");
        }
    }
}
