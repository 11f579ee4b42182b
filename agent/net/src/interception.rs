//! Whether something between us and the network answers TCP for everybody.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use podsonar_core::target::Family;
use podsonar_core::time::Instant;
use podsonar_core::wire::answer::{self, Answer, Key};
use podsonar_core::wire::tcp::{Syn, encode_syn};
use podsonar_core::wire::{Channel, Transport};

use crate::clock::monotonic;
use crate::settings::{OpenError, Settings};
use crate::sockets::ProbeSockets;
use crate::ticker::Ticker;
use crate::{Batch, Received, Sockets};

/// TEST-NET-1 (RFC 5737): an address that no host has, and that no router passes on.
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// How long an answer may take: it comes from this host or from the first router.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How often we look.
const LOOK: Duration = Duration::from_millis(5);

/// At most this many ports are tried.
const PORTS: usize = 16;

const CHANNEL: Channel = Channel { protocol: Transport::Tcp, family: Family::V4 };

/// Sends one SYN with hop limit 1 to each of these ports of an address that nobody has, and returns those that were
/// answered by a SYN-ACK: a service mesh's redirect, a transparent proxy. SYNs measure nothing there.
///
/// It takes up to `patience`, less if every SYN is answered or expires before. Only the first 16 ports are tried.
///
/// # Errors
/// There is no raw TCP socket.
pub fn intercepted_ports(ports: &[u16], patience: Duration) -> Result<Vec<u16>, OpenError> {
    let mut sockets = ProbeSockets::open(&Settings {
        channels: vec![CHANNEL],
        icmp_id: 0,
        flows: 1,
        receive_buffer: 64 << 10,
        message_size: 0,
        largest_message: 0,
    });
    if let Some(error) = sockets.take_error(CHANNEL) {
        return Err(error);
    }
    sockets.set_hop_limit(CHANNEL, 1)?;
    let [source_port] = *sockets.source_ports(Family::V4) else { return Ok(Vec::new()) };
    let began = monotonic();
    // Nobody is asked twice, so any number will do that an old answer does not have by chance.
    let sequence = began.as_nanos() as u32;
    let mut open: Vec<u16> = ports.iter().copied().take(PORTS).collect();
    let mut batch = Batch::default();
    for destination_port in &open {
        let syn = Syn { source_port, destination_port: *destination_port, sequence };
        batch.push(NOBODY.into(), 0, |out| encode_syn(Family::V4, syn, out));
    }
    let mut sent = Vec::new();
    sockets.send(CHANNEL, &batch, &mut sent);
    // What this host does not even send, nobody answers.
    let mut accepted = sent.iter();
    open.retain(|_| accepted.next().is_some_and(Result::is_ok));
    Ok(listen(&mut sockets, open, source_port, sequence, began + patience))
}

fn listen(
    sockets: &mut ProbeSockets,
    mut open: Vec<u16>,
    source_port: u16,
    sequence: u32,
    until: Instant,
) -> Vec<u16> {
    let mut answered = Vec::new();
    let Ok(ticker) = Ticker::new() else { return answered };
    while !open.is_empty() && monotonic() < until {
        sockets.receive(CHANNEL, &mut |received| {
            if let Some((port, by_syn_ack)) = ends(received, source_port, sequence)
                && let Some(position) = open.iter().position(|each| *each == port)
            {
                open.swap_remove(position);
                answered.extend(by_syn_ack.then_some(port));
            }
        });
        if ticker.wait_until(Some(monotonic() + LOOK)).is_err() {
            break;
        }
    }
    answered.sort_unstable();
    answered
}

/// The port whose SYN this ends, and whether a SYN-ACK did. RST and ICMP errors are what is right.
fn ends(received: Received<'_>, source_port: u16, sequence: u32) -> Option<(u16, bool)> {
    match received {
        Received::Packet { from, framing, bytes, .. } if from == IpAddr::V4(NOBODY) => {
            let Ok(Answer::Segment(answer)) = answer::decode(CHANNEL, framing, 0, bytes) else {
                return None;
            };
            let ours = answer.sequence == sequence && answer.destination_port == source_port;
            ours.then_some((answer.source_port, !answer.reset))
        }
        Received::Error { to, quote, .. } if to == IpAddr::V4(NOBODY) => {
            let Ok(Key::Syn(syn)) = answer::decode_quote(CHANNEL, 0, quote) else { return None };
            let ours = syn.sequence == sequence && syn.source_port == source_port;
            ours.then_some((syn.destination_port, false))
        }
        _ => None,
    }
}
