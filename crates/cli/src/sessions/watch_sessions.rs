//! `anteroom sessions watch`: the changes of one session, or of all.

use super::status;
use crate::{
    client::{ApiClient, ClientError, parse_json},
    output::{is_printed, one_line, print_line},
    stop::Stops,
    watch::{self, SessionUpdate},
};
use anteroom_wire::{
    SessionId,
    api::{SessionList, SessionStatus, SessionView},
};
use std::{cell::RefCell, collections::HashMap, process::ExitCode, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// Delay between two connection attempts, milliseconds.
const RETRY_MS: u64 = 500;
/// Time after which an unreachable server is an error, seconds.
const UNREACHABLE_S_MAX: u64 = 60;
/// Sessions whose last state is remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Prints what happens until the session has ended or this program is to stop. The session goes on.
pub(super) async fn run(client: &ApiClient, session: Option<SessionId>, json: bool) -> anyhow::Result<ExitCode> {
    let mut stops = Stops::new()?;
    tokio::select! {
        code = stops.next() => Ok(ExitCode::from(code)),
        ended = watch(client, session.as_ref(), json) => ended,
    }
}

async fn watch(client: &ApiClient, session: Option<&SessionId>, json: bool) -> anyhow::Result<ExitCode> {
    let Some(id) = session else { return watch_all(client, json).await };
    let view = watch::follow_session(client, id, |update| match update {
        SessionUpdate::Entry(entry) if json => print_line(serde_json::to_string(&entry).unwrap_or_default()),
        SessionUpdate::Entry(entry) => {
            print_line(format_args!("{}  {:<20} {}", entry.at, entry.kind, entry.sentence));
        }
        SessionUpdate::View(_) => {}
    });
    let view = view.await?;
    Ok(if view.status == SessionStatus::Completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn watch_all(client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
    let printed = RefCell::new(HashMap::new());
    let mut failing_since = None;
    loop {
        let (reset, mut resets) = mpsc::unbounded_channel();
        let followed = client.follow_events("/api/sessions/events", |name, data| {
            failing_since = None;
            match parse_json::<SessionView>(data.as_bytes()) {
                Ok(view) if name == "session" => print_change(&mut printed.borrow_mut(), &view, json),
                // The receiver lives as long as this.
                Ok(_) | Err(_) if name == "reset" => reset.send(()).is_ok(),
                Ok(_) | Err(_) => true,
            }
        });
        // Changes before a reset are not known: what is active is printed, if it was not before.
        let listed = async {
            while resets.recv().await.is_some() {
                let list: SessionList = client.get("/api/sessions?state=active").await?;
                list.sessions.iter().rev().all(|view| print_change(&mut printed.borrow_mut(), view, json));
            }
            std::future::pending::<Result<(), ClientError>>().await
        };
        let ended = tokio::select! {
            ended = followed => ended,
            ended = listed => ended,
        };
        match ended {
            // Standard output needs no more.
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(error @ (ClientError::Api(_) | ClientError::TokenRefused { .. })) => return Err(error.into()),
            Err(error) => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                anyhow::ensure!(since.elapsed() < Duration::from_secs(UNREACHABLE_S_MAX), error);
            }
        }
        tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
    }
}

/// Prints a session whose state is another one than before. Returns whether standard output can take more.
fn print_change(printed: &mut HashMap<SessionId, (SessionStatus, String)>, view: &SessionView, json: bool) -> bool {
    if json {
        return is_printed(serde_json::to_string(view).unwrap_or_default());
    }
    let now = (view.status, view.next_action.clone());
    if printed.get(&view.id) == Some(&now) {
        return true;
    }
    if printed.len() >= REMEMBERED_MAX {
        printed.clear();
    }
    printed.insert(view.id.clone(), now);
    let text = view.reason.as_ref().map_or(&view.next_action, |reason| &reason.sentence);
    is_printed(format_args!("{}  {}  {}  {}", view.id, view.provider_name, status(view), one_line(text)))
}
