//! `POST /api/erase`.

use super::{error_response::ErrorResponse, extract::Json};
use anteroom_controller::{erasure, session::context::SessionContext};
use anteroom_wire::{
    ProblemBody,
    operator_reports::{EraseReport, EraseRequest},
};
use axum::extract::State;

/// Deletes everything that is stored about a user: sessions with their timelines, credentials, tickets, messages, receipts and
/// bundles. Active sessions are cancelled first. Operators only.
#[utoipa::path(post, operation_id = "erase_user", path = "/api/erase", request_body = EraseRequest, responses(
    (status = 200, description = "What was deleted, and what stays.", body = EraseReport),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 409, description = "A machine of the user has not ended in time; nothing was deleted.", body = ProblemBody),
))]
pub(super) async fn erase_user(
    State(context): State<SessionContext>,
    Json(request): Json<EraseRequest>,
) -> Result<axum::Json<EraseReport>, ErrorResponse> {
    Ok(axum::Json(erasure::erase_user(&context, &request).await?))
}
