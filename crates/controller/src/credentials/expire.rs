//! What time does to stored credentials, written down: those that nobody fetched in time are deleted, those that end are told. Called
//! by the sweep; may run at any moment.

use crate::{app::App, clock, clock::rfc3339, outbox, session::timeline};
use anteroom_store::{CredentialRow, Health, HealthUpdate, MessageSubject, StoreError};
use anteroom_wire::webhook::{CREDENTIAL_EXPIRING, CREDENTIAL_NEEDS_AUTH};
use serde_json::json;

/// Credentials at once; the rest waits for the next time.
const AT_ONCE_MAX: u32 = 100;

/// Does what is due.
///
/// # Errors
/// The database cannot be used; what was done before that stays done.
pub async fn expire_due(app: &App) -> Result<(), StoreError> {
    let now = clock::now();
    for row in app.store.delete_expired(now, AT_ONCE_MAX).await? {
        let until = row.retention.until_ms().map(rfc3339);
        tracing::warn!(outcome = "credential_delivery_expired", credential = %row.id, session = %row.session, until, "nobody fetched a credential in time; it was deleted");
        let sentence = "Nobody fetched the credential in time: it was deleted here.";
        timeline::append_in_background(
            app,
            &row.session,
            "credential_delivery_expired",
            sentence,
            json!({ "credential": row.id, "until": until }),
        );
    }
    let soon = now.saturating_add(app.config.credentials.expiry_warning_s.saturating_mul(1_000));
    for row in app.store.expiring_credentials(now, soon, AT_ONCE_MAX).await? {
        tell_of_end(app, &row, now).await?;
    }
    Ok(())
}

/// Writes down, once for each, that it ends soon or has ended.
async fn tell_of_end(app: &App, row: &CredentialRow, now: clock::UnixMs) -> Result<(), StoreError> {
    let Some(end) = row.expires_at_ms else { return Ok(()) };
    let (health, kind, detail) = if end <= now {
        (Health::NeedsAuth, CREDENTIAL_NEEDS_AUTH, format!("It ended at {}, as it says itself.", rfc3339(end)))
    } else {
        (Health::Expiring, CREDENTIAL_EXPIRING, format!("It ends at {}, as it says itself.", rfc3339(end)))
    };
    let messages = outbox::messages(app, &[(kind, MessageSubject::Credential(row.id.clone()))]);
    let update = HealthUpdate {
        credential: &row.id,
        revision: row.revision,
        health,
        detail: &detail,
        checked_at_ms: None,
        messages: &messages,
    };
    if app.store.set_health(&update).await? {
        tracing::info!(outcome = "credential_ends", credential = %row.id, health = health.as_str(), detail, "a credential ends");
        outbox::wake_sender(app);
    }
    Ok(())
}
