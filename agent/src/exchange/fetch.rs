//! Asking one peer once for its list.
//!
//! A fetch is one fresh connection, one request, one answer, all within one deadline; no redirect is followed and no
//! proxy is asked. Where a peer has addresses of both families, the one that answered last is tried first; while
//! another is left, a connection attempt may use only half of what time there is. Once connected, that is the agent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, header};
use podsonar_core::exchange::FetchResult;
use podsonar_core::mesh::{NodeView, Peer};
use podsonar_core::time::Instant;
use podsonar_net::handshake::{self, Progress};
use tokio::net::TcpStream;
use tokio::time;

use super::accept::{Accepted, Refused, Rules, accept};
use super::http::{self, Answer};
use super::payload::{CLOCK, PATH, PROBES_YOU, WATCH_AGE};
use crate::clock;
use crate::probe::connect;

/// Longest entity tag that is remembered, in bytes; ours have 40.
const MAX_ETAG: usize = 128;

/// Whom to ask, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The node whose agent should answer.
    pub node: Arc<str>,
    /// The agent's addresses, at least one.
    pub addresses: Vec<IpAddr>,
    /// The port of its `mesh` listener.
    pub port: u16,
    /// For everything together.
    pub timeout: Duration,
}

impl FetchRequest {
    /// Asks this peer.
    pub fn of(peer: &Peer, timeout: Duration) -> Self {
        Self {
            node: Arc::clone(&peer.node),
            addresses: peer.addresses.clone(),
            port: peer.mesh_port,
            timeout,
        }
    }
}

/// What is known of a peer from an earlier fetch; to be kept by whoever fetches, and given to the next.
#[derive(Debug, Clone)]
pub struct Known {
    view: Arc<NodeView>,
    /// When each pod of the view became Running, on the peer's clock.
    running: Arc<[Option<u64>]>,
    etag: Option<HeaderValue>,
    /// Where it answered.
    address: IpAddr,
    /// What had to hold for its pods.
    rules: Rules,
}

impl Known {
    /// The list.
    pub fn view(&self) -> &Arc<NodeView> {
        &self.view
    }
}

/// A fetch that is over.
#[derive(Debug)]
pub struct Fetched {
    /// When it began, by this process' clock. What a list says was true after that.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// From the SYN to the answer's headers, by this process' clock; `None` if none came.
    pub took: Option<Duration>,
    /// What became of it.
    pub result: FetchResult,
    /// Whether anything answered at the peer's address, be it only by a TCP handshake or reset: then the node is there.
    pub alive: bool,
    /// The list, new or confirmed, if the result is [usable](FetchResult::is_usable).
    pub known: Option<Known>,
    /// Pods of a new list that are not probed.
    pub refused: Refused,
}

/// What has been seen so far; outlives a fetch whose time is up.
#[derive(Debug, Default)]
struct Seen {
    alive: bool,
    /// Where and when the connection began that was established.
    connected: Option<(IpAddr, Instant)>,
    heard: Option<Instant>,
}

/// Asks a peer for its list. To be run on a Tokio runtime with time and I/O; many may run at once.
///
/// `known` is what the last fetch of this peer brought; an answer may be that it still holds.
pub async fn fetch(request: &FetchRequest, known: Option<&Known>, rules: &Rules) -> Fetched {
    // By other rules the same list may mean something else.
    let known = known.filter(|known| known.view.node == request.node && known.rules == *rules);
    let began = clock::now();
    let mut seen = Seen::default();
    let attempt = attempt(request, known, &mut seen);
    let told = time::timeout(request.timeout, attempt).await.unwrap_or(Err(FetchResult::Timeout));
    let took = seen.connected.zip(seen.heard).map(|((_, since), heard)| heard.since(since));
    let over = |result, known, refused| {
        let ended = clock::now();
        Fetched { began, ended, took, result, alive: seen.alive, known, refused }
    };
    let at = seen.connected.zip(seen.heard).map(|((address, since), heard)| Heard {
        began,
        middle: since + heard.since(since) / 2,
        address,
    });
    let (answer, at) = match (told, at) {
        (Ok(answer), Some(at)) => (answer, at),
        (Err(reason), _) => return over(reason, None, Refused::default()),
        (Ok(_), None) => return over(FetchResult::Malformed, None, Refused::default()),
    };
    match at.understand(&answer, &request.node, known, rules) {
        Ok((result, known, refused)) => over(result, Some(known), refused),
        Err(reason) => over(reason, None, Refused::default()),
    }
}

async fn attempt(
    request: &FetchRequest,
    known: Option<&Known>,
    seen: &mut Seen,
) -> Result<Answer, FetchResult> {
    let (stream, at) = connect_to_any(request, known, seen).await?;
    let ask = ask_for_list(at, known);
    http::ask(stream, ask, clock::now, &mut seen.heard).await
}

