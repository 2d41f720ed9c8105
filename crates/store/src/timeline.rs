//! The timeline of a session: its events in order, for people and programs. Append-only.

use crate::{
    ObservedWrite, Store, StoreError, StoreSettings, UnixMs, WriteKind,
    error::query_error,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::{SessionId, TimelineKind, guest_text::clean_line};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Row, any::AnyRow};

/// An entry to be appended. It must not contain secrets: everyone who may see the session can read it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTimelineEntry {
    /// When it happened.
    pub at_ms: UnixMs,
    /// Its kind.
    pub kind: TimelineKind,
    /// One sentence, for people.
    pub sentence: String,
    /// Details, by kind; [`Value::Null`] when there are none.
    pub data: Value,
}

impl NewTimelineEntry {
    /// An entry without details.
    pub fn new(at_ms: UnixMs, kind: TimelineKind, sentence: impl Into<String>) -> Self {
        Self { at_ms, kind, sentence: sentence.into(), data: Value::Null }
    }

    /// Adds details.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
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
    /// Its kind; [`TimelineKind::Unknown`] if a newer version wrote it.
    pub kind: TimelineKind,
    /// One sentence, for people.
    pub sentence: String,
    /// Details, by kind.
    pub data: Value,
}

/// The outcome of an append to a timeline.
#[derive(Debug, Clone, PartialEq)]
pub enum AppendOutcome {
    /// The entry was added, as this row.
    Appended(TimelineRow),
    /// The timeline has [`StoreSettings::timeline_entries_max`] entries, and nothing was added.
    TimelineFull,
}

impl AppendOutcome {
    /// The row of the added entry.
    pub fn into_row(self) -> Option<TimelineRow> {
        match self {
            Self::Appended(row) => Some(row),
            Self::TimelineFull => None,
        }
    }
}

impl Store {
    /// Appends an entry, also to a session that has ended, unless its timeline is full.
    ///
    /// # Errors
    /// When there is no such session (conflict), or the database cannot be written.
    pub async fn append_entry(
        &self,
        session: &SessionId,
        entry: NewTimelineEntry,
    ) -> Result<AppendOutcome, StoreError> {
        const OPERATION: &str = "append to a session's timeline";
        let mut transaction =
            self.begin_write(ObservedWrite::with_entry(WriteKind::AppendEvent, entry.kind), OPERATION).await?;
        let limits = self.settings();
        let outcome = append_entry_in(&mut transaction, session, entry, limits, limits.timeline_entries_max).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(outcome)
    }

    /// The entries after number `after` (0: from the start), the oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_timeline(
        &self,
        session: &SessionId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<TimelineRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT session_id, number, at_ms, kind, sentence, data FROM timeline \
             WHERE session_id = $1 AND number > $2 ORDER BY number LIMIT $3",
        )
        .bind(session.as_str())
        .bind(to_sql_integer(after))
        .bind(i64::from(limit))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("read a session's timeline"))?;
        rows.iter().map(decode).collect()
    }
}

/// Appends an entry in the caller's transaction, unless the timeline already has `entries_max` entries.
pub(crate) async fn append_entry_in(
    connection: &mut AnyConnection,
    session: &SessionId,
    entry: NewTimelineEntry,
    limits: &StoreSettings,
    entries_max: u64,
) -> Result<AppendOutcome, StoreError> {
    let entry = bounded(entry, limits);
    let row = sqlx::query(
        "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) \
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5 FROM timeline WHERE session_id = $1 \
         HAVING COALESCE(MAX(number), 0) < $6 RETURNING number",
    )
    .bind(session.as_str())
    .bind(to_sql_integer(entry.at_ms))
    .bind(entry.kind.as_str())
    .bind(entry.sentence.as_str())
    .bind(entry.data.to_string())
    .bind(to_sql_integer(entries_max))
    .fetch_optional(connection)
    .await
    .map_err(query_error("append to a session's timeline"))?;
    let Some(row) = row else { return Ok(AppendOutcome::TimelineFull) };
    let number: i64 = row.try_get("number").map_err(query_error("append to a session's timeline"))?;
    let NewTimelineEntry { at_ms, kind, sentence, data } = entry;
    Ok(AppendOutcome::Appended(TimelineRow { number: number.unsigned_abs(), at_ms, kind, sentence, data }))
}

/// Makes one clean line of every text in an entry's data.
fn clean_texts(data: &mut Value) {
    match data {
        Value::String(text) => *text = clean_line(text, usize::MAX),
        Value::Array(values) => values.iter_mut().for_each(clean_texts),
        Value::Object(fields) => fields.values_mut().for_each(clean_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Cleans an entry and limits its size, because its texts can come from a guest: a long sentence is truncated, large data is replaced by its
/// size.
fn bounded(mut entry: NewTimelineEntry, limits: &StoreSettings) -> NewTimelineEntry {
    entry.sentence = clean_line(&entry.sentence, usize::MAX);
    clean_texts(&mut entry.data);
    if entry.sentence.len() > limits.sentence_bytes_max {
        entry.sentence.truncate(entry.sentence.floor_char_boundary(limits.sentence_bytes_max));
        entry.sentence.push('…');
    }
    let bytes = entry.data.to_string().len();
    if bytes > limits.event_data_bytes_max {
        entry.data = json!({ "left_out_bytes": bytes });
    }
    entry
}

fn decode(row: &AnyRow) -> Result<TimelineRow, StoreError> {
    let reader = RowReader::new(row, "timeline", "session_id");
    Ok(TimelineRow {
        number: reader.number("number")?,
        at_ms: reader.number("at_ms")?,
        kind: reader.text("kind")?.as_str().into(),
        sentence: reader.text("sentence")?,
        data: reader.parsed("data")?,
    })
}
