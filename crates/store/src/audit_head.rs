//! The head of the audit trail: a second place for it, so that a trail and its head file cannot be replaced by an older copy unnoticed.

use crate::{Store, StoreError, WriteKind, error::query_error};

impl Store {
    /// The signed head that was stored last.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn get_audit_head(&self) -> Result<Option<String>, StoreError> {
        let row = sqlx::query_scalar::<_, String>("SELECT value FROM meta WHERE key = 'audit_head'");
        row.fetch_optional(self.read_pool()).await.map_err(query_error("read the head of the audit trail"))
    }

    /// Stores the signed head.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set_audit_head(&self, head: &str) -> Result<(), StoreError> {
        const OPERATION: &str = "store the head of the audit trail";
        let mut transaction = self.begin_write(WriteKind::AuditHead, OPERATION).await?;
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ('audit_head', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(head)
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }
}
