//! What this host lets podsonar do, found out by doing it on loopback; and what to do where it does not.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use podsonar_core::target::Family;
use podsonar_core::wire::answer::{self, Answer};
use podsonar_core::wire::payload::{Heard, LEN, Payload, SizeClass};
use podsonar_core::wire::tcp::{Syn, encode_syn};
use podsonar_core::wire::{Channel, Reject, Transport, icmp};
use podsonar_net::{
    Batch, Mode, OpenError, ProbeSockets, Received, Settings, Sockets, Ticker, icmp_errors_arrive,
};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::clock::{self, Clocks, SystemClocks};
use crate::degrade::Means;

/// Source ports that are reserved for the test, and where one SYN goes.
const FLOWS: u16 = 2;

/// How long loopback may take. It answers at once; the kernel switches receive stamps on a little later.
const PATIENCE: Duration = Duration::from_millis(500);

/// Time between two tries.
const TRY: Duration = Duration::from_millis(10);

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub about: About,
    /// How it went.
    pub verdict: Verdict,
    /// What was found, and what to do if it is not fine: one line.
    pub words: String,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Whether there is a socket, and of which kind. The agent logs this by itself.
    Socket(Channel),
    /// What a socket does.
    Use(Channel),
    /// ICMP errors.
    Errors(Family),
}

/// How a test went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// podsonar works, but measures less, or worse.
    Degraded,
    /// podsonar cannot do it.
    Missing,
}

impl Verdict {
    /// A word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channel = |channel: Channel| (channel.protocol.label(), channel.family.label());
        let (subject, family) = match self.about {
            About::Socket(of) | About::Use(of) => channel(of),
            About::Errors(family) => ("errors", family.label()),
        };
        write!(f, "{:<8} {subject}/{family}: {}", self.verdict.label(), self.words)
    }
}

/// Tries everything that these channels need, with receive buffers of so many bytes. It sends a few packets to
/// loopback, and takes less than a second for each channel that does not work, else some milliseconds.
pub fn report(channels: &[Channel], receive_buffer: usize) -> Vec<Finding> {
    let mut id = [0; 2];
    // Without random bytes any identifier will do: nobody else's replies have our payload.
    let _ = getrandom(&mut id, GetRandomFlags::empty());
    let mut sockets = ProbeSockets::open(&Settings {
        channels: channels.to_vec(),
        icmp_id: u16::from_ne_bytes(id),
        flows: FLOWS,
        receive_buffer,
        message_size: icmp::HEADER + LEN,
        largest_message: icmp::HEADER + LEN,
    });
    let mut findings = Vec::new();
    for channel in channels {
        let Some(mode) = sockets.mode(*channel) else { continue };
        findings.push(socket_finding(*channel, mode));
        if sockets.is_open(*channel) {
            findings.push(buffer_finding(*channel, sockets.granted_buffer(*channel), receive_buffer));
            findings.extend(use_findings(*channel, tried(&mut sockets, *channel)));
        }
    }
    for family in Family::ALL {
        if channels.iter().any(|channel| channel.family == family && sockets.is_open(*channel)) {
            findings.push(errors_finding(family));
        }
    }
    findings
}

/// Logs what is not fine, but for what the agent says about its own sockets.
pub fn log(findings: &[Finding]) {
    let news = findings
        .iter()
        .filter(|each| each.verdict != Verdict::Fine && !matches!(each.about, About::Socket(_)));
    for finding in news {
        tracing::warn!("preflight: {finding}");
    }
}

fn socket_finding(channel: Channel, mode: &Mode) -> Finding {
    let (verdict, words) = match (mode, Means::of(channel, mode)) {
        (Mode::Raw, _) => match channel.protocol {
            Transport::Icmp => (Verdict::Fine, "raw socket".into()),
            Transport::Tcp => (Verdict::Fine, "raw socket, and source ports of its own".into()),
        },
        (Mode::Datagram, _) => (
            Verdict::Degraded,
            "datagram socket, which measures alike; the capability CAP_NET_RAW is missing".into(),
        ),
        (Mode::Missing(error @ OpenError::NoFamily { .. }), _) => (Verdict::Missing, error.to_string()),
        (Mode::Missing(error), Means::Connect) => {
            (Verdict::Degraded, format!("full handshakes instead of SYNs: {error}"))
        }
        (Mode::Missing(error), _) => (Verdict::Missing, error.to_string()),
    };
    Finding { about: About::Socket(channel), verdict, words }
}

