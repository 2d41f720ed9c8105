//! Accepts a delivered credential: validate, seal, store and complete in one transaction, read back, and only then release the
//! machine.
//!
//! | the session | the delivery |
//! |---|---|
//! | signs in | becomes a new credential and completes the session |
//! | renews a credential | replaces that credential's bytes under the same id and completes the session; another account's fails it |
//! | uses a credential | replaces its bytes; the session continues ([`store_refreshed_credential`]) |
//!
//! A delivery that the provider's policy does not allow to be stored is rejected permanently.

mod refresh;
pub(crate) mod validated;

pub use validated::FILES_MAX;

use super::{active_session::ActiveSession, end};
use crate::{
    api_error::ApiError,
    audit,
    credentials::{self, UnsealError},
    session::{context::SessionContext, timeline::new_entry},
    unix_time,
};
use anteroom_store::{CompleteOutcome, CompleteWithCredential, SessionPurpose, SessionRow, Sha256Hex, StoreError};
use anteroom_wire::{
    CredentialId, EndReason, Problem, Secret, TimelineKind,
    agent::{CredentialDelivery, DeliveryResult, is_permanent_rejection},
};
use serde_json::json;
use validated::{RevisionSlot, ValidatedDelivery};

/// Accepts a delivery. A second one is ignored. An error of the database changes nothing: the agent keeps the bytes and tries
/// again.
///
/// # Errors
/// Unknown session, wrong token, invalid format, forbidden by policy, the credential to renew was deleted, or the database cannot
/// be written.
pub async fn accept_delivery(
    context: &SessionContext,
    token: &Secret,
    delivery: &CredentialDelivery,
) -> Result<DeliveryResult, ApiError> {
    let row = context.store.get_session(&delivery.session).await?.ok_or(Problem::UnknownSession)?;
    let token = Sha256Hex::of_secret(token);
    if row.agent_token.as_ref() != Some(&token) || row.generation != delivery.generation {
        return Err(Problem::WrongAgentToken.into());
    }
    audit::note_agent(&row);
    let session = context.sessions.get(&row.id);
    // While this is held, the machine that waits for the answer is not stopped.
    let _in_flight = session.as_ref().and_then(ActiveSession::begin_delivery);
    let result = process(context, row, &token, delivery).await;
    if let Some(session) = &session {
        session.update_state(|state| {
            if let Some(machine) = state.machine_of_generation(delivery.generation) {
                machine.delivery_pending = !is_final(&result);
            }
        });
    }
    result
}

/// Whether the agent will not send the delivery again.
fn is_final(result: &Result<DeliveryResult, ApiError>) -> bool {
    match result {
        Ok(DeliveryResult::Stored { .. } | DeliveryResult::Ignored) => true,
        Err(error) => is_permanent_rejection(error.problem.http_status()),
    }
}

async fn process(
    context: &SessionContext,
    row: SessionRow,
    token: &Sha256Hex,
    delivery: &CredentialDelivery,
) -> Result<DeliveryResult, ApiError> {
    if !row.is_active() {
        return acknowledge_duplicate(context, &row).await;
    }
    let validated = ValidatedDelivery::validate(context, &row, delivery)?;
    match &row.purpose {
        SessionPurpose::SignIn { renews } => complete_session(context, &row, renews.as_ref(), token, &validated).await,
        SessionPurpose::UseCredential(credential_use) => {
            refresh::store_refreshed_credential(context, &row, credential_use, token, &validated).await
        }
    }
}

