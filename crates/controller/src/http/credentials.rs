//! The owner's credentials: list, lease, delete. One alone and its use: `uses`.

use super::body::Credential;
use crate::{app::App, auth::Caller, credentials, api_error::ApiError};
use anteroom_store::OwnerFilter;
use anteroom_wire::{
    ProblemBody,
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
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<CredentialList>, ApiError> {
    caller.may_start()?;
    let filter = if caller.may_operate().is_ok() { OwnerFilter::All } else { OwnerFilter::Owner(&caller.id) };
    let rows = app.store.credentials(filter, CREDENTIALS_MAX).await?;
    Ok(Json(CredentialList { credentials: rows.iter().map(|row| credentials::credential_meta(&app, row)).collect() }))
}

/// Gives the files out, byte for byte, and writes that on the record. A `deliver_once` credential is deleted with that: of many that ask
/// at once, one gets it, and the others 410.
#[utoipa::path(post, path = "/api/credentials/{id}/lease", params(("id" = String, Path)), responses(
    (status = 200, body = Lease), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 410, body = ProblemBody)))]
pub(super) async fn lease(
    State(app): State<App>,
    caller: Caller,
    Credential(id): Credential,
) -> Result<Response, ApiError> {
    let (row, files) = credentials::lease(&app, &caller, &id).await?;
    let mut response = Json(Lease { credential: credentials::credential_meta(&app, &row), files }).into_response();
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
) -> Result<StatusCode, ApiError> {
    credentials::delete(&app, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
