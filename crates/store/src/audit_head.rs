//! The head of the audit trail: a second place for it, so that a trail and its head file cannot be replaced by an older copy unnoticed.

use crate::{Store, StoreError, WriteKind, error::query_error};

/// The key of the head in `meta`: each host of a cluster has a trail of its own.
fn key(store: &Store) -> String {
    store.holder().map_or_else(|| "audit_head".to_owned(), |holder| format!("audit_head {}", holder.host))
}

impl Store {
    /// The signed head that was stored last.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn get_audit_head(&self) -> Result<Option<String>, StoreError> {
        let row = sqlx::query_scalar::<_, String>("SELECT value FROM meta WHERE key = $1");
        row.bind(key(self))
            .fetch_optional(self.read_pool())
            .await
            .map_err(query_error("read the head of the audit trail"))
    }

    /// Stores the signed head.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set_audit_head(&self, head: &str) -> Result<(), StoreError> {
        const OPERATION: &str = "store the head of the audit trail";
        let mut transaction = self.begin_write(WriteKind::AuditHead, OPERATION).await?;
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($2, $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(head)
        .bind(key(self))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }
}
