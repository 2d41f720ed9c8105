//! Credentials of the caller: list, lease, delete. Reading and using a single credential is in `credential_uses`.

use super::{
    error_response::ErrorResponse,
    extract::{AuthenticatedCaller, CredentialPath, Query},
};
use crate::auth::{Auth, browsers};
use anteroom_controller::{credentials, session::context::SessionContext};
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
use serde::Deserialize;

/// Credentials in one list.
pub(super) const CREDENTIALS_MAX: u32 = 500;

/// Which credentials are listed.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CredentialsQuery {
    /// Only credentials of sessions that were started by this caller: its id or its name.
    caller: Option<String>,
}

/// Lists the caller's credentials, the newest first, without their content; for an operator, all credentials. At most 500.
#[utoipa::path(get, operation_id = "list_credentials", path = "/api/credentials", params(CredentialsQuery), responses(
    (status = 200, description = "The credentials.", body = CredentialList),
    (status = 400, description = "The query is malformed.", body = ProblemBody),
    (status = 403, description = "The caller is a viewer.", body = ProblemBody),
))]
pub(super) async fn list_credentials(
    State(context): State<SessionContext>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Query(query): Query<CredentialsQuery>,
) -> Result<Json<CredentialList>, ErrorResponse> {
    let (owner, store) = (query.caller.as_deref(), &context.store);
    let rows = store.find_credentials(caller.owner_filter(), owner, CREDENTIALS_MAX).await?;
    Ok(Json(CredentialList {
        credentials: rows.iter().map(|row| credentials::to_credential_meta(&context, row)).collect(),
    }))
}

/// Returns the credential's files (path, mode, content in base64) and records the lease.
///
/// A `deliver_once` credential is deleted by its lease: of several concurrent requests one succeeds, the others get 410. A stored credential
/// of a tool that renews its tokens is leased between two of its uses; the copy and the stored one share these tokens, so the provider may
/// reject one of them after the other was renewed (`notice`).
#[utoipa::path(post, operation_id = "lease_credential", path = "/api/credentials/{id}/lease", params(("id" = String, Path)), responses(
    (status = 200, description = "The files.", body = Lease),
    (status = 403, description = "The caller may not use this credential.", body = ProblemBody),
    (status = 404, description = "There is no such credential.", body = ProblemBody),
    (status = 409, description = "A use of the credential did not end in time.", body = ProblemBody),
    (status = 410, description = "The credential was delivered once and deleted.", body = ProblemBody),
))]
pub(super) async fn lease_credential(
    State(context): State<SessionContext>,
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    CredentialPath(id): CredentialPath,
) -> Result<Response, ErrorResponse> {
    browsers::require_confirmation(&auth, &caller).await?;
    let (row, files) = credentials::lease_credential(&context, &caller, &id).await?;
    let notice = credentials::lease_notice(&context, &row);
    let mut response =
        Json(Lease { credential: credentials::to_credential_meta(&context, &row), files, notice }).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Deletes the stored credential permanently. Idempotent. The credential remains valid at the provider.
#[utoipa::path(delete, operation_id = "delete_credential", path = "/api/credentials/{id}", params(("id" = String, Path)), responses(
    (status = 204, description = "The credential is deleted."),
    (status = 403, description = "The caller may not use this credential.", body = ProblemBody),
    (status = 404, description = "There is no such credential.", body = ProblemBody),
))]
pub(super) async fn delete_credential(
    State(context): State<SessionContext>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    CredentialPath(id): CredentialPath,
) -> Result<StatusCode, ErrorResponse> {
    credentials::delete_credential(&context, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
