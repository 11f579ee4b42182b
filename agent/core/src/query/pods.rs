//! Names of pods: how the cluster's name server spells them, and how often this agent can ask for them.
//!
//! A pod's name is its address with dashes, its namespace, `pod` and the cluster's domain. A bare pod name is no name in
//! DNS at all, and must not resolve.

use std::net::IpAddr;
use std::time::Duration;

use super::Record;

/// What the metrics call all names of pods together: the label `name`, and the label `destination` of their addresses.
pub const POD_NAMES: &str = "pod";

/// What the metrics call all bare names of pods together: the label `name`.
pub const BARE_POD_NAMES: &str = "bare_pod";

/// How often one bare pod name is asked for of each server.
pub const BARE_INTERVAL: Duration = Duration::from_mins(1);

/// Pods' names take this share of what the configured names leave. At the whole of it, questions that once fell behind
/// would never catch up.
const SHARE: f64 = 0.9;

/// What would be asked less often is not asked at all.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);

/// The longest name (RFC 1035 §2.3.4), without a dot at its end.
const MAX_NAME: usize = 253;

/// The longest part of a name between two dots.
const MAX_LABEL: usize = 63;

/// The absolute name of the pod with this address: `10-0-0-7.web.pod.cluster.local.`.
///
/// `CoreDNS` makes the address of the label again: three dashes that are not neighbours become dots, all others colons.
/// With `pods verified` it compares that with the address as the API server writes it, so it must be in its one short
/// form (RFC 5952), also where that ends in `::` and the label in two dashes.
///
/// `None` if the parts are none of a name: a namespace that is no label, or an address in `::/16`, whose label would
/// begin with a dash; pods have none from there (RFC 4291 §2.4).
pub fn pod_name(address: IpAddr, namespace: &str, domain: &str) -> Option<String> {
    if matches!(address, IpAddr::V6(v6) if v6.segments().first() == Some(&0)) || !is_label(namespace) {
        return None;
    }
    let label = address.to_string().replace(['.', ':'], "-");
    let name = format!("{label}.{namespace}.pod.{}", domain.trim_matches('.'));
    (name.len() <= MAX_NAME).then(|| name + ".")
}

/// Whether it is the name of a pod as the API server allows it (RFC 1123 §2.1): what a peer tells is not trusted.
pub fn is_bare_name(name: &str) -> bool {
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(letters)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The cluster's domain, as the search list tells that kubelets give to pods:
/// `namespace.svc.DOMAIN`, `svc.DOMAIN`, `DOMAIN`. Another list tells none.
pub fn cluster_domain<S: AsRef<str>>(search: &[S]) -> Option<String> {
    let domains: Vec<&str> = search.iter().map(|each| each.as_ref().trim_matches('.')).collect();
    let domain = domains.iter().find_map(|services| {
        let domain = services.strip_prefix("svc.")?;
        let namespaced = |other: &&str| {
            other.strip_suffix(services).and_then(|rest| rest.strip_suffix('.')).is_some_and(is_label)
        };
        (domains.contains(&domain) && domains.iter().any(namespaced)).then_some(domain)
    });
    domain.map(Into::into)
}

/// What there is to be asked about pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Askable {
    /// Name servers: each is asked.
    pub servers: usize,
    /// Pods' names with an address of the family, by [`Record::ALL`].
    pub names: [usize; Record::ALL.len()],
    /// Bare names.
    pub bare: usize,
    /// Search domains behind a bare name.
    pub domains: usize,
}

/// Time between two questions about pods to one server. `None`: nothing is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turns {
    /// About a name, by [`Record::ALL`].
    pub names: [Option<Duration>; Record::ALL.len()],
    /// About a bare name.
    pub bare: Option<Duration>,
}