fn buffer_finding(channel: Channel, granted: usize, wanted: usize) -> Finding {
    let about = About::Use(channel);
    if granted >= wanted {
        let words = format!("receive buffer of {granted} bytes");
        return Finding { about, verdict: Verdict::Fine, words };
    }
    let words = format!(
        "receive buffer of {granted} bytes, {wanted} are wanted: set the sysctl net.core.rmem_max to {} or more, or \
         add the capability CAP_NET_ADMIN; else answers may be dropped and their probes end as unknown",
        wanted.div_ceil(2)
    );
    Finding { about, verdict: Verdict::Degraded, words }
}

/// What a few probes of loopback brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tried {
    answered: bool,
    tx_stamp: bool,
    rx_stamp: bool,
    /// Packets that the filter should have refused.
    foreign: u32,
}

impl Tried {
    const fn is_all(self) -> bool {
        self.answered && self.tx_stamp && self.rx_stamp
    }
}

fn use_findings(channel: Channel, tried: Tried) -> Vec<Finding> {
    let finding = |verdict, words: &str| Finding { about: About::Use(channel), verdict, words: words.into() };
    if !tried.answered {
        let cause = match channel {
            Channel { protocol: Transport::Icmp, family: Family::V4 } => {
                "a firewall, or the sysctl net.ipv4.icmp_echo_ignore_all"
            }
            Channel { protocol: Transport::Icmp, family: Family::V6 } => {
                "a firewall, or the sysctl net.ipv6.icmp.echo_ignore_all"
            }
            Channel { protocol: Transport::Tcp, .. } => "a firewall",
        };
        let words = format!("loopback does not answer: {cause}; this socket's answers may not arrive either");
        return vec![finding(Verdict::Degraded, &words)];
    }
    let mut findings = vec![if tried.foreign > 0 {
        let words = "loopback answers, but the packet filter (SO_ATTACH_FILTER) lets other packets through: each costs \
                     a wake-up and room in the receive buffer";
        finding(Verdict::Degraded, words)
    } else {
        finding(Verdict::Fine, "loopback answers, and the packet filter holds")
    }];
    for (stamped, what) in [(tried.tx_stamp, "sent"), (tried.rx_stamp, "received")] {
        findings.push(if stamped {
            finding(Verdict::Fine, &format!("the kernel stamps {what} packets"))
        } else {
            finding(
                Verdict::Degraded,
                &format!(
                    "the kernel does not stamp {what} packets (SO_TIMESTAMPING): round trips are counted and not \
                     observed; a sandbox like gVisor has no stamps, run podsonar outside of it"
                ),
            )
        });
    }
    findings
}

fn errors_finding(family: Family) -> Finding {
    let recverr = match family {
        Family::V4 => "IP_RECVERR",
        Family::V6 => "IPV6_RECVERR",
    };
    let (verdict, words) = match icmp_errors_arrive(family, PATIENCE) {
        Ok(true) => (Verdict::Fine, "ICMP errors arrive".into()),
        Ok(false) => (
            Verdict::Degraded,
            format!(
                "ICMP errors do not arrive ({recverr}): a firewall on loopback; unreachable targets look lost"
            ),
        ),
        Err(error) => (Verdict::Degraded, format!("ICMP errors cannot be asked for ({recverr}): {error}")),
    };
    Finding { about: About::Errors(family), verdict, words }
}

