use std::time::Duration;

use podsonar_core::mesh::{Answers, Local};
use proptest::prelude::*;

use super::*;
use crate::exchange::{MAX_BYTES, MAX_PODS};

#[test]
fn an_honest_list_is_believed_in_order_of_uids() {
    let body = list(&format!("{},{}", pod("u2", "10.0.0.2"), pod("u1", "10.0.0.1\",\"fd00::1")));
    let Accepted { view, running, refused } = accept(&body, "b", &Rules::default()).unwrap();
    assert_eq!((&*view.node, &*view.zone, view.epoch, view.leaving), ("b", "z", 0xab, false));
    assert_eq!(view.addresses, [address("192.0.2.1"), address("2001:db8::1")]);
    let uids: Vec<_> = view.pods.iter().map(|pod| &*pod.id.uid).collect();
    assert_eq!((uids, running), (vec!["u1", "u2"], vec![Some(7), Some(7)]));
    assert_eq!(view.pods[0].addresses, [address("10.0.0.1"), address("fd00::1")]);
    assert_eq!(view.pods[0].local, Local { icmp: Answers::Yes, tcp: Answers::Never });
    assert_eq!(refused, Refused::default());
    assert_eq!(view.pod("u2").unwrap().port, Some(80));
}

#[test]
fn the_answer_must_be_of_the_node_that_was_asked() {
    let of = |asked| accept(&list(""), asked, &Rules::default()).map(|_| ());
    assert_eq!(of("b"), Ok(()));
    assert_eq!(of("c"), Err(FetchResult::WrongNode));
    assert_eq!(of(""), Err(FetchResult::WrongNode));
    assert_eq!(of("B"), Err(FetchResult::WrongNode));
}

#[test]
fn each_forbidden_address_costs_its_pod_alone() {
    let forbidden = [
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "::",
        "fd00:ec2::254",
        "168.63.129.16",
        "100.100.100.200",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a9fe:a9fe",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::",
        "10.0.0.5\",\"::1",
        "127.0.0.1\",\"fd00::5",
    ];
    let bad: Vec<_> =
        forbidden.iter().enumerate().map(|(number, ip)| pod(&format!("bad-{number}"), ip)).collect();
    let body = list(&format!("{},{}", bad.join(","), pod("good", "10.0.0.9")));
    assert_eq!(told(&body, &Rules::default()), (vec!["good".into()], vec![(Refusal::Forbidden, 20)]));
}

#[test]
fn forbidden_addresses_of_the_node_are_left_out() {
    let body = String::from_utf8(list("")).unwrap();
    let body =
        body.replace("\"192.0.2.1\"", "\"169.254.169.254\",\"x\"").replace("2001:db8::1", "::ffff:127.0.0.1");
    let accepted = accept(body.as_bytes(), "b", &Rules::default()).unwrap();
    assert_eq!(accepted.view.addresses, [] as [IpAddr; 0]);
    assert_eq!(counted(&accepted.refused), [(Refusal::Address, 1), (Refusal::Forbidden, 2)]);
}

#[test]
fn addresses_are_text_of_one_each_family() {
    let pods: Vec<_> = [
        "",
        "10.0.0.1\",\"10.0.0.2",
        "10.0.0.300",
        "10.0.0.1:80",
        "10.0.0.1/32",
        " 10.0.0.1",
        "fe80::1%eth0",
        "0x0a.0.0.1",
        "010.0.0.1",
        "10.0.0.1\",\"fd00::1\",\"fd00::2",
    ]
    .iter()
    .enumerate()
    .map(|(number, ip)| pod(&number.to_string(), ip))
    .collect();
    let none = pod("none", "x").replace("[\"x\"]", "[]");
    let body = list(&format!("{},{none}", pods.join(",")));
    assert_eq!(told(&body, &Rules::default()), (vec![], vec![(Refusal::Address, 11)]));
}

