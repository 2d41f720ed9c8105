//! `anteroom logs [SESSION]`: prints the log lines of a session, or the last lines of all. Reads the files directly, so that it
//! works without a server.

use super::client::{Client, ClientError};
use crate::{
    config::Config,
    log::{
        file::all_files,
        read::{Follower, Level, LogFilter, for_each_line, last_lines},
    },
};
use anteroom_store::{Settings, Store};
use anteroom_wire::{
    MachineId, SessionId,
    api::{Timeline, TimelineEntry},
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
    level: Option<Level>,
    /// Without SESSION: number of lines to print.
    #[arg(long, default_value_t = 200, value_name = "NUMBER")]
    lines: usize,
    /// Print the raw JSON lines, also on a terminal.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, arguments: LogsArguments) -> anyhow::Result<ExitCode> {
    let path = config.log_file();
    let session: Option<SessionId> = arguments.session.as_deref().map(str::parse).transpose()?;
    let known = match &session {
        // Logs are read when the rest does not work: a server or database in trouble takes nothing of them away.
        Some(id) => machines_of(config, id).await.unwrap_or_else(|error| {
            only_its_own(id, &error);
            Some(BTreeSet::new())
        }),
        None => None,
    };
    let mut wanted =
        Wanted { session: session.clone(), machines: known.clone().unwrap_or_default(), level: arguments.level };
    let as_json = arguments.json || !std::io::stdout().is_terminal();
    let mut out = std::io::stdout().lock();
    // A reader that has seen enough closes the pipe: that is no fault.
    let mut print =
        |line: &str| if as_json { writeln!(out, "{line}") } else { writeln!(out, "{}", plain(line)) }.is_ok();
    // Opened first, so that nothing is lost between the two readings; what is read twice is worse than what is not read.
    let mut follower = Follower::at_end(&path)?;
    let mut found = 0_usize;
    let mut goes_on = true;
    match &session {
        Some(_) => each(&path, &mut wanted, |line| {
            found += 1;
            goes_on = print(line);
            goes_on
        })?,
        None => {
            anyhow::ensure!(
                arguments.follow || !all(&path).is_empty(),
                "there is no log at {}: no server has written one",
                path.display()
            );
            for line in last(&path, &mut wanted, arguments.lines)? {
                found += 1;
                goes_on = goes_on && print(&line);
            }
        }
    }
    if let (Some(id), None, 0) = (&session, &known, found)
        && !names(&path, id)?
    {
        anyhow::bail!(
            "there is no session {id}: neither the database below {} nor the log {} has it",
            config.state_dir.display(),
            path.display()
        );
    }
    while arguments.follow && goes_on {
        goes_on = follower.look(&mut wanted, &mut print)?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says that which machines were the session's is not known.
#[expect(clippy::print_stderr, reason = "beside the lines, which may go into a pipe")]
fn only_its_own(id: &SessionId, error: &anyhow::Error) {
    eprintln!("anteroom: {error:#}; only lines that name {id} follow, not those that name its machines alone");
}

/// Whether any line at all is the session's.
fn names(path: &std::path::Path, id: &SessionId) -> std::io::Result<bool> {
    let mut any = Wanted { session: Some(id.clone()), ..Wanted::default() };
    Ok(!last(path, &mut any, 1)?.is_empty())
}

/// The machines that the session's timeline names; `None`: the database does not know the session.
async fn machines_of(config: &Config, id: &SessionId) -> anyhow::Result<Option<BTreeSet<MachineId>>> {
    let client = Client::new(&config.state_dir);
    match client.get::<Timeline>(&format!("/api/auth/session/{id}/events")).await {
        Ok(timeline) => Ok(Some(named(timeline.entries.into_iter().map(|entry: TimelineEntry| entry.data)))),
        Err(ClientError::Refused(problem)) if problem.code == anteroom_wire::Problem::UnknownSession.code() => Ok(None),
        Err(error @ (ClientError::Refused(_) | ClientError::Unreadable(_))) => Err(error.into()),
        Err(ClientError::NoServer { .. }) => {
            let path = config.state_dir.join("anteroom.db");
            if !path.exists() {
                return Ok(None);
            }
            let store = Store::open(&path, Settings::default()).await?;
            let row = store.session(id).await;
            let timeline = store.timeline(id, 0, ENTRIES_MAX).await;
            store.close().await;
            let Some(row) = row? else { return Ok(None) };
            let mut machines = named(timeline?.into_iter().map(|entry| entry.data));
            machines.extend(row.machine);
            Ok(Some(machines))
        }
    }
}

fn named(data: impl Iterator<Item = Value>) -> BTreeSet<MachineId> {
    data.filter_map(|data| data.get("machine")?.as_str()?.parse().ok()).collect()
}

/// A line for people: when, how bad, what, and the rest as `key=value`. Nothing in it may steer a terminal.
fn plain(line: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else { return escape(line) };
    let mut take = |key: &str| match fields.remove(key) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let head = format!("{} {:<5} {}", take("timestamp"), take("level"), take("message"));
    fields.remove("target");
    let rest = fields.iter().map(|(key, value)| match value.as_str() {
        Some(text) => format!(" {key}={text}"),
        None => format!(" {key}={value}"),
    });
    escape(&rest.fold(head, |line, field| line + &field))
}

fn escape(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_for_people_cannot_steer_a_terminal() {
        let line = r#"{"timestamp":"T","level":"WARN","target":"x","message":"a\u001b[31mb","count":3,"who":"c\nd"}"#;
        assert_eq!(super::plain(line), "T WARN  a [31mb count=3 who=c d");
        assert_eq!(super::plain("not JSON\u{7}"), "not JSON ");
    }
}
