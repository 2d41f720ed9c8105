//! The binding of a stored credential.

use anteroom_store::CredentialRow;
use anteroom_vault::Binding;

/// The binding under which a credential's bytes are sealed: the session that delivered them, not the one that reads them.
pub fn binding_of(row: &CredentialRow) -> Binding<'_> {
    Binding {
        credential: &row.id,
        owner: &row.owner,
        user_id: row.user_id.as_deref(),
        provider: &row.provider,
        session: &row.session,
        revision: row.revision,
    }
}
