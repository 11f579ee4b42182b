//! A response body that is made while it is sent.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::Frame;

use super::Never;
use crate::metrics::accept::Format;
use crate::metrics::scrape::{Gzip, Scrape};
use crate::metrics::state::Metrics;

/// The permission to render one scrape; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Turn(Arc<Metrics>);

impl Turn {
    /// A turn, if fewer than `limit` are taken.
    pub(super) fn take(metrics: &Arc<Metrics>, limit: u64) -> Option<Self> {
        metrics.scrapes_in_progress.inc();
        let turn = Self(Arc::clone(metrics));
        if metrics.scrapes_in_progress.get() > limit {
            metrics.scrapes_refused.inc();
            return None;
        }
        Some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.scrapes_in_progress.dec();
    }
}

/// A scrape on its way out: the next piece is rendered when the connection can take it.
pub(super) struct ScrapeBody {
    pieces: Box<dyn Iterator<Item = Vec<u8>> + Send>,
    _turn: Turn,
}

impl ScrapeBody {
    pub(super) fn new(turn: Turn, format: Format, gzip: bool) -> Self {
        let scrape = Scrape::new(Arc::clone(&turn.0), format);
        let pieces: Box<dyn Iterator<Item = Vec<u8>> + Send> =
            if gzip { Box::new(Gzip::new(scrape)) } else { Box::new(scrape) };
        Self { pieces, _turn: turn }
    }
}

impl fmt::Debug for ScrapeBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScrapeBody")
    }
}

impl http_body::Body for ScrapeBody {
    type Data = Bytes;
    type Error = Never;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Never>>> {
        Poll::Ready(self.pieces.next().map(|piece| Ok(Frame::data(piece.into()))))
    }
}
