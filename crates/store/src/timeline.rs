//! The timeline of a session: its events in order, for people and programs. Append-only.

use crate::{
    Settings, Store, StoreError, UnixMs, Write, WriteKind,
    error::query_error,
    row::{RowReader, stored},
};
use anteroom_wire::SessionId;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Row, any::AnyRow};

/// An entry to be appended. It must not contain secrets: everyone who may see the session can read it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// When it happened.
    pub at_ms: UnixMs,
    /// The stable kind, for programs (`machine_ready`).
    pub kind: String,
    /// One sentence, for people.
    pub sentence: String,
    /// Details, by kind; [`Value::Null`] when there are none.
    pub data: Value,
}

impl NewEvent {
    /// An entry without details.
    pub fn new(at_ms: UnixMs, kind: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { at_ms, kind: kind.into(), sentence: sentence.into(), data: Value::Null }
    }

    /// Adds details.
    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data = data;
        self
    }
}

/// A stored entry.
#[derive(Debug, Clone, PartialEq)]
pub struct TimelineRow {
    /// The sequence number within the session, from 1.
    pub number: u64,
    /// When it happened.
    pub at_ms: UnixMs,
    /// The stable kind, for programs.
    pub kind: String,
    /// One sentence, for people.
    pub sentence: String,
    /// Details, by kind.
    pub data: Value,
}

impl Store {
    /// Appends an entry, also to a session that has ended. `None`: the timeline has [`Settings::timeline_entries_max`] entries, and
    /// nothing was added.
    ///
    /// # Errors
    /// When there is no such session (conflict), or the database cannot be written.
    pub async fn append_event(&self, session: &SessionId, event: NewEvent) -> Result<Option<TimelineRow>, StoreError> {
        const OPERATION: &str = "append to a session's timeline";
        let mut transaction = self.begin(Write::with_event(WriteKind::AppendEvent, &event.kind), OPERATION).await?;
        let limits = self.settings();
        let row = append(&mut transaction, session, event, limits, limits.timeline_entries_max).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(row)
    }

    /// The entries after number `after` (0: from the start), the oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn timeline(&self, session: &SessionId, after: u64, limit: u32) -> Result<Vec<TimelineRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT session_id, number, at_ms, kind, sentence, data FROM timeline \
             WHERE session_id = $1 AND number > $2 ORDER BY number LIMIT $3",
        )
        .bind(session.as_str())
        .bind(stored(after))
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .map_err(query_error("read a session's timeline"))?;
        rows.iter().map(decode).collect()
    }
}

/// Appends an entry in the caller's transaction, unless the timeline already has `entries_max` entries.
pub(crate) async fn append(
    connection: &mut AnyConnection,
    session: &SessionId,
    event: NewEvent,
    limits: &Settings,
    entries_max: u64,
) -> Result<Option<TimelineRow>, StoreError> {
    let event = bounded(event, limits);
    let row = sqlx::query(
        "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) \
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5 FROM timeline WHERE session_id = $1 \
         HAVING COALESCE(MAX(number), 0) < $6 RETURNING number",
    )
    .bind(session.as_str())
    .bind(stored(event.at_ms))
    .bind(event.kind.as_str())
    .bind(event.sentence.as_str())
    .bind(event.data.to_string())
    .bind(stored(entries_max))
    .fetch_optional(connection)
    .await
    .map_err(query_error("append to a session's timeline"))?;
    let Some(row) = row else { return Ok(None) };
    let number: i64 = row.try_get("number").map_err(query_error("append to a session's timeline"))?;
    let NewEvent { at_ms, kind, sentence, data } = event;
    Ok(Some(TimelineRow { number: number.unsigned_abs(), at_ms, kind, sentence, data }))
}

/// Limits the size of an entry, because its texts can come from a guest: a long sentence is truncated, large data is replaced by its
/// size.
fn bounded(mut event: NewEvent, limits: &Settings) -> NewEvent {
    if event.sentence.len() > limits.sentence_bytes_max {
        event.sentence.truncate(event.sentence.floor_char_boundary(limits.sentence_bytes_max));
        event.sentence.push('…');
    }
    event.kind.truncate(event.kind.floor_char_boundary(80));
    let bytes = event.data.to_string().len();
    if bytes > limits.event_data_bytes_max {
        event.data = json!({ "left_out_bytes": bytes });
    }
    event
}

fn decode(row: &AnyRow) -> Result<TimelineRow, StoreError> {
    let reader = RowReader::new(row, "timeline", "session_id");
    Ok(TimelineRow {
        number: reader.number("number")?,
        at_ms: reader.number("at_ms")?,
        kind: reader.text("kind")?,
        sentence: reader.text("sentence")?,
        data: reader.parsed("data")?,
    })
}
