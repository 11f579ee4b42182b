//! The `mesh` listener: `/v1/node`, for those who may know.
//!
//! Its answer is rendered once for each change of the list, not for each request: peers ask every few seconds, and
//! mostly hear that nothing changed.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::service::Service;
use podsonar_core::mesh::NodeView;
use podsonar_core::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Callers;
use super::guests::{Guest, Guests};
use super::payload::{self, CLOCK, PATH, PROBES_YOU, WATCH_AGE};
use crate::http::connections::{self, Limits};
use crate::http::pages::joined;
use crate::metrics::accept::takes_gzip;
use crate::metrics::state::Metrics;

/// What a request was answered with. The text form is the label `result` of `podsonar_exchange_served_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServeResult {
    /// The list.
    Ok,
    /// That the list known to the caller still holds.
    NotModified,
    /// 403: an address that is no agent's.
    Forbidden,
    /// Another page or method, or a request with a body.
    BadRequest,
    /// There is no list yet.
    NotReady,
    /// Nothing: too many connections of this caller, or of unknown ones.
    TurnedAway,
}

impl ServeResult {
    /// Every result, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::NotModified, Self::Forbidden, Self::BadRequest, Self::NotReady, Self::TurnedAway];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotModified => "not_modified",
            Self::Forbidden => "forbidden",
            Self::BadRequest => "bad_request",
            Self::NotReady => "not_ready",
            Self::TurnedAway => "turned_away",
        }
    }
}

/// Limits of the `mesh` listener: peers are quick, and each has its share of the connections.
pub fn limits() -> Limits {
    Limits {
        connections: 256,
        headers: Duration::from_secs(3),
        unread: Duration::from_secs(5),
        life: Duration::from_secs(10),
    }
}

/// What is served to peers, and to whom.
#[derive(Debug)]
pub struct Mesh {
    callers: Arc<Callers>,
    guests: Arc<Guests>,
    metrics: Arc<Metrics>,
    now: fn() -> Instant,
    started: Instant,
    list: RwLock<Option<Arc<Rendered>>>,
}

/// A list ready to be sent.
#[derive(Debug, Clone)]
struct Rendered {
    plain: Bytes,
    gzip: Bytes,
    etag: HeaderValue,
    revision: u64,
    /// When it was last told to be so.
    told_at: Instant,
    watch_age: Option<Duration>,
}

impl Mesh {
    /// Nothing is to be told yet. `now` is `CLOCK_MONOTONIC`, and `started` where the clock begins by which the list
    /// says when pods became Running.
    pub fn new(callers: Arc<Callers>, metrics: Arc<Metrics>, now: fn() -> Instant, started: Instant) -> Self {
        Self { callers, guests: Arc::default(), metrics, now, started, list: RwLock::default() }
    }

