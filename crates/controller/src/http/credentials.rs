//! The owner's credentials: list, lease, delete.

use super::body::Credential;
use crate::{
    app::App,
    callers::Caller,
    clock,
    refusal::{Refusal, chain},
    session::view,
};
use anteroom_store::{CredentialRow, Whose};
use anteroom_vault::Binding;
use anteroom_wire::{
    CredentialId, Problem, ProblemBody,
    agent::DeliveredFile,
    api::{CredentialList, Lease},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

const CREDENTIALS_MAX: u32 = 500;

/// The caller's credentials, the newest first, without their secrets.
#[utoipa::path(get, path = "/api/credentials", responses((status = 200, body = CredentialList), (status = 403, body = ProblemBody)))]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<CredentialList>, Refusal> {
    caller.may_start()?;
    let whose = if caller.may_operate().is_ok() { Whose::All } else { Whose::Owner(&caller.id) };
    let rows = app.store.credentials(whose, CREDENTIALS_MAX).await?;
    Ok(Json(CredentialList { credentials: rows.iter().map(view::credential_meta).collect() }))
}

/// Gives the files out, byte for byte, and writes that on the record.
#[utoipa::path(post, path = "/api/credentials/{id}/lease", params(("id" = String, Path)), responses(
    (status = 200, body = Lease), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(super) async fn lease(
    State(app): State<App>,
    caller: Caller,
    Credential(id): Credential,
) -> Result<Response, Refusal> {
    let row = owned(&app, &caller, &id).await?;
    let leased = app.store.lease(&row.id, &caller.id, clock::now()).await?.ok_or(Problem::UnknownCredential)?;
    let binding = Binding { record: &row.id, owner: &row.owner, provider: &row.provider, session: &row.session };
    let plaintext = app.vault.unseal(&binding, &leased.sealed).map_err(|error| {
        tracing::error!(outcome = "unseal_failed", credential = %row.id, error = %chain(&error), "a credential could not be opened");
        Refusal::from(Problem::Internal)
    })?;
    let files: Vec<DeliveredFile> = serde_json::from_slice(&plaintext).map_err(|_| Problem::Internal)?;
    tracing::info!(outcome = "leased", credential = %row.id, caller = %caller.id, number = leased.number, "a credential was given to its owner");
    let mut response = Json(Lease { credential: view::credential_meta(&row), files }).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Deletes the sealed bytes for good. Doing it again changes nothing.
#[utoipa::path(delete, path = "/api/credentials/{id}", params(("id" = String, Path)), responses(
    (status = 204), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Credential(id): Credential,
) -> Result<StatusCode, Refusal> {
    let row = owned(&app, &caller, &id).await?;
    app.store.delete_credential(&row.id, clock::now()).await?;
    tracing::info!(outcome = "credential_deleted", credential = %row.id, caller = %caller.id, "a credential was deleted");
    Ok(StatusCode::NO_CONTENT)
}

async fn owned(app: &App, caller: &Caller, id: &CredentialId) -> Result<CredentialRow, Refusal> {
    let row = app.store.credential(id).await?.ok_or(Problem::UnknownCredential)?;
    caller.may_own(&row.owner)?;
    Ok(row)
}
