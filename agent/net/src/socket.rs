//! One socket, raw or datagram: what it sends, and what waits in its two queues.

mod drops;
mod options;
mod requests;

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use podsonar_core::outcome::{SendError, StampSource};
use podsonar_core::target::Family;
use podsonar_core::wire::answer::Framing;
use podsonar_core::wire::{Channel, Transport};
use socket2::Socket;

use crate::control::ExtendedError;
use crate::inbox::{Arrival, Inbox, Queue};
use crate::outbox::Outbox;
use crate::routes::Sources;
use crate::settings::{OpenError, Settings};
use crate::{Batch, Drained, Received, filter, sys};

use drops::DropCounter;

pub(crate) use requests::RequestSocket;

/// One drain makes at most this many system calls for each queue: 16,384 small packets, which are 0.8 s of replies
/// to 20,000 probes a second and take some 10 ms.
const MAX_CALLS: usize = 256;

/// The origin of error queue entries that are transmit stamps; `ee_info` then says where the stamp was taken.
const ORIGIN_TIMESTAMPING: u8 = libc::SO_EE_ORIGIN_TIMESTAMPING;
const TAKEN_BY_DRIVER: u32 = 0; // SCM_TSTAMP_SND
const TAKEN_BEFORE_QUEUE: u32 = 1; // SCM_TSTAMP_SCHED

/// What kind of socket to open, and how it knows what is ours.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// Sees all packets of its protocol, but for a filter.
    Raw {
        /// The identifier of our echo requests.
        icmp_id: u16,
        /// The source ports of our SYNs.
        ports: &'a [u16],
    },
    /// Sees the replies to its identifier.
    Datagram {
        /// The identifier.
        icmp_id: u16,
        /// Another socket of this process has it too.
        shared: bool,
    },
}

/// A socket that receives our answers and nothing else.
#[derive(Debug)]
pub(crate) struct ProbeSocket {
    channel: Channel,
    socket: Socket,
    framing: Framing,
    stamps: bool,
    drops: DropCounter,
    /// Only TCP over IPv4 must know from where a packet leaves.
    sources: Option<Sources>,
}

impl ProbeSocket {
    /// Opens the channel's socket.
    ///
    /// # Errors
    /// The [`OpenError`] that names the channel and what it needs.
    pub(crate) fn open(channel: Channel, kind: &Kind<'_>, settings: &Settings) -> Result<Self, OpenError> {
        let failed = |what| move |source| OpenError::Option { channel, what, source };
        let socket = options::open(channel, kind, settings)?;
        let framing = match kind {
            Kind::Raw { .. } => Framing::of_raw(channel.family),
            Kind::Datagram { .. } => Framing::Message,
        };
        // Without stamps the agent still works, by its own clock, and says so for each probe.
        let stamps = options::request_stamps(&socket, options::STAMPS).is_ok();
        let memory = sys::memory(socket.as_fd()).map_err(failed("drop counter (SO_MEMINFO)"))?;
        let sources = match (channel.protocol, channel.family) {
            (Transport::Tcp, Family::V4) => Some(Sources::open().map_err(failed("route lookup"))?),
            _ => None,
        };
        Ok(Self { channel, socket, framing, stamps, drops: DropCounter::new(&memory), sources })
    }

    /// Whether the kernel accepted the request for stamps.
    pub(crate) fn has_stamps(&self) -> bool {
        self.stamps
    }

    /// Size of the receive buffer in bytes as the kernel granted it; it holds about one packet per 832 bytes.
    pub(crate) fn receive_buffer(&self) -> usize {
        self.socket.recv_buffer_size().unwrap_or(0)
    }

    /// Asks for the stamp before the queueing discipline too, from the next packet on.
    pub(crate) fn request_sched_stamps(&mut self) {
        self.stamps |= options::request_stamps(&self.socket, options::STAMPS_AND_SCHED).is_ok();
    }

    /// From now on receives segments to these ports and no others. For TCP channels.
    pub(crate) fn receive_at(&self, ports: &[u16]) -> io::Result<()> {
        self.socket.attach_filter(&filter::answers(self.channel, 0, ports))
    }

