//! From the declarations to what prometheus-client encodes: a part of a metric is a [`Collector`].

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::accept::Format;
use super::dns::AskedName;
use super::labels::{Label, Labels, Written};
use super::state::{Metrics, Path};
use super::{ALL, Metric, Samples};

/// Adds a sample. Its labels are all of `labels`, in order.
pub(super) fn sample(
    family: &mut MetricEncoder<'_>,
    labels: &[&[Label<'_>]],
    value: &impl EncodeMetric,
) -> fmt::Result {
    value.encode(family.encode_family(&Labels(labels))?)
}

/// Adds a histogram, whose lines all have these labels.
fn histogram(
    family: &mut MetricEncoder<'_>,
    labels: &[Label<'_>],
    times: &Histogram,
    format: Format,
) -> fmt::Result {
    let written = match format {
        Format::Text | Format::OpenMetrics => Written::new(labels),
        Format::Protobuf => None,
    };
    match written {
        Some(written) => times.encode(family.encode_family(&written)?),
        None => sample(family, &[labels], times),
    }
}

/// Paths, or names, in one part: so few that a part is small beside a piece of a body.
const MEMBERS: usize = 8;

/// What is rendered at once: a metric of the agent, or a metric of some paths or names.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) metric: &'static Metric,
    metrics: Arc<Metrics>,
    paths: Arc<Vec<Arc<Path>>>,
    names: Arc<Vec<Arc<AskedName>>>,
    format: Format,
    range: Range<usize>,
    /// It is its metric's first part.
    pub(super) first: bool,
    /// It is its metric's last part.
    pub(super) last: bool,
}

impl Part {
    /// A registry of this part alone.
    pub(super) fn into_registry(self) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        registry
    }

    fn paths(&self) -> &[Arc<Path>] {
        self.paths.get(self.range.clone()).unwrap_or_default()
    }
}

impl Collector for Part {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metric = self.metric;
        let mut family = encoder.encode_descriptor(metric.family(), metric.help, None, metric.kind.into())?;
        match metric.samples {
            Samples::Agent(samples) => samples(&self.metrics, family),
            Samples::Path(samples) => {
                self.paths().iter().try_for_each(|path| samples(path, &self.metrics, &mut family))
            }
            Samples::PathTimes(times) => self.paths().iter().try_for_each(|path| match times(path) {
                Some(times) => histogram(&mut family, &path.labels(&self.metrics.facts), times, self.format),
                None => Ok(()),
            }),
            Samples::Name(samples) => {
                let names = self.names.get(self.range.clone()).unwrap_or_default();
                names.iter().try_for_each(|name| samples(name, &self.metrics, &mut family))
            }
        }
    }
}

/// All parts of a scrape, in the order of exposition. Paths and names that come later are not in it.
#[derive(Debug)]
pub(super) struct Parts {
    metrics: Arc<Metrics>,
    paths: Arc<Vec<Arc<Path>>>,
    names: Arc<Vec<Arc<AskedName>>>,
    pub(super) format: Format,
    metric: usize,
    member: usize,
}

impl Parts {
    pub(super) fn new(metrics: Arc<Metrics>, format: Format) -> Self {
        Self { paths: metrics.paths(), names: metrics.dns.names(), metrics, format, metric: 0, member: 0 }
    }
}

impl Iterator for Parts {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let metric = ALL.get(self.metric)?;
        let members = match metric.samples {
            Samples::Agent(_) => 0,
            Samples::Path(_) | Samples::PathTimes(_) => self.paths.len(),
            Samples::Name(_) => self.names.len(),
        };
        let range = self.member..members.min(self.member + MEMBERS);
        let (first, last) = (range.start == 0, range.end == members);
        (self.metric, self.member) = if last { (self.metric + 1, 0) } else { (self.metric, range.end) };
        let metrics = Arc::clone(&self.metrics);
        let (paths, names) = (Arc::clone(&self.paths), Arc::clone(&self.names));
        Some(Part { metric, metrics, paths, names, format: self.format, range, first, last })
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    /// A histogram with labels, encoded as for a format.
    #[derive(Debug)]
    struct Lines(Vec<Label<'static>>, Format);

    impl Collector for Lines {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let times = Histogram::new([0.5]);
            let mut family = encoder.encode_descriptor("x", "help", None, times.metric_type())?;
            histogram(&mut family, &self.0, &times, self.1)
        }
    }

    fn rendered(labels: &[Label<'static>], format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Lines(labels.to_vec(), format)));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn labels_written_once_are_those_written_on_each_line() {
        let hostile = "a\\\"b\"\n,c=\"d\"\r ö}";
        for labels in [
            &[("first", "1"), ("second", "2")][..],
            &[("first", ""), ("second", hostile), ("third", hostile), ("fourth", "")],
            &[("first", hostile)],
            &[("first", "")],
            &[],
        ] {
            // For protobuf they are encoded one by one, whatever is made of them.
            assert_eq!(rendered(labels, Format::Text), rendered(labels, Format::Protobuf));
        }
    }
}
