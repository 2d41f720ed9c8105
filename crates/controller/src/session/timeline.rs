//! Appends entries to a session's timeline and notifies its subscribers.
//!
//! ```text
//!  append · append_in_background ──▶ the session's buffer (in memory, bounded) ──▶ one writer a session ──▶ database
//!                                        │ full: the oldest entry is dropped,          │ database unavailable: retried
//!                                        │ and "N entries were lost" replaces it
//! ```
//!
//! - An entry has the time at which it was appended, and the entries of a session stay in order. Code that writes to the
//!   timeline without the buffer (a transition, which is one transaction with its entry) first calls [`flush`].
//! - A server that stops writes the buffered entries within its drain limit. A killed server (SIGKILL, power loss) loses them.
//!   While the database works these are the entries of the last milliseconds.
//! - Events of an agent bypass the buffer ([`append_durably`]): the agent keeps them until they are written.

pub mod buffer;
mod view;

pub use buffer::{ENTRIES_LOST, WriteHandle};
pub use view::timeline_entry;

use crate::{api_error::chain, app::App, clock};
use anteroom_store::{NewEvent, StoreError, StoreErrorKind};
use anteroom_wire::SessionId;
use serde_json::Value;
use std::time::Duration;

const RETRY_MS_MIN: u64 = 20;
const RETRY_MS_MAX: u64 = 500;

/// Appends an entry and waits until it is written, at most for `store.busy_ms_max`; after that it is written in the background.
pub async fn append(app: &App, session: &SessionId, kind: &str, sentence: impl Into<String>, data: Value) {
    let handle = append_in_background(app, session, kind, sentence, data);
    let _ = tokio::time::timeout(wait_limit(app), handle.wait()).await;
}

/// Appends an entry, which is written as soon as the database accepts it. The handle waits for that.
pub fn append_in_background(
    app: &App,
    session: &SessionId,
    kind: &str,
    sentence: impl Into<String>,
    data: Value,
) -> WriteHandle {
    let sentence = sentence.into();
    let machine = data.get("machine").and_then(Value::as_str);
    tracing::info!(outcome = kind, session = %session, machine, "{sentence}");
    let (handle, is_first) =
        app.timeline_buffer.append(session, NewEvent::new(clock::now(), kind, sentence).with(data));
    if is_first {
        let writer = Writer { app: app.clone(), session: session.clone(), done: false };
        app.tasks.spawn(writer.run());
    }
    handle
}

/// Waits until all buffered entries of this session are written, at most for `store.busy_ms_max`. Returns whether they are.
/// Called before a write to the timeline that bypasses the buffer, to keep the order.
pub async fn flush(app: &App, session: &SessionId) -> bool {
    tokio::time::timeout(wait_limit(app), app.timeline_buffer.all_written(session).wait()).await.is_ok()
}

/// Writes an entry before it returns, for callers that can repeat it later.
///
/// # Errors
/// The database cannot be written; nothing was written.
pub async fn append_durably(
    app: &App,
    session: &SessionId,
    kind: &str,
    sentence: String,
    data: Value,
) -> Result<(), StoreError> {
    let machine = data.get("machine").and_then(Value::as_str);
    tracing::info!(outcome = kind, session = %session, machine, "{sentence}");
    let event = NewEvent::new(clock::now(), kind, sentence).with(data);
    flush(app, session).await;
    app.store.append_event(session, event).await?;
    notify(app, session);
    Ok(())
}

fn notify(app: &App, session: &SessionId) {
    if let Some(active) = app.sessions.get(session) {
        active.notify();
    }
}

fn wait_limit(app: &App) -> Duration {
    Duration::from_millis(app.config.store.busy_ms_max)
}

/// Writes one session's buffered entries; ends when the buffer is empty. The server's stop waits for it.
struct Writer {
    app: App,
    session: SessionId,
    done: bool,
}

impl Writer {
    async fn run(mut self) {
        let Self { app, session, .. } = &self;
        while let Some((number, event)) = app.timeline_buffer.next(session) {
            self.write(event).await;
            app.timeline_buffer.mark_written(session, number);
            notify(app, session);
        }
        self.done = true;
    }

    /// Writes one entry, with retries while the database is unavailable.
    async fn write(&self, event: NewEvent) {
        let Self { app, session, .. } = self;
        let mut retry_ms = RETRY_MS_MIN;
        while !app.timeline_buffer.is_closed() {
            match app.store.append_event(session, event.clone()).await {
                Ok(Some(_)) => return,
                Ok(None) => {
                    tracing::warn!(outcome = "timeline_full", session = %session, kind = event.kind, "timeline entry dropped; the timeline is full");
                    return;
                }
                Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                    tracing::warn!(outcome = "timeline_delayed", session = %session, kind = event.kind, error = %chain(&error), "timeline entry delayed");
                }
                Err(error) => {
                    tracing::error!(outcome = "timeline_lost", session = %session, kind = event.kind, error = %chain(&error), "timeline entry lost");
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(retry_ms)).await;
            retry_ms = (retry_ms * 2).min(RETRY_MS_MAX);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A panic, or the end of the runtime: the buffered entries would never be written.
        if !self.done {
            let left = self.app.timeline_buffer.discard(&self.session);
            tracing::error!(outcome = "timeline_lost", session = %self.session, left, "timeline writer ended before its entries were written");
        }
    }
}