impl Turns {
    /// How pods' names take turns with what the configured names leave of the ceiling: `left` exchanges a second.
    ///
    /// No name is asked for more often than each `interval`. What is left goes to all names alike; how many there are
    /// matters only while they are few, and then in steps, so that pods that come and go change nothing as a rule. Bare
    /// names have precedence, but take no more than half.
    pub fn new(askable: &Askable, left: f64, interval: Duration) -> Self {
        let spare = left * SHARE;
        let servers = askable.servers as f64;
        if spare <= 0.0 || askable.servers == 0 {
            return Self::default();
        }
        let wanted = servers * askable.domains as f64 / BARE_INTERVAL.as_secs_f64();
        let asks_bare = askable.bare > 0 && wanted > 0.0;
        let stretched = BARE_INTERVAL.as_secs_f64() * (wanted / (spare / 2.0)).max(1.0);
        let bare = if asks_bare { bounded(stretched) } else { None };
        let spent = bare.map_or(0.0, |bare| servers * askable.domains as f64 / bare.as_secs_f64());
        let records = askable.names.iter().filter(|count| **count > 0).count() as f64;
        let affordable = servers * records / (spare - spent);
        let names = askable.names.map(|count| {
            let steps = count.checked_ilog2()?;
            bounded(affordable.max(interval.as_secs_f64() / f64::from(steps).exp2()))
        });
        Self { names, bare }
    }
}

