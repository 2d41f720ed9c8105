//! The log lines of a server on another host.

use super::{LogsArguments, as_text};
use crate::{client::ApiClient, output::record};
use anteroom_wire::{ProblemBody, SessionId, guest_text::escape_json};
use serde::Deserialize;
use serde_json::Value;
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};
use url::form_urlencoded::Serializer;

/// Lines that exist already, at most.
const LINES_MAX: usize = 2_000;

/// What `GET /api/log` returns.
#[derive(Debug, Deserialize)]
struct LogLines {
    lines: Vec<Value>,
}

pub(super) async fn run(client: &ApiClient, arguments: &LogsArguments) -> anyhow::Result<ExitCode> {
    let session: Option<SessionId> = arguments.session.as_deref().map(str::parse).transpose()?;
    let lines = if session.is_some() { LINES_MAX } else { arguments.lines.min(LINES_MAX) };
    let mut query = Serializer::new(String::new());
    query.append_pair("lines", &lines.to_string());
    if let Some(level) = arguments.level {
        query.append_pair("level", level.name());
    }
    if let Some(session) = &session {
        query.append_pair("session", session.as_str());
    }
    let query = query.finish();
    let as_json = arguments.json || !std::io::stdout().is_terminal();
    let mut out = std::io::stdout().lock();
    let mut print = |line: &str| {
        record(if as_json { writeln!(out, "{}", escape_json(line)) } else { writeln!(out, "{}", as_text(line)) })
    };
    if !arguments.follow {
        let answer: LogLines = client.get(&format!("/api/log?{query}")).await?;
        answer.lines.iter().all(|line| print(&line.to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut closed: Option<ProblemBody> = None;
    let path = format!("/api/log/events?{query}");
    let followed = client.follow_events(&path, |event, data| match event {
        "line" => print(data),
        "closed" => {
            closed = serde_json::from_str(data).ok();
            false
        }
        _ => true,
    });
    followed.await?;
    closed.map_or(Ok(ExitCode::SUCCESS), |problem| Err(crate::client::ClientError::Api(problem).into()))
}
