//! The consents of viewers: each agrees once to sign in for the owner of its session.

use crate::{Store, StoreError, UnixMs, WriteKind, error::query_error, row_reader::to_sql_integer};
use anteroom_wire::CallerId;

impl Store {
    /// Records that a viewer agreed. Returns whether it is the first time.
    ///
    /// # Errors
    /// When there is no such caller (conflict), or the database cannot be written.
    pub async fn record_consent(&self, caller: &CallerId, at_ms: UnixMs) -> Result<bool, StoreError> {
        const OPERATION: &str = "record a consent";
        let mut transaction = self.begin_write(WriteKind::RecordConsent, OPERATION).await?;
        let done = sqlx::query(
            "INSERT INTO consents (caller_id, agreed_at_ms) VALUES ($1, $2) ON CONFLICT (caller_id) DO NOTHING",
        )
        .bind(caller.as_str())
        .bind(to_sql_integer(at_ms))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(done.rows_affected() == 1)
    }

    /// Whether the viewer agreed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn has_consented(&self, caller: &CallerId) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT caller_id FROM consents WHERE caller_id = $1")
            .bind(caller.as_str())
            .fetch_optional(self.read_pool())
            .await
            .map_err(query_error("read a consent"))?;
        Ok(row.is_some())
    }
}
