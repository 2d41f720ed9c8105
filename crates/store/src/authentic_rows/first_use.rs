//! The first use of MACs: the rows of a database of an earlier version get theirs, once.

use super::{ALL_ROWS, RowsWithMacs};
use crate::{
    Store, StoreError, WriteKind,
    connection::Connection,
    error::query_error,
    row_macs::tables::{self, Table},
};
use anteroom_vault::{KeyError, KeyRing};
use sqlx::AssertSqlSafe;

/// Rows that are read at once.
const BATCH: u32 = 1_000;
const OPERATION: &str = "add MACs to rows";

/// Why the rows did not get MACs; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AddRowMacsError {
    /// The key file cannot be marked.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The database cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Whether there is a row that needs its first MAC.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn has_rows_without_macs(&self, with_macs: RowsWithMacs) -> Result<bool, StoreError> {
        for table in tables_without_macs(with_macs) {
            let text = format!("SELECT 1 FROM {} WHERE {} LIMIT 1", table.name, table.condition);
            let found = sqlx::query(AssertSqlSafe(text)).fetch_optional(self.read_pool()).await;
            if found.map_err(query_error(OPERATION))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives all rows a MAC as they are, except those of tables that have them, and records in the database that rows have MACs.
    /// `before_commit` records the same in the key file, which a person who can change only the database cannot undo. Returns the number of rows.
    ///
    /// # Errors
    /// When the database cannot be written, or `before_commit` fails: then nothing was changed.
    pub async fn add_row_macs(
        &self,
        ring: &KeyRing,
        with_macs: RowsWithMacs,
        before_commit: impl FnOnce() -> Result<(), KeyError> + Send,
    ) -> Result<u64, AddRowMacsError> {
        let mut transaction = self.begin_write(WriteKind::RenewMacs, OPERATION).await?;
        sqlx::query(
            "INSERT INTO timeline_heads (session_id, entries) SELECT id, (SELECT COALESCE(MAX(number), 0) FROM timeline \
             WHERE timeline.session_id = sessions.id) FROM sessions WHERE NOT EXISTS \
             (SELECT 1 FROM timeline_heads WHERE timeline_heads.session_id = sessions.id)",
        )
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        let mut rows = 0;
        for table in tables_without_macs(with_macs) {
            rows += add_to_table(&mut transaction, table, ring).await?;
        }
        write_meta(&mut transaction, "row_macs", ALL_ROWS).await?;
        if rows > 0 {
            write_meta(&mut transaction, "rows_accepted", &rows.to_string()).await?;
        }
        before_commit()?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(rows)
    }

    /// How many rows got MACs as they were, if that was not asked before: it is recorded in the audit trail.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn take_accepted_rows(&self) -> Result<Option<u64>, StoreError> {
        let mut transaction = self.begin_write(WriteKind::RenewMacs, OPERATION).await?;
        let rows: Option<String> = sqlx::query_scalar("DELETE FROM meta WHERE key = 'rows_accepted' RETURNING value")
            .fetch_optional(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        match &rows {
            Some(_) => transaction.commit().await.map_err(query_error(OPERATION))?,
            None => transaction.finish_unchanged(),
        }
        Ok(rows.and_then(|rows| rows.parse().ok()))
    }
}

fn tables_without_macs(with_macs: RowsWithMacs) -> &'static [&'static Table] {
    match with_macs {
        RowsWithMacs::None => &tables::ALL,
        RowsWithMacs::AllButSessions => &tables::SESSIONS_ONLY,
        RowsWithMacs::All => &[],
    }
}

async fn write_meta(connection: &mut Connection, key: &str, value: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(key)
        .bind(value)
        .execute(connection)
        .await
        .map_err(query_error(OPERATION))?;
    Ok(())
}

/// Gives all rows of a table a MAC; returns their number.
async fn add_to_table(connection: &mut Connection, table: &Table, ring: &KeyRing) -> Result<u64, StoreError> {
    let (mut rows, mut after) = (0, (String::new(), None));
    loop {
        let query = sqlx::query(AssertSqlSafe(table.select(&table.where_after(BATCH)))).bind(after.0.clone());
        let query = table.number_of_key(after.1).into_iter().fold(query, |query, number| query.bind(number));
        let batch = query.fetch_all(&mut *connection).await.map_err(query_error(OPERATION))?;
        let Some(last) = batch.last() else { return Ok(rows) };
        after = table.key_parts(last);
        for row in &batch {
            let (content, _) = table.content_of(row)?;
            table.write_mac(&mut *connection, row, &ring.row_mac(&content)).await?;
            rows += 1;
        }
    }
}
