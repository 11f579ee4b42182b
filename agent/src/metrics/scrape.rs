//! One scrape: a view of the metrics that renders itself piece by piece, as fast as its reader takes it.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::mem;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::accept::Format;
use super::encode::Encoder;
use super::state::{Metrics, Path};
use super::{ALL, Samples};

/// Paths rendered between two looks at whether a piece is full.
const STEP: usize = 16;

/// An exposition as an iterator of pieces of about 64 KiB. It holds no lock between two pieces.
pub struct Scrape {
    metrics: Arc<Metrics>,
    paths: Arc<Vec<Arc<Path>>>,
    encoder: Encoder,
    family: usize,
    path: usize,
    finished: bool,
    pieces: VecDeque<Vec<u8>>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape")
            .field("family", &self.family)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Scrape {
    /// A scrape of the paths that are there now.
    pub fn new(metrics: Arc<Metrics>, format: Format) -> Self {
        Self {
            paths: metrics.paths(),
            metrics,
            encoder: Encoder::new(format),
            family: 0,
            path: 0,
            finished: false,
            pieces: VecDeque::new(),
        }
    }

    /// Renders some more.
    fn step(&mut self) {
        let Some(metric) = ALL.get(self.family) else {
            self.encoder.finish();
            self.finished = true;
            return;
        };
        if self.path == 0 {
            self.encoder.begin(metric);
        }
        let mut complete = true;
        match &metric.samples {
            Samples::Agent(samples) => {
                self.encoder.created(self.metrics.started);
                samples(&self.metrics, &mut self.encoder);
            }
            Samples::Path(samples) => {
                let rest = self.paths.get(self.path..).unwrap_or_default();
                for path in rest.iter().take(STEP) {
                    self.encoder.created(path.created);
                    samples(path, &self.metrics, &mut self.encoder);
                }
                self.path += STEP;
                complete = rest.len() <= STEP;
            }
        }
        if complete {
            self.encoder.end();
            self.family += 1;
            self.path = 0;
        }
    }
}

impl Iterator for Scrape {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        while self.pieces.is_empty() && !self.finished {
            self.step();
            self.encoder.take(&mut self.pieces);
        }
        self.pieces.pop_front()
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
