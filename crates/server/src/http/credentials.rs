//! Credentials of the caller: list, lease, delete. Reading and using a single credential is in `credential_uses`.

use super::{
    error_response::ErrorResponse,
    extract::{AuthenticatedCaller, CredentialPath, Query},
};
use crate::auth::{Auth, browsers};
use anteroom_controller::{api_tokens::cut_to_page, credentials, session::context::SessionContext};
use anteroom_store::CredentialFilter;
use anteroom_wire::{
    CredentialId, ProblemBody, ProviderId,
    api::{CredentialHealth, CredentialList, Lease},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

/// Credentials of a page at most, and if the request names no number.
pub(super) const CREDENTIALS_MAX: u32 = 500;

/// Query of `GET /api/credentials`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CredentialsQuery {
    /// Only credentials of this provider.
    provider: Option<ProviderId>,
    /// Only credentials with this health.
    health: Option<CredentialHealth>,
    /// Only credentials of sessions that were started by this caller: its id or its name.
    caller: Option<String>,
    /// Only credentials of the user whom the caller knows by this id.
    user: Option<String>,
    /// Only credentials that were stored at this time or later, milliseconds since 1970.
    since_ms: Option<u64>,
    /// Only credentials that were stored before this time, milliseconds since 1970.
    until_ms: Option<u64>,
    /// `next_cursor` of the page before.
    cursor: Option<CredentialId>,
    /// Credentials at most, 1 to 500; default 500.
    limit: Option<u32>,
    /// Whether `total` is counted.
    count: bool,
}

/// Lists the caller's credentials, the newest first, without their content, by pages; for an operator, all credentials.
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
    let filter = CredentialFilter {
        owner: caller.owner_filter(),
        caller: query.caller.as_deref(),
        provider: query.provider.as_ref(),
        user_id: query.user.as_deref(),
        health: query.health.map(|health| credentials::health_now(&context, health)),
        since_ms: query.since_ms,
        until_ms: query.until_ms,
    };
    let limit = query.limit.unwrap_or(CREDENTIALS_MAX).clamp(1, CREDENTIALS_MAX);
    let mut rows = context.store.find_credentials(&filter, limit + 1, query.cursor.as_ref()).await?;
    let next_cursor = cut_to_page(&mut rows, limit, |row| row.id.clone());
    let total = if query.count { Some(context.store.count_credentials(&filter).await?) } else { None };
    Ok(Json(CredentialList {
        credentials: rows.iter().map(|row| credentials::to_credential_meta(&context, row)).collect(),
        next_cursor,
        total,
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
