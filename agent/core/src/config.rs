//! From what was written to what it means.
//!
//! [`Written`] holds text, as flags and files do. [`Written::resolve`] turns it into a complete [`Probing`] or
//! reports every problem at once, each with its place and its fix.

mod duration;
mod target;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::target::TargetProblem;

use crate::target::{Kind, Planned, Protocol, Stream, Target};
use crate::wire::{icmp, payload};

/// Time between two probes of a stream.
pub const DEFAULT_INTERVAL: &str = "1s";

/// Time after which a probe without answer is lost: below the second after which targets send a SYN-ACK again.
pub const DEFAULT_TIMEOUT: &str = "800ms";

/// Protocols asked for; each target gets those that it has the parts for.
pub const DEFAULT_PROTOCOLS: &str = "icmp,tcp";

/// Ceiling on all probes together, per second.
pub const DEFAULT_MAX_PPS: &str = "20000";

/// The default payload of echo requests: the layout without padding, in bytes.
pub const DEFAULT_SIZE: usize = payload::LEN;

/// No stream is asked more often than this.
pub const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Longer intervals are mistakes.
pub const MAX_INTERVAL: Duration = Duration::from_hours(24);

/// Longer timeouts are mistakes; probes in flight take memory.
pub const MAX_TIMEOUT: Duration = Duration::from_mins(1);

/// Targets send a SYN-ACK again after one second (RFC 6298 §2), so a longer timeout would take the second for the
/// first. 50 ms are for the way and for clocks.
pub const TCP_TIMEOUT_LIMIT: Duration = Duration::from_millis(950);

/// At most four SYNs a second to a target: one whose way back is dead keeps each for a minute.
pub const TCP_MIN_INTERVAL: Duration = Duration::from_millis(250);

/// What the user wrote, not yet understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Targets in order.
    pub targets: Vec<WrittenTarget>,
    /// `--interval`.
    pub interval: String,
    /// `--timeout`.
    pub timeout: String,
    /// `--protocols`.
    pub protocols: String,
    /// `--max-pps`.
    pub max_pps: String,
    /// `--size`.
    pub size: String,
}

/// A target as text, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenTarget {
    /// The text, without blanks around it.
    pub text: String,
    /// Where it stands.
    pub place: Place,
}

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a `--target` flag.
    Flag,
    /// In a file.
    Line {
        /// The file as the user named it.
        file: Arc<str>,
        /// The line, from 1.
        line: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--target"),
            Self::Line { file, line } => write!(f, "{file}:{line}"),
        }
    }
}

/// What is to be probed and how: complete and valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probing {
    /// Every stream with its settings.
    pub planned: Vec<Planned>,
    /// Ceiling on all probes together, per second.
    pub max_pps: u32,
    /// Payload of echo requests, in bytes.
    pub size: usize,
}

/// One thing that is wrong with what was written. Its text names the place and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing to probe.
    #[error("nothing to probe: name a target, for example --target 192.0.2.1 or --target 192.0.2.1:443")]
    NoTargets,
    /// A target cannot be probed.
    #[error("{place}: `{text}` {problem}")]
    Target {
        /// Where it stands.
        place: Place,
        /// The target as written.
        text: String,
        /// What is wrong with it.
        problem: TargetProblem,
    },
    /// A target has no port, and SYNs are all that is asked for.
    #[error("{place}: `{text}` is left without a protocol: add a port for tcp, or add icmp to --protocols")]
    NoProtocol {
        /// Where it stands.
        place: Place,
        /// The target as written.
        text: String,
    },
    /// No duration.
    #[error("{flag} {text}: not a duration; write a number and a unit, for example 1s, 250ms or 1m")]
    NotDuration {
        /// The flag.
        flag: &'static str,
        /// Its value.
        text: String,
    },
    /// A duration out of bounds.
    #[error("{flag} {text}: must be from {min:?} to {max:?}")]
    DurationRange {
        /// The flag.
        flag: &'static str,
        /// Its value.
        text: String,
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// A TCP timeout that would take a second SYN-ACK for the first.
    #[error(
        "--timeout {0}: must be below 950ms for tcp, because targets send a SYN-ACK again after 1 s; \
         use the default 800ms, or --protocols icmp"
    )]
    TcpTimeout(String),
    /// Too many SYNs to one target.
    #[error(
        "--interval {0}: must be at least 250ms for tcp, at most 4 SYN/s to a target; \
         raise it, or use --protocols icmp"
    )]
    TcpInterval(String),
    /// An unknown protocol.
    #[error("--protocols {0}: not a list of icmp and tcp; write icmp, tcp or icmp,tcp")]
    Protocols(String),
    /// No usable number.
    #[error("{flag} {text}: must be a whole number from {min} to {max}")]
    NumberRange {
        /// The flag.
        flag: &'static str,
        /// Its value.
        text: String,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// The targets need more packets than the ceiling allows.
    #[error(
        "--max-pps {max_pps}: the targets need {needed} probes per second; \
         set --max-pps {needed} or more, or raise --interval"
    )]
    MaxPps {
        /// The ceiling.
        max_pps: u32,
        /// What it would have to be.
        needed: u64,
    },
}

