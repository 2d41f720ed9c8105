//! What a database records of the restore that it came from.

use crate::{Store, StoreError, UnixMs, WriteKind, error::query_error};
use serde::Deserialize;

/// The key in `meta`.
pub(crate) const RESTORED_KEY: &str = "restored";

/// The restore from which a database came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Restored {
    /// When the backup was made.
    pub made_at_ms: UnixMs,
    /// When it was restored. Machines that are older stayed with the server that was backed up.
    pub restored_at_ms: UnixMs,
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
