//! The host's resolver configuration (`resolv.conf(5)`): whom it asks for names, and how.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use hickory_resolver::system_conf::parse_resolv_conf;
use podsonar_core::config::Resolver;
use podsonar_core::query::search::MAX_NDOTS;

/// Where the configuration is.
pub const PATH: &str = "/etc/resolv.conf";

/// The port of name servers.
const PORT: u16 = 53;

/// The resolver uses the first so many name servers (`resolv.conf(5)`: `MAXNS`), so only these are asked.
const MAX_SERVERS: usize = 3;

/// What a timeout may be, in seconds (`resolv.conf(5)` has the upper bound).
const TIMEOUT: std::ops::RangeInclusive<u64> = 1..=30;

/// Reads the configuration of this host. A missing file is an empty one, as for the resolver.
///
/// # Errors
/// The file is there and cannot be read.
pub fn read(path: &Path) -> io::Result<Resolver> {
    match fs::read(path) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(parse(b"")),
        Err(error) => Err(error),
    }
}

/// What a configuration means. Lines that make no sense are passed over, as the resolver does. Without a search list
/// the domain of the host's own name is searched.
fn parse(text: &[u8]) -> Resolver {
    let default = Resolver::default();
    // A later line wins: so ours first holds where the file says nothing.
    let before = format!("options timeout:{}\n", default.timeout.as_secs());
    // No name server at all would be an error. This is the one that the resolver asks then; where there are others it
    // is taken off again.
    let after = format!("\nnameserver {}\n", Ipv4Addr::LOCALHOST);
    let whole = |text: &[u8]| parse_resolv_conf([before.as_bytes(), text, after.as_bytes()].concat());
    // A search domain that cannot be one would be an error too.
    let Ok((config, options)) = whole(text).or_else(|_| whole(&without_search(text))) else { return default };
    let mut written = config.name_servers();
    if let [others @ .., _] = written
        && !others.is_empty()
    {
        written = others;
    }
    let mut servers = Vec::with_capacity(MAX_SERVERS);
    for server in written.iter().take(MAX_SERVERS).map(|server| SocketAddr::new(server.ip, PORT)) {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    let domains = if config.search().is_empty() {
        config.domain().into_iter().collect()
    } else {
        config.search().iter().collect::<Vec<_>>()
    };
    let seconds = options.timeout.as_secs().clamp(*TIMEOUT.start(), *TIMEOUT.end());
    Resolver {
        servers,
        search: domains.into_iter().map(ToString::to_string).collect(),
        ndots: u8::try_from(options.ndots.min(MAX_NDOTS as usize)).unwrap_or(default.ndots),
        timeout: Duration::from_secs(seconds),
    }
}

/// The lines that are not about the search list.
fn without_search(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let is_search = |line: &[u8]| [&b"search"[..], b"domain"].iter().any(|word| line.starts_with(word));
    lines.filter(|line| !is_search(line)).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_search_list_and_options_are_those_of_the_file() {
        let text = "# a cluster's\nsearch ns.svc.cluster.local svc.cluster.local.\nnameserver 10.96.0.10\n\
            nameserver fd00::10\noptions ndots:5 timeout:1 edns0 unknown\nnonsense\n";
        let resolver = parse(text.as_bytes());
        assert_eq!(resolver.servers, servers(&["10.96.0.10:53", "[fd00::10]:53"]));
        assert_eq!(resolver.search, ["ns.svc.cluster.local", "svc.cluster.local."]);
        assert_eq!((resolver.ndots, resolver.timeout), (5, Duration::from_secs(1)));
    }

    #[test]
    fn what_the_file_does_not_say_is_as_the_resolver_has_it() {
        for text in ["", "# nothing\n", "options edns0"] {
            let resolver = parse(text.as_bytes());
            assert_eq!(resolver.servers, servers(&["127.0.0.1:53"]));
            assert_eq!((resolver.ndots, resolver.timeout), (1, Resolver::default().timeout));
        }
        assert_eq!(parse(b"nameserver 127.0.0.1").servers, servers(&["127.0.0.1:53"]));
        assert_eq!(parse(b"nameserver 10.0.0.1").servers, servers(&["10.0.0.1:53"]));
    }

    #[test]
    fn options_stay_within_the_resolvers_bounds() {
        let bounds = |text: &str| {
            let resolver = parse(text.as_bytes());
            (resolver.ndots, resolver.timeout.as_secs())
        };
        assert_eq!(bounds("options ndots:99 timeout:99"), (15, 30));
        assert_eq!(bounds("options ndots:0 timeout:0"), (0, 1));
        assert_eq!(bounds("options timeout:5"), (1, 5));
    }

    #[test]
    fn the_last_of_search_and_domain_counts() {
        let search = |text: &str| parse(text.as_bytes()).search;
        assert_eq!(search("search a.test b.test\ndomain c.test\n"), ["c.test"]);
        assert_eq!(search("domain c.test\nsearch a.test b.test\n"), ["a.test", "b.test"]);
        assert_eq!(search("search .\n"), ["."]);
    }

    #[test]
    fn a_search_list_that_is_none_keeps_the_rest() {
        let resolver = parse(b"search a..b\nnameserver 10.0.0.1\noptions ndots:2\n");
        assert_eq!((resolver.servers, resolver.ndots), (servers(&["10.0.0.1:53"]), 2));
    }

    #[test]
    fn three_servers_are_asked_each_once_and_nonsense_not_at_all() {
        let text = b"nameserver 10.0.0.1\nnameserver 10.0.0.1\nnameserver x\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        assert_eq!(parse(text).servers, servers(&["10.0.0.1:53", "10.0.0.2:53"]));
    }

    #[test]
    fn this_hosts_own_configuration_is_read_and_a_missing_one_is_empty() {
        let missing = read(Path::new("/nonexistent/resolv.conf")).unwrap();
        assert_eq!(missing.servers, servers(&["127.0.0.1:53"]));
        assert!(!read(Path::new(PATH)).unwrap().servers.is_empty());
        assert!(read(Path::new("/")).is_err());
    }

    fn servers(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }
}
