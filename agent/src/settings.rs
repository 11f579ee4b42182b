//! From the command line, files and the environment to complete settings.
//!
//! Everything outside the program is read here and nowhere else; what it means is decided in
//! `podsonar_core::config`. All problems are reported at once.

use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use podsonar_core::config::{self, Place, Probing, Written, WrittenTarget};
use tracing::level_filters::LevelFilter;

use crate::logging;

/// The port of `/metrics`. Prometheus' list of default ports has 9100 to 9999 taken, all of them.
pub const DEFAULT_PORT: u16 = 19988;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "podsonar", version, about = "Truthful latency and loss of your network, on /metrics.")]
#[command(max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What podsonar can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Probe targets until stopped, and serve what was measured.
    Run(RunFlags),
}

/// The flags of `podsonar run`, as text where all problems are to be reported together.
#[derive(Debug, Clone, Args)]
pub struct RunFlags {
    /// Probe ADDRESS by ICMP, ADDRESS:PORT by ICMP and TCP SYN; IPv6 as [ADDRESS]:PORT. May be repeated.
    #[arg(long = "target", value_name = "TARGET")]
    targets: Vec<String>,

    /// Probe the targets in FILE, one per line; `#` begins a comment.
    #[arg(long, value_name = "FILE")]
    targets_file: Option<PathBuf>,

    /// Time between two probes of a target by one protocol.
    #[arg(long, value_name = "TIME", default_value = config::DEFAULT_INTERVAL)]
    interval: String,

    /// A probe without answer after this time is lost. TCP needs less than 950ms.
    #[arg(long, value_name = "TIME", default_value = config::DEFAULT_TIMEOUT)]
    timeout: String,

    /// Protocols to use where a target allows them.
    #[arg(long, value_name = "LIST", default_value = config::DEFAULT_PROTOCOLS)]
    protocols: String,

    /// Most probes per second, all targets together.
    #[arg(long, value_name = "NUMBER", default_value = config::DEFAULT_MAX_PPS)]
    max_pps: String,

    /// Payload of an ICMP echo request in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = config::DEFAULT_SIZE.to_string())]
    size: String,

    /// Serve /metrics here [default: [::]:19988, or 0.0.0.0:19988 where there is no IPv6]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,

    /// Append one JSON line for each finished probe to FILE.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Name of this host in the label `source`.
    #[arg(
        long,
        value_name = "NAME",
        help = "Name of this host in the label `source` [default: $NODE_NAME, else the host name]"
    )]
    source: Option<String>,

    /// Zone of this host, in the label `source_zone`.
    #[arg(long, value_name = "NAME", default_value = "")]
    zone: String,

    /// How log lines look.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    #[arg(
        help = "How log lines look; they go to stderr. $PODSONAR_LOG sets the level: error, warn, info, debug, trace"
    )]
    log_format: logging::Format,
}

/// What `podsonar run` needs to know: complete and valid.
#[derive(Debug)]
pub struct Settings {
    /// What is probed and how.
    pub probing: Probing,
    /// Where metrics are served.
    pub listen: Listen,
    /// Where finished probes are recorded.
    pub record: Option<PathBuf>,
    /// The label `source`.
    pub source: String,
    /// The label `source_zone`.
    pub zone: String,
    /// How log lines look.
    pub log_format: logging::Format,
    /// Which log lines are written.
    pub log_level: LevelFilter,
}

/// Where metrics are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// On every address of the host, IPv6 and IPv4, or IPv4 where that is all there is.
    Everywhere {
        /// The port.
        port: u16,
    },
    /// On the address that the user chose.
    At(SocketAddr),
}

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `NODE_NAME`, from Kubernetes' downward API.
    pub node_name: Option<String>,
    /// `PODSONAR_LOG`.
    pub log_level: Option<String>,
    /// The kernel's host name.
    pub host_name: Option<String>,
}

impl Environment {
    /// Reads it; an empty variable counts as absent.
    pub fn read() -> Self {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let host_name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
        Self {
            node_name: variable("NODE_NAME"),
            log_level: variable("PODSONAR_LOG"),
            host_name: host_name.map(|name| name.trim().to_owned()),
        }
    }
}

/// One thing that is wrong with the settings. Its text names the place and the fix.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// With what is to be probed.
    #[error(transparent)]
    Probing(#[from] config::Problem),
    /// The targets cannot be read.
    #[error("--targets-file {}: {source}", .path.display())]
    TargetsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No address to listen on.
    #[error(
        "--listen {0}: not an address and port; write for example 127.0.0.1:{port} or [::]:{port}",
        port = DEFAULT_PORT
    )]
    Listen(String),
    /// An unknown log level.
    #[error("PODSONAR_LOG={0}: not a level; use error, warn, info, debug or trace")]
    LogLevel(String),
    /// Nothing to call this host.
    #[error("--source: this host has no name; give it one, for example --source node-1")]
    NoSource,
}

