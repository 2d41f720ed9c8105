//! The consent of a viewer: for whom they sign in, and that they agree.

use super::{error_response::ErrorResponse, extract::OwnedSession};
use anteroom_controller::session::{channels::require_active, consent, context::SessionContext};
use anteroom_wire::{ProblemBody, api::ConsentView};
use axum::extract::State;

/// Returns for whom the caller signs in, and whether the caller must agree before it can see or use the machine.
#[utoipa::path(get, operation_id = "get_consent", path = "/api/auth/session/{id}/consent", params(("id" = String, Path)), responses(
    (status = 200, description = "The request to sign in.", body = ConsentView),
    (status = 403, description = "The caller may not use this session.", body = ProblemBody),
))]
pub(super) async fn get_consent(
    State(context): State<SessionContext>,
    owned: OwnedSession,
) -> Result<axum::Json<ConsentView>, ErrorResponse> {
    Ok(axum::Json(consent::to_consent_view(&context, &owned.caller, &owned.row).await?))
}

/// Agrees to the sign-in, as a viewer. Idempotent; has no effect for other callers. 410: the session has ended.
#[utoipa::path(post, operation_id = "give_consent", path = "/api/auth/session/{id}/consent", params(("id" = String, Path)), responses(
    (status = 200, description = "The viewer has agreed.", body = ConsentView),
    (status = 403, description = "The caller may not use this session.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
))]
pub(super) async fn give_consent(
    State(context): State<SessionContext>,
    owned: OwnedSession,
) -> Result<axum::Json<ConsentView>, ErrorResponse> {
    let (row, session) = require_active(&context, &owned.row.id).await?;
    session.activity.record();
    Ok(axum::Json(consent::agree(&context, &owned.caller, &row).await?))
}
