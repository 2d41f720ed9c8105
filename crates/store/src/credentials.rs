//! Stored credentials: lists their metadata, reads their sealed bytes.
//!
//! ```text
//!  Completion ──▶ revision 1 ──▶ 2 ──▶ 3 …   (renewed by a sign-in or refreshed by a use: `replace`)
//!                     └──────┴─────┴──▶ bytes erased   (`erase`, and the single lease of `deliver_once`: `leases`)
//! ```

use crate::{
    DeletionPolicy, HealthKind, Store, StoreError, UnixMs,
    connection::Connection,
    error::query_error,
    row_macs::{RowMacs, tables::CREDENTIALS},
    row_reader::RowReader,
    sessions,
};
use anteroom_vault::{KeyId, SealedBytes};
use anteroom_wire::{CallerId, CredentialId, ProviderId, SessionId, api::CredentialFile, provider::MethodName};
use sqlx::any::AnyRow;

/// A credential without its sealed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRow {
    /// Its id.
    pub id: CredentialId,
    /// The caller that owns it.
    pub owner: CallerId,
    /// The owner's id for the user.
    pub user_id: Option<String>,
    /// The provider.
    pub provider: ProviderId,
    /// The session that delivered its present bytes; they are sealed for it.
    pub session: SessionId,
    /// The sign-in method; `None`: the preferred one.
    pub method: Option<MethodName>,
    /// The key that wraps its data key.
    pub key_id: KeyId,
    /// The metadata of its files.
    pub files: Vec<CredentialFile>,
    /// When it was stored.
    pub stored_at_ms: UnixMs,
    /// When its bytes were erased, if they were.
    pub deleted_at_ms: Option<UnixMs>,
    /// How long it is retained.
    pub deletion_policy: DeletionPolicy,
    /// The stored health.
    pub health: HealthKind,
    /// Why it has this health; `None`: because of the sign-in.
    pub health_detail: Option<String>,
    /// When the tool last checked it; the sign-in counts.
    pub checked_at_ms: UnixMs,
    /// When it expires for good, from its content.
    pub expires_at_ms: Option<UnixMs>,
    /// The name of the signed-in account at the provider, from its content; clean and bounded.
    pub account: Option<String>,
    /// 1 for the first bytes, one more each time new bytes replaced them.
    pub revision: u64,
}

/// A credential and its sealed bytes, read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedCredential {
    /// The credential.
    pub credential: CredentialRow,
    /// Its sealed bytes.
    pub sealed: SealedBytes,
}

/// `SELECT` with every column except the bytes, or also with them (`with bytes`).
macro_rules! select_credentials {
    ($rest:literal) => {
        $crate::credentials::select_credentials!("", $rest)
    };
    (with bytes, $rest:literal) => {
        $crate::credentials::select_credentials!(", sealed", $rest)
    };
    ($more:literal, $rest:literal) => {
        concat!(
            "SELECT id, owner, user_id, provider, session_id, method, key_id, files, stored_at_ms, deleted_at_ms, policy, \
             deliver_until_ms, health, health_detail, checked_at_ms, expires_at_ms, account, revision, mac",
            $more,
            " FROM credentials ",
            $rest
        )
    };
}
pub(crate) use select_credentials;

// After the macro, which it uses.
mod find;

pub use find::{CredentialFilter, HealthAt};

impl Store {
    /// The credential, deleted or not.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn get_credential(&self, id: &CredentialId) -> Result<Option<CredentialRow>, StoreError> {
        let mut connection = self.read_pool().acquire().await.map_err(query_error("read a credential"))?;
        fetch_credential(&mut connection, id).await
    }

    /// The credential with which a session completed, deleted or not. Its bytes may have been replaced by another session since.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn get_credential_of_session(&self, session: &SessionId) -> Result<Option<CredentialRow>, StoreError> {
        let row = sqlx::query(select_credentials!("WHERE id = (SELECT credential_id FROM sessions WHERE id = $1)"))
            .bind(session.as_str())
            .fetch_optional(self.read_pool())
            .await;
        row.map_err(query_error("read a session's credential"))?.as_ref().map(decode_credential_row).transpose()
    }

    /// The credential and its sealed bytes, to verify what was stored or to install it in a machine. `None`: it was deleted, or there
    /// is no such credential. To give a credential to a caller, use [`Store::lease_credential`].
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn get_sealed_credential(&self, id: &CredentialId) -> Result<Option<SealedCredential>, StoreError> {
        let mut connection = self.read_pool().acquire().await.map_err(query_error("read a sealed credential"))?;
        fetch_sealed_credential(self.row_macs(), &mut connection, id).await
    }

    /// Only the sealed bytes; see [`Store::get_sealed_credential`].
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn get_sealed_bytes(&self, id: &CredentialId) -> Result<Option<SealedBytes>, StoreError> {
        Ok(self.get_sealed_credential(id).await?.map(|record| record.sealed))
    }
}

