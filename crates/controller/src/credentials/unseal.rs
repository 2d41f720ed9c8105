//! Decrypts stored credentials.

use crate::{api_error::ApiError, keys::binding_of, session::context::SessionContext};
use anteroom_store::SealedCredential;
use anteroom_vault::{LockedBytes, SealError};
use anteroom_wire::{CredentialId, Problem, agent::DeliveredFile};

/// Why a stored credential cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// This host has lost contact with its cluster.
    #[error("credential {credential} is not decrypted: this host has lost contact with its cluster")]
    ContactLost {
        /// The credential.
        credential: CredentialId,
    },
    /// It cannot be decrypted with the keys of this server.
    #[error("credential {credential} cannot be decrypted")]
    NotDecrypted {
        /// The credential.
        credential: CredentialId,
        /// The cause.
        #[source]
        source: SealError,
    },
    /// The decrypted bytes are not a list of files. The parser's error is not kept: it could quote the credential.
    #[error("decrypted credential {credential} is not a list of files (line {line}, column {column})")]
    NotFiles {
        /// The credential.
        credential: CredentialId,
        /// The line of the first error.
        line: usize,
        /// The column of the first error.
        column: usize,
    },
}

impl From<UnsealError> for ApiError {
    fn from(error: UnsealError) -> Self {
        let problem = match &error {
            UnsealError::NotDecrypted { source: SealError::WrongBinding | SealError::AuthenticationFailed, .. } => {
                Problem::RecordTampered
            }
            UnsealError::ContactLost { .. } => Problem::ClusterContactLost,
            UnsealError::NotDecrypted { .. } | UnsealError::NotFiles { .. } => Problem::Internal,
        };
        Self::from(problem).with_source(error)
    }
}

/// Decrypts the bytes: the files as JSON.
///
/// # Errors
/// [`UnsealError::NotDecrypted`], [`UnsealError::ContactLost`].
pub fn unseal_bytes(context: &SessionContext, record: &SealedCredential) -> Result<LockedBytes, UnsealError> {
    if context.cluster.require_may_act().is_err() {
        return Err(UnsealError::ContactLost { credential: record.credential.id.clone() });
    }
    let unsealed = context.vault.unseal(&binding_of(&record.credential), &record.sealed);
    let plaintext = unsealed.map_err(|source| {
        context.key_rotation.report_unreadable(&record.credential.id, source);
        UnsealError::NotDecrypted { credential: record.credential.id.clone(), source }
    })?;
    warn_unless_locked(&plaintext);
    Ok(plaintext)
}

/// Logs that a plaintext could be written to swap.
pub fn warn_unless_locked(plaintext: &LockedBytes) {
    if let Some(error) = plaintext.lock_error() {
        tracing::warn!(outcome = "not_locked", bytes = plaintext.len(), %error, "plaintext not locked in memory: it may be swapped out; raise RLIMIT_MEMLOCK");
    }
}

/// Decrypts the files.
///
/// # Errors
/// [`UnsealError`].
pub fn unseal_files(context: &SessionContext, record: &SealedCredential) -> Result<Vec<DeliveredFile>, UnsealError> {
    serde_json::from_slice(&unseal_bytes(context, record)?).map_err(|error| UnsealError::NotFiles {
        credential: record.credential.id.clone(),
        line: error.line(),
        column: error.column(),
    })
}
