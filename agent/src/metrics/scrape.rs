//! One scrape: a view of the metrics that renders itself piece by piece, as fast as its reader takes it.

use std::collections::VecDeque;
use std::io::Write;
use std::mem;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus_client::encoding::prometheus_protobuf::{self, prometheus_data_model::MetricFamily};
use prometheus_client::encoding::text;
use prost::Message;

use super::accept::Format;
use super::encode::{Part, Parts};
use super::state::Metrics;

/// Pieces of a body are about this long, in bytes.
const PIECE: usize = 64 * 1024;

/// The only errors are those of writing, and memory takes all.
const CANNOT_FAIL: &str = "writing to memory cannot fail";

/// An exposition as an iterator of pieces of about 64 KiB. It holds no lock between two pieces.
#[derive(Debug)]
pub enum Scrape {
    /// Prometheus text 0.0.4 or `OpenMetrics`.
    Text(Text),
    /// Prometheus protobuf.
    Protobuf(Protobuf),
}

impl Scrape {
    /// A scrape of the paths that are there now.
    pub fn new(metrics: Arc<Metrics>, format: Format) -> Self {
        let parts = Parts::new(metrics, format);
        match format {
            Format::Text | Format::OpenMetrics => Self::Text(Text { parts, ended: false }),
            Format::Protobuf => Self::Protobuf(Protobuf { parts, pieces: VecDeque::new() }),
        }
    }
}

impl Iterator for Scrape {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => text.next(),
            Self::Protobuf(protobuf) => protobuf.next(),
        }
    }
}

/// A scrape in one of the text formats. They differ in the names of counters in comments and in the end mark.
#[derive(Debug)]
pub struct Text {
    parts: Parts,
    ended: bool,
}

impl Text {
    fn next(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut piece = String::with_capacity(PIECE + PIECE / 2);
        while piece.len() < PIECE {
            let Some(part) = self.parts.next() else {
                self.ended = true;
                if self.is_open_metrics() {
                    text::encode_eof(&mut piece).expect(CANNOT_FAIL);
                }
                break;
            };
            self.render(part, &mut piece);
        }
        (!piece.is_empty()).then(|| piece.into_bytes())
    }

    fn is_open_metrics(&self) -> bool {
        self.parts.format == Format::OpenMetrics
    }

    /// Renders a part at the end of `piece`: its comments (`HELP` and `TYPE`) only if it is a metric's first.
    fn render(&self, part: Part, piece: &mut String) {
        let (metric, first) = (part.metric, part.first);
        let start = piece.len();
        text::encode_registry(piece, &part.into_registry()).expect(CANNOT_FAIL);
        let rendered = piece.get(start..).unwrap_or_default();
        let comments: String = rendered.split_inclusive('\n').take(2).collect();
        let wanted = match (first, self.is_open_metrics()) {
            (false, _) => String::new(),
            (true, true) => return,
            // A comment names a counter as its samples do in 0.0.4, without the suffix in OpenMetrics.
            (true, false) => {
                comments.replace(&format!(" {} ", metric.family()), &format!(" {} ", metric.name))
            }
        };
        piece.replace_range(start..start + comments.len(), &wanted);
    }
}

/// A scrape in protobuf: messages of one `MetricFamily` each, with their length before them.
///
/// That length is known only when all parts of a metric are encoded, so these wait until then.
#[derive(Debug)]
pub struct Protobuf {
    parts: Parts,
    pieces: VecDeque<Vec<u8>>,
}

impl Protobuf {
    fn next(&mut self) -> Option<Vec<u8>> {
        if self.pieces.is_empty() {
            self.encode_metric();
        }
        self.pieces.pop_front()
    }

    /// Encodes the next metric. Parts may follow each other within a message, because protobuf appends to a
    /// repeated field.
    fn encode_metric(&mut self) {
        let (mut piece, mut length) = (Vec::new(), 0);
        for part in self.parts.by_ref() {
            let (first, last) = (part.first, part.last);
            for mut family in prometheus_protobuf::encode(&part.into_registry()).expect(CANNOT_FAIL) {
                if !first {
                    family = MetricFamily { metric: family.metric, ..MetricFamily::default() };
                }
                length += family.encoded_len();
                family.encode(&mut piece).expect(CANNOT_FAIL);
            }
            if last || piece.len() >= PIECE {
                self.pieces.push_back(mem::take(&mut piece));
            }
            if last {
                let mut delimiter = Vec::new();
                prost::encode_length_delimiter(length, &mut delimiter).expect(CANNOT_FAIL);
                self.pieces.push_front(delimiter);
                break;
            }
        }
    }
}

/// The same pieces compressed (RFC 1952).
#[derive(Debug)]
pub struct Gzip<I> {
    plain: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Gzip<I> {
    /// Compresses what `plain` yields.
    pub fn new(plain: I) -> Self {
        Self { plain, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl<I: Iterator<Item = Vec<u8>>> Iterator for Gzip<I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let encoder = self.encoder.as_mut()?;
            let Some(piece) = self.plain.next() else {
                // Writing to a Vec cannot fail.
                return self.encoder.take()?.finish().ok();
            };
            encoder.write_all(&piece).ok()?;
            if !encoder.get_ref().is_empty() {
                return Some(mem::take(encoder.get_mut()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn compressed_pieces_are_the_plain_ones() {
        let plain: Vec<Vec<u8>> = (0..50_u32).map(|seed| noise(seed, 10_000)).collect();
        let compressed: Vec<u8> = Gzip::new(plain.clone().into_iter()).flatten().collect();
        let mut unpacked = Vec::new();
        GzDecoder::new(compressed.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == plain.concat());
    }

    #[test]
    fn nothing_compressed_is_still_a_valid_body() {
        let compressed: Vec<u8> = Gzip::new(std::iter::empty()).flatten().collect();
        assert_eq!(GzDecoder::new(compressed.as_slice()).read_to_end(&mut Vec::new()).unwrap(), 0);
    }

    /// Bytes that compress a little.
    fn noise(seed: u32, length: u32) -> Vec<u8> {
        (0..length).map(|step| ((step ^ seed).wrapping_mul(2_654_435_761) >> 27) as u8).collect()
    }
}