impl RunFlags {
    /// What the flags mean.
    ///
    /// # Errors
    /// All problems at once.
    pub fn resolve(self, environment: Environment) -> Result<Settings, Vec<Problem>> {
        let mut problems = Vec::new();

        let (targets, unreadable) = self.written_targets();
        let unread = unreadable.is_some();
        problems.extend(unreadable);
        let written = Written {
            targets,
            interval: self.interval,
            timeout: self.timeout,
            protocols: self.protocols,
            max_pps: self.max_pps,
            size: self.size,
        };
        let probing = written.resolve().map_err(|found| {
            // Nothing to probe is no news if the targets could not be read.
            let news = found.into_iter().filter(|each| !(unread && *each == config::Problem::NoTargets));
            problems.extend(news.map(Problem::Probing));
        });
        let listen = self.listen.map_or(Some(Listen::Everywhere { port: DEFAULT_PORT }), |text| {
            let address = text.parse().ok();
            if address.is_none() {
                problems.push(Problem::Listen(text));
            }
            address.map(Listen::At)
        });
        let source = self.source.or(environment.node_name).or(environment.host_name).unwrap_or_default();
        if source.is_empty() {
            problems.push(Problem::NoSource);
        }
        let log_level = environment.log_level.map_or(Some(LevelFilter::INFO), |text| {
            let level = text.parse().ok();
            if level.is_none() {
                problems.push(Problem::LogLevel(text));
            }
            level
        });

        match (probing, listen, log_level) {
            (Ok(probing), Some(listen), Some(log_level)) if problems.is_empty() => Ok(Settings {
                probing,
                listen,
                record: self.record,
                source,
                zone: self.zone,
                log_format: self.log_format,
                log_level,
            }),
            _ => Err(problems),
        }
    }

    /// Targets from flags, then from the file.
    fn written_targets(&self) -> (Vec<WrittenTarget>, Option<Problem>) {
        let from_flag = |text: &String| WrittenTarget { text: text.trim().to_owned(), place: Place::Flag };
        let mut targets: Vec<_> = self.targets.iter().map(from_flag).collect();
        let Some(path) = &self.targets_file else { return (targets, None) };
        match fs::read_to_string(path) {
            Ok(text) => {
                targets.extend(lines(&text, &path.display().to_string()));
                (targets, None)
            }
            Err(source) => (targets, Some(Problem::TargetsFile { path: path.clone(), source })),
        }
    }
}

/// The targets of a file: one a line, without comments and blank lines.
fn lines<'a>(text: &'a str, file: &str) -> impl Iterator<Item = WrittenTarget> + 'a {
    let file: Arc<str> = file.into();
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let text = line.split('#').next().unwrap_or_default().trim();
        let place = Place::Line { file: Arc::clone(&file), line: number };
        (!text.is_empty()).then(|| WrittenTarget { text: text.to_owned(), place })
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_lines_are_counted() {
        let found: Vec<_> = lines("# all\n\n10.0.0.1 # gateway\n  [::1]:80\r\n#10.0.0.2\n", "t")
            .map(|target| (target.place.to_string(), target.text))
            .collect();
        assert_eq!(found, [("t:3".into(), "10.0.0.1".into()), ("t:4".into(), "[::1]:80".into())]);
    }

    #[test]
    fn the_source_is_the_flag_else_the_node_else_the_host() {
        let named = || Environment {
            node_name: Some("node".into()),
            host_name: Some("host".into()),
            log_level: None,
        };
        assert_eq!(flags(&["--source", "flag"]).resolve(named()).unwrap().source, "flag");
        assert_eq!(flags(&[]).resolve(named()).unwrap().source, "node");
        let host = Environment { node_name: None, ..named() };
        assert_eq!(flags(&[]).resolve(host).unwrap().source, "host");
        let problems = flags(&[]).resolve(Environment::default()).unwrap_err();
        assert!(matches!(problems.as_slice(), [Problem::NoSource]));
    }

    #[test]
    fn listening_is_everywhere_unless_the_user_chose() {
        let host = || Environment { host_name: Some("host".into()), ..Environment::default() };
        assert_eq!(flags(&[]).resolve(host()).unwrap().listen, Listen::Everywhere { port: DEFAULT_PORT });
        let chosen = flags(&["--listen", "127.0.0.1:0"]).resolve(host()).unwrap().listen;
        assert_eq!(chosen, Listen::At("127.0.0.1:0".parse().unwrap()));
    }

    fn flags(more: &[&str]) -> RunFlags {
        let words = ["podsonar", "run", "--target", "127.0.0.1"];
        let Command::Run(flags) = Cli::parse_from(words.iter().chain(more)).command;
        flags
    }
}
