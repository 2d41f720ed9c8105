//! Expiry of stored credentials: deletes those that were not fetched in time and reports those that expire. Called by the
//! reconciliation; may run at any moment.

use crate::{
    session::{context::SessionContext, timeline::new_entry},
    unix_time::{self, format_rfc3339},
};
use anteroom_store::{CredentialRow, HealthKind, HealthUpdate, Regarding, StoreError};
use anteroom_wire::TimelineKind;
use anteroom_wire::webhook::EventType;
use serde_json::json;

/// Maximum number of credentials in one run; the rest waits for the next one.
const BATCH_MAX: u32 = 100;

/// Deletes and reports credentials that are due.
///
/// # Errors
/// The database cannot be used; changes made before that stay.
pub async fn delete_expired_credentials(context: &SessionContext) -> Result<(), StoreError> {
    let now = unix_time::now_unix_ms();
    let messages = |row: &CredentialRow| {
        let regarding = Regarding::Credential(row.id.clone());
        context.webhook_messages.new_messages(&[(EventType::CredentialDeleted, regarding)])
    };
    let deleted = context.store.delete_expired_credentials(now, BATCH_MAX, messages).await?;
    if !deleted.is_empty() {
        context.webhook_messages.wake_sender();
    }
    for row in deleted {
        let until = row.deletion_policy.until_ms().map(format_rfc3339);
        tracing::warn!(outcome = "credential_delivery_expired", credential = %row.id, session = %row.session, until, "credential not fetched in time; deleted");
        let sentence = "The credential was not fetched in time and was deleted here.";
        let entry = new_entry(TimelineKind::CredentialDeliveryExpired, sentence);
        let entry = entry.with_data(json!({ "credential": row.id, "until": until }));
        context.timeline.append_in_background(&row.session, entry);
    }
    let warning_until = now.saturating_add(context.config().credentials.expiry_warning_s.saturating_mul(1_000));
    for row in context.store.list_expiring_credentials(now, warning_until, BATCH_MAX).await? {
        report_expiry(context, &row, now).await?;
    }
    Ok(())
}

/// Records, once for each, that the credential expires soon or has expired.
async fn report_expiry(
    context: &SessionContext,
    row: &CredentialRow,
    now: unix_time::UnixMs,
) -> Result<(), StoreError> {
    let Some(expires_at) = row.expires_at_ms else { return Ok(()) };
    let (health, kind, detail) = if expires_at <= now {
        (
            HealthKind::NeedsAuth,
            EventType::CredentialNeedsAuth,
            format!("It expired at {}, according to its file.", format_rfc3339(expires_at)),
        )
    } else {
        (
            HealthKind::Expiring,
            EventType::CredentialExpiring,
            format!("It expires at {}, according to its file.", format_rfc3339(expires_at)),
        )
    };
    let messages = context.webhook_messages.new_messages(&[(kind, Regarding::Credential(row.id.clone()))]);
    let update = HealthUpdate {
        credential: &row.id,
        revision: row.revision,
        health,
        detail: &detail,
        checked_at_ms: None,
        webhook_messages: &messages,
    };
    if context.store.set_credential_health(&update).await? {
        tracing::info!(outcome = "credential_expires", credential = %row.id, health = health.as_str(), detail, "credential expires");
        context.webhook_messages.wake_sender();
    }
    Ok(())
}
