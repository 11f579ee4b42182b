//! The driver: one thread that owns the engine and the sockets and carries out what the engine decides.
//!
//! It wakes once a tick, by an absolute timer; never for a reply, since the kernel stamps those. A tick drains the
//! sockets, reads the clocks, feeds the engine, sends what is due and hands the results to the [`Ledger`].

use std::fmt;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use podsonar_core::direction::inbound::Source;
use podsonar_core::engine::{
    Connect, Connected, Engine, Event, FetchId, Fetched, PlannedFetch, PlannedQuestion, Poll, ProbeId,
    QuestionId, Transmit,
};
use podsonar_core::mesh::{NodeView, Peer};
use podsonar_core::outcome::{SendError, StampSource, Unreachable};
use podsonar_core::query::QueryResult;
use podsonar_core::target::{Family, Planned};
use podsonar_core::time::{Instant, WallTime};
use podsonar_core::wire::answer::{self, Answer, Key};
use podsonar_core::wire::request::{self, Refusal, Request};
use podsonar_core::wire::{Channel, Reject, icmp};
use podsonar_net::{Batch, Drained, Received, Sockets, Ticker, Waker};

use crate::clock::Clocks;
use crate::ledger::{Ledger, TickReport};

/// Packets in one `sendmmsg(2)`.
const BATCH: usize = 64;

/// Probes in a row without a transmit stamp after which the scheduler's stamp is asked for as well.
const UNSTAMPED: u32 = 32;

/// The driver ticks at least this often, so that its heartbeat shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often source addresses are looked up anew, so that packets follow changed routes.
const REFRESH_ROUTES: Duration = Duration::from_mins(1);

/// How often a fifth of the source ports is renewed: by chance some flows take a bad path, and not for ever.
const RENEW_PORTS: Duration = Duration::from_hours(1);

/// A renewed port's last SYN has its last answer by then: targets send a SYN-ACK again after one second.
const RETIRE_PORTS: Duration = Duration::from_secs(5);

/// How often it is shown which way probes to agents were lost.
const TELL_WAYS: Duration = Duration::from_secs(1);

/// How long a stopping driver waits for the probes in flight.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What the rest of the agent asks of the driver.
#[derive(Debug)]
enum Command {
    /// Probe these from now on.
    Probe(Vec<Planned>),
    /// Ask these from now on, at most so many exchanges a second.
    Ask(Vec<PlannedQuestion>, f64),
    /// Probe each of these once, which are of this node.
    Once(Arc<str>, Vec<Planned>),
    /// Fetch these lists from now on.
    Fetch(Vec<PlannedFetch>),
    /// These are all the agents that there are.
    Peers(Vec<Peer>),
    /// This is so of the own node.
    View(Arc<NodeView>),
    /// A list asked for so long after a lost probe confirms its loss.
    Settle(Duration),
    /// Something on this host answers SYNs for everybody, or no longer.
    Intercepted(bool),
    /// The probes of these agents count from now on.
    Hear(Vec<Source>),
    /// Send nothing more, wait for the probes in flight, end.
    Stop,
}

/// The running driver thread.
#[derive(Debug)]
pub struct Handle {
    commands: Sender<Command>,
    waker: Waker,
    thread: JoinHandle<io::Result<()>>,
}

impl Handle {
    /// Replaces what is probed.
    pub fn probe(&self, planned: Vec<Planned>) {
        self.tell(Command::Probe(planned));
    }

    /// Replaces what is asked of name servers, at most `max_qps` exchanges a second.
    pub fn ask(&self, planned: Vec<PlannedQuestion>, max_qps: f64) {
        self.tell(Command::Ask(planned, max_qps));
    }

    /// Probes each of these once, see [`Engine::probe_once`].
    pub fn probe_once(&self, node: Arc<str>, planned: Vec<Planned>) {
        self.tell(Command::Once(node, planned));
    }

    /// Replaces which lists are fetched.
    pub fn fetch(&self, planned: Vec<PlannedFetch>) {
        self.tell(Command::Fetch(planned));
    }

    /// Replaces the agents that there are beside this one: all, or those of all nodes that are probed. To be told before
    /// the streams that follow from it.
    pub fn peers(&self, peers: Vec<Peer>) {
        self.tell(Command::Peers(peers));
    }

    /// What this agent itself tells of its own node; it holds until another is told, and so must be told whenever it
    /// changes, the state of the watch included.
    pub fn view(&self, view: Arc<NodeView>) {
        self.tell(Command::View(view));
    }

    /// How long an agent may take to learn that one of its pods goes.
    pub fn settle(&self, settle: Duration) {
        self.tell(Command::Settle(settle));
    }

