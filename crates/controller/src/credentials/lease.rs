//! Operations of a credential's owner: read, lease the files, delete. Errors distinguish a credential that was delivered once, one that
//! was not fetched in time and one that was deleted.

use super::unseal::unseal_files;
use crate::{
    api_error::ApiError,
    audit,
    caller::{Action, Caller},
    session::{context::SessionContext, supervisor::use_turn::takes_turns, timeline::new_entry},
    unix_time::{self, format_rfc3339},
};
use anteroom_audit::Subject;
use anteroom_store::{
    CredentialRow, DeleteOutcome, DeletionPolicy, LeasedCredential, NewMessage, Regarding, SealedCredential, StoreError,
};
use anteroom_wire::{CredentialId, Problem, TimelineKind, agent::DeliveredFile, webhook::EventType};
use serde_json::json;

/// The credential, even if its bytes are deleted, if the caller may do `action` to it.
///
/// # Errors
/// No such credential, or the caller may not.
pub async fn require_owned_credential(
    context: &SessionContext,
    caller: &Caller,
    action: Action,
    id: &CredentialId,
) -> Result<CredentialRow, ApiError> {
    audit::note_credential(id);
    let row = context.store.get_credential(id).await?.ok_or(Problem::UnknownCredential)?;
    caller.require(action, &row)?;
    audit::note_user(row.user_id.as_deref());
    Ok(row)
}

/// The credential, if the caller may do `action` to it and it still has its bytes.
///
/// # Errors
/// As [`require_owned_credential`]; or the reason why the bytes are deleted.
pub async fn require_undeleted_credential(
    context: &SessionContext,
    caller: &Caller,
    action: Action,
    id: &CredentialId,
) -> Result<CredentialRow, ApiError> {
    let row = require_owned_credential(context, caller, action, id).await?;
    if row.deleted_at_ms.is_some() {
        return Err(unavailable(context, id).await?);
    }
    Ok(row)
}

/// Leases the files, byte for byte, and records the lease. With the policy `deliver_once` the bytes are deleted in the same step: of
/// concurrent callers one gets them, and none while they are being delivered to the webhook.
///
/// # Errors
/// As [`require_undeleted_credential`]; a use of it does not end in time; a delivery to the webhook is in progress; or the bytes cannot be decrypted: then nothing was leased or deleted.
pub async fn lease_credential(
    context: &SessionContext,
    caller: &Caller,
    id: &CredentialId,
) -> Result<(CredentialRow, Vec<DeliveredFile>), ApiError> {
    let row = require_undeleted_credential(context, caller, Action::LeaseCredential, id).await?;
    // A copy that is taken during a use may be replaced at once.
    let provider = context.providers().resolved_for_use(&row.provider, row.method.as_ref());
    let takes_turns = provider.is_none_or(|(_, provider)| takes_turns(&provider));
    let _turn = if takes_turns { Some(context.credential_turns.wait_for_lease(id).await?) } else { None };
    // Before anything is deleted: bytes that cannot be decrypted now may be decrypted after a key is restored.
    if let Some(record) = context.store.get_sealed_credential(id).await? {
        unseal_files(context, &record)?;
    }
    let subject = Subject { credential: Some(id.to_string()), user: row.user_id, ..Subject::default() };
    context.audit.record_before(anteroom_audit::Action::CredentialLease, subject).await?;
    let messages = messages_about(context, EventType::CredentialLeased, id);
    let now = unix_time::now_unix_ms();
    let mut leased = context.store.lease_credential_with_messages(id, &caller.id, now, &messages).await?;
    // A message from earlier settings may hold the credential although messages attach none now.
    if leased.is_none()
        && !context.webhook_messages.attaches_credentials()
        && context.store.release_webhook_claims(id).await?
    {
        leased = context.store.lease_credential_with_messages(id, &caller.id, now, &messages).await?;
    }
    let Some(LeasedCredential { credential, sealed, lease_number: number }) = leased else {
        return Err(unavailable(context, id).await?);
    };
    context.webhook_messages.wake_sender();
    let record = SealedCredential { credential, sealed };
    let files = unseal_files(context, &record)?;
    let row = record.credential;
    tracing::info!(outcome = "leased", credential = %row.id, caller = %caller.id, number, "credential leased to its owner");
    if let DeletionPolicy::AfterDelivery { .. } = row.deletion_policy {
        let data = json!({ "credential": row.id, "caller": caller.id });
        let sentence = "The credential was delivered to its owner and deleted here.";
        let entry = new_entry(TimelineKind::CredentialLeased, sentence).with_data(data);
        context.timeline.append_in_background(&row.session, entry);
    }
    Ok((row, files))
}

/// Deletes the bytes permanently. Idempotent.
///
/// # Errors
/// As [`require_owned_credential`].
pub async fn delete_credential(context: &SessionContext, caller: &Caller, id: &CredentialId) -> Result<(), ApiError> {
    let row = require_owned_credential(context, caller, Action::DeleteCredential, id).await?;
    let messages = messages_about(context, EventType::CredentialDeleted, &row.id);
    let deleted = context.store.delete_credential_with_messages(&row.id, unix_time::now_unix_ms(), &messages).await?;
    if deleted == DeleteOutcome::Deleted {
        context.webhook_messages.wake_sender();
        tracing::info!(outcome = "credential_deleted", credential = %row.id, caller = %caller.id, "credential deleted");
        let data = json!({ "credential": row.id, "caller": caller.id });
        let entry = new_entry(TimelineKind::CredentialDeleted, "The credential was deleted.").with_data(data);
        context.timeline.append_in_background(&row.session, entry);
    }
    Ok(())
}

fn messages_about(context: &SessionContext, kind: EventType, id: &CredentialId) -> Vec<NewMessage> {
    context.webhook_messages.new_messages(&[(kind, Regarding::Credential(id.clone()))])
}

/// The reason why a credential has no bytes or cannot be leased.
async fn unavailable(context: &SessionContext, id: &CredentialId) -> Result<ApiError, StoreError> {
    let Some(row) = context.store.get_credential(id).await? else { return Ok(Problem::UnknownCredential.into()) };
    let DeletionPolicy::AfterDelivery { until_ms } = row.deletion_policy else {
        return Ok(ApiError::new(Problem::UnknownCredential, "it was deleted"));
    };
    if row.deleted_at_ms.is_none() && unix_time::now_unix_ms() < until_ms {
        let detail = "it is being delivered to the webhook; if that fails, it can be leased here again";
        return Ok(ApiError::new(Problem::AlreadyDelivered, detail));
    }
    Ok(match context.store.list_leases(id, 1).await?.pop() {
        Some(lease) => {
            ApiError::new(Problem::AlreadyDelivered, format!("it was delivered at {}", format_rfc3339(lease.at_ms)))
        }
        None if until_ms <= row.deleted_at_ms.unwrap_or_else(unix_time::now_unix_ms) => {
            let detail = format!("it was not fetched before {} and was deleted", format_rfc3339(until_ms));
            ApiError::new(Problem::UnknownCredential, detail)
        }
        None => ApiError::new(Problem::UnknownCredential, "it was deleted"),
    })
}
