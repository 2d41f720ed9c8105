//! What is concluded of a credential's health, written down with its messages.

use crate::{
    CredentialRow, Health, NewMessage, Store, StoreError, UnixMs, WriteKind,
    row::stored,
    credentials::{decode, select_credentials},
    outbox,
    error::query_error,
};
use anteroom_wire::{CredentialId, ProviderId};

/// Bytes of a detail that are kept.
const DETAIL_BYTES_MAX: usize = 1_000;

/// A update about a credential's bytes.
#[derive(Debug, Clone, Copy)]
pub struct HealthUpdate<'a> {
    /// Which.
    pub credential: &'a CredentialId,
    /// Of which revision: a update about bytes that were replaced says nothing of those that are there.
    pub revision: u64,
    /// What is concluded.
    pub health: Health,
    /// From what, one sentence; masked, no secrets.
    pub detail: &'a str,
    /// When the tool was asked; `None`: it was not.
    pub checked_at_ms: Option<UnixMs>,
    /// Who else is to be told, in the same transaction.
    pub messages: &'a [NewMessage],
}

impl Store {
    /// Writes a update down. `false`: the credential was deleted or has other bytes by now; nothing was changed.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set_health(&self, update: &HealthUpdate<'_>) -> Result<bool, StoreError> {
        const OPERATION: &str = "remember a credential's health";
        let mut transaction = self.begin(WriteKind::SetHealth, OPERATION).await?;
        let detail = &update.detail[..update.detail.floor_char_boundary(DETAIL_BYTES_MAX)];
        let done = sqlx::query(
            "UPDATE credentials SET health = $3, health_detail = $4, checked_at_ms = COALESCE($5, checked_at_ms) \
             WHERE id = $1 AND revision = $2 AND deleted_at_ms IS NULL",
        )
        .bind(update.credential.as_str())
        .bind(stored(update.revision))
        .bind(update.health.as_str())
        .bind(detail)
        .bind(update.checked_at_ms.map(stored))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if done.rows_affected() != 1 {
            transaction.unchanged();
            return Ok(false);
        }
        outbox::enqueue(&mut transaction, update.messages).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(true)
    }

    /// Credentials of a tool that are kept until they are deleted and of which it was asked last before `before_ms`: the longest ago
    /// first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read or has an impossible row.
    pub async fn unchecked_credentials(
        &self,
        provider: &ProviderId,
        before_ms: UnixMs,
        limit: u32,
    ) -> Result<Vec<CredentialRow>, StoreError> {
        let rows = sqlx::query(select_credentials!(
            "WHERE deleted_at_ms IS NULL AND policy = 'store' AND provider = $1 \
             AND COALESCE(checked_at_ms, stored_at_ms) < $2 ORDER BY COALESCE(checked_at_ms, stored_at_ms), id LIMIT $3"
        ))
        .bind(provider.as_str())
        .bind(stored(before_ms))
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .map_err(query_error("list the credentials that were not checked"))?;
        rows.iter().map(decode).collect()
    }

    /// Credentials that end by `end_ms` and of which not even that is written down: the soonest first, at most `limit`. `ended_ms` is
    /// now: what ended before it and is not written down as [`Health::NeedsAuth`] is among them.
    ///
    /// # Errors
    /// When the database cannot be read or has an impossible row.
    pub async fn expiring_credentials(
        &self,
        ended_ms: UnixMs,
        end_ms: UnixMs,
        limit: u32,
    ) -> Result<Vec<CredentialRow>, StoreError> {
        let rows = sqlx::query(select_credentials!(
            "WHERE deleted_at_ms IS NULL AND ((expires_at_ms <= $1 AND health <> 'needs_auth') \
             OR (expires_at_ms <= $2 AND health = 'valid')) ORDER BY expires_at_ms LIMIT $3"
        ))
        .bind(stored(ended_ms))
        .bind(stored(end_ms))
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .map_err(query_error("list the credentials that end"))?;
        rows.iter().map(decode).collect()
    }
}
