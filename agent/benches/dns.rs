//! What one question to a name server costs: CPU time of the thread that asks (user and kernel), a fresh socket with
//! stamps for each, the server a thread of its own on loopback. `make bench-dns` runs it; it fails if a bound is missed.
//!
//! Flat out, one question follows the other. Paced, questions come as 500 names with both records each 30 s make them:
//! then each finds the processor asleep and its caches cold.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::thread::spawn;
use std::time::Duration;

use podsonar::probe::dns::{Prober, Query};
use podsonar_core::query::search::SearchList;
use podsonar_core::query::{QueryResult, Record};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};

/// CPU of one exchange in microseconds, flat out.
const BOUND: f64 = 30.0;

/// Share of a core, paced, in percent.
const PACED_BOUND: f64 = 0.2;

/// 500 names, A and AAAA, each 30 s.
const PACE: Duration = Duration::from_millis(30);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure())
}

async fn measure() -> ExitCode {
    let server = serve();
    let (prober, search) = (Prober::new(), SearchList::default());
    let query = |record| Query {
        name: "service.namespace.svc.cluster.local.".into(),
        server,
        record,
        expect: [].into(),
        timeout: Duration::from_secs(2),
    };
    let queries = Record::ALL.map(query);
    let mut tally = Tally::default();
    for query in queries.iter().cycle().take(2_000) {
        tally.add(&prober, query, &search).await;
    }

    tally = Tally::default();
    let start = cpu();
    for query in queries.iter().cycle().take(50_000) {
        tally.add(&prober, query, &search).await;
    }
    let flat_out = (cpu() - start) * 1e6 / f64::from(tally.exchanges);
    println!(
        "flat out: {flat_out:.1} CPU-µs per exchange, {:.2} of the bound of {BOUND}; {tally}",
        flat_out / BOUND
    );

    tally = Tally::default();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = cpu();
    for query in queries.iter().cycle().take(700) {
        pace.tick().await;
        tally.add(&prober, query, &search).await;
    }
    let paced = cpu() - start;
    let share = paced * 100.0 / (f64::from(tally.exchanges) * PACE.as_secs_f64());
    println!(
        "paced: {:.1} CPU-µs per exchange, {share:.3} % of a core, {:.2} of the bound of {PACED_BOUND} %; {tally}",
        paced * 1e6 / f64::from(tally.exchanges),
        share / PACED_BOUND
    );
    if flat_out <= BOUND && share <= PACED_BOUND { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// What was measured, so that a broken exchange does not look like a cheap one.
#[derive(Debug, Default)]
struct Tally {
    exchanges: u32,
    answered: u32,
    stamped: u32,
}

impl Tally {
    async fn add(&mut self, prober: &Prober, query: &Query, search: &SearchList) {
        let answer = prober.ask(query, search).await;
        self.exchanges += 1;
        self.answered += u32::from(answer.result == QueryResult::NoError);
        self.stamped += u32::from(answer.exchanges.iter().any(|exchange| exchange.duration.is_some()));
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