    /// Something on this host answers SYNs for everybody, or no longer: then TCP is not measured.
    pub fn intercepted(&self, intercepted: bool) {
        self.tell(Command::Intercepted(intercepted));
    }

    /// Replaces the agents whose probes to us are counted, and who are told what was heard of them.
    pub fn hear(&self, sources: Vec<Source>) {
        self.tell(Command::Hear(sources));
    }

    /// Ends probing: nothing more is sent, the probes in flight get at most two seconds, all results reach the
    /// ledger. Returns when the thread has ended.
    ///
    /// # Errors
    /// The timer's, or that the thread has panicked.
    pub fn stop(self) -> io::Result<()> {
        self.tell(Command::Stop);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the driver thread panicked")))
    }

    /// Whether the thread has ended; before [`Handle::stop`] that is a defect.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    fn tell(&self, command: Command) {
        // The receiver is gone only if the thread has ended, which `stop` and `is_finished` tell.
        let _ = self.commands.send(command);
        self.waker.wake();
    }
}

/// Starts the driver thread.
///
/// # Errors
/// If the timer or the thread cannot be had.
pub fn spawn<S, C>(mut driver: Driver<S, C>) -> io::Result<Handle>
where
    S: Sockets + Send + 'static,
    C: Clocks + Send + 'static,
{
    let ticker = Ticker::new()?;
    let waker = ticker.waker();
    let (commands, inbox) = mpsc::channel();
    let thread = thread::Builder::new().name("driver".into()).spawn(move || driver.run(&ticker, &inbox))?;
    Ok(Handle { commands, waker, thread })
}

/// What others carry out for the driver: handshakes by the host's stack, and questions to name servers.
pub trait Errands: fmt::Debug + Send {
    /// Begins a handshake.
    fn connect(&mut self, connect: Connect);

    /// Asks a question.
    fn ask(&mut self, id: QuestionId, question: &PlannedQuestion);

    /// Fetches a list.
    fn fetch(&mut self, id: FetchId, fetch: &PlannedFetch);

    /// What has been done since it was last asked, if anything.
    fn next_done(&mut self) -> Option<Done>;
}

/// An errand that has been carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// A handshake.
    Connected(ProbeId, Connected),
    /// A question.
    Queried(QuestionId, QueryResult),
    /// A fetch.
    Fetched(FetchId, Fetched),
}

/// Engine, sockets and clocks, and the buffers between them.
#[derive(Debug)]
pub struct Driver<S, C> {
    engine: Engine,
    sockets: S,
    clocks: C,
    errands: Box<dyn Errands>,
    ledger: Ledger,
    settings: Settings,
    lanes: Vec<Lane>,
    ears: Vec<Ear>,
    requests: Vec<(IpAddr, Result<Request, Refusal>, Option<WallTime>)>,
    ways_told: Instant,
    stamps: Vec<(Key, WallTime, StampSource)>,
    inbox: Vec<Inbound>,
    results: Vec<Result<(), SendError>>,
    routes_refreshed: Instant,
    ports_renewed: Instant,
    /// Ports that were replaced, until they are given back.
    retiring: Vec<(Family, Vec<u16>)>,
    rest: Rest,
}

/// How long the driver slept between two ticks, and how long it meant to.
#[derive(Debug, Default)]
struct Rest {
    /// When the last tick began.
    woken: Option<Instant>,
    planned: Duration,
    overslept: Duration,
}

/// What the driver must know to read packets.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The channels that have a socket.
    pub channels: Vec<Channel>,
    /// The identifier of our echo requests.
    pub icmp_id: u16,
}

/// One channel's packets on their way to the kernel, and how its last drain ended.
#[derive(Debug)]
struct Lane {
    channel: Channel,
    batch: Batch,
    probes: Vec<ProbeId>,
    emptied: bool,
    dropped: u64,
    sched_stamps: bool,
}

/// How the last drain of an IP version's echo requests ended.
#[derive(Debug)]
struct Ear {
    family: Family,
    emptied: bool,
    dropped: u64,
}

/// A decoded packet that waits until the clocks have been read.
#[derive(Debug)]
enum Inbound {
    Answer(IpAddr, Answer, Option<WallTime>),
    Unreachable(IpAddr, Key, Unreachable, Option<u32>),
    Reject(Reject),
}

impl Rest {
    /// A tick begins: all time since the last one that was not meant for sleep was slept too long, or was spent in
    /// that tick, which a quota or a signal stops as well.
    fn end(&mut self, now: Instant) {
        let meant = mem::take(&mut self.planned);
        if let Some(woken) = self.woken.replace(now) {
            self.overslept = now.since(woken).saturating_sub(meant);
        }
    }
}

