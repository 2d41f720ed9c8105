//! The count of a timeline's entries.

use super::TimelineRow;
use crate::{
    Holder, RowFault, Store, StoreError, TamperedRow,
    connection::Connection,
    error::query_error,
    row_macs::{RowMacs, tables::TIMELINE_HEADS},
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_vault::RowContent;
use anteroom_wire::{SessionId, TimelineKind};
use serde_json::Value;
use sqlx::{Row, any::AnyRow};

const OPERATION: &str = "count the entries of a timeline";

/// The head of a timeline, as a transaction has read it before an append.
pub(super) struct Head {
    state: State,
    /// The highest number of an entry.
    last: u64,
    /// The host that holds the session; `None`: the session has ended or does not exist.
    pub(super) held_by: Option<Option<Holder>>,
}

enum State {
    /// This many entries were appended.
    Counted(u64),
    /// It was changed outside of this program, and stays without a valid MAC.
    Tampered,
    /// There is none: the database of an earlier version has no MACs yet, or it was removed outside of this program.
    Absent,
}

fn content(session: &str, entries: i64) -> RowContent {
    RowContent::new("timeline_heads").text(Some(session)).number(Some(entries))
}

/// Creates the head of a new session's timeline, which has so many entries.
pub(super) async fn create(
    macs: &RowMacs,
    connection: &mut Connection,
    session: &SessionId,
    entries: u64,
) -> Result<(), StoreError> {
    let entries = to_sql_integer(entries);
    sqlx::query("INSERT INTO timeline_heads (session_id, entries, mac) VALUES ($1, $2, $3)")
        .bind(session.as_str())
        .bind(entries)
        .bind(macs.mac(&content(session.as_str(), entries)))
        .execute(connection)
        .await
        .map_err(query_error(OPERATION))?;
    Ok(())
}

/// Reads the head. A head that was changed outside of this program raises the alarm.
pub(super) async fn read(macs: &RowMacs, connection: &mut Connection, session: &SessionId) -> Result<Head, StoreError> {
    let row = sqlx::query(
        "SELECT head.session_id, head.entries, head.mac AS head_mac, \
         (SELECT COALESCE(MAX(number), 0) FROM timeline WHERE session_id = $1) AS last, \
         of_session.state, of_session.host_id, of_session.host_incarnation \
         FROM (SELECT $1 AS id) session LEFT JOIN timeline_heads head ON head.session_id = session.id \
         LEFT JOIN sessions of_session ON of_session.id = session.id",
    )
    .bind(session.as_str())
    .fetch_one(connection)
    .await
    .map_err(query_error(OPERATION))?;
    let reader = RowReader::new(&row, "timeline_heads", "session_id");
    let last = reader.number("last")?;
    let is_active = reader.text_or_null("state")?.is_some_and(|state| state == "active");
    let held_by = if is_active { Some(Holder::decode(&reader)?) } else { None };
    let state = match check(macs, session, &row)? {
        Ok(Some(count)) if count >= last => State::Counted(count),
        Ok(Some(_)) => {
            raise(macs, session, RowFault::CountTooLow);
            State::Tampered
        }
        Ok(None) => State::Absent,
        Err(fault) => {
            raise(macs, session, fault);
            State::Tampered
        }
    };
    Ok(Head { state, last, held_by })
}

impl Head {
    /// The number of the next entry. Numbers of entries that were removed are not used again.
    pub(super) fn next_number(&self) -> u64 {
        match self.state {
            State::Counted(count) => count.saturating_add(1),
            State::Tampered | State::Absent => self.last.saturating_add(1),
        }
    }

    /// Counts the entry with this number, in the transaction that has inserted it.
    pub(super) async fn write_count(
        self,
        macs: &RowMacs,
        connection: &mut Connection,
        session: &SessionId,
        number: u64,
    ) -> Result<(), StoreError> {
        let entries = to_sql_integer(number);
        let mac = match self.state {
            State::Counted(_) => macs.mac(&content(session.as_str(), entries)),
            State::Tampered => None,
            State::Absent => return Ok(()),
        };
        sqlx::query("UPDATE timeline_heads SET entries = $2, mac = $3 WHERE session_id = $1")
            .bind(session.as_str())
            .bind(entries)
            .bind(mac)
            .execute(connection)
            .await
            .map_err(query_error(OPERATION))?;
        Ok(())
    }
}

/// The count in the columns `entries` and `head_mac`, if there is a head.
fn check(macs: &RowMacs, session: &SessionId, row: &AnyRow) -> Result<Result<Option<u64>, RowFault>, StoreError> {
    let entries: Option<i64> = row.try_get("entries").map_err(query_error(OPERATION))?;
    let mac: Option<String> = row.try_get("head_mac").map_err(query_error(OPERATION))?;
    let count = entries.map(i64::unsigned_abs);
    let Some(ring) = macs.ring() else { return Ok(Ok(count)) };
    Ok(ring
        .check_row_mac(&content(session.as_str(), entries.unwrap_or(0)), mac.as_deref())
        .map(|_| count)
        .map_err(RowFault::from))
}

fn raise(macs: &RowMacs, session: &SessionId, fault: RowFault) {
    // The error is for readers of the row.
    let _ = macs.raise_alarm(&TIMELINE_HEADS, session.to_string(), fault);
}

/// The number of entries by a head with a valid MAC, in a row with the columns `entries` and `head_mac`. Raises the alarm about another.
pub(super) fn valid_count(macs: &RowMacs, session: &SessionId, row: &AnyRow) -> Result<Option<u64>, StoreError> {
    Ok(match check(macs, session, row)? {
        Ok(count) => count,
        Err(fault) => {
            raise(macs, session, fault);
            None
        }
    })
}

/// Appends an entry for each number between the last entry and `next` that is missing, up to `limit` entries.
pub(super) fn push_missing(entries: &mut Vec<TimelineRow>, after: u64, next: u64, limit: u32) {
    let (last, at_ms) = entries.last().map_or((after, 0), |entry| (entry.number, entry.at_ms));
    for number in last.saturating_add(1)..next {
        if entries.len() >= limit as usize {
            return;
        }
        entries.push(TimelineRow {
            number,
            at_ms,
            kind: TimelineKind::EntryRemoved,
            sentence: "This entry was removed outside of this server.".to_owned(),
            data: Value::Null,
        });
    }
}

impl Store {
    /// Raises the alarm about a timeline that has fewer or more entries than were counted.
    pub(super) async fn check_timeline_head(&self, session: &SessionId) -> Result<Option<TamperedRow>, StoreError> {
        let row = sqlx::query(
            "SELECT sessions.id, head.entries, head.mac AS head_mac, \
             (SELECT COUNT(*) FROM timeline WHERE timeline.session_id = sessions.id) AS found \
             FROM sessions LEFT JOIN timeline_heads head ON head.session_id = sessions.id WHERE sessions.id = $1",
        )
        .bind(session.as_str())
        .fetch_optional(self.read_pool())
        .await
        .map_err(query_error(OPERATION))?;
        // It was erased.
        let Some(row) = row else { return Ok(None) };
        let found: u64 = RowReader::new(&row, "timeline_heads", "id").number("found")?;
        let fault = match check(self.row_macs(), session, &row)? {
            Ok(Some(count)) if count > found => RowFault::EntriesMissing(count - found),
            Ok(Some(count)) if count < found => RowFault::CountTooLow,
            Ok(_) => return Ok(None),
            Err(fault) => fault,
        };
        raise(self.row_macs(), session, fault);
        Ok(Some(TamperedRow { table: TIMELINE_HEADS.name, row: session.to_string() }))
    }

    /// Raises the alarm about all such timelines, and returns their heads.
    pub(crate) async fn check_timeline_heads(&self) -> Result<Vec<TamperedRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT sessions.id FROM sessions LEFT JOIN timeline_heads head ON head.session_id = sessions.id \
             WHERE head.entries IS NULL OR head.entries <> \
             (SELECT COUNT(*) FROM timeline WHERE timeline.session_id = sessions.id)",
        )
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error(OPERATION))?;
        let mut tampered = Vec::new();
        for row in &rows {
            // The check of sessions names a row whose id is none.
            let Ok(session) = RowReader::new(row, "sessions", "id").parsed::<SessionId>("id") else { continue };
            tampered.extend(self.check_timeline_head(&session).await?);
        }
        Ok(tampered)
    }
}
