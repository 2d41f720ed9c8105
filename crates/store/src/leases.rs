//! Handing a credential out: each time on the record; once and never again where its policy says so.

use crate::{
    CredentialRow, Retention, SealedCredential, Store, StoreError, UnixMs, WriteKind,
    row::{RowReader, stored},
    credentials,
    error::query_error,
};
use anteroom_vault::Sealed;
use anteroom_wire::{CallerId, CredentialId};
use sqlx::{AnyConnection, Row, any::AnyRow};

/// A credential with its sealed bytes; that they were given out is on the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The credential; deleted by now, if it is one that is handed out once.
    pub credential: CredentialRow,
    /// Its bytes.
    pub sealed: Sealed,
    /// Which lease of this credential it is: 1 for the first.
    pub number: u64,
}

/// One lease on the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// 1, 2, 3 … of its credential.
    pub number: u64,
    /// To whom.
    pub caller: CallerId,
    /// When.
    pub at_ms: UnixMs,
}

impl Store {
    /// The credential with its sealed bytes, and a lease on the record, in one transaction. The bytes of one that is handed out once
    /// are deleted in the same transaction: of many leases at once, one gets them, and none while a message has them
    /// ([`Store::claim_for_webhook`]). `None`: that, deleted, handed out before, its time to be handed out is over, or there is none.
    ///
    /// # Errors
    /// When the caller does not exist (conflict), or the database cannot be written: then nothing is given out.
    pub async fn lease(
        &self,
        id: &CredentialId,
        caller: &CallerId,
        at_ms: UnixMs,
    ) -> Result<Option<Leased>, StoreError> {
        const OPERATION: &str = "lease a credential";
        let mut transaction = self.begin(WriteKind::Lease, OPERATION).await?;
        let found = credentials::fetch_sealed(&mut transaction, id).await?;
        let in_time = |record: &SealedCredential| record.credential.retention.until_ms().is_none_or(|until_ms| at_ms < until_ms);
        let Some(SealedCredential { mut credential, sealed }) = found.filter(in_time) else {
            transaction.unchanged();
            return Ok(None);
        };
        if let Retention::UntilDeleted = credential.retention {
            let number = enter(&mut transaction, id, caller, at_ms).await?;
            transaction.commit().await.map_err(query_error(OPERATION))?;
            return Ok(Some(Leased { credential, sealed, number }));
        }
        if !erase_unless_carried(&mut transaction, id, at_ms).await? {
            transaction.unchanged();
            return Ok(None);
        }
        let number = enter(&mut transaction, id, caller, at_ms).await?;
        self.commit_erasing(transaction, OPERATION).await?;
        credential.deleted_at_ms = Some(at_ms);
        Ok(Some(Leased { credential, sealed, number }))
    }

    /// The record of a credential's leases, the newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read or has an impossible row.
    pub async fn leases(&self, id: &CredentialId, limit: u32) -> Result<Vec<LeaseRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT credential_id, number, caller_id, at_ms FROM leases WHERE credential_id = $1 ORDER BY number DESC LIMIT $2",
        )
        .bind(id.as_str())
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .map_err(query_error("read the record of leases"))?;
        let decode = |row: &AnyRow| {
            let reader = RowReader::new(row, "leases", "credential_id");
            let (number, at_ms) = (reader.number("number")?, reader.number("at_ms")?);
            Ok(LeaseRow { number, caller: reader.parsed("caller_id")?, at_ms })
        };
        rows.iter().map(decode).collect()
    }
}

/// Deletes the bytes inside the caller's transaction, which must end with [`Store::commit_erasing`]. `false`: there were none, or a
/// message has them.
async fn erase_unless_carried(
    connection: &mut AnyConnection,
    id: &CredentialId,
    at_ms: UnixMs,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE credentials SET sealed = NULL, deleted_at_ms = $2 WHERE id = $1 AND deleted_at_ms IS NULL \
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.credential_id = credentials.id \
           AND outbox.done_at_ms IS NULL AND outbox.claimed_revision = credentials.revision)",
    )
    .bind(id.as_str())
    .bind(stored(at_ms))
    .execute(connection)
    .await
    .map_err(query_error("delete the bytes that are handed out"))?;
    Ok(done.rows_affected() == 1)
}

/// Enters a lease and tells its number.
pub(crate) async fn enter(
    connection: &mut AnyConnection,
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
    .bind(stored(at_ms))
    .fetch_one(connection)
    .await
    .and_then(|row| row.try_get::<i64, _>("number"))
    .map_err(query_error("enter a lease"))?;
    Ok(number.unsigned_abs())
}
