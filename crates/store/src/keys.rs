//! The keys that wrap stored records: which are used, their rotation and their retirement.

use crate::{
    SealedCredential, Store, StoreError, WriteKind,
    authentic_rows::count_rows_of_key,
    connection::Connection,
    credentials::{self, select_credentials},
    error::query_error,
    row_reader::RowReader,
};
use anteroom_vault::{KeyId, SealedBytes};
use anteroom_wire::CredentialId;
use sqlx::any::AnyRow;

/// The result of [`Store::retire_key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetireOutcome {
    /// No record uses the key, and none can be stored that does.
    Retired,
    /// Records use it; nothing was changed.
    InUse {
        /// How many.
        records: u64,
    },
}

pub(crate) const GET_KEY_FINGERPRINT: &str = "SELECT value FROM meta WHERE key = 'key_fingerprint'";

impl Store {
    /// The key ring's fingerprint that this database was last used with.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn get_key_fingerprint(&self) -> Result<Option<String>, StoreError> {
        let row = sqlx::query_scalar::<_, String>(GET_KEY_FINGERPRINT);
        row.fetch_optional(self.read_pool()).await.map_err(query_error("read the key fingerprint"))
    }

    /// Stores the key ring's fingerprint; to be called after it was checked against the stored one.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set_key_fingerprint(&self, fingerprint: &str) -> Result<(), StoreError> {
        const OPERATION: &str = "store the key fingerprint";
        let mut transaction = self.begin_write(WriteKind::KeyFingerprint, OPERATION).await?;
        write_fingerprint(&mut transaction, fingerprint, OPERATION).await?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }

    /// Whether any sealed bytes are stored: then a missing key file must not be replaced by a new one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn has_sealed_credentials(&self) -> Result<bool, StoreError> {
        Ok(!self.list_keys_in_use().await?.is_empty())
    }

    /// The keys that wrap stored bytes, the oldest first: the key file must contain them.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_keys_in_use(&self) -> Result<Vec<KeyId>, StoreError> {
        let text = "SELECT key_id FROM credentials WHERE sealed IS NOT NULL UNION SELECT key_id FROM cluster_authority ORDER BY key_id";
        let rows = sqlx::query(text).fetch_all(self.read_pool()).await.map_err(query_error("list the keys in use"))?;
        rows.iter().map(|row| RowReader::new(row, "credentials", "key_id").number("key_id").map(KeyId)).collect()
    }

    /// Sealed bytes that are wrapped with `key`, of credentials after `after` in the order of their ids, at most `limit`: a key rotation
    /// rewraps them.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_sealed_with_key(
        &self,
        key: KeyId,
        after: Option<&CredentialId>,
        limit: u32,
    ) -> Result<Vec<(CredentialId, SealedBytes)>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, sealed FROM credentials WHERE key_id = $1 AND sealed IS NOT NULL AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(i64::from(key.0))
        .bind(after.map_or("", CredentialId::as_str))
        .bind(i64::from(limit))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("list the credentials that a key seals"))?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let reader = RowReader::new(row, "credentials", "id");
            if let Some(sealed) = credentials::sealed_of(&reader)? {
                found.push((reader.parsed("id")?, sealed));
            }
        }
        Ok(found)
    }

    /// Credentials with their sealed bytes after `after` in the order of their ids, at most `limit`: their integrity is checked.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_sealed_credentials(
        &self,
        after: Option<&CredentialId>,
        limit: u32,
    ) -> Result<Vec<SealedCredential>, StoreError> {
        let rows =
            sqlx::query(select_credentials!(with bytes, "WHERE sealed IS NOT NULL AND id > $1 ORDER BY id LIMIT $2"))
                .bind(after.map_or("", CredentialId::as_str))
                .bind(i64::from(limit))
                .fetch_all(self.read_pool())
                .await
                .map_err(query_error("list sealed credentials"))?;
        rows.iter().filter_map(|row| credentials::decode_sealed_credential(row).transpose()).collect()
    }

    /// How many stored records each key wraps, the oldest key first; keys without records are left out.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn count_records_by_key(&self) -> Result<Vec<(KeyId, u64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT key_id, COUNT(*) AS records FROM credentials WHERE sealed IS NOT NULL GROUP BY key_id ORDER BY key_id",
        )
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("count the records of each key"))?;
        let decode = |row: &AnyRow| {
            let reader = RowReader::new(row, "credentials", "key_id");
            Ok((KeyId(reader.number("key_id")?), reader.number("records")?))
        };
        rows.iter().map(decode).collect()
    }

    /// Takes the key out of the fingerprint if no record uses it, in one transaction. From then on no record that is wrapped with it
    /// can be stored ([`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable): the caller seals again). `fingerprint` is
    /// that of the ring without the key.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn retire_key(&self, key: KeyId, fingerprint: &str) -> Result<RetireOutcome, StoreError> {
        const OPERATION: &str = "retire a key";
        let mut transaction = self.begin_write(WriteKind::RetireKey, OPERATION).await?;
        let records: i64 = sqlx::query_scalar(
            "SELECT (SELECT COUNT(*) FROM credentials WHERE key_id = $1 AND sealed IS NOT NULL) \
                 + (SELECT COUNT(*) FROM cluster_authority WHERE key_id = $1)",
        )
        .bind(i64::from(key.0))
        .fetch_one(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        let records = records.unsigned_abs() + count_rows_of_key(&mut transaction, key).await?;
        if records > 0 {
            transaction.finish_unchanged();
            return Ok(RetireOutcome::InUse { records });
        }
        write_fingerprint(&mut transaction, fingerprint, OPERATION).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(RetireOutcome::Retired)
    }

    /// Replaces the bytes `old` by the same credential rewrapped with another key. `false`: `old` was deleted, replaced or rewrapped
    /// in the meantime.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn replace_sealed_bytes(
        &self,
        id: &CredentialId,
        old: &SealedBytes,
        new: &SealedBytes,
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "store a rewrapped credential";
        let mut transaction = self.begin_write(WriteKind::ReplaceSealed, OPERATION).await?;
        require_unretired_key(&mut transaction, new.key_id()).await?;
        // The bytes are compared, because a credential that was renewed in the meantime may be wrapped with the same key.
        let done = sqlx::query(
            "UPDATE credentials SET sealed = $3, key_id = $4 WHERE id = $1 AND sealed = $2 AND deleted_at_ms IS NULL",
        )
        .bind(id.as_str())
        .bind(old.as_bytes())
        .bind(new.as_bytes())
        .bind(i64::from(new.key_id().0))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(done.rows_affected() == 1)
    }
}

/// Checks in the caller's transaction that records wrapped with this key may be stored.
///
/// # Errors
/// [`StoreError::KeyRetired`]: the key was retired after the record was sealed.
pub(crate) async fn require_unretired_key(connection: &mut Connection, key: KeyId) -> Result<(), StoreError> {
    let fingerprint = sqlx::query_scalar::<_, String>("SELECT value FROM meta WHERE key = 'key_fingerprint'")
        .fetch_optional(connection)
        .await
        .map_err(query_error("read the key fingerprint"))?;
    let is_listed = |line: String| line.split(',').any(|entry| entry.split(':').next() == Some(&key.to_string()));
    if fingerprint.is_none_or(is_listed) { Ok(()) } else { Err(StoreError::KeyRetired(key)) }
}

async fn write_fingerprint(
    connection: &mut Connection,
    fingerprint: &str,
    operation: &'static str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO meta (key, value) VALUES ('key_fingerprint', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(fingerprint)
    .execute(connection)
    .await
    .map_err(query_error(operation))?;
    Ok(())
}