impl<S: Sockets, C: Clocks> Driver<S, C> {
    /// A driver without streams.
    pub fn new(
        engine: Engine,
        sockets: S,
        clocks: C,
        errands: Box<dyn Errands>,
        ledger: Ledger,
        settings: Settings,
    ) -> Self {
        let lanes = settings
            .channels
            .iter()
            .map(|&channel| Lane {
                channel,
                batch: Batch::default(),
                probes: Vec::with_capacity(BATCH),
                emptied: true,
                dropped: 0,
                sched_stamps: false,
            })
            .collect();
        let (stamps, inbox, results) = (Vec::new(), Vec::new(), Vec::new());
        let started = engine.clock().mono;
        Self {
            engine,
            sockets,
            clocks,
            errands,
            ledger,
            settings,
            lanes,
            ears: Vec::new(),
            requests: Vec::new(),
            ways_told: started,
            stamps,
            inbox,
            results,
            routes_refreshed: started,
            ports_renewed: started,
            retiring: Vec::new(),
            rest: Rest::default(),
        }
    }

    /// Other agents' echo requests by this IP version are counted from now on: the sockets listen to them.
    pub fn listen(&mut self, family: Family) {
        self.engine.listen(family);
        self.ears.push(Ear { family, emptied: true, dropped: 0 });
    }

    /// Replaces the agents whose echo requests count.
    pub fn hear(&mut self, sources: &[Source]) {
        self.engine.set_sources(sources);
        self.report();
    }

    /// Replaces what is probed.
    pub fn probe(&mut self, planned: &[Planned]) {
        let now = self.clocks.mono();
        self.engine.set_streams(now, planned);
        self.report();
    }

    /// One tick. Returns when the next one is due.
    pub fn tick(&mut self) -> Option<Instant> {
        self.receive();
        self.transmit();
        self.report();
        self.engine.next_wakeup(self.clocks.mono())
    }

    fn run(&mut self, ticker: &Ticker, inbox: &Receiver<Command>) -> io::Result<()> {
        loop {
            match inbox.try_recv() {
                Ok(Command::Probe(planned)) => self.probe(&planned),
                Ok(Command::Ask(planned, max_qps)) => {
                    self.engine.set_questions(self.clocks.mono(), &planned, max_qps);
                }
                Ok(Command::Once(node, planned)) => {
                    self.engine.probe_once(self.clocks.mono(), &node, &planned);
                }
                Ok(Command::Fetch(planned)) => self.engine.set_fetches(self.clocks.mono(), &planned),
                Ok(Command::Peers(peers)) => self.engine.handle_peers(self.clocks.mono(), &peers),
                Ok(Command::View(view)) => self.engine.handle_view(self.clocks.mono(), view),
                Ok(Command::Settle(settle)) => self.engine.set_settle(settle),
                Ok(Command::Hear(sources)) => self.hear(&sources),
                Ok(Command::Intercepted(intercepted)) => self.engine.set_intercepted(intercepted),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return self.wind_down(ticker),
                Err(TryRecvError::Empty) => {}
            }
            let next = self.tick();
            self.sleep(ticker, next)?;
        }
    }

    /// Waits for the last answers. What would fall due meanwhile does not: scheduling has ended.
    fn wind_down(&mut self, ticker: &Ticker) -> io::Result<()> {
        let stopped = self.engine.clock().mono;
        let end = self.clocks.mono() + LAST_ANSWERS;
        while self.engine.in_flight() > 0 && self.clocks.mono() < end {
            self.receive();
            self.report();
            let next = self.engine.next_wakeup(self.clocks.mono());
            self.sleep(ticker, next)?;
        }
        self.engine.end(stopped);
        self.report();
        Ok(())
    }

    fn sleep(&mut self, ticker: &Ticker, next: Option<Instant>) -> io::Result<()> {
        let now = self.clocks.mono();
        let latest = now + HEARTBEAT;
        let until = next.map_or(latest, |next| next.min(latest));
        self.rest.planned = until.since(now);
        ticker.wait_until(Some(until))?;
        Ok(())
    }

