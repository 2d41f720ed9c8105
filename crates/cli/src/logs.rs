//! `anteroom logs [SESSION]`: prints the log lines of a session, or the last lines of all. Reads the files directly, so that it
//! works without a server; of a server on another host, through the API.

mod remote;

use super::{
    client::{ApiClient, ClientError},
    one_line,
    output::record,
    print_error_line,
};
use anteroom_controller::{
    config::Config,
    log::{
        file::existing_log_files,
        read::{Level, LogFilter, LogFollower, for_each_log_line, last_log_lines},
    },
};
use anteroom_store::{Store, StoreSettings};
use anteroom_wire::{
    MachineId, SessionId,
    api::{Timeline, TimelineEntry},
    guest_text::escape_json,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

/// Time between two reads of a followed file.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// Number of timeline entries that are searched for machine ids.
const ENTRIES_MAX: u32 = 10_000;

/// Arguments of `anteroom logs`.
#[derive(Debug, clap::Args)]
pub(super) struct LogsArguments {
    /// The session's id. Default: all sessions.
    session: Option<String>,
    /// Keep running and print new lines as they are written.
    #[arg(long, short)]
    follow: bool,
    /// Print only lines of this level or more severe: `--level warn` prints warnings and errors.
    #[arg(long, value_enum)]
    level: Option<LevelArgument>,
    /// Without SESSION: number of lines to print.
    #[arg(long, default_value_t = 200, value_name = "NUMBER")]
    lines: usize,
    /// Print the raw JSON lines, also on a terminal.
    #[arg(long)]
    json: bool,
}

/// A [`Level`] on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LevelArgument {
    /// An operation failed.
    Error,
    /// A degradation or a rejected request.
    Warn,
    /// A decision.
    Info,
    /// Details for developers.
    Debug,
    /// All events.
    Trace,
}

