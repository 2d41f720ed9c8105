//! One line on a session's timeline, and everybody who watches is told.
//!
//! ```text
//!  note · later ──▶ the session's line (in memory, bounded) ──▶ one writer a session ──▶ database
//!                        │ full: the oldest is dropped,             │ cannot be written: again, until it can
//!                        │ and "N entries were lost" takes its place
//! ```
//!
//! - An entry has the time at which it came, whenever it is written, and entries of a session stay in order. Who writes the
//!   timeline past the line (a transition, which is one transaction with its entry) first waits for [`flush`].
//! - A server that stops writes what waits, within its drain limit. What a killed server (SIGKILL, power) had not written
//!   is lost: the line is memory only. While the database works that is what was noted in the last milliseconds.
//! - What an agent tells goes past the line ([`append_durably`]): the agent keeps it until it is written.

pub mod buffer;
mod view;

pub use buffer::{LOST, Settled};
pub use view::timeline_entry;

use crate::{api_error::chain, app::App, clock};
use anteroom_store::{NewEvent, StoreError, StoreErrorKind};
use anteroom_wire::SessionId;
use serde_json::Value;
use std::time::Duration;

const AGAIN_MS_MIN: u64 = 20;
const AGAIN_MS_MAX: u64 = 500;

/// Notes an entry and waits, at most as long as the database may be busy, until it is written; it is written later
/// otherwise.
pub async fn append(app: &App, session: &SessionId, kind: &str, sentence: impl Into<String>, data: Value) {
    let noted = append_in_background(app, session, kind, sentence, data);
    let _ = tokio::time::timeout(busy_max(app), noted.wait()).await;
}

/// Notes an entry; it is written as soon as the database takes it. Whoever needs to know can wait.
pub fn append_in_background(
    app: &App,
    session: &SessionId,
    kind: &str,
    sentence: impl Into<String>,
    data: Value,
) -> Settled {
    let sentence = sentence.into();
    let machine = data.get("machine").and_then(Value::as_str);
    tracing::info!(outcome = kind, session = %session, machine, "{sentence}");
    let (settled, is_first) = app.timeline_buffer.put(session, NewEvent::new(clock::now(), kind, sentence).with(data));
    if is_first {
        let writing = Writing { app: app.clone(), session: session.clone(), done: false };
        app.tasks.spawn(writing.run());
    }
    settled
}

/// Waits until all that is noted for this session is written, at most as long as the database may be busy; whether it is. For
/// those that write to its timeline past the line: what happened before stands before.
pub async fn flush(app: &App, session: &SessionId) -> bool {
    tokio::time::timeout(busy_max(app), app.timeline_buffer.settled(session).wait()).await.is_ok()
}

/// Writes an entry now, for those who can say it again later.
///
/// # Errors
/// The database cannot be written; nothing was.
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
    tell(app, session);
    Ok(())
}

fn tell(app: &App, session: &SessionId) {
    if let Some(active) = app.sessions.get(session) {
        active.notify();
    }
}

fn busy_max(app: &App) -> Duration {
    Duration::from_millis(app.config.store.busy_ms_max)
}

/// The writer of one session's line. It ends with the line; the server's stop waits for it.
struct Writing {
    app: App,
    session: SessionId,
    done: bool,
}

impl Writing {
    async fn run(mut self) {
        let Self { app, session, .. } = &self;
        while let Some((number, event)) = app.timeline_buffer.next(session) {
            self.put(event).await;
            app.timeline_buffer.settle(session, number);
            tell(app, session);
        }
        self.done = true;
    }

    /// Writes one entry, again and again while the database is unavailable.
    async fn put(&self, event: NewEvent) {
        let Self { app, session, .. } = self;
        let mut pause_ms = AGAIN_MS_MIN;
        while !app.timeline_buffer.is_closed() {
            match app.store.append_event(session, event.clone()).await {
                Ok(Some(_)) => return,
                Ok(None) => {
                    tracing::warn!(outcome = "timeline_full", session = %session, kind = event.kind, "a timeline has as many entries as it may have");
                    return;
                }
                Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                    tracing::warn!(outcome = "timeline_waits", session = %session, kind = event.kind, error = %chain(&error), "a timeline entry waits for the database");
                }
                Err(error) => {
                    tracing::error!(outcome = "timeline_lost", session = %session, kind = event.kind, error = %chain(&error), "a timeline entry cannot be written");
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(AGAIN_MS_MAX);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // A panic, or the end of the runtime: nobody would write the line any more.
        if !self.done {
            let left = self.app.timeline_buffer.forget(&self.session);
            tracing::error!(outcome = "timeline_lost", session = %self.session, left, "a timeline's writer ended before its entries were written");
        }
    }
}
