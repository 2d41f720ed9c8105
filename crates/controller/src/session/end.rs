//! Ends a session without completing it: cancelled by its owner, expired, failed.

use super::active_session::ActiveSession;
use crate::{api_error::chain, session::context::SessionContext, unix_time};
use anteroom_store::{
    ExpectedState, NewTimelineEntry, Reason, SessionChange, SessionRow, StoreError, TransitionOutcome,
};
use anteroom_wire::{EndReason, SessionId, TimelineKind, backoff::Backoff};
use std::time::Duration;

const RETRY_MS_MIN: u64 = 50;
const RETRY_MS_MAX: u64 = 5_000;

/// Ends the session if it is active. Returns the row afterwards. Idempotent.
///
/// # Errors
/// The database cannot be written.
pub async fn end_session(
    context: &SessionContext,
    id: &SessionId,
    reason: EndReason,
    detail: &str,
) -> Result<SessionRow, StoreError> {
    let now = unix_time::now_unix_ms();
    let (entry_kind, change) = kind_and_change(reason, detail, now);
    let separator = if detail.is_empty() { "" } else { " " };
    let sentence = format!("{}{separator}{detail}", reason.sentence());
    let messages = context.webhook_messages.session_ended_messages(id);
    let change = messages.into_iter().fold(change, SessionChange::with_webhook_message);
    let entry =
        NewTimelineEntry::new(now, entry_kind, sentence).with_data(serde_json::json!({ "reason": reason.code() }));
    context.timeline.wait_written(id).await;
    let expected = if waits_for_host(context, id).await? { ExpectedState::Waiting } else { ExpectedState::Active };
    let outcome = context.store.transition(id, expected, change, entry).await;
    if outcome.as_ref().is_err_and(is_tampered) {
        end_tampered_session(context, id).await?;
    }
    match outcome? {
        TransitionOutcome::Done { row, .. } => {
            context.webhook_messages.wake_sender();
            tracing::info!(outcome = entry_kind.as_str(), session = %id, reason = reason.code(), detail, "session ended");
            if let Some(session) = context.sessions.get(id) {
                session.close(reason);
            }
            context.sessions.changes.record(id);
            Ok(*row)
        }
        // A host took it at this moment.
        TransitionOutcome::Conflict(row) if row.is_active() => Err(StoreError::NotHolder(row.id)),
        TransitionOutcome::Conflict(row) => {
            // It ended earlier; its supervisor may not know yet.
            if let (Some(end), Some(session)) = (row.end(), context.sessions.get(id)) {
                session.close(end.reason.kind);
            }
            Ok(*row)
        }
    }
}

/// Whether it waits for a host of the cluster: then any of them may end it.
async fn waits_for_host(context: &SessionContext, id: &SessionId) -> Result<bool, StoreError> {
    // What still runs here for a session that was taken away must not end it.
    if context.store.holder().is_none() || context.sessions.get(id).is_some() {
        return Ok(false);
    }
    Ok(context.store.get_session(id).await?.is_some_and(|row| row.waits_for_host()))
}

/// Whether the error is that the row of a session was changed outside of this server.
pub fn is_tampered(error: &StoreError) -> bool {
    matches!(error, StoreError::TamperedRow { table: "sessions", .. })
}

/// Ends a session whose row was changed outside of this server: nothing in the row decides what happens. Idempotent.
///
/// # Errors
/// The database cannot be written.
pub async fn end_tampered_session(context: &SessionContext, id: &SessionId) -> Result<(), StoreError> {
    let (now, reason) = (unix_time::now_unix_ms(), EndReason::SessionTampered);
    let entry = NewTimelineEntry::new(now, TimelineKind::Failed, reason.sentence())
        .with_data(serde_json::json!({ "reason": reason.code() }));
    context.timeline.wait_written(id).await;
    if context.store.end_tampered_session(id, now, entry).await? {
        tracing::error!(outcome = "session_tampered", session = %id, "session ended: its row was changed outside of this server");
    }
    if let Some(session) = context.sessions.get(id) {
        session.close(reason);
    }
    Ok(())
}

/// The kind of timeline entry and the change of the row for an end with this reason.
fn kind_and_change(reason: EndReason, detail: &str, now: u64) -> (TimelineKind, SessionChange) {
    let (change, stored) = (SessionChange::new(), Reason::new(reason, detail));
    match reason {
        EndReason::Cancelled => (TimelineKind::Cancelled, change.end_as_cancelled(stored, now)),
        EndReason::IdleExpired | EndReason::DeadlineExpired => (TimelineKind::Expired, change.end_as_expired(stored, now)),
        EndReason::MachineFailed
        | EndReason::MachineCompromised
        | EndReason::ReadyTimeout
        | EndReason::AgentMismatch
        | EndReason::ControllerRestarted
        | EndReason::NoCapacity
        | EndReason::NoImage
        | EndReason::ProviderRemoved
        | EndReason::CredentialDeleted
        | EndReason::CredentialInUse
        | EndReason::OtherAccount
        | EndReason::SessionTampered
        | EndReason::Internal
        // A session is completed by its delivery or by its command, never here.
        | EndReason::Completed
        | EndReason::UseCompleted => (TimelineKind::Failed, change.end_as_failed(stored, now)),
    }
}

/// As [`end_session`], with retries until the database accepts it or the server stops, since a session must not stay active without a
/// supervisor. (If the server stops first, the next server resumes the row.)
pub async fn end_session_with_retries(
    context: &SessionContext,
    session: &ActiveSession,
    reason: EndReason,
    detail: &str,
) {
    let mut backoff = Backoff::new(Duration::from_millis(RETRY_MS_MIN), Duration::from_millis(RETRY_MS_MAX));
    loop {
        while !context.timeline.wait_written(&session.id).await {
            if context.stop.is_cancelled() {
                return;
            }
        }
        match end_session(context, &session.id, reason, detail).await {
            Ok(_) => return,
            Err(error) if is_tampered(&error) || matches!(error, StoreError::NotHolder(_)) => return,
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
