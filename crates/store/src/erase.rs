//! Erases sealed bytes and the account's name: their pages are overwritten (`secure_delete`) and the write-ahead log is emptied. The
//! credential's row stays.

use crate::{
    CredentialRow, NewMessage, Store, StoreError, UnixMs, WriteKind,
    connection::Connection,
    credentials::{self, decode_credential_row, select_credentials},
    error::query_error,
    outbox,
    row_reader::to_sql_integer,
};
use anteroom_wire::CredentialId;

/// The result of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// It was deleted.
    Deleted,
    /// It had already been deleted.
    AlreadyDeleted,
    /// There is no such credential.
    NotFound,
}

impl Store {
    /// Erases the sealed bytes of a credential; its row stays. Repeating it changes nothing.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn delete_credential(&self, id: &CredentialId, at_ms: UnixMs) -> Result<DeleteOutcome, StoreError> {
        self.delete_credential_with_messages(id, at_ms, &[]).await
    }

    /// The same; these messages are enqueued in its transaction if there were bytes.
    ///
    /// # Errors
    /// As [`Store::delete_credential`].
    pub async fn delete_credential_with_messages(
        &self,
        id: &CredentialId,
        at_ms: UnixMs,
        webhook_messages: &[NewMessage],
    ) -> Result<DeleteOutcome, StoreError> {
        const OPERATION: &str = "delete a credential";
        let mut transaction = self.begin_write(WriteKind::DeleteCredential, OPERATION).await?;
        if erase_sealed_bytes(&mut transaction, id, at_ms).await? {
            outbox::enqueue_messages(&mut transaction, webhook_messages).await?;
            self.commit_erasing(transaction, OPERATION).await?;
            return Ok(DeleteOutcome::Deleted);
        }
        let row = credentials::fetch_credential(&mut transaction, id).await?;
        transaction.finish_unchanged();
        Ok(row.map_or(DeleteOutcome::NotFound, |_| DeleteOutcome::AlreadyDeleted))
    }

    /// Erases the bytes of credentials whose deadline for delivery has passed, at most `limit`; returns these credentials. The messages
    /// about each are enqueued in the transaction.
    ///
    /// # Errors
    /// When the database cannot be used or has a corrupt row; then nothing was deleted.
    pub async fn delete_expired_credentials(
        &self,
        now_ms: UnixMs,
        limit: u32,
        webhook_messages: impl Fn(&CredentialRow) -> Vec<NewMessage> + Send,
    ) -> Result<Vec<CredentialRow>, StoreError> {
        const OPERATION: &str = "delete the credentials that were not delivered in time";
        let overdue = sqlx::query(select_credentials!(
            "WHERE deliver_until_ms <= $1 AND deleted_at_ms IS NULL ORDER BY deliver_until_ms LIMIT $2"
        ))
        .bind(to_sql_integer(now_ms))
        .bind(i64::from(limit))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error(OPERATION))?;
        if overdue.is_empty() {
            return Ok(Vec::new());
        }
        let mut transaction = self.begin_write(WriteKind::DeleteExpired, OPERATION).await?;
        let mut deleted = Vec::with_capacity(overdue.len());
        for row in &overdue {
            let row = decode_credential_row(row)?;
            // It may have been renewed or deleted since it was read.
            let now = match credentials::fetch_valid_credential(self.row_macs(), &mut transaction, &row.id).await {
                Ok(Some(now)) => now,
                // The deadline of a row that was changed outside of this program is not trusted.
                Ok(None) | Err(StoreError::TamperedRow { .. }) => continue,
                Err(error) => return Err(error),
            };
            let is_overdue = now.deletion_policy.until_ms().is_some_and(|until_ms| until_ms <= now_ms);
            if is_overdue && erase_sealed_bytes(&mut transaction, &now.id, now_ms).await? {
                let messages = webhook_messages(&now);
                outbox::enqueue_messages(&mut transaction, &messages).await?;
                deleted.push(now);
            }
        }
        self.commit_erasing(transaction, OPERATION).await?;
        Ok(deleted)
    }
}

/// Erases the bytes in the caller's transaction, which must end with [`Store::commit_erasing`]. `false`: there were no bytes.
pub(crate) async fn erase_sealed_bytes(
    connection: &mut Connection,
    id: &CredentialId,
    at_ms: UnixMs,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE credentials SET sealed = NULL, account = NULL, mac = NULL, deleted_at_ms = $2 \
         WHERE id = $1 AND deleted_at_ms IS NULL",
    )
    .bind(id.as_str())
    .bind(to_sql_integer(at_ms))
    .execute(connection)
    .await
    .map_err(query_error("delete a credential's bytes"))?;
    Ok(done.rows_affected() == 1)
}
