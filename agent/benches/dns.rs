//! What one question to a name server costs: CPU time of the thread that asks (user and kernel), a fresh socket with
//! stamps for each, the server a thread of its own on loopback. `make bench-dns` runs it; it fails if a bound is missed.
//!
//! Flat out, one question follows the other. Paced, questions come as 500 names with both records each 30 s make them:
//! then each finds the processor asleep and its caches cold. In groups, ten of these are asked at once, by a task each,
//! and the processor is woken a tenth as often. Beside each stands the limit: a fresh socket, a send and
//! a receive, by bare system calls, which says how much of it is the machine's.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::spawn;
use std::time::Duration;

use podsonar::probe::dns::{Answer, Prober, Query};
use podsonar_core::query::search::SearchList;
use podsonar_core::query::{QueryResult, Record};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// CPU of one exchange in microseconds, flat out.
const BOUND: f64 = 30.0;

/// Share of a core, paced, in percent.
const PACED_BOUND: f64 = 0.2;

/// 500 names, A and AAAA, each 30 s.
const PACE: Duration = Duration::from_millis(30);

/// Questions in a group.
const GROUP: u32 = 10;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure())
}

async fn measure() -> ExitCode {
    let server = serve();
    let prober = Arc::new(Prober::new());
    ask(&prober, server, 2_000, None).await;

    let flat_out = ask(&prober, server, 50_000, None).await;
    let limit = bare(server, 50_000, None).await;
    let micros = flat_out.micros();
    println!(
        "flat out: {micros:.1} CPU-µs per exchange, {:.2} of the bound of {BOUND}; {flat_out}",
        micros / BOUND
    );
    println!("  the limit is {:.1} CPU-µs, ratio {:.2}", limit.micros(), micros / limit.micros());

    let mut shares = Vec::new();
    for (name, group) in [("paced", 1), ("in groups", GROUP)] {
        let paced = ask(&prober, server, 500, Some(group)).await;
        let limit = bare(server, 500, Some(group)).await;
        let share = paced.micros() / PACE.as_micros() as f64 * 100.0;
        println!(
            "{name}: {:.1} CPU-µs per exchange, {share:.3} % of a core, {:.2} of the bound of {PACED_BOUND} %; {paced}",
            paced.micros(),
            share / PACED_BOUND
        );
        println!("  the limit is {:.1} CPU-µs, ratio {:.2}", limit.micros(), paced.micros() / limit.micros());
        shares.push(share);
    }
    let cheapest = shares.into_iter().fold(f64::INFINITY, f64::min);
    if micros <= BOUND && cheapest <= PACED_BOUND { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Asks so many questions: in turn, or in groups that keep the pace.
async fn ask(prober: &Arc<Prober>, server: SocketAddr, count: u32, group: Option<u32>) -> Tally {
    let search = SearchList::default();
    let mut pace = pace(group);
    let mut tally = Tally::default();
    let start = cpu();
    while tally.exchanges < count {
        let mut book = |answer: &Answer| {
            tally.exchanges += 1;
            tally.answered += u32::from(answer.result == QueryResult::NoError);
            tally.stamped += u32::from(answer.exchanges.iter().any(|exchange| exchange.duration.is_some()));
        };
        let Some(pace) = &mut pace else {
            book(&prober.ask(&query(server), &search).await);
            continue;
        };
        pace.tick().await;
        let mut tasks = JoinSet::new();
        for _ in 0..group.unwrap_or(1) {
            let (prober, query, search) = (Arc::clone(prober), query(server), search.clone());
            tasks.spawn(async move { prober.ask(&query, &search).await });
        }
        while let Some(Ok(answer)) = tasks.join_next().await {
            book(&answer);
        }
    }
    Tally { cpu: cpu() - start, ..tally }
}

fn query(server: SocketAddr) -> Query {
    Query {
        name: "service.namespace.svc.cluster.local.".into(),
        server,
        record: Record::A,
        expect: [].into(),
        timeout: Duration::from_secs(2),
    }
}

fn pace(group: Option<u32>) -> Option<Interval> {
    let mut pace = interval(PACE * group?);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(pace)
}

/// Exchanges as many packets of a question's length with the server by the fewest system calls.
async fn bare(server: SocketAddr, count: u32, group: Option<u32>) -> Tally {
    let mut pace = pace(group);
    let mut question = [1; 64];
    question[..12].copy_from_slice(&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    question[50..].copy_from_slice(&[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut tally = Tally::default();
    let start = cpu();
    for number in 0..count {
        if let Some(pace) = &mut pace
            && number % group.unwrap_or(1) == 0
        {
            pace.tick().await;
        }
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        socket.send_to(&question, server).expect("loopback takes everything");
        tally.exchanges += 1;
        tally.answered += u32::from(socket.recv(&mut [0; 512]).is_ok());
    }
    Tally { cpu: cpu() - start, ..tally }
}

/// What was measured, so that a broken exchange does not look like a cheap one.
#[derive(Debug, Default)]
struct Tally {
    exchanges: u32,
    answered: u32,
    stamped: u32,
    cpu: f64,
}

impl Tally {
    fn micros(&self) -> f64 {
        self.cpu * 1e6 / f64::from(self.exchanges)
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} exchanges, {} answered, {} stamped", self.exchanges, self.answered, self.stamped)
    }
}

/// CPU time of this thread in seconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A server that makes each question an answer with one address. It ends with the process.
fn serve() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    let address = socket.local_addr().expect("a bound socket has an address");
    spawn(move || {
        let mut room = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut room) {
            if let Some(answer) = room.get(..length).and_then(answer) {
                // A question that is gone needs no answer.
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    address
}

/// The question with the response bit, without EDNS, and one record.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = question.get(..12)?.to_vec();
    let name = question.get(12..)?.split_inclusive(|byte| *byte == 0).next()?;
    let kind = question.get(12 + name.len()..)?.first_chunk::<4>()?;
    let counts = [0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    bytes.get_mut(2..)?.copy_from_slice(&counts);
    bytes.extend([name, kind].concat());
    // A pointer to the question's name, its type and class, 30 s, and an address.
    bytes.extend([&[0xc0, 12], &kind[..], &[0, 0, 0, 30]].concat());
    let length: u16 = if kind == &[0, 1, 0, 1] { 4 } else { 16 };
    bytes.extend(length.to_be_bytes());
    bytes.resize(bytes.len() + usize::from(length), 7);
    Some(bytes)
}