/// Stores the credential and completes the session.
async fn complete_session(
    context: &SessionContext,
    row: &SessionRow,
    renews: Option<&CredentialId>,
    token: &Sha256Hex,
    validated: &ValidatedDelivery,
) -> Result<DeliveryResult, ApiError> {
    let slot = match renews {
        None => RevisionSlot::first(row),
        Some(renewed) => match context.store.get_credential(renewed).await? {
            Some(renewed) if !validated.is_account_of(&renewed) => {
                return Err(refuse_other_account(context, row).await?);
            }
            Some(renewed) => RevisionSlot::after(&renewed),
            None => return Err(fail_renewal(context, row).await?),
        },
    };
    let sealed = validated.seal(context, row, &slot)?;
    let id = slot.credential;
    let messages = context.webhook_messages.session_completed_messages(&row.id, &id);
    let completion = CompleteWithCredential {
        session: &row.id,
        generation: row.generation,
        agent_token: token,
        credential: validated.sealed_as(&id, slot.revision, &sealed),
        webhook_messages: &messages,
        at_ms: unix_time::now_unix_ms(),
    };
    let replaced = if renews.is_some() { ", replacing the earlier one" } else { "" };
    let sentence = format!("The credential was sealed and stored{replaced} ({} file(s)).", validated.files.len());
    let entry = new_entry(TimelineKind::Completed, sentence).with_data(json!({ "credential": id, "renewed": renews }));
    context.timeline.wait_written(&row.id).await;
    match context.store.complete_with_credential(&completion, entry).await? {
        CompleteOutcome::Ignored(row) => acknowledge_duplicate(context, &row).await,
        CompleteOutcome::WrongToken => Err(Problem::WrongAgentToken.into()),
        CompleteOutcome::NothingToRenew => Err(fail_renewal(context, row).await?),
        CompleteOutcome::Stored { credential, .. } => {
            verify_stored(context, &credential.id, credential.revision, validated).await?;
            context.webhook_messages.wake_sender();
            tracing::info!(outcome = "completed", session = %row.id, credential = %credential.id, revision = credential.revision, "credential sealed, stored and read back");
            if let Some(session) = context.sessions.get(&row.id) {
                session.close(EndReason::Completed);
            }
            Ok(DeliveryResult::Stored { credential: credential.id })
        }
    }
}

/// The credential to renew was deleted during the sign-in: the session fails, and no other credential takes its place.
async fn fail_renewal(context: &SessionContext, row: &SessionRow) -> Result<ApiError, StoreError> {
    let reason = "The credential was deleted while it was being renewed.";
    end::end_session(context, &row.id, EndReason::CredentialDeleted, reason).await?;
    Ok(ApiError::new(Problem::UnknownCredential, reason))
}

/// The sign-in to renew a credential was to another account: the session fails, and the credential stays as it is. The names of the
/// accounts are in no timeline and no log.
async fn refuse_other_account(context: &SessionContext, row: &SessionRow) -> Result<ApiError, StoreError> {
    end::end_session(context, &row.id, EndReason::OtherAccount, "").await?;
    Ok(Problem::OtherAccount.into())
}

/// Answers a second delivery with "ignored". If the record of the first one could not be read back before, it is read back now, before the
/// machine is released.
async fn acknowledge_duplicate(context: &SessionContext, row: &SessionRow) -> Result<DeliveryResult, ApiError> {
    let (Some(end), Some(session)) = (row.end(), context.sessions.get(&row.id)) else {
        return Ok(DeliveryResult::Ignored);
    };
    if let Some(id) = row.credential()
        && let Some(record) = context.store.get_sealed_credential(id).await?
    {
        credentials::unseal_bytes(context, &record)?;
    }
    session.close(end.reason.kind);
    Ok(DeliveryResult::Ignored)
}

/// Why a stored credential could not be read back.
#[derive(Debug, thiserror::Error)]
enum ReadBackError {
    #[error("the stored credential could not be read back")]
    NotDecrypted(#[source] UnsealError),
    #[error("the stored credential {0} could not be read back: the decrypted bytes differ")]
    OtherBytes(CredentialId),
    #[error("the stored credential {0} could not be read back: the record is missing")]
    Missing(CredentialId),
}

/// Reads the stored record back and compares its decrypted bytes. Until they match, the machine keeps running and the agent gets no
/// final answer. A record that was delivered, deleted or replaced in between was stored, which is enough.
async fn verify_stored(
    context: &SessionContext,
    id: &CredentialId,
    revision: u64,
    validated: &ValidatedDelivery,
) -> Result<(), ApiError> {
    let error = match context.store.get_sealed_credential(id).await? {
        Some(record) if record.credential.revision > revision => return Ok(()),
        Some(record) => match credentials::unseal_bytes(context, &record) {
            Ok(bytes) if validated.has_bytes(&bytes) => return Ok(()),
            Ok(_) => ReadBackError::OtherBytes(id.clone()),
            Err(error) => ReadBackError::NotDecrypted(error),
        },
        None => match context.store.get_credential(id).await? {
            Some(row) if row.deleted_at_ms.is_some() => return Ok(()),
            Some(_) | None => ReadBackError::Missing(id.clone()),
        },
    };
    Err(ApiError::internal(error))
}
