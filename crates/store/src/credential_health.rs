//! Stores the health of credentials, with its webhook messages, and finds credentials that are due for a check or expire.

use crate::{
    CredentialRow, HealthKind, NewMessage, Store, StoreError, UnixMs, WriteKind,
    credentials::{self, decode_credential_row, select_credentials},
    error::query_error,
    outbox,
    row_macs::tables::CREDENTIALS,
    row_reader::to_sql_integer,
};
use anteroom_wire::{CredentialId, ProviderId};

/// The most bytes of a detail; a longer one is truncated.
const DETAIL_BYTES_MAX: usize = 1_000;

/// A new health of a credential.
#[derive(Debug, Clone, Copy)]
pub struct HealthUpdate<'a> {
    /// The credential.
    pub credential: &'a CredentialId,
    /// The revision that was checked. If the credential has another revision by now, nothing is stored.
    pub revision: u64,
    /// The health.
    pub health: HealthKind,
    /// Why, one sentence without secrets.
    pub detail: &'a str,
    /// When the tool checked it; `None`: it did not.
    pub checked_at_ms: Option<UnixMs>,
    /// Webhook messages to enqueue in the same transaction.
    pub webhook_messages: &'a [NewMessage],
}

impl Store {
    /// Stores a credential's health. `false`: the credential was deleted, has another revision by now or was changed outside
    /// of this program; nothing was changed.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set_credential_health(&self, update: &HealthUpdate<'_>) -> Result<bool, StoreError> {
        const OPERATION: &str = "store a credential's health";
        let mut transaction = self.begin_write(WriteKind::SetHealth, OPERATION).await?;
        let before = credentials::fetch_valid_credential(self.row_macs(), &mut transaction, update.credential).await;
        match before {
            Ok(_) => {}
            Err(StoreError::TamperedRow { .. }) => {
                transaction.finish_unchanged();
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        let detail = &update.detail[..update.detail.floor_char_boundary(DETAIL_BYTES_MAX)];
        let done = sqlx::query(
            "UPDATE credentials SET health = $3, health_detail = $4, checked_at_ms = COALESCE($5, checked_at_ms) \
             WHERE id = $1 AND revision = $2 AND deleted_at_ms IS NULL",
        )
        .bind(update.credential.as_str())
        .bind(to_sql_integer(update.revision))
        .bind(update.health.as_str())
        .bind(detail)
        .bind(update.checked_at_ms.map(to_sql_integer))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if done.rows_affected() != 1 {
            transaction.finish_unchanged();
            return Ok(false);
        }
        self.row_macs().renew(&mut transaction, &CREDENTIALS, update.credential.as_str().into()).await?;
        outbox::enqueue_messages(&mut transaction, update.webhook_messages).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(true)
    }

    /// Credentials of a provider with the policy `store` that were last checked before `before_ms`, the oldest check first, at most
    /// `limit`.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_unchecked_credentials(
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
        .bind(to_sql_integer(before_ms))
        .bind(i64::from(limit))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("list the credentials that are due for a check"))?;
        rows.iter().map(decode_credential_row).collect()
    }

    /// Credentials whose stored health does not show their expiry yet: those that expired by `now_ms` and are not
    /// [`HealthKind::NeedsAuth`], and those that expire by `soon_ms` and are still [`HealthKind::Valid`]. The soonest first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_expiring_credentials(
        &self,
        now_ms: UnixMs,
        soon_ms: UnixMs,
        limit: u32,
    ) -> Result<Vec<CredentialRow>, StoreError> {
        let rows = sqlx::query(select_credentials!(
            "WHERE deleted_at_ms IS NULL AND ((expires_at_ms <= $1 AND health <> 'needs_auth') \
             OR (expires_at_ms <= $2 AND health = 'valid')) ORDER BY expires_at_ms LIMIT $3"
        ))
        .bind(to_sql_integer(now_ms))
        .bind(to_sql_integer(soon_ms))
        .bind(i64::from(limit))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("list the credentials that expire"))?;
        rows.iter().map(decode_credential_row).collect()
    }
}
