//! The consents of viewers: each agrees once to sign in for the owner of its session.

use crate::{
    Store, StoreError, UnixMs, WriteKind, error::query_error, row_macs::tables::CONSENTS, row_reader::to_sql_integer,
};
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
        let is_first = done.rows_affected() == 1;
        if is_first {
            self.row_macs().renew(&mut transaction, &CONSENTS, caller.as_str().into()).await?;
        }
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(is_first)
    }

    /// Whether the viewer agreed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn has_consented(&self, caller: &CallerId) -> Result<bool, StoreError> {
        let mut connection = self.read_pool().acquire().await.map_err(query_error("read a consent"))?;
        self.row_macs().require_valid(&mut connection, &CONSENTS, caller.as_str().into()).await
    }
}
