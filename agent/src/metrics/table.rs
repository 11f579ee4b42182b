//! The table of metrics in docs/metrics.md, from the declarations.

use std::fmt::Write;

use super::{ALL, MetricType};

/// The table in Markdown, one row for each metric.
pub fn markdown_table() -> String {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in ALL {
        let kind = match metric.kind {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::NativeHistogram => "histogram, classic and native",
        };
        let labels = metric.labels.join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{}` | {kind} | {labels} | {} |", metric.name, metric.help);
    }
    table
}
