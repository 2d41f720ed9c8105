//! Decrypts stored credentials.

use crate::{api_error::chain, session::context::SessionContext};
use anteroom_store::{CredentialRow, SealedCredential};
use anteroom_vault::Binding;
use anteroom_wire::{Problem, agent::DeliveredFile};
use zeroize::Zeroizing;

/// The binding under which a credential's bytes are sealed: the session that delivered them, not the one that reads them.
pub fn binding(row: &CredentialRow) -> Binding<'_> {
    Binding { record: &row.id, owner: &row.owner, provider: &row.provider, session: &row.session }
}

/// Decrypts the bytes: the files as JSON.
///
/// # Errors
/// [`Problem::Internal`]: they cannot be decrypted; the log has the cause.
pub fn unseal_bytes(context: &SessionContext, record: &SealedCredential) -> Result<Zeroizing<Vec<u8>>, Problem> {
    context.vault.unseal(&binding(&record.credential), &record.sealed).map_err(|error| {
        tracing::error!(outcome = "unseal_failed", credential = %record.credential.id, error = %chain(&error), "credential not decrypted");
        Problem::Internal
    })
}

/// Decrypts the files.
///
/// # Errors
/// As [`unseal_bytes`].
pub fn unseal_files(context: &SessionContext, record: &SealedCredential) -> Result<Vec<DeliveredFile>, Problem> {
    serde_json::from_slice(&unseal_bytes(context, record)?).map_err(|_| {
        tracing::error!(outcome = "credential_not_files", credential = %record.credential.id, "decrypted credential is not a list of files");
        Problem::Internal
    })
}
