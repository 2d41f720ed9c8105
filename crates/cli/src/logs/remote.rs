//! The log lines of a session from a server on another host.

use super::{LogsArguments, as_text};
use crate::{client::ApiClient, output::record};
use anteroom_controller::log::read::{Level, LogFilter};
use anteroom_wire::{SessionId, guest_text::escape_json};
use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

/// Lines of one request at most.
const LINES_MAX: usize = 2_000;

/// What `GET …/log` returns.
#[derive(Debug, Deserialize)]
struct LogLines {
    lines: Vec<Value>,
}

pub(super) async fn run(client: &ApiClient, arguments: &LogsArguments) -> anyhow::Result<ExitCode> {
    let session = arguments
        .session
        .as_deref()
        .context("name a session: the log of all sessions is a file on the server's host; run `anteroom logs` there")?;
    anyhow::ensure!(!arguments.follow, "--follow reads the file on the server's host: run `anteroom logs` there");
    let id: SessionId = session.parse()?;
    let path = format!("/api/auth/session/{id}/log?lines={LINES_MAX}");
    let answer: LogLines = client.get(&path).await?;
    let mut filter = LogFilter { least_level: arguments.level.map(Level::from), ..LogFilter::default() };
    let as_json = arguments.json || !std::io::stdout().is_terminal();
    let mut out = std::io::stdout().lock();
    for line in answer.lines.iter().filter(|line| filter.matches(line)) {
        let line = line.to_string();
        let written =
            if as_json { writeln!(out, "{}", escape_json(&line)) } else { writeln!(out, "{}", as_text(&line)) };
        if !record(written) {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
