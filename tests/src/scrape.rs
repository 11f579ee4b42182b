//! [`Scrape`]: the agent's metrics as a reader of the Prometheus text format sees them, and a small HTTP client.

use crate::error::{Doing, LabError};
use crate::host::Host;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One sample of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name, with `_bucket`, `_sum`, `_count` or `_total`.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// All samples of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrape {
    /// The samples, in the order of the text.
    pub samples: Vec<Sample>,
}

/// An HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: BTreeMap<String, String>,
    /// The body, without transfer coding.
    pub body: Vec<u8>,
}

impl Scrape {
    /// Parses the Prometheus text format 0.0.4.
    ///
    /// # Errors
    /// [`LabError::Malformed`] for the first line that does not read.
    pub fn parse(text: &str) -> Result<Self, LabError> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| {
            Sample::parse(line).ok_or_else(|| LabError::Malformed { what: "a sample", text: line.to_owned() })
        });
        Ok(Self { samples: samples.collect::<Result<_, _>>()? })
    }

    /// The samples with this name and all of these labels.
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            let has =
                |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|found| found == value);
            sample.name == name && labels.iter().all(has)
        })
    }

    /// The sum of the samples with this name and all of these labels; `None` if there is no such sample.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.select(name, labels).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let name_end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at_checked(name_end)?;
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => parse_labels(rest)?,
            None => (BTreeMap::new(), rest),
        };
        // A time stamp may follow the value.
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Self { name: name.to_owned(), labels, value })
    }
}

/// Parses `name="value",…}` and returns what follows.
fn parse_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        if let Some(end) = rest.strip_prefix('}') {
            return Some((labels, end));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = quoted.get(end + 1..)?;
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// Asks for a path by HTTP from inside a host.
pub fn get(
    host: &Host,
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Response, LabError> {
    get_within(host, server, path, headers, TIMEOUT)
}

/// The same, giving up when nothing comes for so long.
pub fn get_within(
    host: &Host,
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    timeout: Duration,
) -> Result<Response, LabError> {
    let doing = format!("GET http://{server}{path}");
    let stream = host.enter(|| TcpStream::connect_timeout(&server, timeout))?.doing(doing.as_str())?;
    stream.set_read_timeout(Some(timeout)).doing(doing.as_str())?;
    let bytes = exchange(stream, server, path, headers).doing(doing)?;
    Response::parse(&bytes).ok_or_else(|| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        LabError::Malformed { what: "an HTTP response", text }
    })
}

/// How long a connection may be silent.
const TIMEOUT: Duration = Duration::from_secs(20);

fn exchange(
    mut stream: TcpStream,
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Vec<u8>> {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Parses a response that ends with its connection (RFC 9112).
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = BufReader::new(bytes);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let status = line.strip_prefix("HTTP/1.")?.split_whitespace().nth(1)?.parse().ok()?;
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                line.clear();
                reader.read_line(&mut line).ok()?;
                let size = usize::from_str_radix(line.trim(), 16).ok()?;
                if size == 0 {
                    break;
                }
                let start = body.len();
                body.resize(start + size, 0);
                reader.read_exact(body.get_mut(start..)?).ok()?;
                reader.read_exact(&mut [0; 2]).ok()?;
            }
        } else {
            reader.read_to_end(&mut body).ok()?;
            let length: Option<usize> = headers.get("content-length").and_then(|length| length.parse().ok());
            if length.is_some_and(|length| length != body.len()) {
                return None;
            }
        }
        Some(Self { status, headers, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_read_with_escapes_times_and_infinities() {
        let text = "# TYPE a counter\na_total{x=\"1,2\",y=\"q\\\"}\\n\\\\\"} 3 1700000000\n\
                    b_bucket{le=\"+Inf\"} +Inf\nc 1e-3\n";
        let scrape = Scrape::parse(text).unwrap();
        assert_eq!(scrape.sum("a_total", &[("x", "1,2"), ("y", "q\"}\n\\")]), Some(3.0));
        assert_eq!(scrape.sum("b_bucket", &[("le", "+Inf")]), Some(f64::INFINITY));
        assert_eq!(scrape.sum("c", &[]), Some(0.001));
        assert_eq!(scrape.sum("d", &[]), None);
    }

    #[test]
    fn malformed_samples_are_refused() {
        for line in ["a", "a{", "a{x=\"1\"", "a{x=1} 2", "a{x=\"1\"} two", "a{} "] {
            assert!(Scrape::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn chunked_bodies_are_joined_and_cut_ones_refused() {
        let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(Response::parse(whole).unwrap().body, b"abcde");
        assert_eq!(Response::parse(&whole[..60]), None);
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
        assert_eq!(Response::parse(cut), None);
    }
}