    /// How many hops its packets may take.
    pub(crate) fn set_hop_limit(&self, hops: u32) -> io::Result<()> {
        match self.channel.family {
            Family::V4 => self.socket.set_ttl_v4(hops),
            Family::V6 => self.socket.set_unicast_hops_v6(hops),
        }
    }

    /// Whether a further socket may take this datagram socket's identifier.
    pub(crate) fn share_identifier(&self, share: bool) -> io::Result<()> {
        self.socket.set_reuse_address(share)
    }

    /// Forgets the source addresses of destinations.
    pub(crate) fn refresh_routes(&mut self) {
        if let Some(sources) = &mut self.sources {
            sources.forget_all();
        }
    }

    /// Sends the packets and appends one result for each, in order.
    pub(crate) fn send(
        &mut self,
        outbox: &mut Outbox,
        packets: &Batch,
        results: &mut Vec<Result<(), SendError>>,
    ) {
        let before = results.len();
        for packet in packets.iter() {
            match (&mut self.sources, packet.to) {
                (Some(sources), IpAddr::V4(to)) => match sources.find(to) {
                    Ok(source) => outbox.push_segment(source, to, packet.bytes),
                    Err(error) => {
                        outbox.flush(&self.socket, results);
                        results.push(Err(error));
                    }
                },
                (_, to) => outbox.push(to, packet.flow_label, packet.bytes),
            }
            if outbox.is_full() {
                outbox.flush(&self.socket, results);
            }
        }
        outbox.flush(&self.socket, results);
        let Some(sources) = &mut self.sources else { return };
        for (packet, result) in packets.iter().zip(results.iter().skip(before)) {
            // A failure may mean that the source address is gone.
            if let (Err(_), IpAddr::V4(to)) = (result, packet.to) {
                sources.forget(to);
            }
        }
    }

