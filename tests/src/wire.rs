//! What a prober should have reported: captured requests paired with their replies.
//!
//! Requests are what the host sent, replies what it received. An echo reply belongs to the request with its addresses,
//! id, sequence and payload, byte by byte (RFC 792: "the data received in the echo message must be returned"); a
//! SYN-ACK or RST to the SYN of the same ports whose sequence number it acknowledges plus one (RFC 9293).

use crate::capture::Captured;
use crate::packet::{Body, Echo, Packet, Tcp};
use crate::record::Record;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What tells probes of a capture apart, and finds the [`Record`] of each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProbeKey {
    /// An echo request.
    Echo {
        /// Where it went.
        address: IpAddr,
        /// Identifier.
        id: u16,
        /// Sequence number of the ICMP header.
        sequence: u16,
        /// The agent's cookie, if the payload is the agent's.
        cookie: Option<u64>,
    },
    /// A SYN.
    Syn {
        /// Where it went.
        target: SocketAddr,
        /// Source port.
        source_port: u16,
        /// Sequence number.
        sequence: u32,
    },
}

/// A request on the wire and what came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireProbe {
    /// Which probe.
    pub key: ProbeKey,
    /// Length of the IP packet in bytes.
    pub length: usize,
    /// When it was sent, Unix time in nanoseconds. A request sent twice counts from the first.
    pub sent_ns: i64,
    /// When the first reply came, Unix time in nanoseconds, and what it was.
    pub first_reply: Option<(i64, Reply)>,
    /// How many replies came.
    pub replies: u32,
    /// How often it was sent: more than once is a defect of a prober, or a kernel sending again.
    pub sent: u32,
}

/// What answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// An echo reply.
    Echo,
    /// A SYN-ACK.
    SynAck,
    /// A reset.
    Reset,
}

impl WireProbe {
    /// From the request to its first reply; none while there is none, or if the clock was set back between.
    pub fn rtt(&self) -> Option<Duration> {
        let (reply_ns, _) = self.first_reply?;
        u64::try_from(reply_ns - self.sent_ns).ok().map(Duration::from_nanos)
    }

    /// Whether an answer came within the timeout.
    pub fn is_answered_within(&self, timeout: Duration) -> bool {
        self.rtt().is_some_and(|rtt| rtt <= timeout)
    }
}

/// The probes of a capture.
#[derive(Debug, Default)]
pub struct Wire {
    probes: Vec<WireProbe>,
    by_key: HashMap<ProbeKey, usize>,
}