impl LevelArgument {
    /// Its name in the API.
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl From<LevelArgument> for Level {
    fn from(level: LevelArgument) -> Self {
        match level {
            LevelArgument::Error => Self::Error,
            LevelArgument::Warn => Self::Warn,
            LevelArgument::Info => Self::Info,
            LevelArgument::Debug => Self::Debug,
            LevelArgument::Trace => Self::Trace,
        }
    }
}

pub(super) async fn run(config: &Config, client: &ApiClient, arguments: LogsArguments) -> anyhow::Result<ExitCode> {
    if client.is_remote() {
        return remote::run(client, &arguments).await;
    }
    let path = config.log_file();
    let session: Option<SessionId> = arguments.session.as_deref().map(str::parse).transpose()?;
    let machines = match &session {
        Some(id) => known_machines(config, client, id).await,
        None => None,
    };
    let mut filter = LogFilter {
        session: session.clone(),
        machines: machines.clone().unwrap_or_default(),
        least_level: arguments.level.map(Level::from),
    };
    let as_json = arguments.json || !std::io::stdout().is_terminal();
    let mut out = std::io::stdout().lock();
    let mut print = |line: &str| {
        record(if as_json { writeln!(out, "{}", escape_json(line)) } else { writeln!(out, "{}", as_text(line)) })
    };
    // Opened before the existing lines are read, so that no line is lost in between.
    let mut follower = LogFollower::open_at_end(&path)?;
    let mut found = 0_usize;
    let mut is_open = true;
    match &session {
        Some(_) => for_each_log_line(&path, &mut filter, |line| {
            found += 1;
            is_open = print(line);
            is_open
        })?,
        None => {
            anyhow::ensure!(
                arguments.follow || !existing_log_files(&path).is_empty(),
                "there is no log file {}; a server writes it when it starts: anteroom serve",
                path.display()
            );
            for line in last_log_lines(&path, &mut filter, arguments.lines)? {
                found += 1;
                is_open = is_open && print(&line);
            }
        }
    }
    if let (Some(id), None, 0) = (&session, &machines, found) {
        require_in_log(config, &path, id)?;
    }
    while arguments.follow && is_open {
        is_open = follower.read_new_lines(&mut filter, &mut print)?;
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// As [`session_machines`]; none if they are not known: logs are needed when something is broken, so a failed server or database must not
/// prevent reading them.
async fn known_machines(config: &Config, client: &ApiClient, id: &SessionId) -> Option<BTreeSet<MachineId>> {
    session_machines(config, client, id).await.unwrap_or_else(|error| {
        warn_machines_unknown(id, &error);
        Some(BTreeSet::new())
    })
}

/// Standard output may be a pipe and carries only log lines.
fn warn_machines_unknown(id: &SessionId, error: &anyhow::Error) {
    print_error_line(format_args!(
        "anteroom: {error:#}; only lines that name {id} follow, not those that name only its machines"
    ));
}

/// Requires that a session that is not in the database is at least in the log.
fn require_in_log(config: &Config, path: &std::path::Path, id: &SessionId) -> anyhow::Result<()> {
    anyhow::ensure!(
        is_in_log(path, id)?,
        "there is no session {id}: it is neither in the database in {} nor in the log {}; see: anteroom sessions",
        config.state_dir.display(),
        path.display()
    );
    Ok(())
}

/// Whether any line of the log is about the session.
fn is_in_log(path: &std::path::Path, id: &SessionId) -> std::io::Result<bool> {
    let mut filter = LogFilter { session: Some(id.clone()), ..LogFilter::default() };
    Ok(!last_log_lines(path, &mut filter, 1)?.is_empty())
}

/// The machines in the session's timeline; `None`: the session is not in the database.
async fn session_machines(
    config: &Config,
    client: &ApiClient,
    id: &SessionId,
) -> anyhow::Result<Option<BTreeSet<MachineId>>> {
    match client.get::<Timeline>(&format!("/api/auth/session/{id}/events")).await {
        Ok(timeline) => Ok(Some(machine_ids(timeline.entries.into_iter().map(|entry: TimelineEntry| entry.data)))),
        Err(ClientError::Api(problem)) if problem.code == anteroom_wire::Problem::UnknownSession.code() => Ok(None),
        Err(ClientError::NoServer { .. }) => {
            let database = config.database_address()?;
            if database.is_missing_file() {
                return Ok(None);
            }
            let store = Store::open(&database, StoreSettings::default()).await?;
            let row = store.get_session(id).await;
            let timeline = store.list_timeline(id, 0, ENTRIES_MAX).await;
            store.close().await;
            let Some(row) = row? else { return Ok(None) };
            let mut machines = machine_ids(timeline?.into_iter().map(|entry| entry.data));
            machines.extend(row.machine);
            Ok(Some(machines))
        }
        Err(error) => Err(error.into()),
    }
}

fn machine_ids(data: impl Iterator<Item = Value>) -> BTreeSet<MachineId> {
    data.filter_map(|data| data.get("machine")?.as_str()?.parse().ok()).collect()
}

/// Formats a JSON line as text: time, level, message, and the other fields as `key=value`.
fn as_text(line: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else { return one_line(line) };
    let mut remove = |key: &str| match fields.remove(key) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let head = format!("{} {:<5} {}", remove("timestamp"), remove("level"), remove("message"));
    fields.remove("target");
    let rest = fields.iter().map(|(key, value)| match value.as_str() {
        Some(text) => format!(" {key}={text}"),
        None => format!(" {key}={value}"),
    });
    one_line(&rest.fold(head, |line, field| line + &field))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_text_line_contains_no_control_characters() {
        let line = r#"{"timestamp":"T","level":"WARN","target":"x","message":"a\u001b[31mb","count":3,"who":"c\nd"}"#;
        assert_eq!(super::as_text(line), "T WARN  a�[31mb count=3 who=c d");
        assert_eq!(super::as_text("not JSON\u{7}\u{202e}\u{2028}"), "not JSON� ");
    }
}
