//! Which format a scrape gets: the best of what its `Accept` header asks for (RFC 9110 §12.5.1).

/// An exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4: what everybody understands.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// Prometheus protobuf, delimited: the only one with native histograms.
    Protobuf,
}

impl Format {
    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The format with the highest weight in an `Accept` header; the first of equals, text if nothing fits.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for range in accept.split(',') {
            if let Some((weight, format)) = offer(range)
                && weight > best.0
            {
                best = (weight, format);
            }
        }
        best.1
    }
}

/// Whether an `Accept-Encoding` header takes gzip (RFC 9110 §12.5.3).
pub fn takes_gzip(accept_encoding: &str) -> bool {
    accept_encoding.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip")) && weight(parts) > 0.0
    })
}

/// The format that satisfies one media range, and its weight.
fn offer(range: &str) -> Option<(f64, Format)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let parameter = |wanted: &str| {
        range.split(';').skip(1).filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
        })
    };
    let format = match (media.as_str(), parameter("version")) {
        ("application/vnd.google.protobuf", _)
            if parameter("proto") == Some("io.prometheus.client.MetricFamily")
                && parameter("encoding") == Some("delimited") =>
        {
            Format::Protobuf
        }
        ("application/openmetrics-text", None | Some("1.0.0")) => Format::OpenMetrics,
        ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Format::Text,
        _ => return None,
    };
    Some((weight(parts), format))
}

/// The `q` among a range's parameters; 1 without one, 0 if it makes no sense.
fn weight<'a>(mut parameters: impl Iterator<Item = &'a str>) -> f64 {
    let weight = parameters.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    weight.map_or(1.0, |q| q.trim().parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Prometheus sends, by version and setting.
    const PROMETHEUS: [(&str, &str, Format); 5] = [
        (
            "2.0",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text;q=0.3,\
             text/plain;version=0.0.4;q=0.7,*/*;q=0.1",
            Format::Text,
        ),
        (
            "2.30",
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::Text,
        ),
        (
            "2.53",
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Format::OpenMetrics,
        ),
        (
            "2.53 with native histograms",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,\
             application/openmetrics-text;version=1.0.0;q=0.4,application/openmetrics-text;version=0.0.1;q=0.3,\
             text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            Format::Protobuf,
        ),
        (
            "3.5",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Format::OpenMetrics,
        ),
    ];

    #[test]
    fn prometheus_gets_what_it_prefers() {
        for (version, accept, format) in PROMETHEUS {
            assert_eq!(Format::negotiate(accept), format, "Prometheus {version}");
        }
    }

    #[test]
    fn text_is_for_everybody_else() {
        for accept in ["", "*/*", "text/html", "text/plain", "garbage;;=,,q=", "application/json;q=1"] {
            assert_eq!(Format::negotiate(accept), Format::Text, "{accept}");
        }
    }

    #[test]
    fn weights_decide_and_zero_refuses() {
        assert_eq!(Format::negotiate("text/plain;q=0.9, application/openmetrics-text;q=0.8"), Format::Text);
        assert_eq!(
            Format::negotiate("application/openmetrics-text; version=1.0.0; q=0, */*;q=0.1"),
            Format::Text
        );
        assert_eq!(
            Format::negotiate("text/plain;q=0.5,APPLICATION/OpenMetrics-Text;version=\"1.0.0\""),
            Format::OpenMetrics
        );
    }

    #[test]
    fn gzip_is_used_where_it_is_taken() {
        assert!(takes_gzip("gzip"));
        assert!(takes_gzip("deflate, GZIP;q=0.5, br"));
        assert!(!takes_gzip("gzip;q=0"));
        assert!(!takes_gzip("deflate, br"));
        assert!(!takes_gzip(""));
    }
}
