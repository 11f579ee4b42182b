//! Where a setting's value was written.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The place that a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Variable(&'static str),
    /// A line of a file.
    File {
        /// The file as the user named it.
        file: Arc<str>,
        /// The line, from 1; 0 means the file as a whole.
        line: u32,
    },
    /// The program itself.
    Default,
    /// The running agent, which keeps what only a restart can change.
    Running,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(variable) => write!(f, "${variable}"),
            Self::File { file, line: 0 } => f.write_str(file),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Default => f.write_str("default"),
            Self::Running => f.write_str("as it runs"),
        }
    }
}

/// A setting at its place, as problems name it: `--interval`, `podsonar.yaml:7: probes.interval`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The setting with its sections, or empty where the place alone says it.
    pub key: Cow<'static, str>,
    /// Where it was written.
    pub origin: Origin,
}

impl At {
    /// A setting at its place.
    pub fn new(key: impl Into<Cow<'static, str>>, origin: Origin) -> Self {
        Self { key: key.into(), origin }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Flag(flag) => f.write_str(flag),
            Origin::Variable(variable) => f.write_str(variable),
            Origin::File { .. } if self.key.is_empty() => self.origin.fmt(f),
            Origin::File { .. } => write!(f, "{}: {}", self.origin, self.key),
            Origin::Default | Origin::Running => f.write_str(&self.key),
        }
    }
}
