//! The text formats: Prometheus 0.0.4 and `OpenMetrics` 1.0.0. They differ in the names of counters in comments, and
//! in the end mark.

use std::collections::VecDeque;
use std::io::Write;
use std::mem;

use super::{HistogramView, Label, PIECE, Value};
use crate::metrics::{Metric, MetricType};

/// Renders text.
#[derive(Debug)]
pub(crate) struct Text {
    open_metrics: bool,
    name: &'static str,
    labels: Vec<u8>,
    out: Vec<u8>,
    finished: bool,
}

impl Text {
    pub(super) fn prometheus() -> Self {
        Self { open_metrics: false, name: "", labels: Vec::new(), out: Vec::new(), finished: false }
    }

    pub(super) fn open_metrics() -> Self {
        Self { open_metrics: true, ..Self::prometheus() }
    }

    pub(super) fn begin(&mut self, metric: &Metric) {
        self.name = metric.name;
        let (kind, family) = match metric.kind {
            // OpenMetrics names the family, and its counter samples add the suffix.
            MetricType::Counter if self.open_metrics => {
                ("counter", metric.name.strip_suffix("_total").unwrap_or(metric.name))
            }
            MetricType::Counter => ("counter", metric.name),
            MetricType::Gauge => ("gauge", metric.name),
            MetricType::Histogram | MetricType::NativeHistogram => ("histogram", metric.name),
        };
        for part in ["# HELP ", family, " ", metric.help, "\n# TYPE ", family, " ", kind, "\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    pub(super) fn sample(&mut self, labels: &[&[Label<'_>]], value: Value<'_>) {
        self.labels.clear();
        for (name, value) in labels.iter().copied().flatten().filter(|(_, value)| !value.is_empty()) {
            if !self.labels.is_empty() {
                self.labels.push(b',');
            }
            self.labels.extend_from_slice(name.as_bytes());
            self.labels.extend_from_slice(b"=\"");
            escape(value, &mut self.labels);
            self.labels.push(b'"');
        }
        match value {
            Value::Whole(number) => self.line("", None, number),
            Value::Number(number) => self.line("", None, number),
            Value::Histogram(histogram) => self.histogram(&histogram),
        }
    }

    pub(super) fn finish(&mut self) {
        if self.open_metrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
        self.finished = true;
    }

    pub(super) fn take(&mut self, pieces: &mut VecDeque<Vec<u8>>) {
        if self.out.len() >= PIECE || self.finished && !self.out.is_empty() {
            pieces.push_back(mem::replace(&mut self.out, Vec::with_capacity(PIECE + PIECE / 8)));
        }
    }

    fn histogram(&mut self, histogram: &HistogramView<'_>) {
        for (bound, count) in histogram.cumulative() {
            self.line("_bucket", Some(bound.le), count);
        }
        let count = histogram.count();
        self.line("_bucket", Some("+Inf"), count);
        self.line("_sum", None, histogram.sum_seconds());
        self.line("_count", None, count);
    }

    fn line(&mut self, suffix: &str, le: Option<&str>, value: impl std::fmt::Display) {
        let out = &mut self.out;
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        if !self.labels.is_empty() || le.is_some() {
            out.push(b'{');
            out.extend_from_slice(&self.labels);
            if let Some(le) = le {
                out.extend_from_slice(if self.labels.is_empty() { b"le=\"" } else { b",le=\"" });
                out.extend_from_slice(le.as_bytes());
                out.push(b'"');
            }
            out.push(b'}');
        }
        // Writing to a Vec cannot fail.
        let _ = writeln!(out, " {value}");
    }
}

/// Backslash, quote and line feed are escaped, nothing else.
fn escape(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut out = Vec::new();
        escape("a\\b\"c\nd", &mut out);
        assert_eq!(out, br#"a\\b\"c\nd"#);
    }
}
