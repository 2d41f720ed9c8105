//! `GET /api/webhook`.

use super::error_response::ErrorResponse;
use anteroom_controller::{session::context::SessionContext, webhook};
use anteroom_wire::{ProblemBody, operator_reports::WebhookReport};
use axum::{Json, extract::State};

/// Returns the status of webhook delivery: pending messages and the error of the last attempt. Operators only.
#[utoipa::path(get, operation_id = "get_webhook_status", path = "/api/webhook", responses(
    (status = 200, description = "The status of webhook delivery.", body = WebhookReport),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn get_webhook_report(
    State(context): State<SessionContext>,
) -> Result<Json<WebhookReport>, ErrorResponse> {
    Ok(Json(webhook::webhook_report(&context).await?))
}