/// Connects to the first of the peer's addresses that answers.
async fn connect_to_any(
    request: &FetchRequest,
    known: Option<&Known>,
    seen: &mut Seen,
) -> Result<(TcpStream, SocketAddr), FetchResult> {
    let mut addresses = request.addresses.clone();
    addresses.sort_by_key(|&address| known.is_none_or(|known| known.address != address));
    let mut left = request.timeout;
    // The most telling of all failures.
    let mut failure = FetchResult::NotSent;
    let last = addresses.len().saturating_sub(1);
    for (place, address) in addresses.into_iter().enumerate() {
        let to = SocketAddr::new(address, request.port);
        let since = clock::now();
        // The last one may take what is left: the deadline of all ends it.
        let patience = if place == last { left } else { left / 2 };
        match connect_to(to, patience).await {
            Ok(stream) => {
                seen.alive = true;
                seen.connected = Some((address, since));
                return Ok((stream, to));
            }
            Err(reason) => {
                seen.alive |= reason == FetchResult::Reset;
                failure = more_telling(failure, reason);
            }
        }
        left = left.saturating_sub(clock::now().since(since));
    }
    Err(failure)
}

async fn connect_to(to: SocketAddr, patience: Duration) -> Result<TcpStream, FetchResult> {
    let stream = handshake::start(to).map_err(|_| FetchResult::NotSent)?;
    let stream = TcpStream::from_std(stream).map_err(|_| FetchResult::NotSent)?;
    let progress = match time::timeout(patience, connect::ended(&stream)).await {
        Ok(progress) => progress,
        Err(_) => handshake::progress(&stream),
    };
    match progress {
        Progress::Established { .. } => Ok(stream),
        Progress::Refused => Err(FetchResult::Reset),
        Progress::Unreachable(_) => Err(FetchResult::Unreachable),
        Progress::Pending => Err(FetchResult::Timeout),
    }
}

/// Of two failures of one fetch the one that says more of the peer.
fn more_telling(one: FetchResult, other: FetchResult) -> FetchResult {
    let order = [FetchResult::Reset, FetchResult::Unreachable, FetchResult::Timeout];
    order.into_iter().find(|reason| [one, other].contains(reason)).unwrap_or(FetchResult::NotSent)
}

fn ask_for_list(at: SocketAddr, known: Option<&Known>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = axum::http::Uri::from_static(PATH);
    let headers = request.headers_mut();
    // An address and port are always a header's value.
    headers.extend(HeaderValue::try_from(at.to_string()).map(|host| (header::HOST, host)));
    let agent = HeaderValue::from_static(concat!("podsonar/", env!("CARGO_PKG_VERSION")));
    headers.insert(header::USER_AGENT, agent);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if let Some(etag) = known.and_then(|known| known.etag.as_ref()) {
        headers.insert(header::IF_NONE_MATCH, etag.clone());
    }
    request
}

/// When and where an answer was heard.
struct Heard {
    began: Instant,
    /// Between the SYN and the headers: as near as can be known to when the peer's clock was read.
    middle: Instant,
    address: IpAddr,
}

impl Heard {
    /// What an answer means.
    fn understand(
        &self,
        answer: &Answer,
        node: &str,
        known: Option<&Known>,
        rules: &Rules,
    ) -> Result<(FetchResult, Known, Refused), FetchResult> {
        let watch_age = number(&answer.headers, WATCH_AGE).map(Duration::from_millis);
        let probes_us = match number(&answer.headers, PROBES_YOU) {
            Some(0) => Some(false),
            Some(1) => Some(true),
            Some(_) | None => None,
        };
        let etag = answer.headers.get(header::ETAG);
        let Some(body) = &answer.body else {
            // Only if there was something to confirm, and that is what it confirms.
            let known = known.filter(|known| known.etag.is_some()).ok_or(FetchResult::Malformed)?;
            if etag.is_some() && etag != known.etag.as_ref() {
                return Err(FetchResult::Malformed);
            }
            let view =
                NodeView { asked_at: self.began, watch_age, probes_us, ..NodeView::clone(&known.view) };
            let known = Known { view: Arc::new(view), address: self.address, ..known.clone() };
            return Ok((FetchResult::NotModified, known, Refused::default()));
        };
        let Accepted { mut view, running, refused } = accept(body, node, rules)?;
        view.asked_at = self.began;
        (view.watch_age, view.probes_us) = (watch_age, probes_us);
        let clock = number(&answer.headers, CLOCK);
        self.date(&mut view, &running, clock, known);
        let etag = etag.filter(|etag| etag.len() <= MAX_ETAG).cloned();
        let (view, running, rules) = (Arc::new(view), running.into(), rules.clone());
        let known = Known { view, running, etag, address: self.address, rules };
        Ok((FetchResult::Ok, known, refused))
    }

    /// Says by our clock when each pod became Running. What was once said stays: each answer would else move it by how
    /// unevenly answers travel.
    fn date(&self, view: &mut NodeView, running: &[Option<u64>], clock: Option<u64>, known: Option<&Known>) {
        let known = known.filter(|known| known.view.epoch == view.epoch);
        for (pod, &since) in view.pods.iter_mut().zip(running) {
            let age =
                clock.zip(since).map(|(clock, since)| Duration::from_millis(clock.saturating_sub(since)));
            let said = known.and_then(|known| known.dated(&pod.id.uid, since));
            pod.running_since = said.or_else(|| age.map(|age| self.middle.back(age)));
        }
    }
}

impl Known {
    /// When this pod became Running by our clock, if the peer said the same of it before.
    fn dated(&self, uid: &str, running: Option<u64>) -> Option<Instant> {
        let place = self.view.pods.binary_search_by(|pod| (*pod.id.uid).cmp(uid)).ok()?;
        let same = running.is_some() && self.running.get(place) == Some(&running);
        self.view.pods.get(place).filter(|_| same)?.running_since
    }
}

/// A header that is a whole number.
fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
