//! Handing a credential out with a message: of one that is handed out once, either a message has the bytes or a lease gets them.
//!
//! ```text
//!              carry                      taken
//!  nobody's ─────────▶ with the message ─────────▶ handed out, deleted
//!     ▲ │                 │  │
//!     │ └─ lease ─▶ handed out, deleted; the message goes without
//!     └──── bounced · given up · let go ─┘  └─ other bytes took their place: those are nobody's again
//! ```
//!
//! The claim is on the message: it names the revision that it carries. A message whose try may have been taken keeps it, and carries
//! nothing else under its id, for a receiver that has it will not look at it again.

use crate::{
    SealedCredential, Store, StoreError, UnixMs, WriteKind,
    row::{RowReader, stored},
    credentials, leases,
    error::query_error,
};
use anteroom_wire::{CallerId, CredentialId, MessageId};
use sqlx::Row;

/// What a message takes along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedRevision {
    /// The credential and its bytes.
    pub record: SealedCredential,
    /// Whether it has taken them in this try: no earlier one can have been taken.
    pub is_new: bool,
}

/// What became here of a credential that a message has handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialDelivery {
    /// Its bytes were deleted.
    Deleted,
    /// They had been deleted before.
    AlreadyDeleted,
    /// Other bytes had taken their place meanwhile and stay.
    Replaced,
    /// The message was done before, or carried nothing; nothing was changed.
    NotClaimed,
}

impl Store {
    /// Lets a message take a credential's bytes along, if that is handed out once, still has them and its time is not over, and they
    /// are nobody else's. `None`: the message goes without. To be called again at each try.
    ///
    /// # Errors
    /// When the database cannot be used or has an impossible row.
    pub async fn claim_for_webhook(
        &self,
        message: &MessageId,
        credential: &CredentialId,
        at_ms: UnixMs,
    ) -> Result<Option<ClaimedRevision>, StoreError> {
        const OPERATION: &str = "let a message take a credential along";
        let mut transaction = self.begin(WriteKind::ClaimForWebhook, OPERATION).await?;
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
        .bind(stored(at_ms))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        let found = match done.rows_affected() {
            1 => credentials::fetch_sealed(&mut transaction, credential).await?,
            _ => None,
        };
        let Some(record) = found else {
            transaction.unchanged();
            return Ok(None);
        };
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(Some(ClaimedRevision { record, is_new: before.is_none() }))
    }

    /// A message was taken with the credential that it carried: the message is done, the lease on record for `caller`, and the bytes
    /// deleted, in one transaction. Bytes that took their place meanwhile stay.
    ///
    /// # Errors
    /// When the caller does not exist (conflict), or the database cannot be written: then the message comes again.
    pub async fn message_delivered_credential(
        &self,
        id: &MessageId,
        caller: &CallerId,
        at_ms: UnixMs,
    ) -> Result<CredentialDelivery, StoreError> {
        const OPERATION: &str = "remember that a message handed a credential over";
        let mut transaction = self.begin(WriteKind::DeliverByWebhook, OPERATION).await?;
        let row = sqlx::query(
            "UPDATE outbox SET attempts = attempts + 1, last_error = NULL, done_at_ms = $2 \
             WHERE id = $1 AND done_at_ms IS NULL AND claimed_revision > 0 RETURNING id, credential_id, claimed_revision",
        )
        .bind(id.as_str())
        .bind(stored(at_ms))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        let Some(row) = row else {
            transaction.unchanged();
            return Ok(CredentialDelivery::NotClaimed);
        };
        let reader = RowReader::new(&row, "outbox", "id");
        let credential: CredentialId = reader.parsed("credential_id")?;
        let carried: i64 = row.try_get("claimed_revision").map_err(query_error(OPERATION))?;
        leases::enter(&mut transaction, &credential, caller, at_ms).await?;
        let erased = sqlx::query(
            "UPDATE credentials SET sealed = NULL, deleted_at_ms = $3 \
             WHERE id = $1 AND revision = $2 AND deleted_at_ms IS NULL AND policy = 'deliver_once'",
        )
        .bind(credential.as_str())
        .bind(carried)
        .bind(stored(at_ms))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if erased.rows_affected() == 1 {
            self.commit_erasing(transaction, OPERATION).await?;
            return Ok(CredentialDelivery::Deleted);
        }
        let now = credentials::fetch(&mut transaction, &credential).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        let is_there = now.is_some_and(|row| row.deleted_at_ms.is_none());
        Ok(if is_there { CredentialDelivery::Replaced } else { CredentialDelivery::AlreadyDeleted })
    }

    /// No message carries this credential any more, nor will one of those that wait: nobody sends them with their files now. Says
    /// whether one did.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn release_webhook_claims(&self, credential: &CredentialId) -> Result<bool, StoreError> {
        const OPERATION: &str = "take a credential out of its messages";
        let mut transaction = self.begin(WriteKind::ClaimForWebhook, OPERATION).await?;
        let done = sqlx::query(
            "UPDATE outbox SET claimed_revision = 0 WHERE credential_id = $1 AND done_at_ms IS NULL AND claimed_revision > 0",
        )
        .bind(credential.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if done.rows_affected() == 0 {
            transaction.unchanged();
            return Ok(false);
        }
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(true)
    }
}
