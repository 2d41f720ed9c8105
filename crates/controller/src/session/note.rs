//! One line on a session's timeline, and everybody who watches is told.

use crate::{app::App, clock, refusal::chain};
use anteroom_store::{NewEvent, StoreError};
use anteroom_wire::SessionId;
use serde_json::Value;

/// Writes an entry. A database that cannot write it is heard of in the log and the health page; the caller goes on.
pub async fn note(app: &App, session: &SessionId, kind: &str, sentence: impl Into<String>, data: Value) {
    if let Err(error) = write(app, session, kind, sentence.into(), data).await {
        tracing::error!(outcome = "timeline_lost", session = %session, kind, error = %chain(&error), "a timeline entry could not be written");
    }
}

/// As [`note`], for those who can say it again later.
///
/// # Errors
/// The database cannot be written; nothing was.
pub async fn write(
    app: &App,
    session: &SessionId,
    kind: &str,
    sentence: String,
    data: Value,
) -> Result<(), StoreError> {
    tracing::info!(outcome = kind, session = %session, "{sentence}");
    let event = NewEvent::new(clock::now(), kind, sentence).with(data);
    app.store.append_event(session, event).await?;
    if let Some(live) = app.sessions.get(session) {
        live.tell();
    }
    Ok(())
}
