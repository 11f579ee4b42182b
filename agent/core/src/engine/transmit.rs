//! What goes out: the due probes of a tick, each with all that its packet needs.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::{Engine, FetchId, QuestionId};
use crate::flows::Flow;
use crate::hash::Domain;
use crate::inflight::{Flight, Probe, ProbeId, Purpose, State};
use crate::outcome::{Outcome, ProbeResult, SendError, StampSource, Void};
use crate::target::{Family, Protocol, StreamId};
use crate::time::Instant;
use crate::wire::answer::Key;
use crate::wire::payload::{Heard, Payload, SizeClass};
use crate::wire::{Channel, Transport, icmp, tcp};

/// A packet may reach its socket this much later than its stamp says: under load the kernel stamps it in an
/// interrupt and delivers it from a thread that waits for a processor. A deadline is judged only after this.
const DELIVERY: Duration = Duration::from_millis(100);

/// Who carries out handshakes reports each; one that has not been reported so long after its timeout never will be.
const REPORT: Duration = Duration::from_secs(2);

/// How long after its timeout a probe is judged.
pub(super) const fn delivery(key: Key) -> Duration {
    match key {
        Key::Echo(_) | Key::Syn(_) => DELIVERY,
        Key::Connect(_) => REPORT,
    }
}

/// The answer to "what next?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poll {
    /// Send this.
    Transmit(Transmit),
    /// Ask this, and report the answer with [`Engine::handle_queried`]; [`Engine::question`] says what it is.
    Query(QuestionId),
    /// Fetch this list, and report the end with [`Engine::handle_fetched`]; [`Engine::fetch`] says what it is.
    Fetch(FetchId),
    /// Look up the MTU of the route there, exceptions aside, and report it with [`Engine::handle_route_mtu`].
    RouteMtu(StreamId, IpAddr),
    /// Have this handshake made, and report its end with [`Engine::handle_connected`].
    Connect(Connect),
    /// Send what you have and report each with [`Engine::handle_sent`], then ask again: the next probe's sequence
    /// depends on it.
    Settle,
    /// Nothing more in this tick.
    Idle,
}

/// One packet to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// The name under which [`Engine::handle_sent`] wants to hear of it.
    pub probe: ProbeId,
    /// The socket to send on.
    pub channel: Channel,
    /// Where to.
    pub to: IpAddr,
    /// The IPv6 flow label.
    pub flow_label: u32,
    /// The packet.
    pub kind: TransmitKind,
}

/// A full TCP handshake, which the host's own stack carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect {
    /// The name under which [`Engine::handle_connected`] wants to hear of it.
    pub probe: ProbeId,
    /// Where to.
    pub to: SocketAddr,
    /// A handshake that takes longer is lost.
    pub timeout: Duration,
}

/// The packets that probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransmitKind {
    /// An ICMP echo request.
    Echo {
        /// The header's identifier.
        id: u16,
        /// What it carries.
        payload: Payload,
    },
    /// A TCP SYN.
    Syn(tcp::Syn),
}

impl Transmit {
    /// Appends the packet's bytes, from the transport header on.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.kind {
            TransmitKind::Echo { id, payload } => {
                icmp::encode_request(self.channel.family, *id, payload, out);
            }
            TransmitKind::Syn(syn) => tcp::encode_syn(self.channel.family, *syn, out),
        }
    }
}

