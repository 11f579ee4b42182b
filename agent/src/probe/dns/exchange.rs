//! One name asked of one server: by UDP with EDNS, then without where the server refuses it, then by TCP where the
//! answer is too long. All of it under one deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use podsonar_core::query::{Ignored, QueryResult};
use podsonar_core::time::{ClockReading, Instant};
use podsonar_net::{Arrival, Datagram, Datagrams};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant as Deadline, timeout_at};

use super::message::{Asked, MAX_UDP, Question, Reading};
use super::tcp;
use super::timing::Times;
use crate::clock::{Clocks, SystemClocks};

/// So many packets of one exchange are read at most: who sends more of them does not want to be understood.
const MAX_PACKETS: u32 = 256;

/// An exchange while it goes on.
#[derive(Debug)]
pub(super) struct Ongoing<'a> {
    datagrams: &'a Datagrams,
    question: &'a Question,
    server: SocketAddr,
    timeout: Duration,
    started: Instant,
    deadline: Deadline,
    packets: u32,
    ignored: [u32; Ignored::ALL.len()],
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) result: QueryResult,
    pub(super) addresses: Vec<IpAddr>,
    /// Of the last UDP answer, between kernel stamps.
    pub(super) duration: Option<Duration>,
    /// Packets that were passed over, by [`Ignored::ALL`].
    pub(super) ignored: [u32; Ignored::ALL.len()],
}

/// What came by UDP.
#[derive(Debug)]
struct Came {
    reading: Reading,
    duration: Option<Duration>,
}

impl Came {
    fn without_time(result: QueryResult) -> Self {
        Self { reading: Reading::Answer(result, Vec::new()), duration: None }
    }
}

impl<'a> Ongoing<'a> {
    pub(super) fn new(
        datagrams: &'a Datagrams,
        question: &'a Question,
        server: SocketAddr,
        timeout: Duration,
    ) -> Self {
        let (started, deadline) = (SystemClocks.mono(), Deadline::now() + timeout);
        let ignored = Default::default();
        Self { datagrams, question, server, timeout, started, deadline, packets: 0, ignored }
    }

    /// Carries it out; at the latest at the deadline there is a result.
    pub(super) async fn run(mut self) -> Ended {
        let mut edns = true;
        let mut came = self.over_udp(edns).await;
        if came.reading == Reading::EdnsRefused {
            edns = false;
            came = self.over_udp(edns).await;
        }
        let (result, addresses) = match came.reading {
            Reading::Answer(result, addresses) => (result, addresses),
            Reading::Truncated => tcp::ask(self.server, self.question, edns, self.deadline).await,
            // Neither is an end of `over_udp`, the second not without EDNS.
            Reading::Ignored(_) | Reading::EdnsRefused => (QueryResult::OtherRcode, Vec::new()),
        };
        Ended { result, addresses, duration: came.duration, ignored: self.ignored }
    }

    async fn over_udp(&mut self, edns: bool) -> Came {
        let before = SystemClocks.read();
        let Some((id, bytes)) = self.question.encode(edns) else {
            return Came::without_time(QueryResult::NotSent);
        };
        let Ok(mut datagram) = self.datagrams.send(self.server, &bytes, MAX_UDP.into()) else {
            return Came::without_time(QueryResult::NotSent);
        };
        // Mostly its transmit stamp waits already. Taken now, it does not wake us later.
        datagram.transmitted();
        if datagram.is_unreachable() {
            return Came::without_time(QueryResult::Unreachable);
        }
        let watched = Interest::READABLE | Interest::ERROR;
        let Ok(mut datagram) = watch(datagram, watched) else {
            return Came::without_time(QueryResult::NotSent);
        };
        let asked = Asked { question: self.question, id, edns };
        let limit = self.timeout.saturating_sub(before.mono.since(self.started));
        while let Ok(Ok(mut ready)) = timeout_at(self.deadline, datagram.ready_mut(watched)).await {
            if let Some(came) = self.look(ready.get_inner_mut(), asked, before, limit) {
                return came;
            }
            ready.clear_ready();
        }
        // We may be late ourselves, and an answer that was stamped in time be waiting.
        let last = self.look(datagram.get_mut(), asked, before, limit);
        last.unwrap_or_else(|| self.silence())
    }

    /// Reads what waits, up to the answer.
    fn look(
        &mut self,
        datagram: &mut Datagram,
        asked: Asked<'_>,
        before: ClockReading,
        limit: Duration,
    ) -> Option<Came> {
        while let Some(arrival) = datagram.receive() {
            let (reading, received) = match arrival {
                Arrival::Unreachable { .. } => return Some(Came::without_time(QueryResult::Unreachable)),
                Arrival::Packet { from_asked: false, stamp, .. } => {
                    (Reading::Ignored(Ignored::OtherAddress), stamp)
                }
                Arrival::Packet { bytes, cut, stamp, .. } => (read(asked, bytes, cut), stamp),
            };
            let ignored = if let Reading::Ignored(reason) = reading {
                reason
            } else {
                let transmitted = datagram.transmitted().map(|(stamp, _)| stamp);
                let times = Times { before, transmitted, received, after: SystemClocks.read() };
                if times.in_time(limit) {
                    return Some(Came { reading, duration: times.round_trip() });
                }
                Ignored::Late
            };
            if let Some(count) = self.ignored.get_mut(ignored as usize) {
                *count += 1;
            }
            self.packets += 1;
            if self.packets >= MAX_PACKETS {
                return Some(self.silence());
            }
        }
        None
    }

    /// What it means that no answer came: if all that came from the server was unreadable, the server is broken.
    fn silence(&self) -> Came {
        let [_, wrong_id, wrong_question, not_an_answer, garbage, late] = self.ignored;
        let readable = wrong_id + wrong_question + not_an_answer + late;
        let broken = garbage > 0 && readable == 0;
        Came::without_time(if broken { QueryResult::Malformed } else { QueryResult::Timeout })
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for types that may swap their descriptor; a datagram keeps its socket for life"
)]
fn watch(datagram: Datagram, interest: Interest) -> io::Result<AsyncFd<Datagram>> {
    AsyncFd::with_interest(datagram, interest)
}

/// An answer that is longer than we said we take, and so was cut, is as good as truncated by the server.
fn read(asked: Asked<'_>, bytes: &[u8], cut: bool) -> Reading {
    match asked.read(bytes) {
        Reading::Truncated | Reading::EdnsRefused | Reading::Answer(..) if cut => Reading::Truncated,
        reading => reading,
    }
}
