//! What is served where.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http_body::Body as _;
use podsonar_core::time::Instant;

use super::Site;
use super::body::{ScrapeBody, Turn};
use crate::metrics::accept::{Format, takes_gzip};
use crate::status::Status;

/// A driver that has not ticked for so long is stuck.
const STUCK: Duration = Duration::from_mins(1);

pub(super) fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(landing))
        .route("/status", get(status))
        .route("/status.txt", get(status_text))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(not_found)
        .layer(middleware::from_fn(refuse_bodies))
        .with_state(site)
}

async fn landing(State(site): State<Arc<Site>>) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>podsonar</title>\
         <h1>podsonar</h1>\
         <pre>{}</pre>\
         <ul><li><a href=\"/metrics\">/metrics</a>: for Prometheus</li>\
         <li><a href=\"/status\">/status</a>: this page as JSON</li>\
         <li><a href=\"/livez\">/livez</a>: whether probing goes on</li>\
         <li><a href=\"/readyz\">/readyz</a>: whether probing has begun</li></ul></html>\n",
        escaped(&Status::of(&site.metrics).to_string()),
    ))
}

async fn status(State(site): State<Arc<Site>>) -> Json<Status> {
    Json(Status::of(&site.metrics))
}

async fn status_text(State(site): State<Arc<Site>>) -> String {
    Status::of(&site.metrics).to_string()
}

/// Names come from users and peers: as text in HTML they are only text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

async fn metrics(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let Some(turn) = Turn::take(&site.metrics, site.scrapes) else {
        let retry = [(header::RETRY_AFTER, "1")];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, "too many scrapes in progress\n").into_response();
    };
    let format = Format::negotiate(&joined(&headers, &header::ACCEPT));
    let gzip = takes_gzip(&joined(&headers, &header::ACCEPT_ENCODING));
    let mut response = Response::new(Body::new(ScrapeBody::new(turn, format, gzip)));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(format.content_type()));
    fields.insert(header::VARY, header::HeaderValue::from_static("accept, accept-encoding"));
    if gzip {
        fields.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether the driver ticks. Whoever asks restarts the agent if not.
async fn livez(State(site): State<Arc<Site>>) -> (StatusCode, String) {
    let ticked = match site.metrics.heartbeat.get() {
        0 => site.started,
        nanos => Instant::from_nanos(nanos),
    };
    let silent = (site.now)().since(ticked);
    if silent < STUCK {
        (StatusCode::OK, "ok\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("the driver has not ticked for {} s\n", silent.as_secs()))
    }
}

/// Whether probing has begun; once it has, this stays.
async fn readyz(State(site): State<Arc<Site>>) -> (StatusCode, &'static str) {
    if site.metrics.heartbeat.get() > 0 && site.metrics.mesh.is_ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "probing has not begun\n")
    }
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "not found; see /\n")
}

/// No page takes a request body, so none is read.
async fn refuse_bodies(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        next.run(request).await
    } else {
        let close = [(header::CONNECTION, "close")];
        (StatusCode::PAYLOAD_TOO_LARGE, close, "no request body is taken here\n").into_response()
    }
}

/// A header that may be sent in several fields (RFC 9110 §5.3).
pub(crate) fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}