impl Engine {
    /// The next probe that was due by this tick and that the ceilings allow. What fell too far behind its schedule
    /// ends as `skipped`: a stall is never made up for by a burst.
    ///
    /// The tick's own time decides, not the time at which the driver got to it: so a stream's probes always belong
    /// to the same tick of its period, and leave evenly.
    pub fn poll_transmit(&mut self, now: Instant) -> Poll {
        self.skip_overdue(now);
        if !self.pace.allows() {
            return Poll::Idle;
        }
        if let Some(boost) = self.poll_boost(now) {
            return boost;
        }
        if let Some(fetch) = self.poll_fetch(now) {
            return fetch;
        }
        let tick = self.pace.tick_at_or_before(now);
        let Some((due, id)) = self.next_due(tick) else {
            return self.poll_question(now).unwrap_or_else(|| self.poll_large(now));
        };
        let Some(state) = self.streams.get(id) else { return Poll::Idle };
        let protocol = state.planned.stream.protocol;
        let sequence = match protocol {
            Protocol::Icmp => match self.sequences.propose(state.destination) {
                Some(sequence) => sequence,
                None => return Poll::Settle,
            },
            Protocol::Tcp | Protocol::Connect => 0,
        };
        let number = state.passed;
        state.pass(due);
        self.schedule.replace_first(state.next());
        let to = state.to;
        let probe = Probe {
            stream: id,
            purpose: Purpose::Due,
            number,
            due,
            to,
            destination: state.destination,
            key: Key::Echo(0),
            cookie: 0,
            sequence,
            length: self.identity.size,
            period_ms: Payload::period_ms(state.planned.interval),
            watched: state.is_watched(),
            told: None,
            timeout: state.planned.timeout,
            state: State::Sending,
        };
        let destination_port = state.port;
        let flow = match protocol {
            Protocol::Tcp => self.next_flow(id, tick),
            Protocol::Icmp | Protocol::Connect => Flow { source_port: 0, destination_port },
        };
        self.lag = self.lag.max(Some(now.since(due)));
        self.pace.spend();
        self.hand_out(probe, protocol, flow)
    }

    /// What the kernel said to a probe that was handed out, and the monotonic clock around the send call.
    pub fn handle_sent(&mut self, id: ProbeId, call: (Instant, Instant), result: Result<(), SendError>) {
        let at = self.clock.now().to_wall(call.1);
        let moved = self.clock.moved();
        let Some(probe) = self.inflight.get(id).filter(|probe| matches!(probe.state, State::Sending)) else {
            return;
        };
        let (destination, echo) = (probe.destination, matches!(probe.key, Key::Echo(_)));
        let deadline = call.1 + probe.timeout + delivery(probe.key);
        if echo {
            self.sequences.settle(destination, result.is_ok());
        }
        match result {
            Ok(()) => {
                let flight = Flight { call, at, tx: StampSource::User, moved };
                self.inflight.launch(id, flight, deadline);
            }
            Err(error) => {
                if let Some(probe) = self.inflight.remove(id) {
                    self.conclude(&probe, ProbeResult::Void(Void::NotSent(error)), None);
                }
            }
        }
    }

    /// The first stream that was due by this tick. What would be intercepted ends here.
    fn next_due(&mut self, tick: Instant) -> Option<(Instant, StreamId)> {
        while let Some((due, id)) = self.schedule.first().filter(|(due, _)| *due <= tick) {
            let intercepted = self.intercepted;
            let state = self.streams.get(id)?;
            if !(intercepted && state.planned.stream.protocol != Protocol::Icmp && !state.to.is_loopback()) {
                return Some((due, id));
            }
            let number = state.passed;
            state.pass(due);
            self.schedule.replace_first(state.next());
            let result = ProbeResult::Void(Void::Intercepted);
            self.finish(Outcome { stream: id, number, due, result, count: 1, sent: None });
            self.skip_stale();
        }
        None
    }

    /// Drops stale entries, until the first is a stream's own.
    fn skip_stale(&mut self) {
        while let Some((due, id)) = self.schedule.first()
            && self.streams.get(id).is_none_or(|state| state.due != due)
        {
            self.schedule.replace_first(None);
        }
    }

    /// Ends what is too late to be sent, and drops stale entries, until the first entry is a stream's own.
    fn skip_overdue(&mut self, now: Instant) {
        let too_late = self.pace.skip_before(now);
        loop {
            self.skip_stale();
            let Some((due, id)) = self.schedule.first() else { return };
            let Some(state) = self.streams.get(id) else { return };
            if due >= too_late {
                return;
            }
            let number = state.passed;
            let count = state.pass(too_late);
            self.schedule.replace_first(state.next());
            let result = ProbeResult::Void(Void::Skipped);
            self.finish(Outcome { stream: id, number, due, result, count, sent: None });
        }
    }

