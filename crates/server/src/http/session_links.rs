//! `POST /api/auth/session/{id}/links`: another link for the person of a session whose first one was used or lost.

use super::{error_response::ErrorResponse, extract::OwnedSession, login::LoginLink};
use crate::auth::{Auth, browsers, login_links};
use anteroom_controller::session::{channels::require_active, context::SessionContext};
use anteroom_wire::ProblemBody;
use axum::extract::State;

/// Creates another single-use link for the session's person, like the `viewer_url` of its start. The first browser that opens it can act in the session.
/// For the backend that started the session, and operators. A tab that shows the session takes the new link at once.
#[utoipa::path(post, operation_id = "create_session_link", path = "/api/auth/session/{id}/links", params(("id" = String, Path)), responses(
    (status = 200, description = "The link.", body = LoginLink),
    (status = 403, description = "The session is of another caller, or the caller must confirm first.", body = ProblemBody),
    (status = 404, description = "There is no such session.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
))]
pub(super) async fn create_session_link(
    State(context): State<SessionContext>,
    State(auth): State<Auth>,
    owned: OwnedSession,
) -> Result<axum::Json<LoginLink>, ErrorResponse> {
    browsers::require_confirmation(&auth, &owned.caller).await?;
    let (row, _) = require_active(&context, &owned.row.id).await?;
    let url = login_links::create_viewer_login_link(&auth, &owned.caller, &row).await?;
    Ok(axum::Json(LoginLink { url, expires_in_s: auth.login_link_lifetime_ms / 1_000 }))
}
