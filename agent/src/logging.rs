//! Logs on stderr, as text or JSON.

use std::io;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging for the whole process.
pub fn start(format: Format, level: LevelFilter) {
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_target(false);
    match format {
        Format::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
}
