//! Invitations of helpers: links with which another person looks at a session's desktop, view-only.

use super::{
    error_response::ErrorResponse,
    extract::{Json, OwnedSession},
    login::LoginLink,
};
use crate::auth::{Auth, browsers, login_links};
use anteroom_controller::{
    api_error::ApiError,
    names::require_clear,
    session::{channels::require_active, context::SessionContext, helpers::notify_changed},
    unix_time::now_unix_ms,
};
use anteroom_wire::{Problem, ProblemBody};
use axum::extract::State;
use serde::Deserialize;

/// Longest name of a helper, characters.
pub(super) const NAME_CHARS_MAX: usize = 60;

/// Request of `POST …/invitations`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InvitationRequest {
    /// The helper's name, for people: 1 to 60 characters.
    name: String,
}

/// Creates a single-use link for a helper, who sees this session and its desktop and cannot act in it. The link and the helper's access
/// end with the caller that created the link. 410: the session has ended.
#[utoipa::path(post, operation_id = "invite_helper", path = "/api/auth/session/{id}/invitations", params(("id" = String, Path)), request_body = InvitationRequest, responses(
    (status = 200, description = "The link.", body = LoginLink),
    (status = 400, description = "The name is malformed.", body = ProblemBody),
    (status = 403, description = "The caller may not control this session, or must confirm first.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
    (status = 429, description = "The session has too many helpers and open invitations.", body = ProblemBody),
))]
pub(super) async fn invite_helper(
    State(context): State<SessionContext>,
    State(auth): State<Auth>,
    owned: OwnedSession,
    Json(request): Json<InvitationRequest>,
) -> Result<axum::Json<LoginLink>, ErrorResponse> {
    let name = request.name.trim();
    require_clear("name", name, NAME_CHARS_MAX)?;
    if auth.store.find_api_token_with_name_like(name, now_unix_ms()).await.map_err(ApiError::from)?.is_some() {
        let detail = "the name looks like that of a backend or operator of this server; choose another one";
        return Err(ApiError::new(Problem::Malformed, detail).into());
    }
    browsers::require_confirmation_of_person(&auth, &owned.caller).await?;
    let (row, _) = require_active(&context, &owned.row.id).await?;
    let url = login_links::create_helper_login_link(&auth, &owned.caller, &row, name).await?;
    notify_changed(&context, &row.id);
    Ok(axum::Json(LoginLink { url, expires_in_s: auth.login_link_lifetime_ms / 1_000 }))
}
