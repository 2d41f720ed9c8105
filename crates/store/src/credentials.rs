//! Stored credentials: listed without their secret, leased on the record, deleted for good.

use crate::{
    Store, StoreError, UnixMs, Whose, WriteKind,
    cells::{Cells, stored},
    store::query,
};
use anteroom_vault::{KeyId, Sealed};
use anteroom_wire::{CallerId, CredentialId, ProviderId, SessionId, api::CredentialFile};
use sqlx::{AnyConnection, Row, any::AnyRow};

/// A credential without its sealed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRow {
    /// Its id.
    pub id: CredentialId,
    /// Whose.
    pub owner: CallerId,
    /// The owner's name for the person.
    pub user_id: Option<String>,
    /// The tool.
    pub provider: ProviderId,
    /// The session it came from.
    pub session: SessionId,
    /// The key that wraps its data key.
    pub key_id: KeyId,
    /// Its files, without their bytes.
    pub files: Vec<CredentialFile>,
    /// When it was stored.
    pub stored_at_ms: UnixMs,
    /// When its bytes were deleted, if they were.
    pub deleted_at_ms: Option<UnixMs>,
}

/// A credential with its sealed bytes; that they were given out is on the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The credential.
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

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Deleted now.
    Now,
    /// It had been deleted before.
    Before,
    /// There is none.
    Unknown,
}

/// `SELECT`'s beginning, with every column but the bytes.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, owner, user_id, provider, session_id, key_id, files, stored_at_ms, deleted_at_ms FROM credentials ",
            $rest
        )
    };
}

impl Store {
    /// Credentials that are not deleted, the newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read or has an impossible row.
    pub async fn credentials(&self, whose: Whose<'_>, limit: u32) -> Result<Vec<CredentialRow>, StoreError> {
        let rows = sqlx::query(select!(
            "WHERE deleted_at_ms IS NULL AND ($1 IS NULL OR owner = $1) ORDER BY id DESC LIMIT $2"
        ))
        .bind(whose.parameter())
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .map_err(query("list credentials"))?;
        rows.iter().map(decode).collect()
    }

    /// The credential, if there is or was one.
    ///
    /// # Errors
    /// When the database cannot be read or has an impossible row.
    pub async fn credential(&self, id: &CredentialId) -> Result<Option<CredentialRow>, StoreError> {
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_optional(self.reader()).await;
        row.map_err(query("read a credential"))?.as_ref().map(decode).transpose()
    }

    /// The credential that a session completed with, if there is or was one.
    ///
    /// # Errors
    /// When the database cannot be read or has an impossible row.
    pub async fn credential_of(&self, session: &SessionId) -> Result<Option<CredentialRow>, StoreError> {
        let row = sqlx::query(select!("WHERE session_id = $1")).bind(session.as_str());
        let row = row.fetch_optional(self.reader()).await;
        row.map_err(query("read a session's credential"))?.as_ref().map(decode).transpose()
    }

    /// The sealed bytes as the database has them now, to verify what was stored; `None`: deleted, or there is no such credential.
    /// Giving them to somebody is [`Store::lease`].
    ///
    /// # Errors
    /// When the database cannot be read or has an impossible row.
    pub async fn read_back(&self, id: &CredentialId) -> Result<Option<Sealed>, StoreError> {
        let mut connection = self.reader().acquire().await.map_err(query("read a sealed credential"))?;
        sealed(&mut connection, id).await
    }

    /// The credential with its sealed bytes, and a lease on the record, in one transaction; `None`: deleted, or there is none.
    ///
    /// # Errors
    /// When the caller does not exist (conflict), or the database cannot be written: then nothing is given out.
    pub async fn lease(
        &self,
        id: &CredentialId,
        caller: &CallerId,
        at_ms: UnixMs,
    ) -> Result<Option<Leased>, StoreError> {
        const DOING: &str = "lease a credential";
        let mut transaction = self.begin(WriteKind::Lease, DOING).await?;
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_optional(&mut *transaction).await;
        let Some(row) = row.map_err(query(DOING))? else {
            transaction.unchanged();
            return Ok(None);
        };
        let credential = decode(&row)?;
        let Some(sealed) = sealed(&mut transaction, id).await? else {
            transaction.unchanged();
            return Ok(None);
        };
        let number = sqlx::query(
            "INSERT INTO leases (credential_id, number, caller_id, at_ms) \
             SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3 FROM leases WHERE credential_id = $1 RETURNING number",
        )
        .bind(id.as_str())
        .bind(caller.as_str())
        .bind(stored(at_ms))
        .fetch_one(&mut *transaction)
        .await
        .and_then(|row| row.try_get::<i64, _>("number"))
        .map_err(query(DOING))?;
        transaction.commit().await.map_err(query(DOING))?;
        Ok(Some(Leased { credential, sealed, number: number.unsigned_abs() }))
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
        .map_err(query("read the record of leases"))?;
        let decode = |row: &AnyRow| {
            let cells = Cells::new(row, "leases", "credential_id");
            let (number, at_ms) = (cells.number("number")?, cells.number("at_ms")?);
            Ok(LeaseRow { number, caller: cells.parsed("caller_id")?, at_ms })
        };
        rows.iter().map(decode).collect()
    }

