//! Delivery of a `deliver_once` credential by a webhook message: either one message claims its bytes, or one lease gets them.
//!
//! ```text
//!            claim                         delivered
//!  unclaimed ─────▶ claimed by a message ────────────▶ delivered, bytes erased
//!     ▲ │                 │   │
//!     │ └─ lease ─▶ delivered, bytes erased; the message is sent without them
//!     └── rejected · abandoned · released ┘   └─ replaced by a new revision, which is unclaimed
//! ```
//!
//! The claim is stored with the message: it names the claimed revision. If an attempt may have been processed by the receiver, the
//! message keeps its claim and never contains another revision, because a receiver ignores a message id that it already processed.

use crate::{
    SealedCredential, Store, StoreError, UnixMs, WriteKind, credentials,
    error::query_error,
    leases,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::{CallerId, CredentialId, MessageId};
use sqlx::Row;

/// The credential that a message has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedRevision {
    /// The credential and its sealed bytes.
    pub record: SealedCredential,
    /// Whether it was claimed for this attempt, so that no earlier attempt can have delivered it.
    pub is_new: bool,
}

/// What happened to the stored credential after a message delivered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookDeliveryOutcome {
    /// Its bytes were erased.
    Deleted,
    /// Its bytes had already been erased.
    AlreadyDeleted,
    /// It has a newer revision by now, which stays.
    Replaced,
    /// The message was already done, or had no claim; nothing was changed.
    NotClaimed,
}

impl Store {
    /// Claims a credential's bytes for a message, if the credential's policy is `deliver_once`, it has bytes, the deadline for its
    /// delivery has not passed, and no other message has claimed them. `None`: the message must be sent without them. To be called for
    /// each attempt.
    ///
    /// # Errors
    /// When the database cannot be used or has a corrupt row.
    pub async fn claim_credential_for_webhook(
        &self,
        message: &MessageId,
        credential: &CredentialId,
        at_ms: UnixMs,
    ) -> Result<Option<ClaimedRevision>, StoreError> {
        const OPERATION: &str = "claim a credential for a message";
        let mut transaction = self.begin_write(WriteKind::ClaimForWebhook, OPERATION).await?;
        let row = sqlx::query("SELECT id, claimed_revision FROM outbox WHERE id = $1")
            .bind(message.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        let before: Option<u64> = match &row {
            Some(row) => RowReader::new(row, "outbox", "id").number_or_null("claimed_revision")?,
            None => None,
        };
        let done = sqlx::query(
            "UPDATE outbox SET claimed_revision = (SELECT revision FROM credentials WHERE id = $2) \
             WHERE id = $1 AND credential_id = $2 AND done_at_ms IS NULL AND EXISTS ( \
               SELECT 1 FROM credentials c WHERE c.id = $2 AND c.deleted_at_ms IS NULL AND c.deliver_until_ms > $3 \
               AND (outbox.claimed_revision IS NULL OR outbox.claimed_revision = c.revision) \
               AND NOT EXISTS (SELECT 1 FROM outbox other WHERE other.credential_id = c.id AND other.id <> outbox.id \
                 AND other.done_at_ms IS NULL AND other.claimed_revision = c.revision))",
        )
        .bind(message.as_str())
        .bind(credential.as_str())
        .bind(to_sql_integer(at_ms))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        let found = match done.rows_affected() {
            1 => credentials::fetch_sealed_credential(self.row_macs(), &mut transaction, credential).await,
            _ => Ok(None),
        };
        let found = found.inspect_err(|_| transaction.end_by_rollback())?;
        let Some(record) = found else {
            transaction.finish_unchanged();
            return Ok(None);
        };
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(Some(ClaimedRevision { record, is_new: before.is_none() }))
    }

    /// Records that a message with a claimed credential was delivered: in one transaction the message is done, a lease for `caller` is
    /// recorded and the bytes are erased. A newer revision of the credential stays.
    ///
    /// # Errors
    /// When the caller does not exist (conflict), or the database cannot be written: then the message is sent again.
    pub async fn record_credential_delivered(
        &self,
        id: &MessageId,
        caller: &CallerId,
        at_ms: UnixMs,
    ) -> Result<WebhookDeliveryOutcome, StoreError> {
        const OPERATION: &str = "record that a message delivered a credential";
        let mut transaction = self.begin_write(WriteKind::DeliverByWebhook, OPERATION).await?;
        let row = sqlx::query(
            "UPDATE outbox SET attempts = attempts + 1, last_error = NULL, done_at_ms = $2 \
             WHERE id = $1 AND done_at_ms IS NULL AND claimed_revision > 0 RETURNING id, credential_id, claimed_revision",
        )
        .bind(id.as_str())
        .bind(to_sql_integer(at_ms))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        let Some(row) = row else {
            transaction.finish_unchanged();
            return Ok(WebhookDeliveryOutcome::NotClaimed);
        };
        let reader = RowReader::new(&row, "outbox", "id");
        let credential: CredentialId = reader.parsed("credential_id")?;
        let claimed: i64 = row.try_get("claimed_revision").map_err(query_error(OPERATION))?;
        leases::record_lease(&mut transaction, &credential, caller, at_ms).await?;
        let erased = sqlx::query(
            "UPDATE credentials SET sealed = NULL, mac = NULL, deleted_at_ms = $3 \
             WHERE id = $1 AND revision = $2 AND deleted_at_ms IS NULL AND policy = 'deliver_once'",
        )
        .bind(credential.as_str())
        .bind(claimed)
        .bind(to_sql_integer(at_ms))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if erased.rows_affected() == 1 {
            self.commit_erasing(transaction, OPERATION).await?;
            return Ok(WebhookDeliveryOutcome::Deleted);
        }
        let now = credentials::fetch_credential(&mut transaction, &credential).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        let is_there = now.is_some_and(|row| row.deleted_at_ms.is_none());
        Ok(if is_there { WebhookDeliveryOutcome::Replaced } else { WebhookDeliveryOutcome::AlreadyDeleted })
    }

    /// Releases all claims of pending messages on this credential for good: they are sent without it. Returns whether there was one.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn release_webhook_claims(&self, credential: &CredentialId) -> Result<bool, StoreError> {
        const OPERATION: &str = "release a credential from its messages";
        let mut transaction = self.begin_write(WriteKind::ClaimForWebhook, OPERATION).await?;
        let done = sqlx::query(
            "UPDATE outbox SET claimed_revision = 0 WHERE credential_id = $1 AND done_at_ms IS NULL AND claimed_revision > 0",
        )
        .bind(credential.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if done.rows_affected() == 0 {
            transaction.finish_unchanged();
            return Ok(false);
        }
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(true)
    }
}