impl Written {
    /// What it means.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order in which it stands.
    pub fn resolve(&self) -> Result<Probing, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut note = |problem| problems.push(problem);

        let protocols = protocols(&self.protocols).map_err(&mut note).ok();
        let streams = self.streams(protocols.as_deref().unwrap_or(&Protocol::ALL), &mut note);
        let interval = duration("--interval", &self.interval, MIN_INTERVAL, MAX_INTERVAL);
        let interval = interval.map_err(&mut note).ok();
        let timeout = duration("--timeout", &self.timeout, Duration::from_millis(1), MAX_TIMEOUT);
        let timeout = timeout.map_err(&mut note).ok();
        let max_pps = number("--max-pps", &self.max_pps, 1, u64::from(u32::MAX)).map_err(&mut note).ok();
        let size = number("--size", &self.size, payload::LEN as u64, icmp::MAX_PAYLOAD as u64);
        let size = size.map_err(&mut note).ok();

        if streams.iter().any(|stream| stream.protocol == Protocol::Tcp) {
            if interval.is_some_and(|interval| interval < TCP_MIN_INTERVAL) {
                note(Problem::TcpInterval(self.interval.clone()));
            }
            if timeout.is_some_and(|timeout| timeout >= TCP_TIMEOUT_LIMIT) {
                note(Problem::TcpTimeout(self.timeout.clone()));
            }
        }
        let max_pps = max_pps.and_then(|number| u32::try_from(number).ok());
        if let (Some(interval), Some(max_pps)) = (interval, max_pps) {
            let needed = (streams.len() as f64 / interval.as_secs_f64()).ceil() as u64;
            if needed > u64::from(max_pps) {
                note(Problem::MaxPps { max_pps, needed });
            }
        }

        match (interval, timeout, max_pps, size) {
            (Some(interval), Some(timeout), Some(max_pps), Some(size)) if problems.is_empty() => {
                Ok(Probing {
                    planned: streams
                        .into_iter()
                        .map(|stream| Planned { stream, interval, timeout })
                        .collect(),
                    max_pps,
                    size: size as usize,
                })
            }
            _ => Err(problems),
        }
    }

    /// One stream for each protocol of each target; equal targets once, as first written.
    fn streams(&self, protocols: &[Protocol], note: &mut impl FnMut(Problem)) -> Vec<Stream> {
        if self.targets.is_empty() {
            note(Problem::NoTargets);
        }
        let mut seen = HashSet::new();
        let mut streams = Vec::new();
        for WrittenTarget { text, place } in &self.targets {
            let (address, port) = match target::parse(text) {
                Ok(parsed) => parsed,
                Err(problem) => {
                    note(Problem::Target { place: place.clone(), text: text.clone(), problem });
                    continue;
                }
            };
            if !seen.insert((address, port)) {
                continue;
            }
            let target = Arc::new(Target { written: text.as_str().into(), address, port, kind: Kind::Fixed });
            let before = streams.len();
            for &protocol in protocols {
                let possible = match protocol {
                    Protocol::Icmp => true,
                    Protocol::Tcp | Protocol::Connect => port.is_some(),
                };
                if possible {
                    streams.push(Stream { target: Arc::clone(&target), protocol });
                }
            }
            if streams.len() == before {
                note(Problem::NoProtocol { place: place.clone(), text: text.clone() });
            }
        }
        streams
    }
}

/// The protocols of a comma-separated list, each once, in label order.
fn protocols(text: &str) -> Result<Vec<Protocol>, Problem> {
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    let known = |name: &&str| Protocol::ALL.iter().any(|protocol| protocol.label() == *name);
    if !names.iter().all(known) {
        return Err(Problem::Protocols(text.into()));
    }
    Ok(Protocol::ALL.into_iter().filter(|protocol| names.contains(&protocol.label())).collect())
}

fn duration(flag: &'static str, text: &str, min: Duration, max: Duration) -> Result<Duration, Problem> {
    let duration = duration::parse(text).ok_or_else(|| Problem::NotDuration { flag, text: text.into() })?;
    if (min..=max).contains(&duration) {
        Ok(duration)
    } else {
        Err(Problem::DurationRange { flag, text: text.into(), min, max })
    }
}

fn number(flag: &'static str, text: &str, min: u64, max: u64) -> Result<u64, Problem> {
    text.parse().ok().filter(|number| (min..=max).contains(number)).ok_or_else(|| Problem::NumberRange {
        flag,
        text: text.into(),
        min,
        max,
    })
}

#[cfg(test)]
mod tests;
