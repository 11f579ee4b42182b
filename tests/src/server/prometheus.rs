//! [`Prometheus`]: the real one, version 2 or 3, scraping targets.

use super::folder;
use crate::clock::{soon, wait_until};
use crate::error::LabError;
use crate::host::Host;
use crate::process::Process;
use crate::scrape::{self, Sample};
use crate::tool;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

/// Which Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 2.42, Debian 12's: the oldest that podsonar supports.
    Two,
    /// 3, as `tests/tools/prometheus` pins it.
    Three,
}

impl Version {
    /// The program, without arguments.
    ///
    /// # Errors
    /// [`LabError::Missing`] if it was not made available.
    pub fn command(self) -> Result<Command, LabError> {
        let name = match self {
            Self::Two => "prometheus",
            Self::Three => "prometheus3",
        };
        Ok(Command::new(tool::server(name)?))
    }
}

/// What it asks its targets for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text: classic histograms.
    Text,
    /// Protobuf: native histograms; version 3 keeps the classic ones beside them, 2.42 cannot.
    Native,
}

/// A running server that scrapes each second. Dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    /// The process.
    pub process: Process,
    host: Host,
    listen: SocketAddr,
}

impl Prometheus {
    /// Starts it in a target's host or another, serving on a port of loopback there, and waits until it is ready.
    pub fn start(
        host: &Host,
        version: Version,
        format: Format,
        port: u16,
        targets: &[SocketAddr],
    ) -> Result<Self, LabError> {
        let targets: Vec<String> = targets.iter().map(|target| format!("'{target}'")).collect();
        let job = format!("- job_name: podsonar\n  static_configs:\n  - targets: [{}]\n", targets.join(", "));
        Self::with_jobs(host, version, format, port, &job)
    }

    /// The same with jobs of its own: entries of `scrape_configs` as YAML, their first lines not indented.
    pub fn with_jobs(
        host: &Host,
        version: Version,
        format: Format,
        port: u16,
        jobs: &str,
    ) -> Result<Self, LabError> {
        let mut command = version.command()?;
        let settings = match (version, format) {
            (Version::Two, Format::Text) => "",
            (Version::Two, Format::Native) => {
                command.arg("--enable-feature=native-histograms");
                ""
            }
            (Version::Three, Format::Text) => "  scrape_protocols: [PrometheusText0.0.4]\n",
            (Version::Three, Format::Native) => {
                "  scrape_native_histograms: true\n  always_scrape_classic_histograms: true\n"
            }
        };
        let config = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n{settings}scrape_configs:\n{jobs}"
        );
        Self::with_config(host, command, port, &config)
    }

    /// The same with a configuration of its own: [`Version::command`] with what it is to have beside that.
    pub fn with_config(host: &Host, mut command: Command, port: u16, config: &str) -> Result<Self, LabError> {
        let folder = folder(host, "prometheus")?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let file = folder.join("prometheus.yml");
        host.write_file(&file, config.as_bytes(), 0o644)?;
        command.arg(format!("--web.listen-address={listen}"));
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}/data", folder.display()));
        let process = host.spawn(command)?;
        let mut prometheus = Self { process, host: host.clone(), listen };
        wait_until(soon(), "Prometheus to be ready", || {
            prometheus.process.must_run()?;
            let ready = scrape::get(host, listen, "/-/ready", &[]);
            Ok(ready.ok().filter(|response| response.status == 200).map(drop))
        })?;
        Ok(prometheus)
    }

    /// What an expression gives now: a number for each series.
    ///
    /// # Errors
    /// [`LabError::Malformed`] with the answer, if the expression is refused or gives native histograms.
    pub fn query(&self, expression: &str) -> Result<Vec<Sample>, LabError> {
        let answer = self.ask(&format!("/api/v1/query?query={}", percent_encoded(expression)))?;
        let vector = answer.pointer("/data/result").and_then(Value::as_array);
        let samples = vector.and_then(|vector| vector.iter().map(sample).collect());
        samples.ok_or_else(|| malformed(&answer))
    }

    /// What an expression gave at a moment, as Prometheus' API says it.
    ///
    /// # Errors
    /// [`LabError::Malformed`] with the answer, if the expression is refused.
    pub fn at(&self, expression: &str, moment: f64) -> Result<Value, LabError> {
        self.data(&format!("/api/v1/query?query={}&time={moment}", percent_encoded(expression)))
    }

    /// What an expression gave from one moment to another, each second.
    ///
    /// # Errors
    /// As [`Prometheus::at`].
    pub fn range(&self, expression: &str, from: f64, to: f64) -> Result<Value, LabError> {
        let expression = percent_encoded(expression);
        self.data(&format!("/api/v1/query_range?query={expression}&start={from}&end={to}&step=1"))
    }

    fn data(&self, path: &str) -> Result<Value, LabError> {
        let answer = self.ask(path)?;
        answer.pointer("/data/result").cloned().ok_or_else(|| malformed(&answer))
    }

    /// The targets that it scrapes, as its API tells of them.
    pub fn targets(&self) -> Result<Vec<Value>, LabError> {
        let answer = self.ask("/api/v1/targets?state=active")?;
        let targets = answer.pointer("/data/activeTargets").and_then(Value::as_array);
        targets.cloned().ok_or_else(|| malformed(&answer))
    }

    /// Why the last scrape of its first target failed; empty if it did not.
    pub fn last_error(&self) -> Result<String, LabError> {
        let targets = self.targets()?;
        let error = targets.first().and_then(|target| target.get("lastError")).and_then(Value::as_str);
        error.map(str::to_owned).ok_or_else(|| malformed(&targets.into()))
    }

    fn ask(&self, path: &str) -> Result<Value, LabError> {
        let text = scrape::get(&self.host, self.listen, path, &[])?.text();
        serde_json::from_str(&text).map_err(|_| LabError::Malformed { what: "Prometheus' answer", text })
    }
}

fn malformed(answer: &Value) -> LabError {
    LabError::Malformed { what: "Prometheus' answer", text: answer.to_string() }
}

/// A series of an instant vector: its labels, the time and the value as text.
fn sample(series: &Value) -> Option<Sample> {
    let labels = series.get("metric")?.as_object()?.iter();
    let mut labels: BTreeMap<String, String> = labels
        .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect::<Option<_>>()?;
    let name = labels.remove("__name__").unwrap_or_default();
    let value = series.pointer("/value/1")?.as_str()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

/// A text as part of a URL (RFC 3986): all but unreserved characters as their bytes.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
