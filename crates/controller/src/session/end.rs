//! Ending a session other than well: cancelled by its owner, expired, failed.

use super::{live::Live, note};
use crate::{app::App, clock, refusal::chain, webhook};
use anteroom_store::{Change, Expect, NewEvent, Reason, SessionRow, StoreError, Transition};
use anteroom_wire::{Problem, SessionId};
use std::time::Duration;

/// How a session ends, other than well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// Its owner wants it.
    Cancelled,
    /// A deadline.
    Expired,
    /// A fault.
    Failed,
}

/// Ends the session if it has not ended; says what it is afterwards. Doing it again changes nothing.
///
/// # Errors
/// The database cannot be written.
pub async fn end(app: &App, id: &SessionId, how: How, why: Problem, detail: &str) -> Result<SessionRow, StoreError> {
    let now = clock::now();
    let reason = Reason::new(why, detail);
    let (kind, change) = match how {
        How::Cancelled => ("cancelled", Change::new().cancel(reason, now)),
        How::Expired => ("expired", Change::new().expire(reason, now)),
        How::Failed => ("failed", Change::new().fail(reason, now)),
    };
    let colon = if detail.is_empty() { "" } else { " " };
    let sentence = format!("{}{colon}{detail}", why.sentence());
    let change = webhook::end(app, id).into_iter().fold(change, Change::tell);
    let event = NewEvent::new(now, kind, sentence).with(serde_json::json!({ "reason": why.code() }));
    note::settled(app, id).await;
    match app.store.transition(id, Expect::Active, change, event).await? {
        Transition::Done { row, .. } => {
            webhook::ring(app);
            tracing::info!(outcome = kind, session = %id, reason = why.code(), detail, "the session ended");
            if let Some(live) = app.sessions.get(id) {
                live.close(why);
            }
            Ok(*row)
        }
        Transition::Conflict(row) => {
            // It ended before; whoever serves it may not have heard.
            if let (Some(end), Some(live)) = (row.end(), app.sessions.get(id)) {
                live.close(end.reason.problem);
            }
            Ok(*row)
        }
    }
}

/// As [`end`], for the owner: tries until the database takes it or the server stops, since a session must not stay active
/// without an owner. (If the server stops first, the next one finds the row and resumes it.)
pub async fn end_at_last(app: &App, live: &Live, how: How, why: Problem, detail: &str) {
    let mut wait = Duration::from_millis(50);
    loop {
        while !note::settled(app, &live.id).await {
            if app.stop.is_cancelled() {
                return;
            }
        }
        match end(app, &live.id, how, why, detail).await {
            Ok(_) => return,
            Err(error) => {
                tracing::error!(outcome = "end_not_written", session = %live.id, error = %chain(&error), "a session's end could not be written; trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(5)),
            () = app.stop.cancelled() => return,
        }
    }
}
