use super::*;

/// Each target that cannot be, with what is said about it.
#[test]
fn every_broken_target_has_its_message() {
    const NOT_ADDRESS: &str = "is not a target: write ADDRESS, ADDRESS:PORT, [v6] or [v6]:PORT, \
                               for example 192.0.2.1:443 or [2001:db8::1]:443";
    const LINK_LOCAL: &str = "is a link-local address, which needs an interface and cannot be probed: \
                              write a global or unique local one";
    for (text, message) in [
        ("example.com", "is a host name, which this version does not resolve: write its address"),
        ("db-1:5432", "is a host name, which this version does not resolve: write its address"),
        ("1.2.3", NOT_ADDRESS),
        ("", NOT_ADDRESS),
        ("[::1", NOT_ADDRESS),
        ("[192.0.2.1]", NOT_ADDRESS),
        ("http://192.0.2.1/", NOT_ADDRESS),
        ("192.0.2.1:0", "has no usable port: write a number from 1 to 65535 after the address"),
        ("[2001:db8::1]:65536", "has no usable port: write a number from 1 to 65535 after the address"),
        ("192.0.2.1:+80", "has no usable port: write a number from 1 to 65535 after the address"),
        ("0.0.0.0", "is the unspecified address, which no host has: write the host's own address"),
        ("[::]:80", "is the unspecified address, which no host has: write the host's own address"),
        ("224.0.0.1", "is a multicast group: write one host's address"),
        ("ff02::1", "is a multicast group: write one host's address"),
        ("255.255.255.255", "is the broadcast address: write one host's address"),
        ("::ffff:192.0.2.1", "is an IPv4 address written as IPv6: write 192.0.2.1"),
        ("fe80::1%eth0", LINK_LOCAL),
        ("[fe80::1]:80", LINK_LOCAL),
    ] {
        assert_eq!(messages(&written(&[text])), [format!("--target: `{text}` {message}")]);
    }
}

/// Each other broken input with its exact message.
#[test]
fn every_broken_setting_has_its_message() {
    let with = |edit: fn(&mut Written)| {
        let mut written = written(&["192.0.2.1:80"]);
        edit(&mut written);
        written
    };
    let table: Vec<(Written, &str)> = vec![
        (
            written(&[]),
            "nothing to probe: name a target, for example --target 192.0.2.1 or --target 192.0.2.1:443",
        ),
        (
            with(|w| w.interval = "1".into()),
            "--interval 1: not a duration; write a number and a unit, for example 1s, 250ms or 1m",
        ),
        (with(|w| w.interval = "25h".into()), "--interval 25h: must be from 10ms to 86400s"),
        (
            with(|w| w.interval = "249ms".into()),
            "--interval 249ms: must be at least 250ms for tcp, at most 4 SYN/s to a target; \
             raise it, or use --protocols icmp",
        ),
        (with(|w| w.timeout = "0s".into()), "--timeout 0s: must be from 1ms to 60s"),
        (
            with(|w| w.timeout = "soon".into()),
            "--timeout soon: not a duration; write a number and a unit, for example 1s, 250ms or 1m",
        ),
        (
            with(|w| w.timeout = "950ms".into()),
            "--timeout 950ms: must be below 950ms for tcp, because targets send a SYN-ACK again after 1 s; \
             use the default 800ms, or --protocols icmp",
        ),
        (
            with(|w| w.protocols = "icmp,udp".into()),
            "--protocols icmp,udp: not a list of icmp and tcp; write icmp, tcp or icmp,tcp",
        ),
        (
            with(|w| w.max_pps = "1".into()),
            "--max-pps 1: the targets need 2 probes per second; set --max-pps 2 or more, or raise --interval",
        ),
        (with(|w| w.max_pps = "0".into()), "--max-pps 0: must be a whole number from 1 to 4294967295"),
        (with(|w| w.size = "55".into()), "--size 55: must be a whole number from 56 to 65507"),
        (with(|w| w.size = "65508".into()), "--size 65508: must be a whole number from 56 to 65507"),
        (
            Written { protocols: "tcp".into(), ..written(&["192.0.2.1"]) },
            "--target: `192.0.2.1` is left without a protocol: add a port for tcp, or add icmp to --protocols",
        ),
    ];
    for (written, message) in table {
        assert_eq!(messages(&written), [message]);
    }
}

#[test]
fn all_problems_come_at_once_with_their_places() {
    let file: Arc<str> = "targets.txt".into();
    let mut written = written(&["::ffff:10.0.0.1"]);
    written.targets.push(WrittenTarget {
        text: "gateway".into(),
        place: Place::Line { file: Arc::clone(&file), line: 7 },
    });
    written.targets.push(WrittenTarget { text: "10.0.0.1:80".into(), place: Place::Line { file, line: 8 } });
    written.interval = "100ms".into();
    written.timeout = "2s".into();
    written.size = "big".into();
    let messages = messages(&written);
    let starts = [
        "--target: `::ffff:10.0.0.1` is an IPv4",
        "targets.txt:7: `gateway` is a host name",
        "--size big:",
        "--interval 100ms: must be at least 250ms",
        "--timeout 2s: must be below 950ms",
    ];
    assert_eq!(messages.len(), starts.len(), "{messages:#?}");
    for (message, start) in messages.iter().zip(starts) {
        assert!(message.starts_with(start), "{message}");
    }
}

#[test]
fn an_address_means_icmp_and_a_port_adds_tcp() {
    let probing = written(&["127.0.0.1", "127.0.0.1:8080", "[::1]", "::1", "[::1]:80"]).resolve().unwrap();
    let streams: Vec<_> = probing
        .planned
        .iter()
        .map(|planned| (&*planned.stream.target.written, planned.stream.protocol.label()))
        .collect();
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
    assert_eq!((probing.max_pps, probing.size), (20_000, 56));
    let settings = &probing.planned[0];
    assert_eq!((settings.interval, settings.timeout), (Duration::from_secs(1), Duration::from_millis(800)));
}

#[test]
fn duplicates_keep_the_first_spelling() {
    let probing = written(&["2001:db8::1", "2001:DB8:0::1", "[2001:db8::1]"]).resolve().unwrap();
    assert_eq!(probing.planned.len(), 1);
    assert_eq!(&*probing.planned[0].stream.target.written, "2001:db8::1");
}

#[test]
fn icmp_alone_may_be_fast_and_patient() {
    let written = Written {
        protocols: "icmp".into(),
        interval: "10ms".into(),
        timeout: "60s".into(),
        ..written(&["192.0.2.1:80"])
    };
    assert_eq!(written.resolve().unwrap().planned.len(), 1);
}

fn written(targets: &[&str]) -> Written {
    Written {
        targets: targets
            .iter()
            .map(|text| WrittenTarget { text: (*text).into(), place: Place::Flag })
            .collect(),
        interval: DEFAULT_INTERVAL.into(),
        timeout: DEFAULT_TIMEOUT.into(),
        protocols: DEFAULT_PROTOCOLS.into(),
        max_pps: DEFAULT_MAX_PPS.into(),
        size: DEFAULT_SIZE.to_string(),
    }
}

fn messages(written: &Written) -> Vec<String> {
    written.resolve().unwrap_err().iter().map(ToString::to_string).collect()
}
