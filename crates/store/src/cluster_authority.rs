//! The certificate authority of the cluster's hosts, and which invitations of hosts were used.

use crate::{
    Store, StoreError, UnixMs, WriteKind,
    credentials::sealed_of,
    error::query_error,
    keys::require_unretired_key,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_vault::SealedBytes;
use anteroom_wire::HostId;
use sqlx::any::AnyRow;
use std::collections::BTreeMap;

/// The authority as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAuthority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, sealed for the certificate.
    pub sealed_key: SealedBytes,
}

impl Store {
    /// The authority; `None`: no host has joined yet.
    ///
    /// # Errors
    /// The database cannot be read or has a corrupt row.
    pub async fn get_cluster_authority(&self) -> Result<Option<StoredAuthority>, StoreError> {
        let row = sqlx::query("SELECT certificate, sealed FROM cluster_authority")
            .fetch_optional(self.read_pool())
            .await
            .map_err(query_error("read the authority of the cluster"))?;
        let Some(row) = row else { return Ok(None) };
        let reader = RowReader::new(&row, "cluster_authority", "certificate");
        let sealed_key = sealed_of(&reader)?.ok_or_else(|| reader.corrupt_row_error("there is no sealed key"))?;
        Ok(Some(StoredAuthority { certificate: reader.text("certificate")?, sealed_key }))
    }

    /// Stores the authority. `false`: there is one.
    ///
    /// # Errors
    /// The database cannot be written, or the key that wraps was retired.
    pub async fn create_cluster_authority(&self, new: &StoredAuthority) -> Result<bool, StoreError> {
        const OPERATION: &str = "store the authority of the cluster";
        let mut transaction = self.begin_write(WriteKind::ClusterAuthority, OPERATION).await?;
        require_unretired_key(&mut transaction, new.sealed_key.key_id()).await?;
        let done = sqlx::query(
            "INSERT INTO cluster_authority (number, certificate, sealed, key_id) VALUES (1, $1, $2, $3) ON CONFLICT (number) DO NOTHING",
        )
        .bind(new.certificate.as_str())
        .bind(new.sealed_key.as_bytes())
        .bind(i64::from(new.sealed_key.key_id().0))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(done.rows_affected() == 1)
    }

    /// Replaces the sealed key by the same key rewrapped with another one. `false`: it was rewrapped in the meantime.
    ///
    /// # Errors
    /// As [`Self::create_cluster_authority`].
    pub async fn rewrap_cluster_authority(&self, old: &SealedBytes, new: &SealedBytes) -> Result<bool, StoreError> {
        const OPERATION: &str = "store the rewrapped authority of the cluster";
        let mut transaction = self.begin_write(WriteKind::ClusterAuthority, OPERATION).await?;
        require_unretired_key(&mut transaction, new.key_id()).await?;
        let done = sqlx::query("UPDATE cluster_authority SET sealed = $2, key_id = $3 WHERE sealed = $1")
            .bind(old.as_bytes())
            .bind(new.as_bytes())
            .bind(i64::from(new.key_id().0))
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(done.rows_affected() == 1)
    }

    /// How many active sessions each host holds.
    ///
    /// # Errors
    /// The database cannot be read or has a corrupt row.
    pub async fn count_sessions_by_host(&self) -> Result<BTreeMap<HostId, u64>, StoreError> {
        let text = "SELECT host_id, COUNT(*) AS sessions FROM sessions WHERE state = 'active' AND host_id IS NOT NULL GROUP BY host_id";
        let rows =
            sqlx::query(text).fetch_all(self.read_pool()).await.map_err(query_error("count the sessions of hosts"))?;
        let decode = |row: &AnyRow| {
            let reader = RowReader::new(row, "sessions", "host_id");
            Ok((reader.parsed("host_id")?, reader.number("sessions")?))
        };
        rows.iter().map(decode).collect()
    }

    /// Uses an invitation of a host. `false`: it was used before. Forgets those that have ended.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn use_host_invitation(&self, id: &str, ends_at_ms: UnixMs, now_ms: UnixMs) -> Result<bool, StoreError> {
        const OPERATION: &str = "use the invitation of a host";
        let mut transaction = self.begin_write(WriteKind::HostInvitation, OPERATION).await?;
        sqlx::query("DELETE FROM used_host_invitations WHERE ends_at_ms <= $1")
            .bind(to_sql_integer(now_ms))
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        let done = sqlx::query(
            "INSERT INTO used_host_invitations (id, ends_at_ms) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
        )
        .bind(id)
        .bind(to_sql_integer(ends_at_ms))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(done.rows_affected() == 1)
    }
}
