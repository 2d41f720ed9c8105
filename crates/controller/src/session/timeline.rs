//! Appends entries to a session's timeline and notifies its subscribers.
//!
//! ```text
//!  append · append_in_background ──▶ the session's buffer (in memory, bounded) ──▶ one writer a session ──▶ database
//!                                        │ full: the oldest entry is dropped,          │ database unavailable: retried
//!                                        │ and "N entries were lost" replaces it
//! ```
//!
//! - An entry has the time at which it was appended, and the entries of a session stay in order. Code that writes to the
//!   timeline without the buffer (a transition, which is one transaction with its entry) first calls [`TimelineWriter::wait_written`].
//! - A server that stops writes the buffered entries within its drain limit. A killed server (SIGKILL, power loss) loses them.
//!   While the database works these are the entries of the last milliseconds.
//! - Events of an agent bypass the buffer ([`TimelineWriter::append_durably`]): the agent keeps them until they are written.

pub mod buffer;
mod kind_budget;
mod view;

pub use buffer::WriteHandle;
pub use kind_budget::{BYTES_BY_KIND_MAX, ENTRIES_BY_KIND_MAX, KindBudget};
pub use view::to_timeline_entry;

use super::{registry::SessionRegistry, rejections::aggregator::RejectionAggregator};
use crate::{api_error::chain, unix_time};
use anteroom_store::{AppendOutcome, NewTimelineEntry, Store, StoreError, StoreErrorKind};
use anteroom_wire::{SessionId, TimelineKind, backoff::Backoff, guest_text::clean_line};
use buffer::TimelineBuffer;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The most bytes of a sentence in the log.
const LOGGED_SENTENCE_BYTES_MAX: usize = 1024;
const RETRY_MS_MIN: u64 = 20;
const RETRY_MS_MAX: u64 = 500;

/// The timelines of all sessions. Cheap to clone.
#[derive(Clone)]
pub struct TimelineWriter {
    /// The database.
    pub store: Store,
    /// Entries that wait for the database.
    pub buffer: Arc<TimelineBuffer>,
    /// Limits how often rejected requests are recorded.
    pub rejections: Arc<RejectionAggregator>,
    /// The sessions whose subscribers are notified.
    pub sessions: Arc<SessionRegistry>,
    /// How long [`TimelineWriter::append`] and [`TimelineWriter::wait_written`] wait for the database.
    pub wait_limit: Duration,
    /// The interval in which repeated rejections are counted.
    pub rejection_interval: Duration,
    /// Tracks the writers.
    pub tasks: TaskTracker,
    /// Cancelled when the server stops.
    pub stop: CancellationToken,
}

impl TimelineWriter {
    /// Appends an entry and waits until it is written, at most for [`busy_ms_max`](crate::limits::StoreLimits::busy_ms_max); after that it is written in the
    /// background.
    pub async fn append(&self, session: &SessionId, entry: NewTimelineEntry) {
        let handle = self.append_in_background(session, entry);
        let _ = tokio::time::timeout(self.wait_limit, handle.wait()).await;
    }

    /// Appends an entry, which is written as soon as the database accepts it. The handle waits for that.
    pub fn append_in_background(&self, session: &SessionId, entry: NewTimelineEntry) -> WriteHandle {
        if !self.is_within_budget(session, &entry) {
            return WriteHandle::written();
        }
        log_entry(session, &entry);
        let (handle, is_first) = self.buffer.append(session, entry);
        if is_first {
            let writer = Writer { timeline: self.clone(), session: session.clone(), done: false };
            self.tasks.spawn(writer.run());
        }
        handle
    }

    /// Waits until all buffered entries of this session are written, at most for [`busy_ms_max`](crate::limits::StoreLimits::busy_ms_max). Returns whether they are.
    /// Called before a write to the timeline that bypasses the buffer, to keep the order.
    pub async fn wait_written(&self, session: &SessionId) -> bool {
        tokio::time::timeout(self.wait_limit, self.buffer.all_written_handle(session).wait()).await.is_ok()
    }

    /// Writes an entry before it returns, for callers that can repeat it later.
    ///
    /// # Errors
    /// The database cannot be written; nothing was written.
    pub async fn append_durably(&self, session: &SessionId, entry: NewTimelineEntry) -> Result<(), StoreError> {
        if !self.is_within_budget(session, &entry) {
            return Ok(());
        }
        log_entry(session, &entry);
        self.wait_written(session).await;
        self.store.append_entry(session, entry).await?;
        self.notify(session);
        Ok(())
    }

    /// Counts the entry. Returns whether it is recorded: a guest or a viewer may cause any number of them.
    fn is_within_budget(&self, session: &SessionId, entry: &NewTimelineEntry) -> bool {
        self.sessions.get(session).is_none_or(|active| active.timeline_budget.lock().count(entry))
    }

    fn notify(&self, session: &SessionId) {
        if let Some(active) = self.sessions.get(session) {
            active.notify_subscribers();
        }
    }
}

/// A timeline entry of the present moment.
pub fn new_entry(kind: TimelineKind, sentence: impl Into<String>) -> NewTimelineEntry {
    NewTimelineEntry::new(unix_time::now_unix_ms(), kind, sentence)
}

fn log_entry(session: &SessionId, entry: &NewTimelineEntry) {
    let machine = entry.data.get("machine").and_then(Value::as_str);
    tracing::info!(outcome = entry.kind.as_str(), session = %session, machine, "{}", clean_line(&entry.sentence, LOGGED_SENTENCE_BYTES_MAX));
}

/// Writes one session's buffered entries; ends when the buffer is empty. The server's stop waits for it.
struct Writer {
    timeline: TimelineWriter,
    session: SessionId,
    done: bool,
}

impl Writer {
    async fn run(mut self) {
        let Self { timeline, session, .. } = &self;
        while let Some((number, entry)) = timeline.buffer.next_entry(session) {
            self.write(entry).await;
            timeline.buffer.mark_written(session, number);
            timeline.notify(session);
        }
        self.done = true;
    }

    /// Writes one entry, with retries while the database is unavailable.
    async fn write(&self, entry: NewTimelineEntry) {
        let Self { timeline, session, .. } = self;
        let mut backoff = Backoff::new(Duration::from_millis(RETRY_MS_MIN), Duration::from_millis(RETRY_MS_MAX));
        while !timeline.buffer.is_closed() {
            match timeline.store.append_entry(session, entry.clone()).await {
                Ok(AppendOutcome::Appended(_)) => return,
                Ok(AppendOutcome::TimelineFull) => {
                    tracing::warn!(outcome = "timeline_full", session = %session, kind = entry.kind.as_str(), "timeline entry dropped; the timeline is full");
                    return;
                }
                Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                    tracing::warn!(outcome = "timeline_delayed", session = %session, kind = entry.kind.as_str(), error = %chain(&error), "timeline entry delayed");
                }
                Err(error) => {
                    tracing::error!(outcome = "timeline_lost", session = %session, kind = entry.kind.as_str(), error = %chain(&error), "timeline entry lost");
                    return;
                }
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A panic, or the end of the runtime: the buffered entries would never be written.
        if !self.done {
            let left = self.timeline.buffer.discard(&self.session);
            tracing::error!(outcome = "timeline_lost", session = %self.session, left, "timeline writer ended before its entries were written");
        }
    }
}
