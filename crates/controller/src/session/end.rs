//! Ending a session other than well: cancelled by its owner, expired, failed.

use super::{active_session::ActiveSession, lifecycle::EndKind, timeline};
use crate::{api_error::chain, app::App, clock, outbox};
use anteroom_store::{Change, Expect, NewEvent, Reason, SessionRow, StoreError, Transition};
use anteroom_wire::{Problem, SessionId};
use std::time::Duration;

/// Ends the session if it has not ended; says what it is afterwards. Doing it again changes nothing.
///
/// # Errors
/// The database cannot be written.
pub async fn end(
    app: &App,
    id: &SessionId,
    how: EndKind,
    why: Problem,
    detail: &str,
) -> Result<SessionRow, StoreError> {
    let now = clock::now();
    let reason = Reason::new(why, detail);
    let (kind, change) = match how {
        EndKind::Cancelled => ("cancelled", Change::new().cancel(reason, now)),
        EndKind::Expired => ("expired", Change::new().expire(reason, now)),
        EndKind::Failed => ("failed", Change::new().fail(reason, now)),
    };
    let colon = if detail.is_empty() { "" } else { " " };
    let sentence = format!("{}{colon}{detail}", why.sentence());
    let change = outbox::session_ended(app, id).into_iter().fold(change, Change::tell);
    let event = NewEvent::new(now, kind, sentence).with(serde_json::json!({ "reason": why.code() }));
    timeline::flush(app, id).await;
    match app.store.transition(id, Expect::Active, change, event).await? {
        Transition::Done { row, .. } => {
            outbox::wake_sender(app);
            tracing::info!(outcome = kind, session = %id, reason = why.code(), detail, "the session ended");
            if let Some(session) = app.sessions.get(id) {
                session.close(why);
            }
            Ok(*row)
        }
        Transition::Conflict(row) => {
            // It ended before; whoever serves it may not have heard.
            if let (Some(end), Some(session)) = (row.end(), app.sessions.get(id)) {
                session.close(end.reason.problem);
            }
            Ok(*row)
        }
    }
}

/// As [`end`], for the owner: tries until the database takes it or the server stops, since a session must not stay active
/// without an owner. (If the server stops first, the next one finds the row and resumes it.)
pub async fn end_with_retries(app: &App, session: &ActiveSession, how: EndKind, why: Problem, detail: &str) {
    let mut wait = Duration::from_millis(50);
    loop {
        while !timeline::flush(app, &session.id).await {
            if app.stop.is_cancelled() {
                return;
            }
        }
        match end(app, &session.id, how, why, detail).await {
            Ok(_) => return,
            Err(error) => {
                tracing::error!(outcome = "end_not_written", session = %session.id, error = %chain(&error), "a session's end could not be written; trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(5)),
            () = app.stop.cancelled() => return,
        }
    }
}