    /// Deletes the sealed bytes for good; that there was a credential stays on the record. Doing it again changes nothing.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn delete_credential(&self, id: &CredentialId, at_ms: UnixMs) -> Result<Deletion, StoreError> {
        const DOING: &str = "delete a credential";
        let mut transaction = self.begin(WriteKind::DeleteCredential, DOING).await?;
        let done = sqlx::query(
            "UPDATE credentials SET sealed = NULL, deleted_at_ms = $2 WHERE id = $1 AND deleted_at_ms IS NULL",
        )
        .bind(id.as_str())
        .bind(stored(at_ms))
        .execute(&mut *transaction)
        .await
        .map_err(query(DOING))?;
        if done.rows_affected() == 1 {
            transaction.commit().await.map_err(query(DOING))?;
            // The old bytes would else stay in the log until it is written over.
            self.empty_log().await;
            return Ok(Deletion::Now);
        }
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_optional(&mut *transaction).await;
        let row = row.map_err(query(DOING))?;
        transaction.unchanged();
        Ok(row.map_or(Deletion::Unknown, |_| Deletion::Before))
    }

    /// Whether any sealed bytes are stored: then a missing key file must not be replaced.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn holds_sealed(&self) -> Result<bool, StoreError> {
        Ok(!self.keys_in_use().await?.is_empty())
    }

    /// The keys that stored bytes are wrapped with, the oldest first: these the key file must have.
    ///
    /// # Errors
    /// When the database cannot be read or has an impossible row.
    pub async fn keys_in_use(&self) -> Result<Vec<KeyId>, StoreError> {
        let rows = sqlx::query("SELECT DISTINCT key_id FROM credentials WHERE sealed IS NOT NULL ORDER BY key_id")
            .fetch_all(self.reader())
            .await
            .map_err(query("list the keys in use"))?;
        rows.iter().map(|row| Cells::new(row, "credentials", "key_id").number("key_id").map(KeyId)).collect()
    }

    /// Sealed bytes that are wrapped with `key`, at most `limit`: what a rotation wraps again.
    ///
    /// # Errors
    /// When the database cannot be read or has an impossible row.
    pub async fn sealed_with(&self, key: KeyId, limit: u32) -> Result<Vec<(CredentialId, Sealed)>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, sealed FROM credentials WHERE key_id = $1 AND sealed IS NOT NULL ORDER BY id LIMIT $2",
        )
        .bind(i64::from(key.0))
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .map_err(query("list what a key seals"))?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let cells = Cells::new(row, "credentials", "id");
            if let Some(sealed) = sealed_of(&cells)? {
                found.push((cells.parsed("id")?, sealed));
            }
        }
        Ok(found)
    }

    /// Puts the same credential, wrapped again, in the place of bytes that are wrapped with `old`. Says whether it did: not when
    /// it was deleted or wrapped again by somebody else.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn replace_sealed(&self, id: &CredentialId, old: KeyId, new: &Sealed) -> Result<bool, StoreError> {
        const DOING: &str = "store a credential that was wrapped again";
        let mut transaction = self.begin(WriteKind::ReplaceSealed, DOING).await?;
        let done = sqlx::query(
            "UPDATE credentials SET sealed = $3, key_id = $4 WHERE id = $1 AND key_id = $2 AND deleted_at_ms IS NULL",
        )
        .bind(id.as_str())
        .bind(i64::from(old.0))
        .bind(new.as_bytes())
        .bind(i64::from(new.key_id().0))
        .execute(&mut *transaction)
        .await
        .map_err(query(DOING))?;
        transaction.commit().await.map_err(query(DOING))?;
        Ok(done.rows_affected() == 1)
    }
}

/// The files' facts as the column has them.
pub(crate) fn files_as_text(files: &[CredentialFile]) -> String {
    let files: Vec<_> = files
        .iter()
        .map(|file| serde_json::json!({ "path": file.path, "bytes": file.bytes, "mode": file.mode }))
        .collect();
    serde_json::Value::from(files).to_string()
}

async fn sealed(connection: &mut AnyConnection, id: &CredentialId) -> Result<Option<Sealed>, StoreError> {
    let row = sqlx::query("SELECT id, sealed, key_id FROM credentials WHERE id = $1").bind(id.as_str());
    let row = row.fetch_optional(connection).await.map_err(query("read a sealed credential"))?;
    row.map_or(Ok(None), |row| sealed_of(&Cells::new(&row, "credentials", "id")))
}

fn sealed_of(cells: &Cells<'_>) -> Result<Option<Sealed>, StoreError> {
    let bytes = cells.bytes_or_null("sealed")?;
    bytes.map(|bytes| Sealed::from_bytes(bytes).map_err(|error| cells.impossible(error.to_string()))).transpose()
}

fn decode(row: &AnyRow) -> Result<CredentialRow, StoreError> {
    let cells = Cells::new(row, "credentials", "id");
    let files = serde_json::from_str(&cells.text("files")?);
    Ok(CredentialRow {
        id: cells.parsed("id")?,
        owner: cells.parsed("owner")?,
        user_id: cells.text_or_null("user_id")?,
        provider: cells.parsed("provider")?,
        session: cells.parsed("session_id")?,
        key_id: KeyId(cells.number("key_id")?),
        files: files.map_err(|_| cells.impossible("files: not a list of files"))?,
        stored_at_ms: cells.number("stored_at_ms")?,
        deleted_at_ms: cells.number_or_null("deleted_at_ms")?,
    })
}