/// The metadata of files in the format of the column `files`.
pub(crate) fn encode_files(files: &[CredentialFile]) -> String {
    let files: Vec<_> = files
        .iter()
        .map(|file| serde_json::json!({ "path": file.path, "bytes": file.bytes, "mode": file.mode }))
        .collect();
    serde_json::Value::from(files).to_string()
}

/// Reads a credential on the caller's connection or transaction.
pub(crate) async fn fetch_credential(
    connection: &mut Connection,
    id: &CredentialId,
) -> Result<Option<CredentialRow>, StoreError> {
    let row = sqlx::query(select_credentials!("WHERE id = $1")).bind(id.as_str()).fetch_optional(connection).await;
    row.map_err(query_error("read a credential"))?.as_ref().map(decode_credential_row).transpose()
}

/// Reads a credential on the caller's connection or transaction, and requires that nothing else than this program has changed it.
pub(crate) async fn fetch_valid_credential(
    macs: &RowMacs,
    connection: &mut Connection,
    id: &CredentialId,
) -> Result<Option<CredentialRow>, StoreError> {
    let row = sqlx::query(select_credentials!("WHERE id = $1")).bind(id.as_str()).fetch_optional(connection).await;
    let Some(row) = row.map_err(query_error("read a credential"))? else { return Ok(None) };
    let credential = decode_credential_row(&row)?;
    if credential.deleted_at_ms.is_none() {
        macs.verify(&CREDENTIALS, &row)?;
    }
    Ok(Some(credential))
}

/// Reads a credential with its sealed bytes, and requires that nothing else than this program has changed it; `None`: it has none.
pub(crate) async fn fetch_sealed_credential(
    macs: &RowMacs,
    connection: &mut Connection,
    id: &CredentialId,
) -> Result<Option<SealedCredential>, StoreError> {
    let row = sqlx::query(select_credentials!(with bytes, "WHERE id = $1"))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await;
    let Some(row) = row.map_err(query_error("read a sealed credential"))? else { return Ok(None) };
    if sealed_of(&RowReader::new(&row, "credentials", "id"))?.is_some() {
        macs.verify(&CREDENTIALS, &row)?;
    }
    decode_sealed_credential(&row)
}

/// `None`: the credential has no bytes.
pub(crate) fn decode_sealed_credential(row: &AnyRow) -> Result<Option<SealedCredential>, StoreError> {
    let Some(sealed) = sealed_of(&RowReader::new(row, "credentials", "id"))? else { return Ok(None) };
    Ok(Some(SealedCredential { credential: decode_credential_row(row)?, sealed }))
}

pub(crate) fn sealed_of(reader: &RowReader<'_>) -> Result<Option<SealedBytes>, StoreError> {
    let bytes = reader.bytes_or_null("sealed")?;
    bytes
        .map(|bytes| SealedBytes::from_bytes(bytes).map_err(|error| reader.corrupt_row_error(error.to_string())))
        .transpose()
}

pub(crate) fn decode_credential_row(row: &AnyRow) -> Result<CredentialRow, StoreError> {
    let reader = RowReader::new(row, "credentials", "id");
    let files = serde_json::from_str(&reader.text("files")?);
    let stored_at_ms = reader.number("stored_at_ms")?;
    Ok(CredentialRow {
        id: reader.parsed("id")?,
        owner: reader.parsed("owner")?,
        user_id: reader.text_or_null("user_id")?,
        provider: reader.parsed("provider")?,
        session: reader.parsed("session_id")?,
        method: sessions::decode_method(&reader)?,
        key_id: KeyId(reader.number("key_id")?),
        files: files.map_err(|_| reader.corrupt_row_error("files: not a list of files"))?,
        stored_at_ms,
        deleted_at_ms: reader.number_or_null("deleted_at_ms")?,
        deletion_policy: DeletionPolicy::decode(&reader)?,
        health: reader.parsed("health")?,
        health_detail: reader.text_or_null("health_detail")?,
        checked_at_ms: reader.number_or_null("checked_at_ms")?.unwrap_or(stored_at_ms),
        expires_at_ms: reader.number_or_null("expires_at_ms")?,
        account: reader.text_or_null("account")?,
        revision: reader.number("revision")?,
    })
}
