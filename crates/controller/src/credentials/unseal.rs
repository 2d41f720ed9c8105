//! Decrypts stored credentials.

use crate::{api_error::chain, app::App};
use anteroom_store::{CredentialRow, SealedCredential};
use anteroom_vault::Binding;
use anteroom_wire::{Problem, agent::DeliveredFile};
use zeroize::Zeroizing;

/// What a credential's bytes are sealed for: the session that they came from, not the one that asks.
pub fn binding(row: &CredentialRow) -> Binding<'_> {
    Binding { record: &row.id, owner: &row.owner, provider: &row.provider, session: &row.session }
}

/// The bytes in the clear, as they were sealed: the files as JSON.
///
/// # Errors
/// [`Problem::Internal`]: they do not open; the log has the cause.
pub fn unsealed(app: &App, record: &SealedCredential) -> Result<Zeroizing<Vec<u8>>, Problem> {
    app.vault.unseal(&binding(&record.credential), &record.sealed).map_err(|error| {
        tracing::error!(outcome = "unseal_failed", credential = %record.credential.id, error = %chain(&error), "a credential could not be opened");
        Problem::Internal
    })
}

/// The files in the clear.
///
/// # Errors
/// As [`unsealed`].
pub fn opened(app: &App, record: &SealedCredential) -> Result<Vec<DeliveredFile>, Problem> {
    serde_json::from_slice(&unsealed(app, record)?).map_err(|_| {
        tracing::error!(outcome = "not_files", credential = %record.credential.id, "a credential is not a list of files");
        Problem::Internal
    })
}
