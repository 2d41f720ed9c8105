//! MACs of the rows of the database: their first use, and the alarm about rows that were changed outside of this server.

use super::KeyRotationError;
use crate::audit::Audit;
use anteroom_audit::{Action, Entry, Subject};
use anteroom_store::{AddRowMacsError, RowsWithMacs, Store, TamperedRow};
use anteroom_vault::{KeyError, KeyRing};

/// Uses the MACs of the rows from now on. The rows of a database of an earlier version get theirs once: the key file records it, so that a
/// person who can change the database cannot make its rows pass for those of an earlier version.
///
/// # Errors
/// The rows have no MACs although they got them, or that cannot be recorded; or the database or the key file cannot be used.
pub(super) async fn begin_use(store: &Store, ring: &KeyRing) -> Result<(), KeyRotationError> {
    let with_macs = store.rows_with_macs().await?;
    if with_macs != RowsWithMacs::All {
        let has_rows = store.has_rows_without_macs(with_macs).await?;
        let is_marked = match with_macs {
            RowsWithMacs::None => ring.is_marked_for_row_macs()?,
            RowsWithMacs::AllButSessions | RowsWithMacs::All => ring.is_marked_for_session_macs()?,
        };
        if has_rows && is_marked {
            return Err(KeyRotationError::RowMacsMissing);
        }
        // Of a new database nothing can pass for rows of an earlier version, so the key file need not record it now.
        let record = || if has_rows { ring.mark_for_row_macs() } else { Ok(()) };
        let rows = store.add_row_macs(ring, with_macs, record).await.map_err(|error| match error {
            AddRowMacsError::Keys(source) => KeyRotationError::RowsNotAccepted(source),
            AddRowMacsError::Store(error) => error.into(),
        })?;
        if has_rows {
            tracing::info!(outcome = "row_macs_added", rows, "rows of a database of an earlier version got their MACs");
        }
    }
    match ring.mark_for_row_macs() {
        // The service manager's file, or one in a directory of another user. Rows without MACs are not accepted there either.
        Ok(()) | Err(KeyError::ReadOnly { .. } | KeyError::Unwritable { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    store.use_row_macs(ring.clone());
    Ok(())
}

/// Gives all rows MACs as they are. The operator has looked at them: whatever others have written is accepted.
///
/// # Errors
/// The key file cannot be changed, or the database cannot be written.
pub async fn accept_rows(store: &Store, ring: &KeyRing) -> Result<u64, KeyRotationError> {
    store.add_row_macs(ring, RowsWithMacs::None, || ring.mark_for_row_macs()).await.map_err(|error| match error {
        AddRowMacsError::Keys(error) => error.into(),
        AddRowMacsError::Store(error) => error.into(),
    })
}

/// Records in the audit trail that a row was changed outside of this server.
pub async fn record_tampered_row(audit: &Audit, TamperedRow { table, row }: &TamperedRow) {
    let entry = Entry { subject: subject(table, row), ..Entry::new(Action::RowTampered) };
    audit.record(entry.with_detail("table", *table).with_detail("row", row.clone())).await;
}

/// What the row is about.
fn subject(table: &str, row: &str) -> Subject {
    let id = row.split(' ').next().map(str::to_owned);
    match table {
        "callers" | "browsers" | "consents" => Subject { caller: id, ..Subject::default() },
        "credentials" => Subject { credential: id, ..Subject::default() },
        "sessions" | "timeline" | "timeline_heads" => Subject { session: id, ..Subject::default() },
        _ => Subject::default(),
    }
}
