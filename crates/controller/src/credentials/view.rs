//! A credential as callers see it, without its secret.

use super::derive_current_health;
use crate::{
    session::context::SessionContext,
    unix_time::{self, format_rfc3339},
};
use anteroom_store::{CredentialRow, HealthAt};
use anteroom_wire::{
    api::{CredentialHealth, CredentialMeta},
    provider::{Provider, StoragePolicy},
};

/// A credential without its secret, with its current health.
pub fn to_credential_meta(context: &SessionContext, row: &CredentialRow) -> CredentialMeta {
    let expiring_ms = context.config().credentials.expiry_warning_s.saturating_mul(1_000);
    let provider =
        context.providers().resolved_for_use(&row.provider, row.method.as_ref()).map(|(_, provider)| provider);
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
        refreshable: provider.as_ref().is_none_or(|provider| !provider.credential.never_refreshed),
        sign_out_scope: provider.as_ref().map(|provider| provider.logout_scope).unwrap_or_default(),
        sign_out_note: provider.and_then(|provider| sign_out_note(&provider)),
    }
}

/// The filter for credentials that have this health now.
pub fn health_now(context: &SessionContext, health: CredentialHealth) -> HealthAt {
    let now_ms = unix_time::now_unix_ms();
    let expiring_ms = context.config().credentials.expiry_warning_s.saturating_mul(1_000);
    HealthAt { health, now_ms, expiring_until_ms: now_ms.saturating_add(expiring_ms) }
}

fn sign_out_note(provider: &Provider) -> Option<String> {
    if provider.logout_argv.is_empty() {
        return Some(format!(
            "{} has no command that signs out at its provider: that accepts the tokens until they are revoked there or expire.",
            provider.name
        ));
    }
    provider.logout_scope.sentence(&provider.name)
}

/// What a use of a leased copy does to the stored credential, one sentence; `None`: nothing, or it is no longer stored.
pub fn lease_notice(context: &SessionContext, row: &CredentialRow) -> Option<String> {
    let (_, provider) = context.providers().resolved_for_use(&row.provider, row.method.as_ref())?;
    let is_stored = row.deletion_policy.storage_policy() == StoragePolicy::Store;
    (is_stored && !provider.credential.never_refreshed).then(|| {
        format!(
            "This copy and the stored credential share their tokens: when {} renews them in one place, its provider may reject the other.",
            provider.name
        )
    })
}
