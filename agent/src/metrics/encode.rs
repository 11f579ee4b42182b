//! The three exposition formats behind one interface: a family is begun, samples follow, it is ended.
//!
//! Written by hand rather than through a metrics crate, because a scrape of 10,000 paths has 140,000 lines: labels
//! are rendered once a path, the body is handed out in pieces, and a path's histogram takes a third of the memory.

mod protobuf;
mod text;

use std::collections::VecDeque;

use podsonar_core::time::WallTime;

use self::protobuf::Protobuf;
use self::text::Text;
use super::Metric;
use super::accept::Format;
use super::histogram::{Bound, Classic, Native};

/// A label's name and value. An empty value means that the label is absent, as everywhere in Prometheus.
pub(crate) type Label<'a> = (&'static str, &'a str);

/// What a sample says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// A whole number, of a counter or gauge.
    Whole(u64),
    /// A real number, of a counter or gauge.
    Number(f64),
    /// A histogram.
    Histogram(HistogramView<'a>),
}

/// A histogram's numbers, by reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct HistogramView<'a> {
    bounds: &'a [Bound],
    counts: &'a [u64],
    above: u64,
    sum_nanos: u64,
    native: Option<&'a Native>,
}

impl<'a> HistogramView<'a> {
    pub(super) fn new<const N: usize>(
        bounds: &'a [Bound; N],
        classic: &'a Classic<N>,
        native: Option<&'a Native>,
    ) -> Self {
        Self { bounds, counts: &classic.counts, above: classic.above, sum_nanos: classic.sum, native }
    }

    /// Bounds with the number of observations up to each.
    fn cumulative(&self) -> impl Iterator<Item = (&'a Bound, u64)> {
        let mut total = 0;
        self.bounds.iter().zip(self.counts).map(move |(bound, count)| {
            total += count;
            (bound, total)
        })
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    fn sum_seconds(&self) -> f64 {
        self.sum_nanos as f64 / 1e9
    }
}

/// Renders families into pieces of a body.
#[derive(Debug)]
pub(super) enum Encoder {
    Text(Text),
    Protobuf(Protobuf),
}

impl Encoder {
    pub(super) fn new(format: Format) -> Self {
        match format {
            Format::Text => Self::Text(Text::prometheus()),
            Format::OpenMetrics => Self::Text(Text::open_metrics()),
            Format::Protobuf => Self::Protobuf(Protobuf::default()),
        }
    }

    /// Begins a family.
    pub(super) fn begin(&mut self, metric: &'static Metric) {
        match self {
            Self::Text(text) => text.begin(metric),
            Self::Protobuf(protobuf) => protobuf.begin(metric),
        }
    }

    /// Since when the samples that follow have been counting.
    pub(super) fn created(&mut self, at: WallTime) {
        match self {
            Self::Text(_) => {}
            Self::Protobuf(protobuf) => protobuf.created(at),
        }
    }

    /// A sample of the family that was begun. Its labels are all of `labels`, in order.
    pub(super) fn sample(&mut self, labels: &[&[Label<'_>]], value: Value<'_>) {
        match self {
            Self::Text(text) => text.sample(labels, value),
            Self::Protobuf(protobuf) => protobuf.sample(labels, value),
        }
    }

    /// A sample without labels, if there is a value.
    pub(super) fn optional(&mut self, value: Option<f64>) {
        if let Some(number) = value {
            self.sample(&[], Value::Number(number));
        }
    }

    /// Ends the family.
    pub(super) fn end(&mut self) {
        match self {
            Self::Text(_) => {}
            Self::Protobuf(protobuf) => protobuf.end(),
        }
    }

    /// Ends the exposition.
    pub(super) fn finish(&mut self) {
        match self {
            Self::Text(text) => text.finish(),
            Self::Protobuf(_) => {}
        }
    }

    /// Moves what is ready to be sent into `pieces`.
    pub(super) fn take(&mut self, pieces: &mut VecDeque<Vec<u8>>) {
        match self {
            Self::Text(text) => text.take(pieces),
            Self::Protobuf(protobuf) => protobuf.take(pieces),
        }
    }
}

/// Pieces of a body are about this long, in bytes.
const PIECE: usize = 64 * 1024;
