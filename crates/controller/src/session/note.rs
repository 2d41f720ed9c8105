//! One line on a session's timeline, and everybody who watches is told.

use crate::{app::App, clock, refusal::chain};
use anteroom_store::NewEvent;
use anteroom_wire::SessionId;
use serde_json::Value;

/// Writes an entry. A database that cannot write it is heard of in the log and the health page; the caller goes on.
pub async fn note(app: &App, session: &SessionId, kind: &str, sentence: impl Into<String>, data: Value) {
    let sentence = sentence.into();
    tracing::info!(outcome = kind, session = %session, "{sentence}");
    let event = NewEvent::new(clock::now(), kind, sentence).with(data);
    if let Err(error) = app.store.append_event(session, event).await {
        tracing::error!(outcome = "timeline_lost", session = %session, kind, error = %chain(&error), "a timeline entry could not be written");
    }
    if let Some(live) = app.sessions.get(session) {
        live.tell();
    }
}
