//! Logs: one JSON line per decision, readable by itself; text with colours only on a terminal.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging to standard error. Called once, by the command line.
///
/// # Errors
/// The level cannot be read; the text says what is wrong.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| format!("log.level {:?}: {error}", log.level))?;
    let on_terminal = std::io::stderr().is_terminal();
    let as_text = match log.format {
        LogFormat::Auto => on_terminal,
        LogFormat::Json => false,
        LogFormat::Text => true,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if as_text {
        registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(on_terminal).with_target(false)).try_init()
    } else {
        let lines = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
        registry.with(lines.with_writer(std::io::stderr)).try_init()
    };
    started.map_err(|error| error.to_string())
}
