//! The timeline of a session: its events in order, for people and programs. Append-only.
//!
//! Entries have numbers without gaps, and a row of `timeline_heads` counts them, both with a MAC: an entry that was changed, inserted or
//! removed outside of this program is shown as such.

mod head;
mod of_kinds;

use crate::{
    ObservedWrite, Store, StoreError, StoreSettings, UnixMs, WriteKind,
    connection::Connection,
    dialect::WriteScope,
    error::query_error,
    row_macs::{RowMacs, tables::TIMELINE},
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_vault::RowContent;
use anteroom_wire::{SessionId, TimelineKind, guest_text::clean_line};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, any::AnyRow};

/// The most bytes that are shown of each text of an entry that was changed outside of this program.
const STORED_BYTES_MAX: usize = 1024;

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
    /// When there is no such session (conflict), another host holds it, or the database cannot be written.
    pub async fn append_entry(
        &self,
        session: &SessionId,
        entry: NewTimelineEntry,
    ) -> Result<AppendOutcome, StoreError> {
        const OPERATION: &str = "append to a session's timeline";
        let mut transaction = self
            .begin_write_in(
                WriteScope::Session(session),
                ObservedWrite::with_entry(WriteKind::AppendEvent, entry.kind),
                OPERATION,
            )
            .await?;
        let limits = self.settings();
        let head = head::read(self.row_macs(), &mut transaction, session).await?;
        if let (Some(holder), Some(held_by)) = (self.holder(), &head.held_by)
            && held_by.as_ref() != Some(&holder)
        {
            return Err(self.refuse(transaction, session));
        }
        let outcome = append_at(&mut transaction, head, session, entry, self, limits.timeline_entries_max).await?;
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
        let text = format!(
            "SELECT head.entries, head.mac AS head_mac, entry.session_id, entry.number, entry.at_ms, entry.kind, entry.sentence, \
             entry.data, entry.mac FROM (SELECT $1 AS id) session LEFT JOIN timeline_heads head ON head.session_id = session.id \
             LEFT JOIN timeline entry ON entry.session_id = session.id AND entry.number > $2 ORDER BY entry.number LIMIT {limit}"
        );
        // Only a number was inserted into the text.
        let rows = sqlx::query(AssertSqlSafe(text))
            .bind(session.as_str())
            .bind(to_sql_integer(after))
            .fetch_all(self.read_pool())
            .await
            .map_err(query_error("read a session's timeline"))?;
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let count = head::valid_count(self.row_macs(), session, first)?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let reader = RowReader::new(row, "timeline", "session_id");
            // Without an entry there is one row, with the head.
            let Some(number) = reader.number_or_null("number")? else { break };
            head::push_missing(&mut entries, after, number, limit);
            entries.push(decode(self.row_macs(), row)?);
        }
        if let Some(count) = count
            && entries.len() < limit as usize
        {
            head::push_missing(&mut entries, after, count.saturating_add(1), limit);
        }
        entries.truncate(limit as usize);
        if entries.iter().any(|entry| entry.kind == TimelineKind::EntryRemoved) {
            self.check_timeline_head(session).await?;
        }
        Ok(entries)
    }
}

/// Appends an entry in the caller's transaction, unless the timeline already has `entries_max` entries.
pub(crate) async fn append_entry_in(
    connection: &mut Connection,
    session: &SessionId,
    entry: NewTimelineEntry,
    store: &Store,
    entries_max: u64,
) -> Result<AppendOutcome, StoreError> {
    let head = head::read(store.row_macs(), &mut *connection, session).await?;
    append_at(connection, head, session, entry, store, entries_max).await
}

async fn append_at(
    connection: &mut Connection,
    head: head::Head,
    session: &SessionId,
    entry: NewTimelineEntry,
    store: &Store,
    entries_max: u64,
) -> Result<AppendOutcome, StoreError> {
    let entry = bounded(entry, store.settings());
    let number = head.next_number();
    if number > entries_max {
        return Ok(AppendOutcome::TimelineFull);
    }
    insert_entry(connection, session, number, &entry, store).await?;
    head.write_count(store.row_macs(), connection, session, number).await?;
    let NewTimelineEntry { at_ms, kind, sentence, data } = entry;
    Ok(AppendOutcome::Appended(TimelineRow { number, at_ms, kind, sentence, data }))
}

/// Begins the timeline of a session that this transaction has inserted.
pub(crate) async fn begin_timeline_in(
    connection: &mut Connection,
    session: &SessionId,
    entry: NewTimelineEntry,
    store: &Store,
) -> Result<(), StoreError> {
    const FIRST: u64 = 1;
    head::create(store.row_macs(), &mut *connection, session, FIRST).await?;
    insert_entry(connection, session, FIRST, &bounded(entry, store.settings()), store).await
}

async fn insert_entry(
    connection: &mut Connection,
    session: &SessionId,
    number: u64,
    entry: &NewTimelineEntry,
    store: &Store,
) -> Result<(), StoreError> {
    let data = entry.data.to_string();
    let content = RowContent::new("timeline")
        .text(Some(session.as_str()))
        .number(Some(to_sql_integer(number)))
        .number(Some(to_sql_integer(entry.at_ms)))
        .text(Some(entry.kind.as_str()))
        .text(Some(&entry.sentence))
        .text(Some(&data));
    sqlx::query(
        "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data, mac) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(session.as_str())
    .bind(to_sql_integer(number))
    .bind(to_sql_integer(entry.at_ms))
    .bind(entry.kind.as_str())
    .bind(entry.sentence.as_str())
    .bind(data.as_str())
    .bind(store.row_macs().mac(&content))
    .execute(connection)
    .await
    .map_err(query_error("append to a session's timeline"))?;
    Ok(())
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

/// An entry that was changed outside of this program is replaced by one that shows what is stored.
fn decode(macs: &RowMacs, row: &AnyRow) -> Result<TimelineRow, StoreError> {
    let reader = RowReader::new(row, "timeline", "session_id");
    let (number, at_ms) = (reader.number("number")?, reader.number("at_ms").unwrap_or(0));
    match macs.verify(&TIMELINE, row) {
        Ok(()) => Ok(TimelineRow {
            number,
            at_ms: reader.number("at_ms")?,
            kind: reader.text("kind")?.as_str().into(),
            sentence: reader.text("sentence")?,
            data: reader.parsed("data")?,
        }),
        Err(StoreError::TamperedRow { .. }) => {
            let stored =
                |column| reader.text(column).map_or(Value::Null, |text| clean_line(&text, STORED_BYTES_MAX).into());
            Ok(TimelineRow {
                number,
                at_ms,
                kind: TimelineKind::EntryTampered,
                sentence: "This entry was changed or inserted outside of this server; do not trust it.".to_owned(),
                data: json!({ "stored_kind": stored("kind"), "stored_sentence": stored("sentence") }),
            })
        }
        Err(error) => Err(error),
    }
}
