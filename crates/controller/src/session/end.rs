//! Ends a session without completing it: cancelled by its owner, expired, failed.

use super::{active_session::ActiveSession, lifecycle::EndKind};
use crate::{api_error::chain, clock, session::context::SessionContext};
use anteroom_store::{Change, Expect, NewTimelineEntry, Reason, SessionRow, StoreError, Transition};
use anteroom_wire::{Problem, SessionId, TimelineKind, backoff::Backoff};
use std::time::Duration;

const RETRY_MS_MIN: u64 = 50;
const RETRY_MS_MAX: u64 = 5_000;

/// Ends the session if it is active. Returns the row afterwards. Idempotent.
///
/// # Errors
/// The database cannot be written.
pub async fn end(
    context: &SessionContext,
    id: &SessionId,
    kind: EndKind,
    problem: Problem,
    detail: &str,
) -> Result<SessionRow, StoreError> {
    let now = clock::now();
    let reason = Reason::new(problem, detail);
    let (entry_kind, change) = match kind {
        EndKind::Cancelled => (TimelineKind::Cancelled, Change::new().cancel(reason, now)),
        EndKind::Expired => (TimelineKind::Expired, Change::new().expire(reason, now)),
        EndKind::Failed => (TimelineKind::Failed, Change::new().fail(reason, now)),
    };
    let separator = if detail.is_empty() { "" } else { " " };
    let sentence = format!("{}{separator}{detail}", problem.sentence());
    let change = context.outbox.session_ended(id).into_iter().fold(change, Change::message);
    let entry = NewTimelineEntry::new(now, entry_kind, sentence).data(serde_json::json!({ "reason": problem.code() }));
    context.timeline.wait_written(id).await;
    match context.store.transition(id, Expect::Active, change, entry).await? {
        Transition::Done { row, .. } => {
            context.outbox.wake_sender();
            tracing::info!(outcome = entry_kind.as_str(), session = %id, reason = problem.code(), detail, "session ended");
            if let Some(session) = context.sessions.get(id) {
                session.close(problem);
            }
            Ok(*row)
        }
        Transition::Conflict(row) => {
            // It ended earlier; its supervisor may not know yet.
            if let (Some(end), Some(session)) = (row.end(), context.sessions.get(id)) {
                session.close(end.reason.problem);
            }
            Ok(*row)
        }
    }
}

/// As [`end`], with retries until the database accepts it or the server stops, since a session must not stay active without a
/// supervisor. (If the server stops first, the next server resumes the row.)
pub async fn end_with_retries(
    context: &SessionContext,
    session: &ActiveSession,
    kind: EndKind,
    problem: Problem,
    detail: &str,
) {
    let mut backoff = Backoff::new(Duration::from_millis(RETRY_MS_MIN), Duration::from_millis(RETRY_MS_MAX));
    loop {
        while !context.timeline.wait_written(&session.id).await {
            if context.stop.is_cancelled() {
                return;
            }
        }
        match end(context, &session.id, kind, problem, detail).await {
            Ok(_) => return,
            Err(error) => {
                tracing::error!(outcome = "end_not_written", session = %session.id, error = %chain(&error), "session end not written; retrying");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = context.stop.cancelled() => return,
        }
    }
}