/// What a reply must match: both addresses and what the protocol returns.
#[derive(PartialEq, Eq, Hash)]
enum Expected<'a> {
    Echo { local: IpAddr, remote: IpAddr, echo: (u16, u16, &'a [u8]) },
    Syn { local: SocketAddr, remote: SocketAddr, sequence: u32 },
}

impl Wire {
    /// Pairs the packets of one capture, which are in the order of their passing.
    pub fn new(captured: &[Captured]) -> Self {
        let mut wire = Self::default();
        let mut expected: HashMap<Expected<'_>, usize> = HashMap::new();
        for (captured, packet) in captured.iter().filter_map(|one| Some((one, one.packet()?))) {
            if captured.outgoing {
                let Some((expects, key)) = request(&packet) else { continue };
                let index = *expected.entry(expects).or_insert(wire.probes.len());
                wire.send(index, key, captured);
            } else if let Some((answers, reply)) = reply(&packet)
                && let Some(probe) = expected.get(&answers).and_then(|&index| wire.probes.get_mut(index))
            {
                probe.replies += 1;
                probe.first_reply.get_or_insert((captured.time_ns, reply));
            }
        }
        wire
    }

    /// All probes, in the order of sending.
    pub fn probes(&self) -> &[WireProbe] {
        &self.probes
    }

    /// The probe that the agent wrote a record of; `None` if it was never on the wire.
    pub fn find(&self, record: &Record) -> Option<&WireProbe> {
        let key = match (record.port, record.icmp_id) {
            (None, Some(id)) => ProbeKey::Echo {
                address: record.address,
                id,
                sequence: u16::try_from(record.sequence?).ok()?,
                cookie: Some(u64::from_str_radix(record.cookie.as_ref()?, 16).ok()?),
            },
            (Some(port), _) => ProbeKey::Syn {
                target: SocketAddr::new(record.address, port),
                source_port: record.source_port?,
                sequence: record.sequence?,
            },
            (None, None) => return None,
        };
        self.probes.get(*self.by_key.get(&key)?)
    }

    /// The lengths of the runs of losses among the probes that satisfy a condition, in the order of sending: the episodes
    /// that a prober of these should have seen. A probe is lost that no answer came to within the timeout.
    pub fn loss_runs(&self, timeout: Duration, of: impl Fn(&WireProbe) -> bool) -> Vec<usize> {
        let probes: Vec<&WireProbe> = self.probes.iter().filter(|probe| of(probe)).collect();
        let runs = probes.split(|probe| probe.is_answered_within(timeout));
        runs.map(<[_]>::len).filter(|length| *length > 0).collect()
    }

    fn send(&mut self, index: usize, key: ProbeKey, captured: &Captured) {
        if let Some(probe) = self.probes.get_mut(index) {
            probe.sent += 1;
        } else {
            self.by_key.insert(key.clone(), index);
            let (length, sent_ns) = (captured.bytes.len(), captured.time_ns);
            self.probes.push(WireProbe { key, length, sent_ns, first_reply: None, replies: 0, sent: 1 });
        }
    }
}

/// What a request expects and which probe it is.
fn request<'a>(packet: &Packet<'a>) -> Option<(Expected<'a>, ProbeKey)> {
    match packet.body {
        Body::EchoRequest(echo) => {
            let Echo { id, sequence, payload } = echo;
            let key = ProbeKey::Echo { address: packet.dst, id, sequence, cookie: cookie(payload) };
            let expected =
                Expected::Echo { local: packet.src, remote: packet.dst, echo: (id, sequence, payload) };
            Some((expected, key))
        }
        Body::Tcp(tcp) if tcp.is_syn() => {
            let (local, target) =
                (SocketAddr::new(packet.src, tcp.src_port), SocketAddr::new(packet.dst, tcp.dst_port));
            let Tcp { src_port: source_port, seq: sequence, .. } = tcp;
            let expected = Expected::Syn { local, remote: target, sequence };
            Some((expected, ProbeKey::Syn { target, source_port, sequence }))
        }
        Body::EchoReply(_) | Body::Tcp(_) | Body::Other(_) => None,
    }
}

/// What a packet answers and how.
fn reply<'a>(packet: &Packet<'a>) -> Option<(Expected<'a>, Reply)> {
    match packet.body {
        Body::EchoReply(Echo { id, sequence, payload }) => {
            let echo = (id, sequence, payload);
            Some((Expected::Echo { local: packet.dst, remote: packet.src, echo }, Reply::Echo))
        }
        Body::Tcp(tcp) if tcp.is_syn_ack() || tcp.is_rst() => {
            let (local, remote) =
                (SocketAddr::new(packet.dst, tcp.dst_port), SocketAddr::new(packet.src, tcp.src_port));
            let reply = if tcp.is_rst() { Reply::Reset } else { Reply::SynAck };
            Some((Expected::Syn { local, remote, sequence: tcp.ack.wrapping_sub(1) }, reply))
        }
        Body::EchoRequest(_) | Body::Tcp(_) | Body::Other(_) => None,
    }
}

