//! Logging: one JSON line per decision, complete without its context.
//!
//! ```text
//!  server ──▶ standard error            (text with colors only on a terminal, never with NO_COLOR)
//!        ├──▶ STATE_DIR/log/anteroom.jsonl  ─▶ .1 ─▶ .2 …   always JSON lines; `anteroom logs` reads them
//!        ├──▶ STATE_DIR/log/security.jsonl  ─▶ .1 ─▶ .2 …   lines about refused requests (target `security`)
//!        └──▶ log.error_file                                 copy of warnings and errors, if configured
//! ```

pub mod file;
pub mod line_budget;
pub mod read;

use crate::config::{Config, Log, LogFormat};
use anteroom_wire::guest_text::escape_json;
use file::RotatingFile;
use line_budget::{LineBudget, SECURITY_TARGET};
use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, OnceLock},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{Directive, filter_fn},
    fmt,
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is not a filter.
    #[error("log.level {level:?}")]
    Level {
        /// The configured level.
        level: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A log file cannot be written.
    #[error("the log file {} cannot be written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The level cannot be changed.
    #[error("log.level cannot be changed")]
    Reload(#[from] reload::Error),
    /// This process logs already.
    #[error(transparent)]
    AlreadyStarted(#[from] TryInitError),
}

/// Starts logging to standard error, for commands other than `serve`.
///
/// # Errors
/// The level is invalid.
pub fn start_console(log: &Log) -> Result<(), LogError> {
    Ok(tracing_subscriber::registry().with(to_standard_error(log)).with(level_filter(log)?).try_init()?)
}

/// Starts the server's logging to standard error and to its files. Call it after the state directory is locked.
///
/// # Errors
/// The level is invalid, or a file cannot be written.
pub fn start_server(config: &Config) -> Result<(), LogError> {
    let log = &config.log;
    let lines = to_file(log, &config.log_file())?;
    let security = to_file(log, &config.log_file().with_file_name(SECURITY_FILE_NAME))?;
    let errors = log.error_file.as_deref().map(|path| to_file(log, path)).transpose()?;
    let (filter, handle) = reload::Layer::new(level_filter(log)?);
    tracing_subscriber::registry()
        .with(to_standard_error(log))
        .with(lines)
        .with(security.with_filter(filter_fn(|metadata| metadata.target() == SECURITY_TARGET)))
        .with(errors.map(|errors| errors.with_filter(LevelFilter::WARN)))
        .with(filter)
        .with(LINE_BUDGET.clone())
        .try_init()?;
    let _ = CHANGE_LEVEL.set(Box::new(move |log| Ok(handle.reload(level_filter(log)?)?)));
    Ok(())
}

/// Changes the level of the server's logging.
///
/// # Errors
/// The level is invalid.
pub fn change_level(log: &Log) -> Result<(), LogError> {
    CHANGE_LEVEL.get().map_or(Ok(()), |change| change(log))
}

/// Logs periodically how many lines were dropped, until the server stops.
pub async fn report_dropped_lines(stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(REPORT_INTERVAL)).await.is_some() {
        LINE_BUDGET.report_dropped();
    }
    LINE_BUDGET.report_dropped();
}

/// The file of the lines about refused requests, next to the log file.
const SECURITY_FILE_NAME: &str = "security.jsonl";
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// The budget of this process, whose log is one.
static LINE_BUDGET: LazyLock<LineBudget> = LazyLock::new(LineBudget::default);

/// Changes the level of this process's log.
static CHANGE_LEVEL: OnceLock<ChangeLevel> = OnceLock::new();

type ChangeLevel = Box<dyn Fn(&Log) -> Result<(), LogError> + Send + Sync>;

/// Filters for libraries that log payload bytes: those of a terminal contain what users type and read.
const SILENCED_LIBRARIES: [&str; 2] = ["tungstenite=off", "tokio_tungstenite=off"];

fn level_filter(log: &Log) -> Result<EnvFilter, LogError> {
    let invalid = |source: Box<dyn Error + Send + Sync>| LogError::Level { level: log.level.clone(), source };
    let configured = EnvFilter::try_new(&log.level).map_err(|error| invalid(error.into()))?;
    let directives = SILENCED_LIBRARIES.iter().chain([&"security=info"]);
    directives.into_iter().try_fold(configured, |filter, directive| {
        Ok(filter.add_directive(directive.parse::<Directive>().map_err(|error| invalid(error.into()))?))
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
        let colors = on_terminal && colors_allowed(std::env::var_os("NO_COLOR").as_deref());
        fmt::layer().with_writer(std::io::stderr).with_ansi(colors).with_target(false).boxed()
    } else {
        json().with_writer(|| EscapedLines(std::io::stderr())).boxed()
    }
}

/// <https://no-color.org>: a variable that is set and not empty turns colors off.
fn colors_allowed(no_color: Option<&std::ffi::OsStr>) -> bool {
    no_color.is_none_or(std::ffi::OsStr::is_empty)
}

fn to_file<S: Subscriber + for<'a> LookupSpan<'a>>(
    log: &Log,
    path: &Path,
) -> Result<Box<dyn Layer<S> + Send + Sync>, LogError> {
    let file = RotatingFile::open(path, log.file_bytes_max, log.files_kept_max)
        .map_err(|source| LogError::File { path: path.to_owned(), source })?;
    Ok(json().with_writer(Mutex::new(EscapedLines(file))).boxed())
}

/// Writes JSON lines with every character escaped that would move a terminal or reorder a line. JSON itself escapes only some of them.
struct EscapedLines<W>(W);

impl<W: Write> Write for EscapedLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => self.0.write_all(escape_json(text).as_bytes())?,
            Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Formats each event as one flat JSON object.
fn json<S>() -> fmt::Layer<S, fmt::format::JsonFields, fmt::format::Format<fmt::format::Json>> {
    fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_non_empty_no_color_turns_colors_off() {
        assert!(super::colors_allowed(None));
        assert!(super::colors_allowed(Some("".as_ref())));
        assert!(!super::colors_allowed(Some("1".as_ref())));
    }
}
