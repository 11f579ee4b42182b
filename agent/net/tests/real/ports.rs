//! Source ports that change while answers to the old ones are on their way.

use std::net::TcpListener;

use podsonar_core::wire::tcp::Syn;
use podsonar_core::wire::{Channel, answer::Answer};
use podsonar_net::{Batch, ProbeSockets, Sockets};

use crate::host::on_a_host;
use crate::traffic::*;

#[test]
fn answers_to_replaced_ports_are_received_until_they_are_retired() {
    on_a_host(|| {
        for (channel, to) in [(TCP4, "127.0.0.1"), (TCP6, "::1")] {
            let mut sockets = open(&[channel]);
            let before = sockets.source_ports(channel.family).to_vec();
            // Sent before the renewal, received after it.
            let waiting = syn_from(&mut sockets, channel, to, before[0], 1);
            let renewed = sockets.renew_ports(channel.family, 2).unwrap();
            assert_eq!(renewed.iter().map(|(old, _)| *old).collect::<Vec<_>>(), before[..2]);
            assert_eq!(
                sockets.source_ports(channel.family),
                [renewed[0].1, renewed[1].1, before[2], before[3]]
            );
            let mut expected = vec![waiting];
            // An answer may still come to an old port; new ports and those that stay work at once.
            for (sequence, port) in (2..).zip([before[0], renewed[0].1, renewed[1].1, before[3]]) {
                expected.push(syn_from(&mut sockets, channel, to, port, sequence));
            }
            drain_until(&mut sockets, channel, |seen| answered(seen) == expected);
            assert!(bind(channel, before[0]).is_err(), "nobody else may get it yet");

            sockets.retire_ports(channel.family, &before[..2]);
            assert!(bind(channel, before[0]).is_ok(), "it is given back");
            syn_from(&mut sockets, channel, to, before[1], 8);
            let last = syn_from(&mut sockets, channel, to, renewed[1].1, 9);
            // The kernel answers in order: what came to the retired port would be here.
            drain_until(&mut sockets, channel, |seen| answered(seen) == [last]);
        }
    });
}

#[test]
fn a_port_that_is_in_use_cannot_be_retired_and_without_socket_there_is_nothing_to_renew() {
    on_a_host(|| {
        let mut sockets = open(&[TCP4]);
        let ports = sockets.source_ports(TCP4.family).to_vec();
        sockets.retire_ports(TCP4.family, &ports);
        let expected = syn_from(&mut sockets, TCP4, "127.0.0.1", ports[0], 1);
        drain_until(&mut sockets, TCP4, |seen| answered(seen) == [expected]);
        assert!(sockets.renew_ports(TCP6.family, 1).is_err());
    });
}

/// Sends a SYN to a closed port and returns what its answer will name: port and sequence.
fn syn_from(
    sockets: &mut ProbeSockets,
    channel: Channel,
    to: &str,
    source_port: u16,
    sequence: u32,
) -> (u16, u32) {
    let mut batch = Batch::default();
    syn(&mut batch, to, Syn { source_port, destination_port: 81, sequence });
    assert_eq!(send(sockets, channel, &batch), [Ok(())]);
    (source_port, sequence)
}

fn answered(seen: &[Seen]) -> Vec<(u16, u32)> {
    let segment = |answer: &Answer| match answer {
        Answer::Segment(answer) => Some((answer.destination_port, answer.sequence)),
        Answer::Echo(_) => None,
    };
    answers(seen).iter().filter_map(segment).collect()
}

fn bind(channel: Channel, port: u16) -> std::io::Result<TcpListener> {
    let any = if channel == TCP4 { "127.0.0.1" } else { "::1" };
    TcpListener::bind((any, port))
}