/// The cookie of the agent's payload: 8 bytes at 24, after the magic "PSNR" at 0.
fn cookie(payload: &[u8]) -> Option<u64> {
    let bytes = payload.strip_prefix(b"PSNR")?.get(20..28)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{ICMP, TCP, flags, ipv4};

    #[test]
    fn a_reply_is_paired_and_a_second_one_only_counted() {
        let packets =
            [sent(100, &echo(8, 1, b"a")), came(350, &echo(0, 1, b"a")), came(900, &echo(0, 1, b"a"))];
        let wire = Wire::new(&packets);
        let [probe] = wire.probes() else { panic!("one probe") };
        assert_eq!(probe.rtt(), Some(Duration::from_nanos(250)));
        assert_eq!(probe.replies, 2);
    }

    #[test]
    fn runs_of_losses_end_with_an_answer() {
        let requests = (1..=9).map(|n| sent(i64::from(n) * 10, &echo(8, n, b"a")));
        let replies = [1, 4, 5, 9].map(|n| came(200, &echo(0, n, b"a")));
        let wire = Wire::new(&requests.chain(replies).collect::<Vec<_>>());
        assert_eq!(wire.loss_runs(Duration::from_nanos(200), |_| true), [2, 3]);
        assert_eq!(wire.loss_runs(Duration::from_nanos(159), |_| true), [4, 3], "the first two are too late");
        assert_eq!(wire.loss_runs(Duration::ZERO, |_| false), [0; 0]);
    }

    #[test]
    fn changed_payload_is_no_reply() {
        let wire = Wire::new(&[sent(100, &echo(8, 1, b"a")), came(350, &echo(0, 1, b"b"))]);
        assert_eq!(wire.probes()[0].first_reply, None);
    }

    #[test]
    fn syn_is_answered_by_the_segment_that_acknowledges_it() {
        let syn = tcp([1, 2], 40000, 80, 7000, 0, flags::SYN);
        let stray = tcp([2, 1], 80, 40000, 1, 7000, flags::RST | flags::ACK);
        let reset = tcp([2, 1], 80, 40000, 1, 7001, flags::RST | flags::ACK);
        let wire = Wire::new(&[sent(1, &syn), came(2, &stray), came(3, &reset)]);
        assert_eq!(wire.probes()[0].first_reply, Some((3, Reply::Reset)));
        assert_eq!(wire.probes()[0].replies, 1);
    }

    #[test]
    fn record_finds_its_probe_by_the_cookie() {
        let mut payload = [0; 56];
        payload[..4].copy_from_slice(b"PSNR");
        payload[24..32].copy_from_slice(&0xab_u64.to_be_bytes());
        let wire = Wire::new(&[sent(100, &echo(8, 1, &payload))]);
        let line = |cookie: &str| {
            format!(
                r#"{{"purpose":"due","kind":"fixed","target":"t","address":"10.0.0.2","port":null,"protocol":"icmp","due_ns":1,"sent_ns":2,
                "rtt_ns":null,"result":"lost","reason":null,"stamp":{{"tx":null,"rx":null}},"icmp_id":9,"sequence":1,
                "cookie":"{cookie}","source_port":null}}"#
            )
        };
        assert!(wire.find(&Record::parse(&line("00000000000000ab")).unwrap()).is_some());
        assert!(wire.find(&Record::parse(&line("00000000000000ac")).unwrap()).is_none());
    }

    fn sent(time_ns: i64, bytes: &[u8]) -> Captured {
        Captured { time_ns, outgoing: true, bytes: bytes.into() }
    }

    fn came(time_ns: i64, bytes: &[u8]) -> Captured {
        Captured { time_ns, outgoing: false, bytes: bytes.into() }
    }

    /// A request (type 8) from 10.0.0.1 to 10.0.0.2, or a reply (type 0) back.
    fn echo(kind: u8, sequence: u8, payload: &[u8]) -> Vec<u8> {
        let hosts = if kind == 8 { [1, 2] } else { [2, 1] };
        let message = [&[kind, 0, 0, 0, 0, 9, 0, sequence], payload].concat();
        ipv4([10, 0, 0, hosts[0]].into(), [10, 0, 0, hosts[1]].into(), ICMP, &message)
    }

    fn tcp(hosts: [u8; 2], src: u16, dst: u16, seq: u32, ack: u32, flags: u8) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(src.to_be_bytes());
        segment.extend(dst.to_be_bytes());
        segment.extend(seq.to_be_bytes());
        segment.extend(ack.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        ipv4([10, 0, 0, hosts[0]].into(), [10, 0, 0, hosts[1]].into(), TCP, &segment)
    }
}
