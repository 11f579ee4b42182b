//! What is found on hosts that lack something, in network namespaces of their own.

use podsonar::preflight::{About, Finding, Verdict, report};
use podsonar_core::target::Family;
use podsonar_core::wire::Channel;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::connect::{command, on_a_host};

const BUFFER: usize = 256 << 10;

#[test]
fn with_everything_all_is_fine() {
    on_a_host(|| {
        let findings = report(&Channel::ALL, BUFFER);
        assert_eq!(failing(&findings), [""; 0]);
        for channel in Channel::ALL {
            let about = findings.iter().filter(|each| each.about == About::Use(channel)).count();
            assert_eq!(about, 4, "buffer, answer and both stamps: {findings:#?}");
        }
        assert!(findings.iter().any(|each| each.about == About::Errors(Family::V6)));
    });
}

#[test]
fn without_net_raw_the_ways_that_are_left_are_told() {
    on_a_host(|| {
        write("net/ipv4/ping_group_range", "0 0");
        give_up(CapabilitySet::NET_RAW);
        let findings = report(&Channel::ALL, BUFFER);
        let lines = failing(&findings);
        assert_eq!(lines.len(), 4, "{lines:#?}");
        for (line, words) in
            lines.iter().zip(["icmp/4: datagram", "icmp/6: datagram", "tcp/4: full", "tcp/6: full"])
        {
            assert!(line.starts_with("degraded") && line.contains(words), "{line}");
        }
        write("net/ipv4/ping_group_range", "1 0");
        let findings = report(&Channel::ALL, BUFFER);
        assert_eq!(findings.iter().filter(|each| each.verdict == Verdict::Missing).count(), 2);
        assert!(failing(&findings)[0].contains("net.ipv4.ping_group_range"));
    });
}

#[test]
fn a_small_buffer_names_the_sysctl_and_the_capability() {
    on_a_host(|| {
        give_up(CapabilitySet::NET_ADMIN);
        let lines = failing(&report(&[Channel::ALL[0]], 1 << 30));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].contains("net.core.rmem_max") && lines[0].contains("CAP_NET_ADMIN"), "{lines:#?}");
    });
}

#[test]
fn a_silent_loopback_is_told() {
    on_a_host(|| {
        write("net/ipv4/icmp_echo_ignore_all", "1");
        let lines = failing(&report(&[Channel::ALL[0]], BUFFER));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].contains("icmp_echo_ignore_all"), "{lines:#?}");
    });
    on_a_host(|| {
        command("nft add table inet t");
        command("nft add chain inet t c { type filter hook input priority 0 ; policy drop ; }");
        let lines = failing(&report(&[Channel::ALL[2]], BUFFER));
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(
            lines[0].contains("loopback does not answer") && lines[1].contains("IP_RECVERR"),
            "{lines:#?}"
        );
    });
}

fn failing(findings: &[Finding]) -> Vec<String> {
    findings.iter().filter(|each| each.verdict != Verdict::Fine).map(ToString::to_string).collect()
}

fn write(key: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{key}"), value).expect("a sysctl of our own namespace");
}

/// Takes a capability off this thread, and no other.
fn give_up(unwanted: CapabilitySet) {
    let mut sets = capabilities(None).expect("capabilities");
    sets.effective -= unwanted;
    sets.permitted -= unwanted;
    set_capabilities(None, sets).expect("fewer capabilities");
}
