//! Accepts a delivery from a session that uses a credential: its tool has changed the file. The store's `replace` explains why the
//! last delivery wins.

use super::{RevisionSlot, ValidatedDelivery, acknowledge_duplicate, verify_stored};
use crate::{
    api_error::{ApiError, chain},
    credentials,
    session::{context::SessionContext, timeline::new_entry},
    unix_time,
};
use anteroom_store::{
    CredentialUse, NewTimelineEntry, RefreshCredential, RefreshOutcome, Revisions, SessionRow, Sha256Hex,
};
use anteroom_wire::{
    Problem, TimelineKind,
    agent::{DeliveryResult, UsePurpose},
};
use serde_json::json;

/// Replaces the bytes of the used credential. The session continues and may do so again. Identical bytes change nothing.
pub(super) async fn store_refreshed_credential(
    context: &SessionContext,
    row: &SessionRow,
    credential_use: &CredentialUse,
    token: &Sha256Hex,
    validated: &ValidatedDelivery,
) -> Result<DeliveryResult, ApiError> {
    let accepted = || Ok(DeliveryResult::Stored { credential: credential_use.credential.clone() });
    match credential_use.purpose {
        UsePurpose::Exec | UsePurpose::Check => {}
        // The file after a sign-out is not worth keeping.
        UsePurpose::Logout => return Ok(DeliveryResult::Ignored),
    }
    let Some(record) = context.store.get_sealed_credential(&credential_use.credential).await? else {
        return Err(record_not_refreshed(context, row, credential_use).await);
    };
    if !validated.is_account_of(&record.credential) {
        return Err(record_other_account(context, row, credential_use).await);
    }
    match credentials::unseal_bytes(context, &record) {
        Ok(bytes) if validated.has_bytes(&bytes) => return accepted(),
        Ok(_) => {}
        // The delivery replaces what cannot be decrypted.
        Err(error) => {
            tracing::error!(outcome = "unseal_failed", error = %chain(&error), "credential not decrypted");
        }
    }
    let slot = RevisionSlot::after(&record.credential);
    let sealed = validated.seal(context, row, &slot)?;
    let message = context.webhook_messages.revision_delivery_message(&row.id, &record.credential);
    let refresh = RefreshCredential {
        session: &row.id,
        generation: row.generation,
        agent_token: token,
        credential: validated.sealed_as(&credential_use.credential, slot.revision, &sealed),
        webhook_messages: message.as_slice(),
        at_ms: unix_time::now_unix_ms(),
    };
    context.timeline.wait_written(&row.id).await;
    let event_for = |revisions| refreshed_entry(credential_use, revisions);
    match context.store.refresh_credential(&refresh, event_for).await? {
        RefreshOutcome::Stored { credential, revisions, .. } => {
            verify_stored(context, &credential.id, credential.revision, validated).await?;
            context.webhook_messages.wake_sender();
            let Revisions { installed, replaced, stored } = revisions;
            tracing::info!(outcome = "refreshed", session = %row.id, credential = %credential.id, installed, replaced, stored, "credential changed by its tool sealed, stored and read back");
            if let Some(session) = context.sessions.get(&row.id) {
                session.notify_subscribers();
            }
            accepted()
        }
        RefreshOutcome::Ignored(row) => acknowledge_duplicate(context, &row).await,
        RefreshOutcome::WrongToken => Err(Problem::WrongAgentToken.into()),
        RefreshOutcome::NothingToRefresh => Err(record_not_refreshed(context, row, credential_use).await),
    }
}

/// The credential to replace does not exist any more: the change is lost with the machine, which is recorded.
async fn record_not_refreshed(context: &SessionContext, row: &SessionRow, credential_use: &CredentialUse) -> ApiError {
    let sentence =
        "The tool changed the credential, which was delivered or deleted while it was in use: the change is lost.";
    let entry = new_entry(TimelineKind::CredentialNotRefreshed, sentence);
    context.timeline.append(&row.id, entry.with_data(json!({ "credential": credential_use.credential }))).await;
    ApiError::new(Problem::UnknownCredential, "it was delivered or deleted while it was in use")
}

/// A command has signed the tool in to another account: the credential stays as it is, which is recorded.
async fn record_other_account(context: &SessionContext, row: &SessionRow, credential_use: &CredentialUse) -> ApiError {
    let sentence = "The tool was signed in to another account than the credential's: the credential was not changed.";
    let entry = new_entry(TimelineKind::CredentialNotRefreshed, sentence);
    context.timeline.append(&row.id, entry.with_data(json!({ "credential": credential_use.credential }))).await;
    Problem::OtherAccount.into()
}

fn refreshed_entry(credential_use: &CredentialUse, revisions: Revisions) -> NewTimelineEntry {
    let Revisions { installed, replaced, stored } = revisions;
    let mut sentence = format!("The tool changed the credential; it was sealed and stored as revision {stored}.");
    if replaced != installed {
        sentence = format!(
            "{sentence} It replaced revision {replaced}, which another session stored: this machine had revision {installed}."
        );
    }
    let data = json!({ "credential": credential_use.credential, "installed": installed, "replaced": replaced, "revision": stored });
    new_entry(TimelineKind::CredentialRefreshed, sentence).with_data(data)
}
