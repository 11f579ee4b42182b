//! One request on one connection, and as much of its answer as is wanted.

use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::{Pin, pin};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use flate2::read::GzDecoder;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use podsonar_core::exchange::FetchResult;
use podsonar_core::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{MAX_BYTES, MAX_SENT};

/// Bytes of an answer's headers, and how many fields. A list's take 300.
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// An answer whose status is of use.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    /// A list, unpacked; `None`: what is known still holds.
    pub(super) body: Option<Vec<u8>>,
}

/// Sends the request and reads the answer. When its headers have come, `heard` is told: whatever they say, this is how
/// long the peer took.
///
/// # Errors
/// Why there is no answer that is of use.
pub(super) async fn ask(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Body>,
    now: fn() -> Instant,
    heard: &mut Option<Instant>,
) -> Result<Answer, FetchResult> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(connection))
        .await
        .map_err(|error| reason(&error))?;
    let mut exchange = pin!(async {
        let response = sender.send_request(request).await.map_err(|error| reason(&error))?;
        *heard = Some(now());
        let (head, body) = response.into_parts();
        let body = match head.status {
            StatusCode::OK => Some(unpack(&head.headers, read(body).await?)?),
            StatusCode::NOT_MODIFIED => None,
            status if status.is_redirection() => return Err(FetchResult::Redirected),
            status if status.is_client_error() || status.is_server_error() => {
                return Err(FetchResult::Refused);
            }
            _ => return Err(FetchResult::Malformed),
        };
        Ok(Answer { headers: head.headers, body })
    });
    tokio::select! {
        result = &mut exchange => return result,
        // What it brought until its end waits for its reader.
        _ = connection => {}
    }
    exchange.await
}

/// The body as sent, if it is not too large.
async fn read(mut body: Incoming) -> Result<Vec<u8>, FetchResult> {
    if body.size_hint().lower() > MAX_SENT as u64 {
        return Err(FetchResult::TooLarge);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(|error| reason(&error))?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_SENT {
            return Err(FetchResult::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The body as meant.
fn unpack(headers: &HeaderMap, bytes: Vec<u8>) -> Result<Vec<u8>, FetchResult> {
    match headers.get(header::CONTENT_ENCODING).map(axum::http::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(bytes),
        Some(b"gzip" | b"x-gzip") => {
            let mut unpacked = Vec::new();
            let mut reader = GzDecoder::new(bytes.as_slice()).take(MAX_BYTES as u64 + 1);
            reader.read_to_end(&mut unpacked).map_err(|_| FetchResult::Malformed)?;
            if unpacked.len() > MAX_BYTES { Err(FetchResult::TooLarge) } else { Ok(unpacked) }
        }
        Some(_) => Err(FetchResult::Malformed),
    }
}

/// What an error of hyper means.
fn reason(error: &hyper::Error) -> FetchResult {
    if error.is_parse_too_large() {
        return FetchResult::TooLarge;
    }
    let broken = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    let mut cause = std::error::Error::source(error);
    let mut kind = None;
    while let Some(inner) = cause {
        kind = kind.or_else(|| inner.downcast_ref::<io::Error>().map(io::Error::kind));
        cause = inner.source();
    }
    match kind {
        // How hyper tells chunks that are none.
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => FetchResult::Malformed,
        Some(_) => FetchResult::Broken,
        None if broken => FetchResult::Broken,
        None => FetchResult::Malformed,
    }
}
