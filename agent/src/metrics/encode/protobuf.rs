//! Prometheus' protobuf format: `io.prometheus.client.MetricFamily` messages, each with its length before it
//! (`metrics.proto` of Prometheus' client model). The only one that carries native histograms and created times.
//!
//! A family's length comes first, so a family is rendered whole, in pieces, before it is sent.

use std::collections::VecDeque;
use std::mem;

use podsonar_core::time::WallTime;

use super::{HistogramView, Label, PIECE, Value};
use crate::metrics::histogram::{NATIVE_SCHEMA, Native};
use crate::metrics::{Metric, MetricType};

/// Renders protobuf.
#[derive(Debug, Default)]
pub(crate) struct Protobuf {
    metric: Option<&'static Metric>,
    created: WallTime,
    samples: VecDeque<Vec<u8>>,
    out: Vec<u8>,
    ready: VecDeque<Vec<u8>>,
}

impl Protobuf {
    pub(super) fn begin(&mut self, metric: &'static Metric) {
        self.metric = Some(metric);
    }

    pub(super) fn created(&mut self, at: WallTime) {
        self.created = at;
    }

    pub(super) fn sample(&mut self, labels: &[&[Label<'_>]], value: Value<'_>) {
        let (counter, created) =
            (self.metric.is_some_and(|metric| metric.kind == MetricType::Counter), self.created);
        message(&mut self.out, family::METRIC, |out| {
            for (name, value) in labels.iter().copied().flatten().filter(|(_, value)| !value.is_empty()) {
                message(out, sample::LABEL, |out| {
                    bytes(out, 1, name.as_bytes());
                    bytes(out, 2, value.as_bytes());
                });
            }
            match value {
                Value::Whole(number) => scalar(out, counter, number as f64, created),
                Value::Number(number) => scalar(out, counter, number, created),
                Value::Histogram(view) => {
                    message(out, sample::HISTOGRAM, |out| histogram(out, &view, created));
                }
            }
        });
        if self.out.len() >= PIECE {
            self.samples.push_back(mem::replace(&mut self.out, Vec::with_capacity(PIECE + PIECE / 8)));
        }
    }

    pub(super) fn end(&mut self) {
        let Some(metric) = self.metric.take() else { return };
        if !self.out.is_empty() {
            self.samples.push_back(mem::take(&mut self.out));
        }
        let mut header = Vec::new();
        bytes(&mut header, family::NAME, metric.name.as_bytes());
        bytes(&mut header, family::HELP, metric.help.as_bytes());
        number(
            &mut header,
            family::TYPE,
            match metric.kind {
                MetricType::Counter => 0,
                MetricType::Gauge => 1,
                MetricType::Histogram | MetricType::NativeHistogram => 4,
            },
        );
        let length = header.len() + self.samples.iter().map(Vec::len).sum::<usize>();
        let mut first = Vec::with_capacity(header.len() + 10);
        varint(&mut first, length as u64);
        first.append(&mut header);
        self.ready.push_back(first);
        self.ready.append(&mut self.samples);
    }

    pub(super) fn take(&mut self, pieces: &mut VecDeque<Vec<u8>>) {
        pieces.append(&mut self.ready);
    }
}

/// Field numbers of `MetricFamily`.
mod family {
    pub(super) const NAME: u32 = 1;
    pub(super) const HELP: u32 = 2;
    pub(super) const TYPE: u32 = 3;
    pub(super) const METRIC: u32 = 4;
}

/// Field numbers of `Metric`.
mod sample {
    pub(super) const LABEL: u32 = 1;
    pub(super) const GAUGE: u32 = 2;
    pub(super) const COUNTER: u32 = 3;
    pub(super) const HISTOGRAM: u32 = 7;
}

/// Field numbers of `Histogram`.
mod histogram {
    pub(super) const COUNT: u32 = 1;
    pub(super) const SUM: u32 = 2;
    pub(super) const BUCKET: u32 = 3;
    pub(super) const SCHEMA: u32 = 5;
    pub(super) const ZERO_THRESHOLD: u32 = 6;
    pub(super) const ZERO_COUNT: u32 = 7;
    pub(super) const POSITIVE_SPAN: u32 = 12;
    pub(super) const POSITIVE_DELTA: u32 = 13;
    pub(super) const CREATED: u32 = 15;
}

fn scalar(out: &mut Vec<u8>, counter: bool, value: f64, created: WallTime) {
    if counter {
        message(out, sample::COUNTER, |out| {
            double(out, 1, value);
            timestamp(out, 3, created);
        });
    } else {
        message(out, sample::GAUGE, |out| double(out, 1, value));
    }
}

fn histogram(out: &mut Vec<u8>, view: &HistogramView<'_>, created: WallTime) {
    number(out, histogram::COUNT, view.count());
    double(out, histogram::SUM, view.sum_seconds());
    for (bound, count) in view.cumulative() {
        message(out, histogram::BUCKET, |out| {
            number(out, 1, count);
            double(out, 2, bound.nanos as f64 / 1e9);
        });
    }
    if let Some(native) = view.native {
        native_buckets(out, native);
    }
    timestamp(out, histogram::CREATED, created);
}

/// Sparse buckets: spans of neighbours, and each count as the difference to the one before.
fn native_buckets(out: &mut Vec<u8>, native: &Native) {
    signed(out, histogram::SCHEMA, i64::from(NATIVE_SCHEMA));
    double(out, histogram::ZERO_THRESHOLD, ZERO_THRESHOLD);
    number(out, histogram::ZERO_COUNT, native.zero);
    // The first offset counts from bucket zero, the others from the bucket after the last span.
    let mut after_last = 0;
    for span in native.buckets.chunk_by(|(left, _), (right, _)| left + 1 == *right) {
        let Some((first, _)) = span.first() else { continue };
        message(out, histogram::POSITIVE_SPAN, |out| {
            signed(out, 1, i64::from(*first) - after_last);
            number(out, 2, span.len() as u64);
        });
        after_last = span.last().map_or(0, |(last, _)| i64::from(*last) + 1);
    }
    let mut previous = 0;
    message(out, histogram::POSITIVE_DELTA, |out| {
        for (_, count) in &native.buckets {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            varint(out, zigzag(count - previous));
            previous = count;
        }
    });
}

/// Half-width of the zero bucket: 2^-128, as the specification recommends. That it is above zero is also what
/// tells an empty native histogram from a classic one.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// `google.protobuf.Timestamp`.
fn timestamp(out: &mut Vec<u8>, field: u32, at: WallTime) {
    let nanos = at.as_nanos();
    message(out, field, |out| {
        number(out, 1, nanos.div_euclid(1_000_000_000) as u64);
        number(out, 2, nanos.rem_euclid(1_000_000_000) as u64);
    });
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, 0);
    varint(out, value);
}

fn signed(out: &mut Vec<u8>, field: u32, value: i64) {
    number(out, field, zigzag(value));
}

fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    tag(out, field, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    tag(out, field, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A nested message: rendered first, then its length is moved before it.
fn message(out: &mut Vec<u8>, field: u32, body: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, 2);
    let start = out.len();
    body(out);
    let end = out.len();
    varint(out, (end - start) as u64);
    let length = out.len() - end;
    if let Some(tail) = out.get_mut(start..) {
        tail.rotate_right(length);
    }
}

fn tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}
