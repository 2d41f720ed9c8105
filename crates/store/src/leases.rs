//! Leases: a caller gets a credential. Every lease is recorded; a `deliver_once` credential is leased only once.

use crate::{
    CredentialRow, DeletionPolicy, NewMessage, SealedCredential, Store, StoreError, UnixMs, WriteKind,
    connection::Connection,
    credentials,
    error::query_error,
    outbox,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_vault::SealedBytes;
use anteroom_wire::{CallerId, CredentialId};
use sqlx::{Row, any::AnyRow};

/// A leased credential with its sealed bytes; the lease is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedCredential {
    /// The credential; already deleted if its policy is `deliver_once`.
    pub credential: CredentialRow,
    /// Its sealed bytes.
    pub sealed: SealedBytes,
    /// The number of this lease: 1 for the credential's first.
    pub lease_number: u64,
}

/// A recorded lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// The number of the lease: 1 for the credential's first.
    pub number: u64,
    /// The caller that got the credential.
    pub caller: CallerId,
    /// When it was leased.
    pub at_ms: UnixMs,
}

impl Store {
    /// Reads the credential with its sealed bytes and records the lease in one transaction. The bytes of a `deliver_once` credential
    /// are erased in the same transaction, so only one of many concurrent leases gets them, and none while a message has claimed them
    /// ([`Store::claim_credential_for_webhook`]). `None`: claimed by a message, deleted, already delivered, the deadline for its delivery has
    /// passed, or there is no such credential.
    ///
    /// # Errors
    /// When the caller does not exist (conflict), or the database cannot be written: then no credential is leased.
    pub async fn lease_credential(
        &self,
        id: &CredentialId,
        caller: &CallerId,
        at_ms: UnixMs,
    ) -> Result<Option<LeasedCredential>, StoreError> {
        self.lease_credential_with_messages(id, caller, at_ms, &[]).await
    }

    /// The same; these messages are enqueued in its transaction.
    ///
    /// # Errors
    /// As [`Store::lease_credential`].
    pub async fn lease_credential_with_messages(
        &self,
        id: &CredentialId,
        caller: &CallerId,
        at_ms: UnixMs,
        webhook_messages: &[NewMessage],
    ) -> Result<Option<LeasedCredential>, StoreError> {
        const OPERATION: &str = "lease a credential";
        let mut transaction = self.begin_write(WriteKind::Lease, OPERATION).await?;
        let found = credentials::fetch_sealed_credential(self.row_macs(), &mut transaction, id).await;
        let found = found.inspect_err(|_| transaction.end_by_rollback())?;
        let in_time = |record: &SealedCredential| {
            record.credential.deletion_policy.until_ms().is_none_or(|until_ms| at_ms < until_ms)
        };
        let Some(SealedCredential { mut credential, sealed }) = found.filter(in_time) else {
            transaction.finish_unchanged();
            return Ok(None);
        };
        if let DeletionPolicy::ByOwner = credential.deletion_policy {
            let number = record_lease(&mut transaction, id, caller, at_ms).await?;
            outbox::enqueue_messages(&mut transaction, webhook_messages).await?;
            transaction.commit().await.map_err(query_error(OPERATION))?;
            return Ok(Some(LeasedCredential { credential, sealed, lease_number: number }));
        }
        if !erase_unless_claimed(&mut transaction, id, at_ms).await? {
            transaction.finish_unchanged();
            return Ok(None);
        }
        let number = record_lease(&mut transaction, id, caller, at_ms).await?;
        outbox::enqueue_messages(&mut transaction, webhook_messages).await?;
        self.commit_erasing(transaction, OPERATION).await?;
        credential.deleted_at_ms = Some(at_ms);
        Ok(Some(LeasedCredential { credential, sealed, lease_number: number }))
    }

    /// The recorded leases of a credential, the newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_leases(&self, id: &CredentialId, limit: u32) -> Result<Vec<LeaseRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT credential_id, number, caller_id, at_ms FROM leases WHERE credential_id = $1 ORDER BY number DESC LIMIT $2",
        )
        .bind(id.as_str())
        .bind(i64::from(limit))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("list the leases of a credential"))?;
        let decode = |row: &AnyRow| {
            let reader = RowReader::new(row, "leases", "credential_id");
            let (number, at_ms) = (reader.number("number")?, reader.number("at_ms")?);
            Ok(LeaseRow { number, caller: reader.parsed("caller_id")?, at_ms })
        };
        rows.iter().map(decode).collect()
    }
}

/// Erases the bytes in the caller's transaction, which must end with [`Store::commit_erasing`]. `false`: there were no bytes, or a
/// message has claimed them.
async fn erase_unless_claimed(
    connection: &mut Connection,
    id: &CredentialId,
    at_ms: UnixMs,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE credentials SET sealed = NULL, mac = NULL, deleted_at_ms = $2 WHERE id = $1 AND deleted_at_ms IS NULL \
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.credential_id = credentials.id \
           AND outbox.done_at_ms IS NULL AND outbox.claimed_revision = credentials.revision)",
    )
    .bind(id.as_str())
    .bind(to_sql_integer(at_ms))
    .execute(connection)
    .await
    .map_err(query_error("delete the bytes of a leased credential"))?;
    Ok(done.rows_affected() == 1)
}

/// Records a lease and returns its number.
pub(crate) async fn record_lease(
    connection: &mut Connection,
    id: &CredentialId,
    caller: &CallerId,
    at_ms: UnixMs,
) -> Result<u64, StoreError> {
    let number = sqlx::query(
        "INSERT INTO leases (credential_id, number, caller_id, at_ms) \
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3 FROM leases WHERE credential_id = $1 RETURNING number",
    )
    .bind(id.as_str())
    .bind(caller.as_str())
    .bind(to_sql_integer(at_ms))
    .fetch_one(connection)
    .await
    .and_then(|row| row.try_get::<i64, _>("number"))
    .map_err(query_error("record a lease"))?;
    Ok(number.unsigned_abs())
}
