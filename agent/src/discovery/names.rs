//! The addresses behind configured names, from the answers of all name servers: pure state.
//!
//! What a name has is the union of what its servers say. A server's newest definite answer counts: addresses replace
//! the ones before, "there is none" takes them away. A server that fails to say (timeout, SERVFAIL, a wrong address, …)
//! keeps its last word, so names do not vanish because DNS is down. But once it has failed [`FAILURES`] times in a row
//! and another server answers, its last word is forgotten: addresses that are gone do not stay because a server died
//! with them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use podsonar_core::query::{Meaning, QueryResult, Record};

/// At most so many addresses of a name and record are probed: the lowest, so that all agents choose alike.
pub const MAX_ADDRESSES: usize = 16;

/// After so many failures in a row a server's last word is forgotten as soon as another server answers.
pub const FAILURES: u32 = 3;

/// The configured names and what the servers said last about each.
#[derive(Debug, Default)]
pub struct Names {
    names: BTreeMap<Arc<str>, Words>,
    servers: BTreeSet<SocketAddr>,
}

type Words = HashMap<(SocketAddr, Record), LastWord>;

/// The last definite answer of a server, and how often it has failed since.
#[derive(Debug, Default)]
struct LastWord {
    addresses: Vec<IpAddr>,
    failures: u32,
}

impl Names {
    /// Sets which names are asked of which servers. What is known about those that stay stays. What a server said that
    /// left goes as soon as another one has answered: with other servers a name does not vanish until they are asked.
    pub fn configure(
        &mut self,
        names: impl IntoIterator<Item = Arc<str>>,
        servers: impl IntoIterator<Item = SocketAddr>,
    ) {
        self.servers = servers.into_iter().collect();
        let mut known = std::mem::take(&mut self.names);
        for name in names {
            let mut words = known.remove(&name).unwrap_or_default();
            for record in Record::ALL {
                forget_strangers(&mut words, &self.servers, record);
            }
            self.names.insert(name, words);
        }
    }

    /// Takes an answer, and tells whether the addresses of the name changed. An answer about a name or from a server
    /// that is no longer configured changes nothing.
    pub fn answer(
        &mut self,
        name: &str,
        server: SocketAddr,
        record: Record,
        result: QueryResult,
        addresses: &[IpAddr],
    ) -> bool {
        if !self.servers.contains(&server) {
            return false;
        }
        let Some(words) = self.names.get_mut(name) else { return false };
        let before = probed(words);
        match result.meaning() {
            Meaning::Addresses => {
                words.insert((server, record), LastWord { addresses: addresses.to_vec(), failures: 0 });
            }
            Meaning::NoAddress => {
                words.insert((server, record), LastWord::default());
            }
            Meaning::Nothing => {
                if let Some(word) = words.get_mut(&(server, record)) {
                    word.failures = word.failures.saturating_add(1);
                }
            }
        }
        if words.iter().any(|((_, of), word)| *of == record && word.failures == 0) {
            words.retain(|(_, of), word| *of != record || word.failures < FAILURES);
        }
        forget_strangers(words, &self.servers, record);
        probed(words) != before
    }

    /// Each name with the addresses to probe, sorted; without any, nothing is known or there are none.
    pub fn snapshot(&self) -> BTreeMap<Arc<str>, Vec<IpAddr>> {
        self.names.iter().map(|(name, words)| (Arc::clone(name), probed(words))).collect()
    }

    /// The addresses of one name to probe, sorted.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.names.get(name).map(probed).unwrap_or_default()
    }

    /// How many addresses of all names are left out, because no host has them or because of [`MAX_ADDRESSES`].
    pub fn left_out(&self) -> usize {
        let all = |words| Record::ALL.map(|record| said(words, record).len()).iter().sum::<usize>();
        self.names.values().map(|words| all(words) - probed(words).len()).sum()
    }
}

