//! A delivery: check, seal, store and complete in one transaction, read back, and only then let the machine go.
//!
//! | the session | the delivery |
//! |---|---|
//! | signs in | becomes a new credential and completes it |
//! | signs in again for a credential | takes the place of that credential's bytes, under the same id, and completes it |
//! | uses a credential | takes the place of its bytes; the session goes on ([`refresh`]) |
//!
//! What the provider's policy does not let be stored is refused for good: no agent of ours sends that.

mod refresh;
mod validated;

use super::{active_session::ActiveSession, end, lifecycle::EndKind, timeline};
use crate::{api_error::ApiError, api_error::chain, app::App, clock, credentials, outbox, random};
use anteroom_store::{
    Completed, Completion, NewCredential, NewEvent, SessionPurpose, SessionRow, Sha256Hex, StoreError,
};
use anteroom_wire::{
    CredentialId, Problem, Secret,
    agent::{Delivery, DeliveryResult},
};
use serde_json::json;
use validated::Parcel;

/// Takes a delivery. A second one is ignored. An error of the database leaves everything as it was: the agent keeps the
/// bytes and tries again.
///
/// # Errors
/// Unknown session, wrong token, wrong shape, the policy forbids it, the credential that it is for is gone, or the database cannot be
/// written.
pub async fn complete(app: &App, token: &Secret, delivery: &Delivery) -> Result<Delivered, ApiError> {
    let row = app.store.session(&delivery.session).await?.ok_or(Problem::UnknownSession)?;
    let token = Sha256Hex::of_secret(token);
    if row.agent_token.as_ref() != Some(&token) || row.generation != delivery.generation {
        return Err(Problem::WrongAgentToken.into());
    }
    let session = app.sessions.get(&row.id);
    // As long as this is held, nobody stops the machine that waits for the answer.
    let _receiving = session.as_ref().and_then(ActiveSession::begin_delivery);
    let answer = take(app, row, &token, delivery).await;
    if let Some(session) = &session {
        session.change(|state| state.delivery_pending = !is_final(&answer));
    }
    answer
}

/// Whether the agent will not send it again.
fn is_final(answer: &Result<Delivered, ApiError>) -> bool {
    match answer {
        Ok(DeliveryResult::Stored { .. } | DeliveryResult::Ignored) => true,
        Err(refusal) => {
            let status = refusal.problem.http_status();
            (400..500).contains(&status) && !matches!(status, 408 | 429)
        }
    }
}

async fn take(app: &App, row: SessionRow, token: &Sha256Hex, delivery: &Delivery) -> Result<Delivered, ApiError> {
    if !row.is_active() {
        return ignore(app, &row).await;
    }
    let parcel = Parcel::check(app, &row, delivery)?;
    match &row.purpose {
        SessionPurpose::SignIn { renews } => finish(app, &row, renews.as_ref(), token, &parcel).await,
        SessionPurpose::UseCredential(using) => refresh::refresh(app, &row, using, token, &parcel).await,
    }
}

/// Stores it and completes the session.
async fn finish(
    app: &App,
    row: &SessionRow,
    renews: Option<&CredentialId>,
    token: &Sha256Hex,
    parcel: &Parcel,
) -> Result<Delivered, ApiError> {
    let id = renews.cloned().unwrap_or_else(|| random::id(CredentialId::from_parts));
    let sealed = parcel.seal(app, row, &id)?;
    let messages = outbox::session_completed(app, &row.id, &id);
    let completion = Completion {
        session: &row.id,
        generation: row.generation,
        agent_token: token,
        credential: NewCredential {
            id: &id,
            sealed: &sealed,
            files: &parcel.described,
            retention: parcel.retention,
            expires_at_ms: parcel.expires_at_ms,
        },
        messages: &messages,
        at_ms: clock::now(),
    };
    let place = if renews.is_some() { " in the place of the one before" } else { "" };
    let sentence = format!("The credential was sealed and stored{place} ({} file(s)).", parcel.described.len());
    let event = NewEvent::new(clock::now(), "completed", sentence).with(json!({ "credential": id, "renewed": renews }));
    timeline::flush(app, &row.id).await;
    match app.store.complete_with_credential(&completion, event).await? {
        Completed::Ignored(row) => ignore(app, &row).await,
        Completed::WrongToken => Err(Problem::WrongAgentToken.into()),
        Completed::NothingToRenew => Err(nothing_to_renew(app, row).await?),
        Completed::Stored { credential, .. } => {
            verify(app, &credential.id, credential.revision, parcel).await?;
            outbox::wake_sender(app);
            tracing::info!(outcome = "completed", session = %row.id, credential = %credential.id, revision = credential.revision, "a credential was sealed, stored and read back");
            if let Some(session) = app.sessions.get(&row.id) {
                session.close(Problem::Completed);
            }
            Ok(DeliveryResult::Stored { credential: credential.id })
        }
    }
}

/// Its credential was deleted while somebody signed in for it again: whoever deleted it does not want another in its place.
async fn nothing_to_renew(app: &App, row: &SessionRow) -> Result<ApiError, StoreError> {
    let why = "The credential was deleted while it was being signed in to again.";
    end::end(app, &row.id, EndKind::Failed, Problem::UnknownCredential, why).await?;
    Ok(ApiError::new(Problem::UnknownCredential, why))
}

/// A second delivery changes nothing. If the first one's record could not be read back then, it is now, before anybody
/// lets the machine go.
async fn ignore(app: &App, row: &SessionRow) -> Result<Delivered, ApiError> {
    let (Some(end), Some(session)) = (row.end(), app.sessions.get(&row.id)) else { return Ok(DeliveryResult::Ignored) };
    if let Some(id) = row.credential()
        && let Some(record) = app.store.sealed_credential(id).await?
    {
        credentials::unsealed(app, &record)?;
    }
    session.close(end.reason.problem);
    Ok(DeliveryResult::Ignored)
}

/// The record as the database has it now, opened again: the same bytes. Until this is so the machine stays, and the agent is not told
/// that it is done. What was handed out, deleted or replaced since it was stored a moment ago was stored.
async fn verify(app: &App, id: &CredentialId, revision: u64, parcel: &Parcel) -> Result<(), ApiError> {
    let why = match app.store.sealed_credential(id).await? {
        Some(record) if record.credential.revision > revision => return Ok(()),
        Some(record) => match app.vault.unseal(&credentials::binding(&record.credential), &record.sealed) {
            Ok(bytes) if parcel.is(&bytes) => return Ok(()),
            Ok(_) => "other bytes came back".to_owned(),
            Err(error) => chain(&error),
        },
        None => match app.store.credential(id).await? {
            Some(row) if row.deleted_at_ms.is_some() => return Ok(()),
            Some(_) | None => "the record is not there".to_owned(),
        },
    };
    tracing::error!(outcome = "read_back_failed", credential = %id, why, "a stored credential does not read back");
    Err(Problem::Internal.into())
}