    /// Drains all sockets, then lets the engine judge. The clocks are read in between: a clock that was set while
    /// packets waited must be known before their stamps are believed.
    fn receive(&mut self) {
        let drain_began = self.clocks.mono();
        self.rest.end(drain_began);
        for lane in &mut self.lanes {
            lane.emptied =
                drain(&mut self.sockets, lane.channel, &self.settings, &mut self.stamps, &mut self.inbox);
        }
        for ear in &mut self.ears {
            let requests = &mut self.requests;
            let drained = self.sockets.receive_requests(ear.family, &mut |seen| {
                requests.push((seen.from, request::decode(seen.framing, seen.to, seen.bytes), seen.stamp));
            });
            ear.emptied = drained == Drained::Completely;
            ear.dropped = self.sockets.request_drops(ear.family);
        }
        let reading = self.clocks.read();
        self.engine.handle_clock(reading);
        for (key, stamp, source) in self.stamps.drain(..) {
            self.engine.handle_transmitted(key, stamp, source);
        }
        for inbound in self.inbox.drain(..) {
            match inbound {
                Inbound::Answer(from, answer, stamp) => self.engine.handle_answer(from, answer, stamp),
                Inbound::Unreachable(to, key, reason, mtu) => {
                    self.engine.handle_unreachable(to, key, reason, mtu);
                }
                Inbound::Reject(reject) => self.engine.handle_reject(reject),
            }
        }
        while let Some(done) = self.errands.next_done() {
            match done {
                Done::Connected(probe, connected) => self.engine.handle_connected(probe, connected),
                Done::Queried(question, result) => self.engine.handle_queried(question, result),
                Done::Fetched(fetch, fetched) => self.engine.handle_fetched(fetch, reading.mono, fetched),
            }
        }
        for lane in &mut self.lanes {
            lane.dropped = self.sockets.drops(lane.channel);
            self.engine.handle_drain(lane.channel, lane.emptied, lane.dropped);
            if !lane.sched_stamps && self.engine.unstamped(lane.channel) >= UNSTAMPED {
                lane.sched_stamps = true;
                self.sockets.request_sched_stamps(lane.channel);
            }
        }
        // Drops first: they explain what is missing in what came.
        for ear in &self.ears {
            self.engine.handle_requests_drained(ear.family, ear.emptied, ear.dropped);
        }
        for (from, request, stamp) in self.requests.drain(..) {
            self.engine.handle_request(from, request, stamp);
        }
        self.engine.handle_deadlines(drain_began);
    }

    fn transmit(&mut self) {
        let now = self.engine.clock().mono;
        if now.since(self.routes_refreshed) >= REFRESH_ROUTES {
            self.routes_refreshed = now;
            self.sockets.refresh_routes();
        }
        self.renew_ports(now);
        loop {
            match self.engine.poll_transmit(now) {
                Poll::Transmit(transmit) => self.push(&transmit),
                Poll::Connect(connect) => {
                    let now = self.clocks.mono();
                    self.engine.handle_sent(connect.probe, (now, now), Ok(()));
                    self.errands.connect(connect);
                }
                Poll::Query(id) => {
                    if let Some(question) = self.engine.question(id) {
                        self.errands.ask(id, question);
                    }
                }
                Poll::Fetch(id) => {
                    if let Some(fetch) = self.engine.fetch(id) {
                        self.errands.fetch(id, fetch);
                    }
                }
                Poll::RouteMtu(stream, to) => {
                    let mtu = self.sockets.route_mtu(to);
                    self.engine.handle_route_mtu(stream, mtu);
                }
                Poll::Settle => self.flush(),
                Poll::Idle => break,
            }
        }
        self.flush();
    }

    /// Replaces a fifth of the source ports of each family from time to time; never because of a loss.
    fn renew_ports(&mut self, now: Instant) {
        if now.since(self.ports_renewed) >= RENEW_PORTS {
            self.ports_renewed = now;
            for family in Family::ALL {
                let count = self.engine.source_ports(family).len().div_ceil(5);
                // Without new ports the old ones stay.
                let replaced = self.sockets.renew_ports(family, count).unwrap_or_default();
                for (old, new) in &replaced {
                    self.engine.replace_source_port(family, *old, *new);
                }
                self.retiring.push((family, replaced.into_iter().map(|(old, _)| old).collect()));
            }
        } else if !self.retiring.is_empty() && now.since(self.ports_renewed) >= RETIRE_PORTS {
            for (family, ports) in self.retiring.drain(..) {
                self.sockets.retire_ports(family, &ports);
            }
        }
    }

