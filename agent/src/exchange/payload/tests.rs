use std::sync::Arc;
use std::time::Duration;

use podsonar_core::target::PodId;
use proptest::prelude::*;

use super::*;
use crate::exchange::server::compress;
use crate::exchange::{MAX_BYTES, MAX_SENT};

#[cfg(not(podsonar_next))]
#[test]
fn the_layout_is_pinned_by_a_golden_vector() {
    let text = String::from_utf8(encode(&golden(), started())).unwrap();
    assert_eq!(
        text,
        "{\"version\":1,\"node\":\"node-a\",\"zone\":\"z1\",\"epoch\":\"0102030405060708\",\
         \"addresses\":[\"192.0.2.1\",\"2001:db8::1\"],\"leaving\":false,\"pods\":[\
         {\"uid\":\"6c5e\",\"namespace\":\"default\",\"name\":\"web-0\",\"workload\":\"StatefulSet/web\",\
         \"ips\":[\"10.0.0.7\",\"fd00::7\"],\"port\":80,\"local\":{\"icmp\":\"yes\",\"tcp\":\"not_now\"},\
         \"running_ms\":61500},\
         {\"uid\":\"9d01\",\"namespace\":\"kube-system\",\"name\":\"dns-x\",\"workload\":\"\",\
         \"ips\":[\"10.0.0.8\"],\"local\":{\"icmp\":\"never\",\"tcp\":\"never\"}}]}"
    );
}

#[cfg(podsonar_next)]
#[test]
fn the_next_build_writes_the_next_version_and_reads_this_one_too() {
    let text = String::from_utf8(encode(&golden(), started())).unwrap();
    assert!(text.starts_with("{\"version\":2,"), "{text}");
    assert!(decode(text.as_bytes()).is_ok());
    assert!(decode(text.replacen("\"version\":2", "\"version\":1", 1).as_bytes()).is_ok());
}

#[test]
fn what_is_written_is_read_as_it_was() {
    let bytes = encode(&golden(), started());
    let list = decode(&bytes).unwrap();
    assert_eq!((&*list.node.0, &*list.zone.0, &*list.epoch.0), ("node-a", "z1", "0102030405060708"));
    let [web, dns] = list.pods.kept.as_slice() else { panic!("two pods: {list:?}") };
    assert_eq!((&*web.uid.0, web.port, web.running_ms), ("6c5e", Some(80), Some(61_500)));
    assert_eq!(web.local(), golden().pods[0].local);
    assert_eq!((&*dns.uid.0, dns.port, dns.running_ms), ("9d01", None, None));
    assert_eq!(dns.local(), Local::default());
}

#[test]
fn unknown_fields_and_words_are_passed_over_and_empty_ones_may_be_missing() {
    let text = r#"{"new":{"a":[1,{}]},"version":1,"node":"b","epoch":"1","pods":[
        {"uid":"u","namespace":"n","name":"p","ips":["10.0.0.1"],"local":{"icmp":"sometimes","quic":"yes"},"sidecars":[]}]}"#;
    let list = decode(text.as_bytes()).unwrap();
    assert_eq!((&*list.zone.0, list.leaving, list.addresses.kept.len()), ("", false, 0));
    assert_eq!(list.pods.kept[0].local(), Local::default());
}

#[test]
fn other_versions_are_told_apart_from_what_is_no_list() {
    let read = |text: &str| decode(text.as_bytes()).map(|_| ()).unwrap_err();
    let next = WRITES + 1;
    // Whatever else another version has.
    assert_eq!(read(&format!("{{\"node\":[1],\"version\":{next}}}")), Unread::Version);
    assert_eq!(read("{\"version\":0}"), Unread::Version);
    for text in [
        "",
        "null",
        "[]",
        "{}",
        "{\"version\":\"1\"}",
        "{\"version\":-1}",
        "{\"version\":1}",
        "{\"version\":1,\"version\":1,\"node\":\"b\",\"epoch\":\"1\",\"pods\":[]}",
        "{\"version\":1,\"node\":\"b\",\"epoch\":\"1\",\"pods\":[]} and more",
        "{\"version\":1,\"node\":\"b\",\"epoch\":\"1\",\"pods\":{}}",
        "{\"version\":1,\"node\":\"b\",\"epoch\":\"1\",\"pods\":[{\"uid\":7}]}",
    ] {
        assert_eq!(read(text), Unread::Malformed, "{text}");
    }
    let whole = encode(&golden(), started());
    for length in 0..whole.len() {
        assert_eq!(decode(&whole[..length]).map(|_| ()), Err(Unread::Malformed), "cut at {length}");
    }
}

#[test]
fn deep_nesting_ends_somewhere() {
    let text = format!("{{\"version\":1,\"x\":{}", "[".repeat(MAX_BYTES / 2));
    assert_eq!(decode(text.as_bytes()).map(|_| ()), Err(Unread::Malformed));
}

#[test]
fn the_most_pods_with_the_longest_names_fit_and_no_more_are_told() {
    let mut view = golden();
    let (long, longest): (String, String) = ("n".repeat(253), format!("StatefulSet/{}", "w".repeat(253)));
    view.pods = (0..=MAX_PODS)
        .map(|number| Pod {
            id: Arc::new(PodId {
                uid: format!("{number:036}").into(),
                namespace: "n".repeat(63).into(),
                name: (*long).into(),
                workload: (*longest).into(),
            }),
            addresses: vec![
                "100.100.100.101".parse().unwrap(),
                "fd00:1111:2222:3333:4444:5555:6666:7777".parse().unwrap(),
            ],
            ..golden().pods[0].clone()
        })
        .collect();
    let bytes = encode(&view, started());
    assert!(bytes.len() <= MAX_BYTES, "{}", bytes.len());
    let packed = compress(&bytes).len();
    assert!(packed <= MAX_SENT / 2, "{packed}");
    let list = decode(&bytes).unwrap();
    assert_eq!((list.pods.kept.len(), list.pods.beyond), (MAX_PODS, 0));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode(&bytes);
    }

    /// Nearer to the truth than noise: a list with some bytes replaced.
    #[test]
    fn damaged_lists_never_panic(places in proptest::collection::vec((0..600_usize, any::<u8>()), 1..8)) {
        let mut bytes = encode(&golden(), started());
        let length = bytes.len();
        for (place, byte) in places {
            bytes[place % length] = byte;
        }
        let _ = decode(&bytes);
    }
}

fn started() -> Instant {
    Instant::from_nanos(5_000_000_000)
}

pub(crate) fn golden() -> NodeView {
    let pod = |uid: &str, namespace: &str, name: &str, workload: &str| {
        let text = |text: &str| -> Arc<str> { text.into() };
        Arc::new(PodId {
            uid: text(uid),
            namespace: text(namespace),
            name: text(name),
            workload: text(workload),
        })
    };
    NodeView {
        node: "node-a".into(),
        zone: "z1".into(),
        epoch: 0x0102_0304_0506_0708,
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        leaving: false,
        asked_at: started(),
        watch_age: Some(Duration::ZERO),
        probes_us: None,
        pods: vec![
            Pod {
                id: pod("6c5e", "default", "web-0", "StatefulSet/web"),
                addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
                port: Some(80),
                running_since: Some(started() + Duration::from_millis(61_500)),
                local: Local { icmp: Answers::Yes, tcp: Answers::NotNow },
            },
            Pod {
                id: pod("9d01", "kube-system", "dns-x", ""),
                addresses: vec!["10.0.0.8".parse().unwrap()],
                port: None,
                running_since: None,
                local: Local::default(),
            },
        ],
    }
}