#[test]
fn pods_lie_where_pods_lie_if_that_is_known() {
    let rules = Rules { pod_cidrs: vec!["10.0.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()] };
    let body =
        list(&[pod("a", "10.0.1.1"), pod("b", "10.1.0.1"), pod("c", "10.0.1.2\",\"fd01::1")].join(","));
    assert_eq!(told(&body, &rules), (vec!["a".into()], vec![(Refusal::Outside, 2)]));
}

#[test]
fn the_first_of_two_pods_with_one_uid_or_address_is_it() {
    let body = list(&[pod("a", "10.0.0.1"), pod("a", "10.0.0.2"), pod("b", "10.0.0.1")].join(","));
    assert_eq!(told(&body, &Rules::default()), (vec!["a".into()], vec![(Refusal::Duplicate, 2)]));
    // A refused pod takes no UID from another.
    let body = list(&[pod("a", "127.0.0.1"), pod("a", "10.0.0.2")].join(","));
    assert_eq!(told(&body, &Rules::default()), (vec!["a".into()], vec![(Refusal::Forbidden, 1)]));
}

#[test]
fn names_are_printable_and_have_an_end() {
    let names = ["", "a\\nb", "a b", "a\\u0000", "\\u202e", "\u{e9}", &"x".repeat(254)];
    for name in names {
        for field in ["\"u\"", "\"n\"", "\"p\""] {
            let body = list(&pod("u", "10.0.0.1").replacen(field, &format!("\"{name}\""), 1));
            let (pods, refused) = told(&body, &Rules::default());
            assert_eq!((pods.len(), refused), (0, vec![(Refusal::Name, 1)]), "{field} {name}");
        }
    }
    let long = list(&pod("u", "10.0.0.1").replace("W/w", &"w".repeat(400)));
    assert_eq!(told(&long, &Rules::default()).1, [(Refusal::Name, 1)]);
    let zone = String::from_utf8(list("")).unwrap().replace("\"z\"", "\"z\\u0007\"");
    assert_eq!(accept(zone.as_bytes(), "b", &Rules::default()).map(|_| ()), Err(FetchResult::Malformed));
}

#[test]
fn ports_are_ports() {
    for (port, refused) in [("0", true), ("65536", true), ("18446744073709551615", true), ("65535", false)] {
        let body = list(&pod("u", "10.0.0.1").replace("80", port));
        assert_eq!(told(&body, &Rules::default()).1 == [(Refusal::Port, 1)], refused, "{port}");
    }
}

#[test]
fn a_hundred_thousand_pods_are_a_thousand() {
    let pods: Vec<_> = (0..MAX_PODS as u32)
        .map(|number| pod(&number.to_string(), &format!("10.0.{}.{}", number / 256, number % 256)))
        .chain((0..100_000).map(|_| "{}".to_owned()))
        .collect();
    let body = list(&pods.join(","));
    assert!(body.len() < MAX_BYTES);
    let (kept, refused) = told(&body, &Rules::default());
    assert_eq!((kept.len(), refused), (MAX_PODS, vec![(Refusal::TooMany, 100_000)]));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = accept(&bytes, "b", &Rules::default());
    }

    /// Whatever a list says, what is believed of it is probed without harm.
    #[test]
    fn what_is_believed_may_be_probed(
        pods in proptest::collection::vec(("[a-d\n]{0,2}", proptest::collection::vec(any_address(), 0..4)), 0..20)
    ) {
        let pods: Vec<_> = pods
            .iter()
            .map(|(uid, ips)| {
                let ips: Vec<_> = ips.iter().map(ToString::to_string).collect();
                pod(&uid.replace('\n', "\\n"), &ips.join("\",\""))
            })
            .collect();
        let accepted = accept(&list(&pods.join(",")), "b", &Rules::default()).unwrap();
        let believed = &accepted.view.pods;
        prop_assert_eq!(believed.len() + accepted.refused.iter().sum::<u32>() as usize, pods.len());
        prop_assert!(believed.is_sorted_by(|one, other| one.id.uid < other.id.uid));
        let addresses: Vec<_> = believed.iter().flat_map(|pod| pod.addresses.clone()).collect();
        prop_assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), addresses.len());
        prop_assert!(addresses.into_iter().all(|address| forbidden(address).is_none()));
    }
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    let special =
        ["127.0.0.1", "::1", "169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "10.0.0.1"];
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        proptest::sample::select(special.map(address).to_vec()),
    ]
}

/// The UIDs that are believed, and how many are refused why.
fn told(body: &[u8], rules: &Rules) -> (Vec<String>, Vec<(Refusal, u32)>) {
    let accepted = accept(body, "b", rules).unwrap();
    assert_eq!(accepted.running.len(), accepted.view.pods.len());
    assert_eq!((accepted.view.asked_at, accepted.view.watch_age), (Instant::default(), None::<Duration>));
    (accepted.view.pods.iter().map(|pod| pod.id.uid.to_string()).collect(), counted(&accepted.refused))
}

fn counted(refused: &Refused) -> Vec<(Refusal, u32)> {
    Refusal::ALL.into_iter().zip(*refused).filter(|(_, count)| *count > 0).collect()
}

fn list(pods: &str) -> Vec<u8> {
    format!(
        "{{\"version\":1,\"node\":\"b\",\"zone\":\"z\",\"epoch\":\"ab\",\
         \"addresses\":[\"192.0.2.1\",\"2001:db8::1\"],\"leaving\":false,\"pods\":[{pods}]}}"
    )
    .into_bytes()
}

fn pod(uid: &str, ip: &str) -> String {
    format!(
        "{{\"uid\":\"{uid}\",\"namespace\":\"n\",\"name\":\"p\",\"workload\":\"W/w\",\"ips\":[\"{ip}\"],\
         \"port\":80,\"local\":{{\"icmp\":\"yes\"}},\"running_ms\":7}}"
    )
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