    fn push(&mut self, transmit: &Transmit) {
        let Some(position) = self.lanes.iter().position(|lane| lane.channel == transmit.channel) else {
            let now = self.clocks.mono();
            return self.engine.handle_sent(transmit.probe, (now, now), Err(SendError::NoSocket));
        };
        let Some(lane) = self.lanes.get_mut(position) else { return };
        lane.batch.push(transmit.to, transmit.flow_label, |bytes| transmit.encode(bytes));
        lane.probes.push(transmit.probe);
        if lane.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        for lane in &mut self.lanes {
            if lane.batch.is_empty() {
                continue;
            }
            self.results.clear();
            let before = self.clocks.mono();
            self.sockets.send(lane.channel, &lane.batch, &mut self.results);
            let call = (before, self.clocks.mono());
            for (probe, result) in lane.probes.drain(..).zip(self.results.drain(..)) {
                self.engine.handle_sent(probe, call, result);
            }
            lane.batch.clear();
        }
    }

    /// Hands what arrives from other agents to the ledger.
    fn report_ways(&mut self, now: Instant) {
        if self.ears.is_empty() {
            return;
        }
        for news in self.engine.take_inbound() {
            self.ledger.inbound(&news);
        }
        for ear in &self.ears {
            self.ledger.request_drops(ear.family, ear.dropped);
        }
        self.ledger.refused_requests(self.engine.refused_requests());
        if now.since(self.ways_told) >= TELL_WAYS {
            self.ways_told = now;
            for (edge, ways) in self.engine.ways_of_sources() {
                self.ledger.ways(&edge, &ways);
            }
        }
    }

    /// Hands everything that the engine has to tell to the ledger.
    fn report(&mut self) {
        let clock = *self.engine.clock();
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Added(stream, planned) => self.ledger.added(stream, &planned),
                Event::Removed(stream) => self.ledger.removed(stream, clock.mono),
                Event::Outcome(outcome) => self.ledger.outcome(&outcome, &clock),
                Event::Stray(stream, stray) => self.ledger.stray(stream, stray),
                Event::Boost(boost, outcome) => self.ledger.boost(boost, &outcome, &clock),
                Event::Flow { stream, source_port, dead } => {
                    self.ledger.flow(stream, source_port, dead, |to| self.sockets.source_of(to));
                }
                Event::Large(outcome) => self.ledger.large(&outcome, &clock),
                Event::PathMtu(stream, finding) => self.ledger.path_mtu(stream, finding),
                Event::Query(question, result) => self.ledger.query(question, result),
                Event::Fetched(node, fetched) => self.ledger.fetched(node, fetched),
                Event::Baseline(stream, baseline) => self.ledger.baseline(stream, baseline),
                Event::FirstReply(stream, took) => self.ledger.first_reply(stream, Some(took)),
                Event::FirstReplyTimeout(stream) => self.ledger.first_reply(stream, None),
            }
        }
        self.report_ways(clock.mono);
        let mut drops = [0; Channel::ALL.len()];
        for lane in &self.lanes {
            if let Some(total) = drops.get_mut(lane.channel.index()) {
                *total = lane.dropped;
            }
        }
        self.ledger.tick(&TickReport {
            now: clock.mono,
            lag: self.engine.take_lag(),
            overslept: mem::take(&mut self.rest.overslept),
            in_flight: self.engine.in_flight(),
            held: self.engine.held(),
            probes_per_second: self.engine.probes_per_second(),
            drops,
            rejects: self.engine.rejects(),
            clock_jumps: self.engine.clock_jumps(),
        });
        self.engine.set_verdicts(self.ledger.health().gives_verdicts());
    }
}

/// Empties one channel's queues into the buffers; returns whether they are empty now.
fn drain(
    sockets: &mut impl Sockets,
    channel: Channel,
    settings: &Settings,
    stamps: &mut Vec<(Key, WallTime, StampSource)>,
    inbox: &mut Vec<Inbound>,
) -> bool {
    let drained = sockets.receive(channel, &mut |received| match received {
        Received::Packet { from, framing, bytes, stamp } => {
            let decoded = answer::decode(channel, framing, settings.icmp_id, bytes);
            inbox.push(decoded.map_or_else(Inbound::Reject, |answer| Inbound::Answer(from, answer, stamp)));
        }
        Received::Transmitted { frame, stamp, source } => {
            if let Ok(key) = answer::decode_sent(channel, settings.icmp_id, frame) {
                stamps.push((key, stamp, source));
            }
        }
        Received::Error { to, quote, kind, code, mtu } => {
            if let Some(reason) = icmp::unreachable(channel.family, kind, code) {
                let decoded = answer::decode_quote(channel, settings.icmp_id, quote);
                let inbound =
                    decoded.map_or_else(Inbound::Reject, |key| Inbound::Unreachable(to, key, reason, mtu));
                inbox.push(inbound);
            }
        }
    });
    drained == Drained::Completely
}

#[cfg(test)]
mod tests;
