//! A credential and its owner: looking at it, being handed the files, deleting it. What is gone is told apart: handed out once, fetched
//! by nobody in time, deleted.

use super::unseal::opened;
use crate::{api_error::ApiError, app::App, auth::Caller, clock, clock::rfc3339, outbox, session::timeline};
use anteroom_store::{CredentialRow, Deletion, Leased, Retention, SealedCredential, StoreError};
use anteroom_wire::{CredentialId, Problem, agent::DeliveredFile};
use serde_json::json;

/// The credential, its bytes deleted or not, if the caller may have it.
///
/// # Errors
/// There is none, or it is somebody else's.
pub async fn require_owned(app: &App, caller: &Caller, id: &CredentialId) -> Result<CredentialRow, ApiError> {
    let row = app.store.credential(id).await?.ok_or(Problem::UnknownCredential)?;
    caller.may_own(&row.owner)?;
    Ok(row)
}

/// The same, if it still has its bytes.
///
/// # Errors
/// As [`require_owned`]; or what became of the bytes.
pub async fn require_present(app: &App, caller: &Caller, id: &CredentialId) -> Result<CredentialRow, ApiError> {
    let row = require_owned(app, caller, id).await?;
    if row.deleted_at_ms.is_some() {
        return Err(gone(app, id).await?);
    }
    Ok(row)
}

/// Gives the files out, byte for byte, and writes that on the record. One that is handed out once is deleted with that: of many that
/// ask at once, one gets it, and nobody while it is on its way to the webhook.
///
/// # Errors
/// As [`require_present`]; it is on its way to the webhook; or the bytes do not open: then nothing was given out and nothing deleted.
pub async fn lease(
    app: &App,
    caller: &Caller,
    id: &CredentialId,
) -> Result<(CredentialRow, Vec<DeliveredFile>), ApiError> {
    require_present(app, caller, id).await?;
    // Before anything is deleted: bytes that do not open with the keys of today may do so tomorrow.
    if let Some(record) = app.store.sealed_credential(id).await? {
        opened(app, &record)?;
    }
    let mut leased = app.store.lease(id, &caller.id, clock::now()).await?;
    // A message of former settings may have it: no message is sent with it now.
    if leased.is_none() && !outbox::attaches_credentials(app) && app.store.release_webhook_claims(id).await? {
        leased = app.store.lease(id, &caller.id, clock::now()).await?;
    }
    let Some(Leased { credential, sealed, number }) = leased else {
        return Err(gone(app, id).await?);
    };
    let record = SealedCredential { credential, sealed };
    let files = opened(app, &record)?;
    let row = record.credential;
    tracing::info!(outcome = "leased", credential = %row.id, caller = %caller.id, number, "a credential was given to its owner");
    if let Retention::UntilDelivered { .. } = row.retention {
        let data = json!({ "credential": row.id, "caller": caller.id });
        timeline::append_in_background(
            app,
            &row.session,
            "credential_leased",
            "The credential was handed out and deleted here.",
            data,
        );
    }
    Ok((row, files))
}

/// Deletes the bytes for good. Doing it again changes nothing.
///
/// # Errors
/// As [`require_owned`].
pub async fn delete(app: &App, caller: &Caller, id: &CredentialId) -> Result<(), ApiError> {
    let row = require_owned(app, caller, id).await?;
    if app.store.delete_credential(&row.id, clock::now()).await? == Deletion::Deleted {
        tracing::info!(outcome = "credential_deleted", credential = %row.id, caller = %caller.id, "a credential was deleted");
        let data = json!({ "credential": row.id, "caller": caller.id });
        timeline::append_in_background(app, &row.session, "credential_deleted", "The credential was deleted.", data);
    }
    Ok(())
}

/// Why a credential that there was has no bytes, or will not be given out any more.
async fn gone(app: &App, id: &CredentialId) -> Result<ApiError, StoreError> {
    let Some(row) = app.store.credential(id).await? else { return Ok(Problem::UnknownCredential.into()) };
    let Retention::UntilDelivered { until_ms } = row.retention else {
        return Ok(ApiError::new(Problem::UnknownCredential, "it was deleted"));
    };
    if row.deleted_at_ms.is_none() && clock::now() < until_ms {
        let detail = "it is on its way to the webhook; if that does not take it, it can be fetched here again";
        return Ok(ApiError::new(Problem::AlreadyDelivered, detail));
    }
    Ok(match app.store.leases(id, 1).await?.pop() {
        Some(lease) => ApiError::new(Problem::AlreadyDelivered, format!("that was at {}", rfc3339(lease.at_ms))),
        None if until_ms <= row.deleted_at_ms.unwrap_or_else(clock::now) => {
            let detail = format!("nobody fetched it until {}, so it was deleted", rfc3339(until_ms));
            ApiError::new(Problem::UnknownCredential, detail)
        }
        None => ApiError::new(Problem::UnknownCredential, "it was deleted"),
    })
}