/// Forgets what servers said that are no longer asked, if one that is has said anything.
fn forget_strangers(words: &mut Words, servers: &BTreeSet<SocketAddr>, record: Record) {
    if words.keys().any(|(server, of)| *of == record && servers.contains(server)) {
        words.retain(|(server, of), _| *of != record || servers.contains(server));
    }
}

/// The addresses of a name that are probed.
fn probed(words: &Words) -> Vec<IpAddr> {
    let of = |record| {
        said(words, record).into_iter().filter(|address| can_be_probed(*address)).take(MAX_ADDRESSES)
    };
    Record::ALL.into_iter().flat_map(of).collect()
}

/// What the servers said.
fn said(words: &Words, record: Record) -> BTreeSet<IpAddr> {
    let of_record = words.iter().filter(|((_, of), _)| *of == record);
    of_record.flat_map(|(_, word)| word.addresses.iter().copied()).collect()
}

/// Whether it is the address of one host, of which no interface must be known: what a name server says is not trusted.
/// IPv4 link-local addresses are those of clouds' metadata servers.
fn can_be_probed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_link_local())
        }
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_union_of_all_servers_is_probed_v4_before_v6() {
        let mut names = names(2);
        assert!(says(&mut names, 0, &["10.0.0.2"]));
        assert!(says(&mut names, 1, &["10.0.0.1", "10.0.0.2"]));
        let v6 = [ip("fd00::1")];
        assert!(names.answer("web", server(0), Record::Aaaa, QueryResult::NoError, &v6));
        assert_eq!(probed(&names), ["10.0.0.1", "10.0.0.2", "fd00::1"]);
        assert!(!says(&mut names, 1, &["10.0.0.2", "10.0.0.1"]), "the order changes nothing");
    }

    #[test]
    fn other_addresses_replace_the_ones_before() {
        let mut names = names(1);
        says(&mut names, 0, &["10.0.0.1", "10.0.0.2"]);
        assert!(says(&mut names, 0, &["10.0.0.2", "10.0.0.3"]));
        assert_eq!(probed(&names), ["10.0.0.2", "10.0.0.3"]);
    }

    #[test]
    fn a_name_that_was_deleted_is_no_longer_probed() {
        for result in [QueryResult::NxDomain, QueryResult::NoData] {
            let mut names = names(2);
            says(&mut names, 0, &["10.0.0.1"]);
            says(&mut names, 1, &["10.0.0.1"]);
            assert!(!fails(&mut names, 0, result), "the other server still has it");
            assert!(fails(&mut names, 1, result));
            assert!(probed(&names).is_empty());
        }
    }

    #[test]
    fn a_failing_dns_takes_nothing_away() {
        let mut names = names(2);
        says(&mut names, 0, &["10.0.0.1"]);
        says(&mut names, 1, &["10.0.0.2"]);
        for _ in 0..10 {
            for (number, result) in [(0, QueryResult::Timeout), (1, QueryResult::ServFail)] {
                assert!(!fails(&mut names, number, result));
            }
        }
        assert_eq!(probed(&names), ["10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn a_server_that_died_is_forgotten_after_three_failures_and_heard_again_when_it_is_back() {
        let mut names = names(2);
        says(&mut names, 0, &["10.0.0.1"]);
        says(&mut names, 1, &["10.0.0.1"]);
        assert!(says(&mut names, 1, &["10.0.0.9"]));
        assert!(!fails(&mut names, 0, QueryResult::Timeout));
        assert!(!fails(&mut names, 0, QueryResult::Mismatch));
        assert!(!fails(&mut names, 1, QueryResult::Timeout));
        assert!(!fails(&mut names, 0, QueryResult::Timeout), "nobody says anything else");
        assert_eq!(probed(&names), ["10.0.0.1", "10.0.0.9"]);
        assert!(says(&mut names, 1, &["10.0.0.9"]));
        assert_eq!(probed(&names), ["10.0.0.9"]);
        assert!(!fails(&mut names, 1, QueryResult::Timeout), "what is forgotten does not come back");
        assert!(says(&mut names, 0, &["10.0.0.5"]));
        assert_eq!(probed(&names), ["10.0.0.5", "10.0.0.9"]);
    }

    #[test]
    fn addresses_that_are_no_single_hosts_are_left_out() {
        let mut names = names(1);
        says(&mut names, 0, &["0.0.0.0", "224.0.0.1", "255.255.255.255", "169.254.169.254", "10.0.0.1"]);
        let v6 = ["::", "ff02::1", "fe80::1", "::ffff:10.0.0.1", "fd00::1"].map(ip);
        names.answer("web", server(0), Record::Aaaa, QueryResult::NoError, &v6);
        assert_eq!(probed(&names), ["10.0.0.1", "fd00::1"]);
        assert_eq!(names.left_out(), 8);
    }

    #[test]
    fn a_name_with_very_many_addresses_is_probed_at_the_lowest_of_each_family() {
        let mut names = names(1);
        let v4: Vec<_> = (1..=100).rev().map(|last| ip(&format!("10.0.0.{last}"))).collect();
        let v6: Vec<_> = (1..=100).map(|last| ip(&format!("fd00::{last}"))).collect();
        names.answer("web", server(0), Record::A, QueryResult::NoError, &v4);
        names.answer("web", server(0), Record::Aaaa, QueryResult::NoError, &v6);
        let probed = probed(&names);
        assert_eq!((probed.len(), probed[0].as_str()), (2 * MAX_ADDRESSES, "10.0.0.1"));
        assert_eq!((probed[15].as_str(), probed[16].as_str()), ("10.0.0.16", "fd00::1"));
        assert_eq!(names.left_out(), 200 - 2 * MAX_ADDRESSES);
    }

    #[test]
    fn what_stays_configured_keeps_its_addresses_and_the_rest_is_forgotten() {
        let mut names = names(2);
        says(&mut names, 0, &["10.0.0.1"]);
        says(&mut names, 1, &["10.0.0.2"]);
        names.configure(["db".into(), "web".into()], [server(1)]);
        assert_eq!(probed(&names), ["10.0.0.2"]);
        assert!(!says(&mut names, 0, &["10.0.0.1"]), "a late answer of a server that left");
        assert_eq!(names.snapshot().len(), 2);
        names.configure([], [server(1)]);
        assert!(!says(&mut names, 1, &["10.0.0.3"]) && names.snapshot().is_empty());
    }

    #[test]
    fn with_other_servers_a_name_keeps_its_addresses_until_one_of_them_answers() {
        let mut names = names(1);
        says(&mut names, 0, &["10.0.0.1"]);
        names.configure(["web".into()], [server(1), server(2)]);
        assert_eq!(probed(&names), ["10.0.0.1"]);
        assert!(!fails(&mut names, 1, QueryResult::Timeout));
        assert!(says(&mut names, 2, &["10.0.0.2"]));
        assert_eq!(probed(&names), ["10.0.0.2"]);
        names.configure(["web".into()], [server(3)]);
        assert!(fails(&mut names, 3, QueryResult::NxDomain));
        assert!(probed(&names).is_empty());
    }

    fn names(servers: u16) -> Names {
        let mut names = Names::default();
        names.configure(["web".into()], (0..servers).map(server));
        names
    }

    fn server(number: u16) -> SocketAddr {
        SocketAddr::new(ip("10.9.9.9"), number)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn says(names: &mut Names, number: u16, addresses: &[&str]) -> bool {
        let addresses: Vec<_> = addresses.iter().map(|text| ip(text)).collect();
        names.answer("web", server(number), Record::A, QueryResult::NoError, &addresses)
    }

    fn fails(names: &mut Names, number: u16, result: QueryResult) -> bool {
        names.answer("web", server(number), Record::A, result, &[])
    }

    fn probed(names: &Names) -> Vec<String> {
        names.snapshot()["web"].iter().map(ToString::to_string).collect()
    }
}
