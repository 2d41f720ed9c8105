//! What a database records of the restore that it came from.

use crate::{Store, StoreError, UnixMs, WriteKind, error::query_error, restored_dump::PLACE_KEY};
use serde::{Deserialize, Serialize};
use sqlx::{Any, Executor};

/// The key in `meta`.
const RESTORED_KEY: &str = "restored";

/// Where the rows of a restored database came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoredFrom {
    /// A backup.
    #[default]
    Backup,
    /// The export of another database.
    Export,
    /// A dump that a tool of PostgreSQL restored: when it was made is the time of its last timeline entry.
    Dump,
}

/// The restore from which a database came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When the copy was made.
    pub made_at_ms: UnixMs,
    /// When it was restored. Machines that are older stayed with the server of the copied database.
    pub restored_at_ms: UnixMs,
    /// Where the rows came from.
    #[serde(default)]
    pub from: RestoredFrom,
}

/// Records the restore in a database that is used for the first time after it, and deletes tickets and login links: those that were used
/// since could be used again.
pub(crate) async fn record<C>(connection: &mut C, restored: Restored) -> Result<(), StoreError>
where
    for<'c> &'c mut C: Executor<'c, Database = Any>,
{
    let failed = query_error("record that it was restored");
    let mut record = serde_json::json!(restored);
    record["is_new"] = true.into();
    for text in ["DELETE FROM tickets", "DELETE FROM login_tokens"] {
        sqlx::query(text).execute(&mut *connection).await.map_err(failed)?;
    }
    sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(RESTORED_KEY)
        .bind(record.to_string())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    // It may be elsewhere now.
    sqlx::query("DELETE FROM meta WHERE key = $1").bind(PLACE_KEY).execute(connection).await.map(drop).map_err(failed)
}

impl Store {
    /// The last restore of this database; `None`: it never was restored.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn get_restored(&self) -> Result<Option<Restored>, StoreError> {
        let text = sqlx::query_scalar::<_, String>("SELECT value FROM meta WHERE key = $1").bind(RESTORED_KEY);
        let text = text.fetch_optional(self.read_pool()).await.map_err(query_error("read whether it was restored"))?;
        // It is for people: a record that cannot be read is none.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// The restore, if that was not asked before: it is recorded in the audit trail.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn take_restored(&self) -> Result<Option<Restored>, StoreError> {
        const OPERATION: &str = "take the record of a restore";
        const TAKE: &str = "UPDATE meta SET value = REPLACE(value, '\"is_new\":true', '\"is_new\":false') \
            WHERE key = $1 AND value LIKE '%\"is_new\":true%'";
        let found = self.get_restored().await?;
        if found.is_none() {
            return Ok(None);
        }
        let mut transaction = self.begin_write(WriteKind::Restored, OPERATION).await?;
        let done = sqlx::query(TAKE).bind(RESTORED_KEY).execute(&mut *transaction).await;
        if done.map_err(query_error(OPERATION))?.rows_affected() == 0 {
            transaction.finish_unchanged();
            return Ok(None);
        }
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(found)
    }
}