/// Probes loopback until everything has come that can come, or patience ends.
fn tried(sockets: &mut ProbeSockets, channel: Channel) -> Tried {
    let mut tried = Tried::default();
    let Ok(ticker) = Ticker::new() else { return tried };
    let until = clock::now() + PATIENCE;
    // Its own loopback address and a port of ours that does not listen: nobody else sees anything of it.
    let to: IpAddr = match channel.family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let icmp_id = sockets.icmp_id();
    while !tried.is_all() && clock::now() < until {
        let mut batch = Batch::default();
        batch.push(to, 0, |out| encode(channel, icmp_id, sockets.source_ports(channel.family), out));
        sockets.send(channel, &batch, &mut Vec::new());
        if ticker.wait_until(Some(clock::now() + TRY)).is_err() {
            break;
        }
        sockets.receive(channel, &mut |received| match received {
            Received::Packet { framing, bytes, stamp, .. } => {
                match answer::decode(channel, framing, icmp_id, bytes) {
                    Ok(Answer::Echo(_) | Answer::Segment(_)) => {
                        tried.answered = true;
                        tried.rx_stamp |= stamp.is_some();
                    }
                    // Our own request, which a raw socket on loopback sees too, or somebody else's packet.
                    Err(Reject::Unrelated) => tried.foreign += 1,
                    Err(_) => {}
                }
            }
            Received::Transmitted { frame, .. } => {
                tried.tx_stamp |= answer::decode_sent(channel, icmp_id, frame).is_ok();
            }
            Received::Error { .. } => {}
        });
    }
    tried
}

fn encode(channel: Channel, icmp_id: u16, ports: &[u16], out: &mut Vec<u8>) {
    match (channel.protocol, ports) {
        (Transport::Icmp, _) => {
            let payload = Payload {
                length: LEN as u16,
                class: SizeClass::Normal,
                epoch: 0,
                sequence: 1,
                cookie: SystemClocks.mono().as_nanos(),
                period_ms: 0,
                heard: Heard::default(),
            };
            icmp::encode_request(channel.family, icmp_id, &payload, out);
        }
        (Transport::Tcp, [source_port, destination_port, ..]) => {
            let (source_port, destination_port) = (*source_port, *destination_port);
            encode_syn(channel.family, Syn { source_port, destination_port, sequence: 1 }, out);
        }
        (Transport::Tcp, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ICMP4: Channel = Channel { protocol: Transport::Icmp, family: Family::V4 };
    const TCP6: Channel = Channel { protocol: Transport::Tcp, family: Family::V6 };

    #[test]
    fn a_finding_is_one_line_that_names_the_remedy() {
        let line = |finding: Finding| finding.to_string();
        assert_eq!(line(socket_finding(ICMP4, &Mode::Raw)), "ok       icmp/4: raw socket");
        let missing = socket_finding(TCP6, &Mode::Missing(OpenError::NoPermission { channel: TCP6 }));
        assert_eq!(missing.verdict, Verdict::Degraded);
        assert!(line(missing).contains("add NET_RAW to the container"));
        let datagram = socket_finding(ICMP4, &Mode::Missing(OpenError::NoPermission { channel: ICMP4 }));
        assert_eq!(datagram.verdict, Verdict::Missing);
        assert!(line(datagram).contains("net.ipv4.ping_group_range"));
        let small = buffer_finding(ICMP4, 100, 1_001);
        assert_eq!(small.verdict, Verdict::Degraded);
        assert!(line(small).contains("net.core.rmem_max to 501 or more"));
        assert_eq!(buffer_finding(ICMP4, 1_001, 1_001).verdict, Verdict::Fine);
    }

    #[test]
    fn what_did_not_come_is_told() {
        let verdicts = |tried| use_findings(ICMP4, tried).iter().map(|each| each.verdict).collect::<Vec<_>>();
        let all = Tried { answered: true, tx_stamp: true, rx_stamp: true, foreign: 0 };
        assert_eq!(verdicts(all), [Verdict::Fine; 3]);
        assert_eq!(
            verdicts(Tried { rx_stamp: false, ..all }),
            [Verdict::Fine, Verdict::Fine, Verdict::Degraded]
        );
        assert_eq!(verdicts(Tried { foreign: 1, ..all }), [Verdict::Degraded, Verdict::Fine, Verdict::Fine]);
        assert_eq!(verdicts(Tried::default()), [Verdict::Degraded]);
    }
}
