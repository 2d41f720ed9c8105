//! What a store offers about the MACs of its rows: their first use, the check of all rows, and the alarms.

mod check;
mod first_use;

pub use check::CheckedRows;
pub(crate) use check::count_rows_of_key;
pub use first_use::AddRowMacsError;

use crate::{
    Sha256Hex, Store, StoreError, TamperedRow, connection::Connection, error::query_error, row_macs::tables::Table,
};
use anteroom_vault::KeyRing;
use sqlx::AssertSqlSafe;

/// Which rows of a database have MACs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsWithMacs {
    /// None: versions before 12 of the schema.
    None,
    /// All but those of sessions: version 12.
    AllButSessions,
    /// All.
    All,
}

/// The value of `row_macs` in `meta` when all rows have MACs; version 12 wrote `1`.
const ALL_ROWS: &str = "2";

impl Store {
    /// Makes and checks MACs with the keys of this ring from now on; rotations of the ring apply. To be called once, before the store is
    /// used, and only if [all rows have MACs](Store::rows_with_macs).
    pub fn use_row_macs(&self, ring: KeyRing) {
        self.row_macs().set_ring(ring);
    }

    /// Requires that a token which can be used once has a valid MAC; one that was used has none and is not accepted by its reader.
    pub(crate) async fn require_unused(
        &self,
        connection: &mut Connection,
        table: &'static Table,
        hash: &Sha256Hex,
    ) -> Result<(), StoreError> {
        let text = table.select(&format!("WHERE hash = $1 AND {}", table.condition));
        let row = sqlx::query(AssertSqlSafe(text)).bind(hash.as_str()).fetch_optional(connection).await;
        match row.map_err(query_error("read a token"))? {
            Some(row) => self.row_macs().verify(table, &row),
            None => Ok(()),
        }
    }

    /// The rows that are known to have been changed outside of this program, at most 100.
    pub fn tampered_rows(&self) -> Vec<TamperedRow> {
        self.row_macs().tampered_rows()
    }

    /// The tampered rows that were found since the last call; waits for the first.
    pub async fn take_tampered_rows(&self) -> Vec<TamperedRow> {
        loop {
            let new = self.row_macs().take_new_alarms();
            if !new.is_empty() {
                return new;
            }
            self.row_macs().wait_alarm().await;
        }
    }

    /// Which rows of this database have MACs.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn rows_with_macs(&self) -> Result<RowsWithMacs, StoreError> {
        let found: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'row_macs'")
            .fetch_optional(self.read_pool())
            .await
            .map_err(query_error("read whether rows have MACs"))?;
        Ok(match found.as_deref() {
            None => RowsWithMacs::None,
            Some(ALL_ROWS) => RowsWithMacs::All,
            Some(_) => RowsWithMacs::AllButSessions,
        })
    }
}
