//! The README's table of metrics, from the declarations.

use super::{ALL, MetricType};

/// The table in Markdown, one row for each metric.
pub fn readme_table() -> String {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in &ALL {
        let kind = match metric.kind {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::NativeHistogram => "histogram, classic and native",
        };
        let labels = metric.labels.join(", ");
        table.push_str(&format!("| `{}` | {kind} | {labels} | {} |\n", metric.name, metric.help));
    }
    table
}
