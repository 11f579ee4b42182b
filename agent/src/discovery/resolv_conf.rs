//! The host's resolver configuration (`resolv.conf(5)`): which name servers there are, and the search list.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::{fs, io};

use podsonar_core::query::search::SearchList;
use resolv_conf::{Config, ScopedIp};

/// Where the configuration is.
pub const PATH: &str = "/etc/resolv.conf";

/// The port of name servers.
pub const PORT: u16 = 53;

/// The resolver uses the first so many name servers (`resolv.conf(5)`: `MAXNS`); so only these are asked.
const MAX_SERVERS: usize = 3;

/// What the resolver of this host would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// The name servers in order, each once.
    pub servers: Vec<SocketAddr>,
    /// How names become fully qualified.
    pub search: SearchList,
}

/// Reads the configuration of this host. A missing file is an empty one, as for the resolver.
///
/// # Errors
/// The file is there and cannot be read.
pub fn read(path: &Path) -> io::Result<Resolver> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Ok(parse(&text, host.trim(), &interface_number))
}

/// What a configuration means on a host of this name. Lines that make no sense are passed over, as the resolver does.
/// `interface` finds the number of an interface, which a link-local server needs.
fn parse(text: &[u8], host: &str, interface: &dyn Fn(&str) -> Option<u32>) -> Resolver {
    let (config, _) = Config::parse_with_errors(text);
    let mut servers = Vec::new();
    for written in config.nameservers.iter().take(MAX_SERVERS) {
        if let Some(server) = server(written, interface)
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    if config.nameservers.is_empty() {
        servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    }
    let mut domains: Vec<&str> = config.get_last_search_or_domain().map(String::as_str).collect();
    if config.get_search().is_none() && config.get_domain().is_none() {
        // Without a line for it the search list is the domain of the host's own name.
        domains.extend(host.split_once('.').map(|(_, domain)| domain));
    }
    Resolver { servers, search: SearchList::new(domains, config.ndots) }
}

fn server(written: &ScopedIp, interface: &dyn Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    match written {
        ScopedIp::V6(address, Some(scope)) => {
            let scope = scope.parse().ok().or_else(|| interface(scope))?;
            Some(SocketAddrV6::new(*address, PORT, 0, scope).into())
        }
        ScopedIp::V4(_) | ScopedIp::V6(_, None) => Some(SocketAddr::new(IpAddr::from(written), PORT)),
    }
}

fn interface_number(name: &str) -> Option<u32> {
    fs::read_to_string(Path::new("/sys/class/net").join(name).join("ifindex")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_search_list_and_ndots_are_those_of_the_file() {
        let text = b"# a cluster's\nsearch ns.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n\
            nameserver fd00::10\noptions ndots:5 edns0 unknown\nnonsense\n";
        let resolver = parse(text, "host.example", &|_| None);
        assert_eq!(resolver.servers, servers(&["10.96.0.10:53", "[fd00::10]:53"]));
        assert_eq!(resolver.search, SearchList::new(["ns.svc.cluster.local", "svc.cluster.local"], 5));
    }

    #[test]
    fn an_empty_file_means_this_host_and_the_domain_of_its_name() {
        let resolver = parse(b"", "host.example.org", &|_| None);
        assert_eq!(resolver.servers, servers(&["127.0.0.1:53"]));
        assert_eq!(resolver.search, SearchList::new(["example.org"], 1));
        assert_eq!(parse(b"", "host", &|_| None).search, SearchList::default());
    }

    #[test]
    fn the_last_of_search_and_domain_counts() {
        let search = |text: &str| parse(text.as_bytes(), "host.example.org", &|_| None).search;
        assert_eq!(search("search a.test b.test\ndomain c.test\n"), SearchList::new(["c.test"], 1));
        assert_eq!(search("domain c.test\nsearch a.test b.test\n"), SearchList::new(["a.test", "b.test"], 1));
        assert_eq!(search("search .\n"), SearchList::new(["."], 1));
    }

    #[test]
    fn three_servers_are_asked_each_once_and_nonsense_not_at_all() {
        let text = b"nameserver 10.0.0.1\nnameserver 10.0.0.1\nnameserver x\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        assert_eq!(parse(text, "host", &|_| None).servers, servers(&["10.0.0.1:53", "10.0.0.2:53"]));
    }

    #[test]
    fn a_link_local_server_keeps_its_interface() {
        let text = b"nameserver fe80::1%eth0\nnameserver fe80::2%7\nnameserver fe80::3%gone\n";
        let resolver = parse(text, "host", &|name| (name == "eth0").then_some(2));
        let scoped =
            |text: &str, scope| SocketAddr::from(SocketAddrV6::new(text.parse().unwrap(), PORT, 0, scope));
        assert_eq!(resolver.servers, [scoped("fe80::1", 2), scoped("fe80::2", 7)]);
    }

    #[test]
    fn this_hosts_own_configuration_is_read_and_a_missing_one_is_empty() {
        assert_eq!(interface_number("lo"), Some(1));
        let missing = read(Path::new("/nonexistent/resolv.conf")).unwrap();
        assert_eq!(missing.servers, servers(&["127.0.0.1:53"]));
        assert!(!read(Path::new(PATH)).unwrap().servers.is_empty());
    }

    fn servers(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }
}