    /// Drains the data queue, then the error queue.
    pub(crate) fn receive(&mut self, inbox: &mut Inbox, each: &mut dyn FnMut(Received<'_>)) -> Drained {
        if let Ok(memory) = sys::memory(self.socket.as_fd()) {
            self.drops.drain_begins(&memory);
        }
        let (mut packets, mut bytes) = (0, 0);
        let framing = self.framing;
        let data = drain(&self.socket, inbox, Queue::Data, &mut |arrival| {
            (packets, bytes) = (packets + 1, bytes + arrival.length);
            if let Some(from) = arrival.address {
                each(Received::Packet { from, framing, bytes: arrival.bytes, stamp: arrival.control.stamp });
            }
        });
        let errors = drain(&self.socket, inbox, Queue::Errors, &mut |arrival| {
            (packets, bytes) = (packets + 1, bytes + arrival.length);
            if let Some(received) = queued_error(arrival) {
                each(received);
            }
        });
        self.drops.drained(packets, bytes);
        if data == Drained::Completely { errors } else { Drained::Partly }
    }

    /// How many packets were dropped, since the socket was opened, while its buffer may have been full.
    pub(crate) fn drops(&mut self) -> u64 {
        if let Ok(memory) = sys::memory(self.socket.as_fd()) {
            self.drops.count(&memory);
        }
        self.drops.total()
    }
}

/// Takes out what waits in a queue, up to a bound.
fn drain(socket: &Socket, inbox: &mut Inbox, queue: Queue, each: &mut dyn FnMut(Arrival<'_>)) -> Drained {
    for _ in 0..MAX_CALLS {
        match inbox.fill(socket, queue) {
            Ok(count) => {
                inbox.arrivals().for_each(&mut *each);
                // A pending errno also ends a call early, but only calls for data look at it.
                if queue == Queue::Errors && count < inbox.capacity() {
                    return Drained::Completely;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Drained::Completely,
            // An errno that a foreign ICMP error left on the socket. Reading it took it off: go on.
            Err(_) => {}
        }
    }
    Drained::Partly
}

/// What an entry of the error queue means to us.
fn queued_error(arrival: Arrival<'_>) -> Option<Received<'_>> {
    let error = arrival.control.error?;
    match error.origin {
        ORIGIN_TIMESTAMPING => {
            let source = match error.info {
                TAKEN_BY_DRIVER => StampSource::Software,
                TAKEN_BEFORE_QUEUE => StampSource::Sched,
                _ => return None,
            };
            // Frames are recognised by their end.
            let complete = !arrival.truncated;
            complete.then_some(Received::Transmitted {
                frame: arrival.bytes,
                stamp: arrival.control.stamp?,
                source,
            })
        }
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => Some(Received::Error {
            to: arrival.address?,
            quote: arrival.bytes,
            kind: error.kind,
            code: error.code,
            mtu: mtu(error),
        }),
        _ => None,
    }
}

/// What `ee_info` says is an MTU only beside these two errors.
fn mtu(error: ExtendedError) -> Option<u32> {
    let too_big = match error.origin {
        libc::SO_EE_ORIGIN_ICMP => (error.kind, error.code) == (3, 4),
        _ => error.kind == 2,
    };
    (too_big && error.info != 0).then_some(error.info)
}

#[cfg(test)]
mod tests {
    use podsonar_core::time::WallTime;

    use super::*;
    use crate::control::Control;

    #[test]
    fn stamps_and_icmp_errors_are_told_apart_and_the_rest_ignored() {
        let stamp = Some(WallTime::from_nanos(7));
        let to = "10.0.0.1".parse().unwrap();
        let transmitted =
            |source| Received::Transmitted { frame: b"x", stamp: WallTime::from_nanos(7), source };
        let error = Received::Error { to, quote: b"x", kind: 3, code: 13, mtu: None };
        let cases = [
            (ORIGIN_TIMESTAMPING, TAKEN_BY_DRIVER, Some(transmitted(StampSource::Software))),
            (ORIGIN_TIMESTAMPING, TAKEN_BEFORE_QUEUE, Some(transmitted(StampSource::Sched))),
            (ORIGIN_TIMESTAMPING, 2, None),
            (libc::SO_EE_ORIGIN_ICMP, 0, Some(error)),
            (libc::SO_EE_ORIGIN_ICMP6, 0, Some(error)),
            (libc::SO_EE_ORIGIN_LOCAL, 0, None),
            (libc::SO_EE_ORIGIN_NONE, 0, None),
        ];
        for (origin, info, expected) in cases {
            let error = Some(ExtendedError { origin, kind: 3, code: 13, info });
            let control = Control { stamp, error, to: None };
            let arrival = Arrival { bytes: b"x", address: Some(to), control, length: 1, truncated: false };
            assert_eq!(queued_error(arrival), expected, "origin {origin}");
        }
    }

    #[test]
    fn a_frame_without_its_end_or_its_stamp_is_ignored() {
        let error =
            Some(ExtendedError { origin: ORIGIN_TIMESTAMPING, kind: 0, code: 0, info: TAKEN_BY_DRIVER });
        let stamp = Some(WallTime::from_nanos(7));
        for (stamp, truncated) in [(stamp, true), (None, false)] {
            let control = Control { stamp, error, to: None };
            assert_eq!(
                queued_error(Arrival { bytes: b"x", address: None, control, length: 1, truncated }),
                None
            );
        }
    }

    #[test]
    fn errors_about_size_bring_the_mtu_and_no_others_do() {
        let cases = [
            (libc::SO_EE_ORIGIN_ICMP, 3, 4, 1_400, Some(1_400)),
            (libc::SO_EE_ORIGIN_ICMP, 3, 4, 0, None),
            (libc::SO_EE_ORIGIN_ICMP, 3, 1, 1_400, None),
            (libc::SO_EE_ORIGIN_ICMP, 12, 0, 1_400, None),
            (libc::SO_EE_ORIGIN_ICMP6, 2, 0, 1_280, Some(1_280)),
            (libc::SO_EE_ORIGIN_ICMP6, 1, 4, 1_280, None),
        ];
        for (origin, kind, code, info, expected) in cases {
            assert_eq!(mtu(ExtendedError { origin, kind, code, info }), expected, "{origin} {kind} {code}");
        }
    }
}
