//! Deleting sealed bytes for good: their pages are overwritten (`secure_delete`) and the write-ahead log is emptied. That there was a
//! credential stays on the record.

use crate::{
    CredentialRow, Store, StoreError, UnixMs, WriteKind,
    row::stored,
    credentials::{self, decode, select_credentials},
    error::query_error,
};
use anteroom_wire::CredentialId;
use sqlx::AnyConnection;

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Deleted now.
    Deleted,
    /// It had been deleted before.
    AlreadyDeleted,
    /// There is none.
    NotFound,
}

impl Store {
    /// Deletes the sealed bytes for good; that there was a credential stays on the record. Doing it again changes nothing.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn delete_credential(&self, id: &CredentialId, at_ms: UnixMs) -> Result<Deletion, StoreError> {
        const OPERATION: &str = "delete a credential";
        let mut transaction = self.begin(WriteKind::DeleteCredential, OPERATION).await?;
        if erase(&mut transaction, id, at_ms).await? {
            self.commit_erasing(transaction, OPERATION).await?;
            return Ok(Deletion::Deleted);
        }
        let row = credentials::fetch(&mut transaction, id).await?;
        transaction.unchanged();
        Ok(row.map_or(Deletion::NotFound, |_| Deletion::AlreadyDeleted))
    }

    /// Deletes the bytes of those that were to be handed out by now and were not, at most `limit`; tells which.
    ///
    /// # Errors
    /// When the database cannot be used or has an impossible row; then nothing was deleted.
    pub async fn delete_expired(&self, now_ms: UnixMs, limit: u32) -> Result<Vec<CredentialRow>, StoreError> {
        const OPERATION: &str = "delete what nobody fetched in time";
        let overdue = sqlx::query(select_credentials!(
            "WHERE deliver_until_ms <= $1 AND deleted_at_ms IS NULL ORDER BY deliver_until_ms LIMIT $2"
        ))
        .bind(stored(now_ms))
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .map_err(query_error(OPERATION))?;
        if overdue.is_empty() {
            return Ok(Vec::new());
        }
        let mut transaction = self.begin(WriteKind::DeleteExpired, OPERATION).await?;
        let mut deleted = Vec::with_capacity(overdue.len());
        for row in &overdue {
            let row = decode(row)?;
            // Somebody may have renewed or deleted it since it was read.
            let Some(now) = credentials::fetch(&mut transaction, &row.id).await? else { continue };
            let still = now.retention.until_ms().is_some_and(|until_ms| until_ms <= now_ms);
            if still && erase(&mut transaction, &now.id, now_ms).await? {
                deleted.push(now);
            }
        }
        self.commit_erasing(transaction, OPERATION).await?;
        Ok(deleted)
    }
}

/// Deletes the bytes inside the caller's transaction, which must end with [`Store::commit_erasing`]. `false`: there were none.
pub(crate) async fn erase(
    connection: &mut AnyConnection,
    id: &CredentialId,
    at_ms: UnixMs,
) -> Result<bool, StoreError> {
    let done =
        sqlx::query("UPDATE credentials SET sealed = NULL, deleted_at_ms = $2 WHERE id = $1 AND deleted_at_ms IS NULL")
            .bind(id.as_str())
            .bind(stored(at_ms))
            .execute(connection)
            .await
            .map_err(query_error("delete a credential's bytes"))?;
    Ok(done.rows_affected() == 1)
}
