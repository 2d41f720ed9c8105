//! A credential as callers see it, without its secret.

use super::derive_current_health;
use crate::{
    session::context::SessionContext,
    unix_time::{self, format_rfc3339},
};
use anteroom_store::CredentialRow;
use anteroom_wire::api::CredentialMeta;

/// A credential without its secret, with its current health.
pub fn to_credential_meta(context: &SessionContext, row: &CredentialRow) -> CredentialMeta {
    let expiring_ms = context.config.credentials.expiry_warning_s.saturating_mul(1_000);
    let (health, health_detail) = derive_current_health(row, unix_time::now_unix_ms(), expiring_ms);
    CredentialMeta {
        id: row.id.clone(),
        provider: row.provider.clone(),
        user_id: row.user_id.clone(),
        account: row.account.clone(),
        session: row.session.clone(),
        stored_at: format_rfc3339(row.stored_at_ms),
        files: row.files.clone(),
        storage_policy: row.deletion_policy.storage_policy(),
        deliver_until: row.deletion_policy.until_ms().map(format_rfc3339),
        health,
        health_detail,
        checked_at: format_rfc3339(row.checked_at_ms),
        expires_at: row.expires_at_ms.map(format_rfc3339),
    }
}
