//! API tokens: list, create, rotate, revoke.

use super::{
    error_response::ErrorResponse,
    extract::{AuthenticatedCaller, CallerPath, Json, Query},
};
use crate::auth::{Auth, browsers};
use anteroom_controller::{
    api_error::ApiError,
    api_tokens::{self, TOKENS_MAX},
    audit::{note_caller, note_detail},
    session::context::SessionContext,
    unix_time,
};
use anteroom_store::{CallerFilter, Role};
use anteroom_wire::{
    CallerId, ProblemBody,
    api_tokens::{CreateTokenRequest, CreatedToken, RevokeTokenRequest, RevokedToken, RotateTokenRequest, TokenList},
};
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::Deserialize;

/// Query of `GET /api/tokens`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TokensQuery {
    /// Only those with this role.
    role: Option<ListedRole>,
    /// `true`: only those that are neither revoked nor expired; `false`: only the others.
    valid: Option<bool>,
    /// `next_cursor` of the page before.
    cursor: Option<CallerId>,
    /// Tokens at most, 1 to 500; default 500.
    limit: Option<u32>,
    /// Whether `total` is counted.
    count: bool,
}

/// The role of a listed caller.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ListedRole {
    Operator,
    Auditor,
    Backend,
    User,
}

impl ListedRole {
    fn as_str(self) -> &'static str {
        match self {
            Self::Operator => Role::Operator.as_str(),
            Self::Auditor => Role::Auditor.as_str(),
            Self::Backend => Role::Backend.as_str(),
            Self::User => Role::User.as_str(),
        }
    }
}

/// Lists API tokens and the browsers of operators, including revoked ones, the newest first, by pages. Operators and auditors only.
#[utoipa::path(get, operation_id = "list_tokens", path = "/api/tokens", params(TokensQuery), responses(
    (status = 200, description = "The tokens.", body = TokenList),
    (status = 400, description = "The query is malformed.", body = ProblemBody),
    (status = 403, description = "The caller is neither operator nor auditor.", body = ProblemBody),
))]
pub(super) async fn list_tokens(
    State(auth): State<Auth>,
    Query(query): Query<TokensQuery>,
) -> Result<axum::Json<TokenList>, ErrorResponse> {
    let now = unix_time::now_unix_ms();
    let filter = CallerFilter {
        role: query.role.map(ListedRole::as_str),
        valid_at_ms: query.valid.filter(|valid| *valid).map(|_| now),
        ended_at_ms: query.valid.filter(|valid| !*valid).map(|_| now),
    };
    let limit = query.limit.unwrap_or(TOKENS_MAX).clamp(1, TOKENS_MAX);
    let mut list = api_tokens::list_tokens(&auth.store, &filter, limit, query.cursor.as_ref()).await?;
    if query.count {
        list.total = Some(auth.store.count_callers(&filter).await.map_err(ApiError::from)?);
    }
    Ok(axum::Json(list))
}

/// Creates an API token and returns its secret, once. A token cannot give scopes that it lacks. Operators only.
#[utoipa::path(post, operation_id = "create_token", path = "/api/tokens", request_body = CreateTokenRequest, responses(
    (status = 201, description = "The token with its secret.", body = CreatedToken),
    (status = 400, description = "The request is malformed.", body = ProblemBody),
    (status = 403, description = "The caller is not an operator, or lacks a scope that it would give.", body = ProblemBody),
    (status = 409, description = "Another valid token of the role has this name.", body = ProblemBody),
))]
pub(super) async fn create_token(
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Json(request): Json<CreateTokenRequest>,
) -> Result<impl IntoResponse, ErrorResponse> {
    browsers::require_confirmation(&auth, &caller).await?;
    let created = api_tokens::create_token(&auth.store, &caller, &request).await?;
    note_caller(&created.token.id);
    Ok(secret_response(created))
}

/// Creates the successor of a token and returns its secret, once. The old token ends after the overlap. Operators only.
#[utoipa::path(post, operation_id = "rotate_token", path = "/api/tokens/{id}/rotate", params(("id" = String, Path)), request_body = RotateTokenRequest, responses(
    (status = 201, description = "The successor with its secret.", body = CreatedToken),
    (status = 403, description = "The caller is not an operator, or lacks a scope of the token.", body = ProblemBody),
    (status = 404, description = "There is no such valid token.", body = ProblemBody),
    (status = 409, description = "The token has a successor.", body = ProblemBody),
))]
pub(super) async fn rotate_token(
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    CallerPath(id): CallerPath,
    Json(request): Json<RotateTokenRequest>,
) -> Result<impl IntoResponse, ErrorResponse> {
    browsers::require_confirmation(&auth, &caller).await?;
    let created = api_tokens::rotate_token(&auth.store, &caller, &id, request.overlap_s).await?;
    note_detail("successor", &created.token.id);
    auth.live_callers.check_soon();
    Ok(secret_response(created))
}

/// Revokes a token with everything that was made with it: links, cookies and tickets become invalid, sockets and event streams are
/// closed. Operators only.
#[utoipa::path(post, operation_id = "revoke_token", path = "/api/tokens/{id}/revoke", params(("id" = String, Path)), request_body = RevokeTokenRequest, responses(
    (status = 200, description = "What was revoked.", body = RevokedToken),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such token, or it is already revoked.", body = ProblemBody),
))]
pub(super) async fn revoke_token(
    State(auth): State<Auth>,
    State(context): State<SessionContext>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    CallerPath(id): CallerPath,
    Json(request): Json<RevokeTokenRequest>,
) -> Result<axum::Json<RevokedToken>, ErrorResponse> {
    let callers = api_tokens::revoke_token(&auth.store, &caller, &id).await?;
    auth.live_callers.check_soon();
    let sessions = if request.end_sessions { api_tokens::end_sessions_of(&context, &id).await? } else { 0 };
    Ok(axum::Json(RevokedToken { callers, sessions }))
}

fn secret_response(created: CreatedToken) -> impl IntoResponse {
    // The list has it; its secret is in this answer only.
    let headers = [(header::CACHE_CONTROL, "no-store"), (header::LOCATION, "/api/tokens")];
    (StatusCode::CREATED, headers, axum::Json(created))
}