    /// Tells this from now on; to be called whenever something of it changes. Only a change of the list itself is
    /// rendered: `asked_at` and `watch_age` go into the headers of each answer, and an age that is not zero grows until
    /// the next call.
    pub fn publish(&self, view: &NodeView) {
        let plain = payload::encode(view, self.started);
        let (told_at, watch_age) = (view.asked_at, view.watch_age);
        let before = self.rendered();
        let rendered = match before.as_deref() {
            Some(before) if before.plain == plain => Rendered { told_at, watch_age, ..before.clone() },
            _ => {
                let revision = before.map_or(0, |before| before.revision + 1);
                let gzip = compress(&plain).into();
                let etag = etag(view.epoch, revision);
                Rendered { plain: plain.into(), gzip, etag, revision, told_at, watch_age }
            }
        };
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(rendered));
    }

    fn rendered(&self) -> Option<Arc<Rendered>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers a request, and says what that was.
    fn answer<B: http_body::Body>(&self, caller: IpAddr, request: &Request<B>) -> (ServeResult, Response) {
        if !self.callers.allows(caller) {
            let text = format!("{caller} is no agent that is known here; others need exchange.allow_cidrs\n");
            return (ServeResult::Forbidden, words(StatusCode::FORBIDDEN, text));
        }
        let refusal = if !request.body().is_end_stream() {
            Some((StatusCode::PAYLOAD_TOO_LARGE, "no request body is taken here\n"))
        } else if request.uri().path() != PATH {
            Some((StatusCode::NOT_FOUND, "not found; see /v1/node\n"))
        } else if ![Method::GET, Method::HEAD].contains(request.method()) {
            Some((StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n"))
        } else {
            None
        };
        if let Some((status, text)) = refusal {
            return (ServeResult::BadRequest, words(status, text));
        }
        match self.rendered() {
            Some(list) => self.tell(&list, caller, request.headers()),
            None => (
                ServeResult::NotReady,
                words(StatusCode::SERVICE_UNAVAILABLE, "own pods are not known yet\n"),
            ),
        }
    }

    fn tell(&self, list: &Rendered, caller: IpAddr, asked: &HeaderMap) -> (ServeResult, Response) {
        let now = (self.now)();
        let known = joined(asked, &header::IF_NONE_MATCH);
        let same = known.split(',').any(|tag| tag.trim() == "*" || list.etag == tag.trim());
        let gzip = takes_gzip(&joined(asked, &header::ACCEPT_ENCODING));
        let (result, status, body) = match (same, gzip) {
            (true, _) => (ServeResult::NotModified, StatusCode::NOT_MODIFIED, Body::empty()),
            (false, true) => (ServeResult::Ok, StatusCode::OK, Body::from(list.gzip.clone())),
            (false, false) => (ServeResult::Ok, StatusCode::OK, Body::from(list.plain.clone())),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::ETAG, list.etag.clone());
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(CLOCK, payload::milliseconds(self.started, now).into());
        if let Some(age) = list.watch_age {
            let grown = if age.is_zero() { age } else { age + now.since(list.told_at) };
            headers.insert(WATCH_AGE, u64::try_from(grown.as_millis()).unwrap_or(u64::MAX).into());
        }
        if let Some(probed) = self.callers.probes(caller) {
            headers.insert(PROBES_YOU, u16::from(probed).into());
        }
        if !same {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if gzip {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        (result, response)
    }
}

/// Serves the list until `stop` changes.
pub async fn serve(listener: TcpListener, mesh: Arc<Mesh>, limits: Limits, stop: watch::Receiver<bool>) {
    let admit = |caller: SocketAddr| {
        let caller = caller.ip().to_canonical();
        let stranger = !mesh.callers.allows(caller);
        if stranger && mesh.callers.unknown((mesh.now)()) {
            tracing::info!(%caller, "somebody who is no known agent asks for the list of pods");
        }
        let guest = mesh.guests.enter(caller, stranger);
        if guest.is_none() {
            mesh.metrics.exchange.served(ServeResult::TurnedAway);
        }
        Some(Desk { mesh: Arc::clone(&mesh), caller, _guest: guest? })
    };
    connections::serve(listener, limits, admit, stop).await;
}

/// The service of one connection.
struct Desk {
    mesh: Arc<Mesh>,
    caller: IpAddr,
    _guest: Guest,
}

impl<B: http_body::Body> Service<Request<B>> for Desk {
    type Response = Response;
    type Error = Infallible;
    type Future = Ready<Result<Response, Infallible>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let (result, mut response) = self.mesh.answer(self.caller, &request);
        self.mesh.metrics.exchange.served(result);
        // One request a connection: a fetch is a fresh one.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        ready(Ok(response))
    }
}

fn words(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// Weak (RFC 9110 §8.8.1), since the same list is sent in two codings. The epoch tells it from those of the agent's
/// earlier runs.
fn etag(epoch: u64, revision: u64) -> HeaderValue {
    // Such text always is a header's value.
    HeaderValue::try_from(format!("W/\"{epoch:016x}-{revision}\""))
        .unwrap_or(HeaderValue::from_static("W/\"\""))
}

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests;
