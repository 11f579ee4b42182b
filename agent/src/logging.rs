//! Logs on stderr, as text or JSON.

use std::io;

use podsonar_core::config::{LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging for the whole process.
pub fn start(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // kube's client logs each failed request as an error, and what it could not read as a whole. Whoever asked says once
    // what is wrong, and goes on.
    let of_kube = if level >= LevelFilter::DEBUG { level } else { LevelFilter::OFF };
    let levels = Targets::new().with_default(level).with_target("kube_client", of_kube);
    let registry = tracing_subscriber::registry().with(levels);
    let lines = layer().with_writer(io::stderr).with_target(false);
    match format {
        LogFormat::Text => registry.with(lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr()))).init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
}
