//! Probes as the engine makes them, and everything that comes back, copied.

use std::net::IpAddr;
use std::time::Duration;

use podsonar_core::outcome::{SendError, StampSource};
use podsonar_core::target::Family;
use podsonar_core::time::WallTime;
use podsonar_core::wire::answer::{self, Answer, Key};
use podsonar_core::wire::payload::{Heard, LEN, Payload, SizeClass};
use podsonar_core::wire::tcp::{Syn, encode_syn};
use podsonar_core::wire::{Channel, Transport, icmp};
use podsonar_net::{Batch, Mode, ProbeSockets, Received, Settings, Sockets, Ticker, read_clocks};

pub(crate) const ID: u16 = 0x5053;
pub(crate) const ICMP4: Channel = Channel { protocol: Transport::Icmp, family: Family::V4 };
pub(crate) const ICMP6: Channel = Channel { protocol: Transport::Icmp, family: Family::V6 };
pub(crate) const TCP4: Channel = Channel { protocol: Transport::Tcp, family: Family::V4 };
pub(crate) const TCP6: Channel = Channel { protocol: Transport::Tcp, family: Family::V6 };

/// A bound for waits: far beyond what any of them needs.
const TICKS: usize = 10_000;

/// What came back, with the answer or key already read from it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    Answer {
        from: IpAddr,
        answer: Answer,
        bytes: Vec<u8>,
        stamp: Option<WallTime>,
    },
    Transmitted {
        key: Key,
        frame: Vec<u8>,
        stamp: WallTime,
        source: StampSource,
    },
    Error {
        to: IpAddr,
        key: Key,
        kind: u8,
        code: u8,
        mtu: Option<u32>,
    },
    /// What the core does not recognise as ours.
    Foreign(String),
}

pub(crate) fn settings(channels: &[Channel]) -> Settings {
    Settings {
        channels: channels.to_vec(),
        icmp_id: ID,
        flows: 4,
        receive_buffer: 4 << 20,
        message_size: icmp::HEADER + LEN,
        largest_message: 9_216,
    }
}

pub(crate) fn open(channels: &[Channel]) -> ProbeSockets {
    let sockets = ProbeSockets::open(&settings(channels));
    for channel in channels {
        assert!(matches!(sockets.mode(*channel), Some(Mode::Raw)), "{:?}", sockets.mode(*channel));
    }
    sockets
}

pub(crate) fn echo(batch: &mut Batch, to: &str, cookie: u64) {
    echo_with_id(batch, to, cookie, ID);
}

pub(crate) fn echo_with_id(batch: &mut Batch, to: &str, cookie: u64, id: u16) {
    let to: IpAddr = to.parse().unwrap();
    let heard = Heard::default();
    let length = LEN as u16;
    let payload = Payload {
        length,
        class: SizeClass::Normal,
        epoch: 1,
        sequence: cookie,
        cookie,
        period_ms: 1_000,
        heard,
    };
    let flow_label = u32::try_from(cookie % 0x10_0000).unwrap();
    batch.push(to, flow_label, |out| icmp::encode_request(Family::of(to), id, &payload, out));
}

pub(crate) fn syn(batch: &mut Batch, to: &str, syn: Syn) {
    let to: IpAddr = to.parse().unwrap();
    batch.push(to, u32::from(syn.source_port), |out| encode_syn(Family::of(to), syn, out));
}

pub(crate) fn send(
    sockets: &mut ProbeSockets,
    channel: Channel,
    batch: &Batch,
) -> Vec<Result<(), SendError>> {
    let mut results = Vec::new();
    sockets.send(channel, batch, &mut results);
    assert_eq!(results.len(), batch.len(), "one result for each packet");
    results
}

/// Everything that waits now.
pub(crate) fn drain(sockets: &mut ProbeSockets, channel: Channel) -> Vec<Seen> {
    let mut seen = Vec::new();
    sockets.receive(channel, &mut |received| seen.push(read(channel, received)));
    seen
}

/// Drains once a tick until `enough` says so.
pub(crate) fn drain_until(
    sockets: &mut ProbeSockets,
    channel: Channel,
    enough: impl Fn(&[Seen]) -> bool,
) -> Vec<Seen> {
    let mut seen = Vec::new();
    until(|| {
        seen.extend(drain(sockets, channel));
        enough(&seen).then_some(())
    })
    .unwrap_or_else(|| panic!("not enough came back: {seen:?}"));
    seen
}

/// Asks once a tick until there is something.
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let ticker = Ticker::new().unwrap();
    (0..TICKS).find_map(|_| {
        let found = ask();
        if found.is_none() {
            ticker.wait_until(Some(read_clocks().mono + Duration::from_millis(1))).unwrap();
        }
        found
    })
}

/// Sends echoes to loopback until a reply has a receive stamp: the kernel switches stamping on with a delay.
pub(crate) fn warm_up(sockets: &mut ProbeSockets, channel: Channel) {
    let to = if channel.family == Family::V4 { "127.0.0.1" } else { "::1" };
    until(|| {
        let mut batch = Batch::default();
        match channel.protocol {
            Transport::Icmp => echo(&mut batch, to, 0xdead),
            Transport::Tcp => {
                let source_port = sockets.source_ports(channel.family)[0];
                syn(&mut batch, to, Syn { source_port, destination_port: 9, sequence: 0xdead });
            }
        }
        assert_eq!(send(sockets, channel, &batch), [Ok(())]);
        let seen = drain_until(sockets, channel, |seen| !answers(seen).is_empty());
        seen.iter().any(|seen| matches!(seen, Seen::Answer { stamp: Some(_), .. })).then_some(())
    })
    .expect("the kernel gives no receive stamps");
    // The last transmit stamp may still be on its way into the queue of the next test step.
    drain(sockets, channel);
}

pub(crate) fn answers(seen: &[Seen]) -> Vec<Answer> {
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Answer { answer, .. } => Some(*answer),
            _ => None,
        })
        .collect()
}

/// The cookies of the echo replies, in order of arrival.
pub(crate) fn cookies(seen: &[Seen]) -> Vec<u64> {
    answers(seen)
        .iter()
        .filter_map(|answer| match answer {
            Answer::Echo(payload) => Some(payload.cookie),
            Answer::Segment(_) => None,
        })
        .collect()
}

fn read(channel: Channel, received: Received<'_>) -> Seen {
    let ours = match received {
        Received::Packet { from, framing, bytes, stamp } => answer::decode(channel, framing, ID, bytes)
            .map(|answer| Seen::Answer { from, answer, bytes: bytes.to_vec(), stamp }),
        Received::Transmitted { frame, stamp, source } => answer::decode_sent(channel, ID, frame)
            .map(|key| Seen::Transmitted { key, frame: frame.to_vec(), stamp, source }),
        Received::Error { to, quote, kind, code, mtu } => {
            answer::decode_quote(channel, ID, quote).map(|key| Seen::Error { to, key, kind, code, mtu })
        }
    };
    ours.unwrap_or_else(|reject| Seen::Foreign(format!("{reject:?}: {received:?}")))
}
