//! `anteroom sessions` and `anteroom login-link`.

mod watch_sessions;

use super::{
    client::ApiClient,
    one_line,
    output::print_link,
    print_error_line, print_line,
    table::Table,
    terminal,
    when::{since, when},
};
use anteroom_wire::{
    ProviderId, SessionId,
    api::{SessionList, SessionStatus, SessionView, Timeline},
    situation::Phase,
};
use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;
use std::process::ExitCode;
use url::form_urlencoded::byte_serialize;

/// Sessions of a page of the API.
const PAGE_MAX: usize = 100;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct SessionsArguments {
    /// The session's id.
    session: Option<SessionId>,
    /// Only sessions in this state: active, ended, completed, failed, cancelled or expired.
    #[arg(long, visible_alias = "status", conflicts_with = "session")]
    state: Option<String>,
    /// Only sessions of this tool.
    #[arg(long, conflicts_with = "session")]
    provider: Option<ProviderId>,
    /// Only sessions for this user, by the id that the backend gave.
    #[arg(long, conflicts_with = "session", value_name = "ID")]
    user: Option<String>,
    /// Sessions to list, the newest first.
    #[arg(long, conflicts_with = "session", value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<SessionsCommand>,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// Cancel sessions: their machines are deleted, and unfinished sign-ins are lost.
    ///
    /// Exits with 0 if none of them is active any more. A session that had ended before stays as it was.
    Cancel {
        /// The sessions' ids.
        #[arg(value_name = "SESSION", required_unless_present = "all", conflicts_with = "all")]
        sessions: Vec<SessionId>,
        /// Cancel all active sessions.
        #[arg(long)]
        all: bool,
        /// Print the ended sessions as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what happens in a session until it has ended, or the changes of all sessions. Ctrl-C ends only the watching.
    ///
    /// With SESSION it exits with 0 if the session was completed, with 1 if it ended otherwise.
    Watch {
        /// The session's id. Default: all sessions.
        session: Option<SessionId>,
        /// Print one JSON object for each change.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(client: &ApiClient, arguments: SessionsArguments) -> anyhow::Result<ExitCode> {
    match arguments {
        SessionsArguments { command: Some(SessionsCommand::Cancel { sessions, all: false, json }), .. } => {
            cancel(client, sessions, json).await
        }
        SessionsArguments { command: Some(SessionsCommand::Cancel { all: true, json, .. }), .. } => {
            let active = read_list(client, "state=active", usize::MAX).await?;
            cancel(client, active.sessions.into_iter().map(|view| view.id).collect(), json).await
        }
        SessionsArguments { command: Some(SessionsCommand::Watch { session, json }), .. } => {
            watch_sessions::run(client, session, json).await
        }
        SessionsArguments { session: Some(id), json, command: None, .. } => show(client, &id, json).await,
        SessionsArguments { session: None, state, provider, user, limit, json, command: None } => {
            let state = state.map(|state| format!("&state={state}")).unwrap_or_default();
            let provider = provider.map(|provider| format!("&provider={provider}")).unwrap_or_default();
            let user = user
                .map(|user| format!("&user={}", byte_serialize(user.as_bytes()).collect::<String>()))
                .unwrap_or_default();
            list(client, &format!("count=true{state}{provider}{user}"), limit, json).await
        }
    }
}

/// The first sessions of a list, of all its pages.
async fn read_list(client: &ApiClient, query: &str, limit: usize) -> anyhow::Result<SessionList> {
    let path = format!("/api/sessions?{query}&limit={}", limit.clamp(1, PAGE_MAX));
    let mut missing = limit;
    let enough = |page: &SessionList| {
        missing = missing.saturating_sub(page.sessions.len());
        missing == 0
    };
    let next_cursor = |page: &SessionList| page.next_cursor.as_ref().map(ToString::to_string);
    let mut pages = client.get_pages(&path, next_cursor, enough).await?.into_iter();
    let mut list = pages.next().context("the server answered without a list")?;
    for page in pages {
        list.sessions.extend(page.sessions);
        list.next_cursor = page.next_cursor;
    }
    list.sessions.truncate(limit);
    Ok(list)
}

async fn list(client: &ApiClient, query: &str, limit: usize, json: bool) -> anyhow::Result<ExitCode> {
    let list = read_list(client, query, limit).await?;
    if json {
        print_line(serde_json::to_string_pretty(&list)?);
        return Ok(ExitCode::SUCCESS);
    }
    print_line(session_table(&list.sessions));
    if let Some(total) = list.total.filter(|total| *total > list.sessions.len() as u64) {
        print_error_line(format_args!("{} of {total} sessions; --limit lists more", list.sessions.len()));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(client: &ApiClient, id: &SessionId, json: bool) -> anyhow::Result<ExitCode> {
    let view: SessionView = client.get(&format!("/api/auth/session/{id}")).await?;
    let timeline: Timeline = client.get(&format!("/api/auth/session/{id}/events")).await?;
    if json {
        print_line(serde_json::to_string_pretty(&serde_json::json!({ "session": view, "timeline": timeline }))?);
        return Ok(ExitCode::SUCCESS);
    }
    print_line(format_args!("{}\n", session_table(std::slice::from_ref(&view))));
    let mut entries = Table::of_values();
    for entry in timeline.entries {
        // What happened when after the start: the start itself is in the line above.
        let at = if terminal::size().is_some() { since(&view.created_at, &entry.at) } else { entry.at };
        entries.add_row([at, entry.kind.to_string(), entry.sentence]);
    }
    print_line(entries);
    Ok(ExitCode::SUCCESS)
}

/// Cancels each of them; one that cannot be cancelled does not keep the others.
async fn cancel(client: &ApiClient, sessions: Vec<SessionId>, json: bool) -> anyhow::Result<ExitCode> {
    let count = sessions.len();
    let mut ended = Vec::with_capacity(count);
    for id in &sessions {
        let path = format!("/api/auth/session/{id}/cancel");
        match client.call::<_, SessionView>(Method::POST, &path, Some(&serde_json::json!({}))).await {
            Ok(view) => ended.push(view),
            Err(error) => print_error_line(format_args!("anteroom: {id}: {error}")),
        }
    }
    let exit_code = if ended.len() == count { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        print_line(serde_json::to_string_pretty(&SessionList {
            sessions: ended,
            verdicts: Default::default(),
            next_cursor: None,
            total: None,
        })?);
        return Ok(exit_code);
    }
    for view in &ended {
        if view.status == SessionStatus::Cancelled {
            print_line(format_args!("{} cancelled", view.id));
        } else {
            print_line(format_args!("{} had ended before: {}", view.id, status(view)));
        }
    }
    if count == 0 {
        print_line("No session is active.");
    }
    Ok(exit_code)
}

/// In a cluster with a column of hosts.
fn session_table(sessions: &[SessionView]) -> Table {
    let in_cluster = sessions.iter().any(|view| view.host.is_some());
    let mut table = if in_cluster {
        Table::new(["session", "tool", "status", "started", "host", "reason"])
    } else {
        Table::new(["session", "tool", "status", "started", "reason"])
    };
    for view in sessions {
        let [id, tool, status, started, reason] = row(view);
        if in_cluster {
            let silent = if view.host_is_silent { " (silent)" } else { "" };
            let host = format!("{}{silent}", view.host.as_deref().unwrap_or_default());
            table.add_row([id, tool, status, started, host, reason]);
        } else {
            table.add_row([id, tool, status, started, reason]);
        }
    }
    table
}

pub(super) fn status(view: &SessionView) -> String {
    let status = serde_json::to_value(view.status).ok();
    status.and_then(|status| status.as_str().map(str::to_owned)).unwrap_or_default()
}

fn row(view: &SessionView) -> [String; 5] {
    [view.id.to_string(), view.provider_name.clone(), status(view), when(&view.created_at), one_line(&reason(view))]
}

/// Why the session has ended, or what went wrong in one that has not.
fn reason(view: &SessionView) -> String {
    let failed = matches!(view.for_person.phase, Phase::NeedsAttention | Phase::Failed);
    match (&view.reason, &view.sign_in.failed) {
        (Some(reason), _) => reason.sentence.clone(),
        (None, Some(failed)) => format!("{}: {failed}", view.provider_name),
        (None, None) if failed => view.for_person.sentence.clone(),
        (None, None) => String::new(),
    }
}

pub(super) async fn login_link(client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
    let link: anteroom_server::http::LoginLink = client.call(Method::POST, "/api/links", None::<&()>).await?;
    if json {
        print_line(serde_json::to_string_pretty(&link)?);
    } else {
        print_link("", &link.url);
    }
    Ok(ExitCode::SUCCESS)
}
