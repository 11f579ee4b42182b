//! Who may read our list.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ipnet::IpNet;
use podsonar_core::time::Instant;
use tokio::sync::Notify;

/// Between two refreshes that unknown callers bring about.
pub const REFRESH_PAUSE: Duration = Duration::from_secs(10);

/// The callers that are served: known agents and their nodes, this host by `127.0.0.1` and `::1` exactly (other
/// addresses of `127.0.0.0/8` can be redirected here by a service mesh), and `exchange.allow_cidrs`.
///
/// An address that is nobody's yet may be a new agent's: it asks for a refresh of the peers, but not often, since
/// anybody can call.
#[derive(Debug, Default)]
pub struct Callers {
    /// Known callers, and of agents whether they are probed.
    known: RwLock<Arc<HashMap<IpAddr, Option<bool>>>>,
    allowed: Vec<IpNet>,
    wanted: Notify,
    last: Mutex<Option<Instant>>,
}

impl Callers {
    /// Nobody is known yet; `allowed` are `exchange.allow_cidrs`.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed, ..Self::default() }
    }

    /// Takes the addresses of agents and their nodes as they are now; of each agent whether we probe it, of a node `None`.
    /// What is said first of an address holds.
    pub fn replace(&self, addresses: impl IntoIterator<Item = (IpAddr, Option<bool>)>) {
        let mut known = HashMap::new();
        for (address, probed) in addresses {
            known.entry(address.to_canonical()).or_insert(probed);
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    }

    /// Whether this caller is served. IPv4 callers of an IPv6 socket (RFC 4291 §2.5.5.2) are what they are.
    pub fn allows(&self, caller: IpAddr) -> bool {
        let caller = caller.to_canonical();
        let myself = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&caller);
        myself || self.allowed.iter().any(|cidr| cidr.contains(&caller)) || self.knows(caller)
    }

    /// Whether we probe the agent that calls; `None` if the caller is none, or it is not clear which.
    pub fn probes(&self, caller: IpAddr) -> Option<bool> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&caller.to_canonical()).copied().flatten()
    }

    fn knows(&self, caller: IpAddr) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains_key(&caller)
    }

    /// Somebody unknown called: asks for a refresh, unless one was asked for within [`REFRESH_PAUSE`]. Tells whether it
    /// did.
    pub fn unknown(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.since(last) >= REFRESH_PAUSE);
        if due {
            *last = Some(now);
            self.wanted.notify_one();
        }
        due
    }

    /// Waits until the peers should be looked up anew; for whoever watches them.
    pub async fn refresh_wanted(&self) {
        self.wanted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_this_host_and_allowed_networks_are_served_and_nobody_else() {
        let callers = Callers::new(vec!["192.0.2.0/24".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()]);
        callers.replace(["10.0.0.1", "::ffff:10.0.0.2", "fd00::1"].map(|text| (address(text), None)));
        for served in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "10.0.0.2",
            "fd00::1",
            "192.0.2.200",
            "::ffff:192.0.2.200",
            "2001:db8:1:2::3",
        ] {
            assert!(callers.allows(address(served)), "{served}");
        }
        for refused in
            ["127.0.0.2", "::ffff:127.0.0.2", "10.0.0.3", "fd00::2", "2001:db8:2::1", "::", "0.0.0.0"]
        {
            assert!(!callers.allows(address(refused)), "{refused}");
        }
        callers.replace([]);
        assert!(!callers.allows(address("10.0.0.1")));
    }

    #[test]
    fn an_agent_is_told_whether_it_is_probed_and_a_node_whose_agents_address_it_is_not() {
        let callers = Callers::new(vec!["192.0.2.0/24".parse().unwrap()]);
        let known =
            [("10.0.0.1", Some(true)), ("fd00::1", Some(false)), ("10.0.0.1", None), ("10.9.0.1", None)];
        callers.replace(known.map(|(text, probed)| (address(text), probed)));
        for (caller, probed) in [
            ("10.0.0.1", Some(true)),
            ("::ffff:10.0.0.1", Some(true)),
            ("fd00::1", Some(false)),
            ("10.9.0.1", None),
            ("192.0.2.1", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(callers.probes(address(caller)), probed, "{caller}");
        }
    }

    #[tokio::test]
    async fn unknown_callers_bring_about_one_refresh_in_ten_seconds() {
        let callers = Callers::default();
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let refreshed = [0, 1, 9, 10, 19, 20].map(|second| callers.unknown(at(second)));
        assert_eq!(refreshed, [true, false, false, true, false, true]);
        // All of them are one, if nobody looked meanwhile.
        callers.refresh_wanted().await;
        assert!(tokio::time::timeout(Duration::ZERO, callers.refresh_wanted()).await.is_err());
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