fn bounded(seconds: f64) -> Option<Duration> {
    let nanos = Duration::from_nanos(1);
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|each| *each <= LONGEST_INTERVAL)
        .map(|each| each + nanos)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pods_name_is_its_address_with_dashes() {
        for (address, name) in [
            ("10.244.1.7", "10-244-1-7.web.pod.cluster.local."),
            ("fd00::1", "fd00--1.web.pod.cluster.local."),
            ("fd00::", "fd00--.web.pod.cluster.local."),
            ("FD00:0:0:1:0:0:0:9", "fd00-0-0-1--9.web.pod.cluster.local."),
            ("2001:db8:1:2:3:4:5:6", "2001-db8-1-2-3-4-5-6.web.pod.cluster.local."),
            ("2001:db8:0:1:1:1:1:1", "2001-db8-0-1-1-1-1-1.web.pod.cluster.local."),
        ] {
            for domain in ["cluster.local", "cluster.local."] {
                assert_eq!(pod_name(address.parse().unwrap(), "web", domain).as_deref(), Some(name));
            }
        }
        for address in ["::1", "::ffff:10.0.0.1", "::"] {
            assert_eq!(pod_name(address.parse().unwrap(), "web", "cluster.local"), None);
        }
    }

    #[test]
    fn what_is_no_label_names_nothing() {
        let address = "10.0.0.1".parse().unwrap();
        for namespace in ["", "a.b", "-a", "a-", "A", "a_b", "a\0", "ä", &"a".repeat(64)] {
            assert_eq!(pod_name(address, namespace, "cluster.local"), None, "{namespace}");
            assert!(namespace == "a.b" || !is_bare_name(namespace), "{namespace}");
        }
        assert!(pod_name(address, &"a".repeat(63), &"b.".repeat(80)).is_some());
        assert!(pod_name(address, &"a".repeat(63), &"b.".repeat(100)).is_none());
        assert!(is_bare_name("kube-proxy-a.example") && !is_bare_name("a..b") && !is_bare_name("web."));
    }

    #[test]
    fn the_clusters_domain_is_that_of_the_list_that_pods_get() {
        let cases: [(&[&str], Option<&str>); 8] = [
            (&["web.svc.cluster.local", "svc.cluster.local", "cluster.local"], Some("cluster.local")),
            (&["web.svc.a.b.", "svc.a.b.", "a.b.", "example.com"], Some("a.b")),
            (&["example.com", "web.svc.k8s", "svc.k8s", "k8s"], Some("k8s")),
            (&["svc.cluster.local", "cluster.local"], None),
            (&["web.svc.cluster.local", "svc.cluster.local"], None),
            (&["web.svc.cluster.local", "cluster.local"], None),
            (&["svc.", "svc.", "."], None),
            (&[], None),
        ];
        for (search, domain) in cases {
            assert_eq!(cluster_domain(search).as_deref(), domain, "{search:?}");
        }
    }

    #[test]
    fn few_names_are_asked_for_each_interval_and_many_in_turn() {
        let turns = |servers, v4, v6, left| {
            let askable = Askable { servers, names: [v4, v6], bare: 0, domains: 3 };
            let seconds = |each: Duration| each.as_secs_f64();
            Turns::new(&askable, left, Duration::from_secs(30)).names.map(|each| each.map(seconds))
        };
        let near = |found: [Option<f64>; 2], wanted: [Option<f64>; 2]| {
            let close = |(found, wanted): (Option<f64>, Option<f64>)| match (found, wanted) {
                (Some(found), Some(wanted)) => (found - wanted).abs() < 1e-6,
                (found, wanted) => found == wanted,
            };
            assert!(found.into_iter().zip(wanted).all(close), "{found:?} {wanted:?}");
        };
        near(turns(1, 1, 0, 1.0), [Some(30.0), None]);
        near(turns(1, 3, 0, 1.0), [Some(15.0), None]);
        near(turns(1, 240, 0, 1.0), [Some(1.0 / 0.9), None]);
        near(turns(1, 241, 0, 1.0), turns(1, 240, 0, 1.0));
        near(turns(2, 240, 240, 1.0), [Some(4.0 / 0.9); 2]);
        near(turns(1, 240, 0, 0.0), [None; 2]);
        near(turns(0, 240, 0, 1.0), [None; 2]);
        near(turns(1, 240, 0, 1e-9), [None; 2]);
    }

    #[test]
    fn one_bare_name_is_asked_for_each_minute_if_that_takes_no_more_than_half() {
        let bare = |domains, left| {
            let askable = Askable { servers: 1, names: [100, 0], bare: 100, domains };
            Turns::new(&askable, left, Duration::from_secs(30)).bare.map(|each| each.as_secs())
        };
        assert_eq!(bare(3, 1.0), Some(60));
        assert_eq!(bare(3, 0.01), Some(666));
        assert_eq!(bare(0, 1.0), None);
    }

    proptest! {
        #[test]
        fn a_label_is_the_address_again(segments in any::<[u16; 8]>(), zeros in any::<[bool; 8]>()) {
            let mut kept = segments.into_iter().zip(zeros).map(|(segment, zero)| if zero { 0 } else { segment });
            let address = Ipv6Addr::from(segments.map(|_| kept.next().unwrap()));
            let name = pod_name(address.into(), "web", "cluster.local");
            let label = name.as_deref().and_then(|name| name.split('.').next());
            let dotted = |label: &str| label.matches('-').count() == 3 && !label.contains("--");
            prop_assert!(label.is_none_or(|label| !dotted(label) && label.replace('-', ":").parse() == Ok(address)));
            prop_assert_eq!(label.is_none(), address.segments()[0] == 0);
        }

        #[test]
        fn pods_names_never_take_all_that_is_left(
            servers in 0_usize..9, names in any::<[u16; 2]>(), domains in 0_usize..7, left in 0.0..100.0_f64,
        ) {
            let askable = Askable { servers, names: names.map(usize::from), bare: names.len(), domains };
            let turns = Turns::new(&askable, left, Duration::from_secs(30));
            let rate = |every: Option<Duration>| every.map_or(0.0, |every| servers as f64 / every.as_secs_f64());
            let taken = turns.names.map(rate).iter().sum::<f64>() + rate(turns.bare) * domains as f64;
            prop_assert!(taken <= left * 0.900_001, "{taken} of {left}");
            for (every, count) in turns.names.into_iter().zip(names) {
                let round = every.map(|every| every * u32::from(count));
                prop_assert!(round.is_none_or(|round| round >= Duration::from_secs(30)));
            }
        }
    }
}
