//! Timeline entries of certain kinds, of all sessions.

use super::{TimelineRow, decode};
use crate::{
    Store, StoreError, UnixMs,
    error::query_error,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::{SessionId, TimelineKind};
use sqlx::AssertSqlSafe;

impl Store {
    /// Entries of these kinds of the sessions that were created at this time or later, with their sessions, the newest sessions first,
    /// at most `limit`. Entries that were changed outside of this program are left out.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_entries_of_kinds(
        &self,
        kinds: &[TimelineKind],
        created_since_ms: UnixMs,
        limit: u32,
    ) -> Result<Vec<(SessionId, TimelineRow)>, StoreError> {
        let kinds: Vec<_> = kinds.iter().map(|kind| format!("'{}'", kind.as_str())).collect();
        // Only texts of a closed list and a number are inserted into the text. Ids are in the order of their time of creation.
        let text = format!(
            "SELECT session_id, number, at_ms, kind, sentence, data, mac FROM timeline WHERE session_id >= $1 AND kind IN ({}) \
             ORDER BY session_id DESC, number LIMIT {limit}",
            kinds.join(", ")
        );
        let rows = sqlx::query(AssertSqlSafe(text))
            .bind(SessionId::from_parts(to_sql_integer(created_since_ms).unsigned_abs(), [0; 10]).as_str())
            .fetch_all(self.read_pool())
            .await
            .map_err(query_error("read timeline entries by their kind"))?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let entry = decode(self.row_macs(), row)?;
            if entry.kind != TimelineKind::EntryTampered {
                entries.push((RowReader::new(row, "timeline", "session_id").parsed("session_id")?, entry));
            }
        }
        Ok(entries)
    }
}