    /// Gives a probe its cookie, remembers it, and makes its packet, which is of this flow if it is a SYN.
    pub(super) fn hand_out(&mut self, mut probe: Probe, protocol: Protocol, flow: Flow) -> Poll {
        let heard = if protocol == Protocol::Icmp { self.tell(&probe) } else { None };
        probe.told = heard.map(digest);
        let id = loop {
            self.drawn += 1;
            probe.cookie = self.keyed.number(Domain::Cookie, self.drawn);
            probe.key = match protocol {
                Protocol::Icmp => Key::Echo(probe.cookie),
                Protocol::Tcp => Key::Syn(tcp::Syn {
                    source_port: flow.source_port,
                    destination_port: flow.destination_port,
                    sequence: probe.cookie as u32,
                }),
                Protocol::Connect => Key::Connect(probe.cookie),
            };
            if let Some(id) = self.inflight.insert(&probe) {
                break id;
            }
        };
        let (transport, kind, label) = match probe.key {
            Key::Echo(_) => {
                let payload = payload(self.identity.epoch, heard, &probe);
                let id = self.identity.icmp_id;
                (Transport::Icmp, TransmitKind::Echo { id, payload }, id)
            }
            Key::Syn(syn) => (Transport::Tcp, TransmitKind::Syn(syn), syn.source_port),
            Key::Connect(_) => {
                let to = SocketAddr::new(probe.to, flow.destination_port);
                return Poll::Connect(Connect { probe: id, to, timeout: probe.timeout });
            }
        };
        let channel = Channel { protocol: transport, family: Family::of(probe.to) };
        Poll::Transmit(Transmit {
            probe: id,
            channel,
            to: probe.to,
            flow_label: self.flow_label(label),
            kind,
        })
    }

    /// The flow of a stream's next SYN. Each stream takes all source ports in turn, but for those that another stream to
    /// the same port uses just now.
    fn next_flow(&mut self, stream: StreamId, now: Instant) -> Flow {
        let Some(state) = self.streams.get(stream) else { return Flow::default() };
        let ports = self.identity.source_ports(Family::of(state.to));
        let place = |turn: usize| turn.checked_rem(ports.len()).unwrap_or(0);
        state.flow = place(state.flow.wrapping_add(1));
        if let Some(flows) = self.sequences.flows(state.destination, now) {
            let in_turn = ports.iter().cycle().skip(state.flow).take(ports.len()).copied();
            state.flow = place(state.flow + flows.first_free(now, state.port, in_turn));
        }
        let source_port = ports.get(state.flow).copied().unwrap_or(0);
        let flow = Flow { source_port, destination_port: state.port };
        self.sequences.note_syn(state.destination, now, flow, false);
        flow
    }

    /// What an agent is told beside the probe: what was heard of it. Others are told nothing.
    fn tell(&self, probe: &Probe) -> Option<Heard> {
        let now = self.clock.now().mono;
        let agent = self.sequences.is_agent(probe.destination);
        agent.then(|| self.inbound.heard(probe.to, size_class(probe), now))
    }
}

/// What an echo probe carries. An agent is also told who sends it.
fn payload(epoch: u64, heard: Option<Heard>, probe: &Probe) -> Payload {
    Payload {
        length: probe.length,
        class: size_class(probe),
        epoch: heard.map_or(0, |_| epoch),
        sequence: probe.sequence,
        cookie: probe.cookie,
        period_ms: probe.period_ms,
        heard: heard.unwrap_or_default(),
    }
}

/// Whether an answer brings back what its probe carried, byte by byte.
pub(super) fn brings_back(epoch: u64, returned: &Payload, probe: &Probe) -> bool {
    let told = probe.told.map(|_| returned.heard);
    told.map(digest) == probe.told && *returned == payload(epoch, told, probe)
}

/// Probes remember what they told only as this, so that few bytes are kept for each.
fn digest(heard: Heard) -> NonZeroU32 {
    let mixed = (heard.highest ^ heard.count.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    NonZeroU32::MIN | (mixed >> 32) as u32
}

fn size_class(probe: &Probe) -> SizeClass {
    match probe.purpose {
        Purpose::Due | Purpose::Boost(_) => SizeClass::Normal,
        Purpose::Large => SizeClass::Large,
    }
}
