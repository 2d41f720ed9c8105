//! The certificate authority of the cluster: its key is in the database, sealed with the keys of stored credentials.
//!
//! Every host of a cluster has these keys, so each of them can issue: an invitation by one host is accepted by all. A copy of the database
//! alone issues nothing.

use crate::unix_time;
use anteroom_cluster::peer::{Authority, AuthorityError};
use anteroom_store::{Store, StoreError, StoredAuthority};
use anteroom_vault::{KeyRing, SealError};

/// Why the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenAuthorityError {
    /// The database cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key cannot be sealed or unsealed.
    #[error("the key of the cluster's authority: {0}")]
    Seal(#[from] SealError),
    /// Certificate or key are not well formed.
    #[error("the cluster's authority: {0}")]
    Authority(#[from] AuthorityError),
    /// The key is not text.
    #[error("the key of the cluster's authority is not well formed")]
    MalformedKey,
}

/// Opens the authority; `None`: no host has joined yet.
///
/// # Errors
/// It cannot be read or unsealed.
pub async fn open(store: &Store, ring: &KeyRing) -> Result<Option<Authority>, OpenAuthorityError> {
    let Some(stored) = store.get_cluster_authority().await? else { return Ok(None) };
    let key = ring.unseal_authority_key(&stored.certificate, &stored.sealed_key)?;
    let key = std::str::from_utf8(&key).map_err(|_| OpenAuthorityError::MalformedKey)?;
    Ok(Some(Authority::open(&stored.certificate, key)?))
}

/// Creates the authority for the first host of a cluster. `None`: another host was faster.
///
/// # Errors
/// It cannot be sealed or stored.
pub async fn create(store: &Store, ring: &KeyRing) -> Result<Option<Authority>, OpenAuthorityError> {
    let authority = Authority::create(unix_time::now_unix_ms())?;
    let certificate = authority.certificate_pem().to_owned();
    let sealed_key = ring.seal_authority_key(&certificate, authority.key_pem().as_bytes())?;
    let is_created = store.create_cluster_authority(&StoredAuthority { certificate, sealed_key }).await?;
    Ok(is_created.then_some(authority))
}

/// Rewraps the key with the primary key of the ring, if an older one wraps it. Returns whether it did.
///
/// # Errors
/// The outer one: the database cannot be read or written. The inner one: it cannot be unwrapped.
pub(crate) async fn rewrap(store: &Store, ring: &KeyRing) -> Result<Result<bool, SealError>, StoreError> {
    let Some(stored) = store.get_cluster_authority().await? else { return Ok(Ok(false)) };
    if stored.sealed_key.key_id() == ring.primary_key_id() {
        return Ok(Ok(false));
    }
    match ring.rewrap(&stored.sealed_key) {
        Ok(new) => Ok(Ok(store.rewrap_cluster_authority(&stored.sealed_key, &new).await?)),
        Err(error) => Ok(Err(error)),
    }
}
