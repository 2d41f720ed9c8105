//! Logs: one JSON line per decision, readable by itself.
//!
//! ```text
//!  a server ──▶ standard error            (text with colours only on a terminal, and never with NO_COLOR)
//!          ├──▶ STATE_DIR/log/anteroom.jsonl  ─▶ .1 ─▶ .2 …   JSON lines always: `anteroom logs` reads them
//!          └──▶ log.error_file                                 warnings and errors once more, when it is set
//! ```

pub mod file;
pub mod read;

use crate::config::{Config, Log, LogFormat};
use file::RotatingFile;
use std::{io::IsTerminal, path::Path, sync::Mutex};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt};

/// Starts logging to standard error, for commands that are not a server.
///
/// # Errors
/// The level cannot be read; the text says what is wrong.
pub fn start(log: &Log) -> Result<(), String> {
    tracing_subscriber::registry().with(to_standard_error(log)).with(filter(log)?).try_init().map_err(|e| e.to_string())
}

/// Starts a server's logging: to standard error and to its files. To be called when the state directory is this server's.
///
/// # Errors
/// The level cannot be read, or a file cannot be written; the text says what is wrong.
pub fn serve(config: &Config) -> Result<(), String> {
    let log = &config.log;
    let lines = to_file(log, &config.log_file())?;
    let errors = log.error_file.as_deref().map(|path| to_file(log, path)).transpose()?;
    tracing_subscriber::registry()
        .with(to_standard_error(log))
        .with(lines)
        .with(errors.map(|errors| errors.with_filter(LevelFilter::WARN)))
        .with(filter(log)?)
        .try_init()
        .map_err(|error| error.to_string())
}

/// Libraries that log the bytes that they carry: those of a terminal are what people type and what is printed to them.
const LOG_BYTES: [&str; 2] = ["tungstenite=off", "tokio_tungstenite=off"];

fn filter(log: &Log) -> Result<EnvFilter, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("log.level {:?}: {error}", log.level);
    let asked = EnvFilter::try_new(&log.level).map_err(|error| wrong(&error))?;
    LOG_BYTES.iter().try_fold(asked, |filter, directive| {
        Ok(filter.add_directive(directive.parse().map_err(|error| wrong(&error))?))
    })
}

fn to_standard_error<S: Subscriber + for<'a> LookupSpan<'a>>(log: &Log) -> Box<dyn Layer<S> + Send + Sync> {
    let on_terminal = std::io::stderr().is_terminal();
    let as_text = match log.format {
        LogFormat::Auto => on_terminal,
        LogFormat::Json => false,
        LogFormat::Text => true,
    };
    if as_text {
        let colours = on_terminal && colours_wanted(std::env::var_os("NO_COLOR").as_deref());
        fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false).boxed()
    } else {
        json().with_writer(std::io::stderr).boxed()
    }
}

/// <https://no-color.org>: set and not empty means no.
fn colours_wanted(no_color: Option<&std::ffi::OsStr>) -> bool {
    no_color.is_none_or(std::ffi::OsStr::is_empty)
}

fn to_file<S: Subscriber + for<'a> LookupSpan<'a>>(
    log: &Log,
    path: &Path,
) -> Result<Box<dyn Layer<S> + Send + Sync>, String> {
    let file = RotatingFile::open(path, log.file_bytes_max, log.files_kept_max)
        .map_err(|error| format!("the log file {} cannot be written: {error}", path.display()))?;
    Ok(json().with_writer(Mutex::new(file)).boxed())
}

/// One flat JSON object a line; text in it is escaped, so that nothing in it steers a terminal.
fn json<S>() -> fmt::Layer<S, fmt::format::JsonFields, fmt::format::Format<fmt::format::Json>> {
    fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false)
}

#[cfg(test)]
mod tests {
    #[test]
    fn colours_are_refused_by_a_no_color_that_says_something() {
        assert!(super::colours_wanted(None));
        assert!(super::colours_wanted(Some("".as_ref())));
        assert!(!super::colours_wanted(Some("1".as_ref())));
    }
}
