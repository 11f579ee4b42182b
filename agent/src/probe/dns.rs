//! Questions to name servers, carried out: what the resolver would ask, on sockets of our own, timed by the kernel.
//!
//! A [`Query`] is one name as written, one server, one kind of record. It becomes one exchange for each candidate
//! that the search list makes of the name, until one of them ends the search. Each exchange has a fresh socket, so a
//! server behind a service address is drawn anew each time; it is one UDP question with EDNS, asked again without
//! EDNS if the server refuses that, and over TCP if the answer is truncated, all within one timeout.
//!
//! Its duration is that of the last UDP answer, transmit stamp to receive stamp, whatever it said; what then went
//! over TCP is counted and not timed. Without stamps, or if a clock was set meanwhile, it is counted and not timed.
//!
//! What is no answer is passed over as resolvers do, and waiting goes on: packets from other addresses, with another
//! id or question, queries, garbage. In the end that is silence, `timeout`; but if everything that came from the
//! server itself was garbage, it is `malformed`. An answer to us whose records cannot be read, an alias chain that
//! loops or has more than 16 links, or a TCP stream that ends too early, is `malformed` at once.

mod exchange;
mod message;
mod tcp;
mod timing;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::query::search::{self, Form, SearchList};
use podsonar_core::query::{Ignored, QueryResult, Record, as_expected};
use podsonar_net::Datagrams;

use self::exchange::{Ended, Ongoing};
use self::message::Question;

/// What is to be asked of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The name as configured.
    pub name: Arc<str>,
    /// The name server.
    pub server: SocketAddr,
    /// Which addresses.
    pub record: Record,
    /// The addresses that may come; empty if any may. See [`as_expected`].
    pub expect: Arc<[IpAddr]>,
    /// For each exchange. A silent server ends the search, so a query takes hardly longer than this.
    pub timeout: Duration,
}

/// What became of a [`Query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The result of the whole search, see [`search::outcome`].
    pub result: QueryResult,
    /// The addresses that came, sorted: with `noerror`, and with `mismatch` the wrong ones.
    pub addresses: Vec<IpAddr>,
    /// The exchanges in order, at least one unless nothing could be sent.
    pub exchanges: Vec<Exchange>,
}

/// One candidate asked of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Where the candidate comes from.
    pub form: Form,
    /// What became of it.
    pub result: QueryResult,
    /// How long the server took to answer by UDP, if the kernel stamped both ends.
    pub duration: Option<Duration>,
    /// Packets that were passed over, by [`Ignored::ALL`].
    pub ignored: [u32; Ignored::ALL.len()],
}

/// Asks name servers. Runs on a tokio runtime with I/O and time; each [`ask`](Self::ask) is independent of all
/// others, so a server that is silent delays nobody.
#[derive(Debug, Default)]
pub struct Prober {
    datagrams: Datagrams,
}

impl Prober {
    /// Keeps the kernel stamping packets as long as it lives.
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries a query out.
    pub async fn ask(&self, query: &Query, search: &SearchList) -> Answer {
        let mut exchanges = Vec::new();
        let mut addresses = Vec::new();
        for candidate in search.candidates(&query.name) {
            // What a search domain makes too long is no name, and nobody can be asked for it.
            let Some(question) = Question::new(&candidate.name, query.record) else { continue };
            let ongoing = Ongoing::new(&self.datagrams, &question, query.server, query.timeout);
            let Ended { mut result, addresses: came, duration, ignored } = ongoing.run().await;
            if result == QueryResult::NoError && !as_expected(&came, &query.expect) {
                result = QueryResult::Mismatch;
            }
            addresses = came;
            exchanges.push(Exchange { form: candidate.form, result, duration, ignored });
            if !search::goes_on_after(result) {
                break;
            }
        }
        let result = search::outcome(exchanges.iter().map(|exchange| exchange.result));
        Answer { result, addresses, exchanges }
    }
}
