//! `/api/webhook`: the state of deliveries, a test of the receivers, and another delivery of a message.

use super::{
    error_response::ErrorResponse,
    extract::{Json, MessagePath},
};
use anteroom_controller::{session::context::SessionContext, webhook};
use anteroom_wire::{
    ProblemBody,
    operator_reports::{WebhookReport, WebhookTestRequest, WebhookTestResults},
};
use axum::{extract::State, http::StatusCode};

/// Returns the status of webhook delivery: receivers, pending messages and the error of the last attempt. Operators only.
#[utoipa::path(get, operation_id = "get_webhook_status", path = "/api/webhook", responses(
    (status = 200, description = "The status of webhook delivery.", body = WebhookReport),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn get_webhook_report(
    State(context): State<SessionContext>,
) -> Result<axum::Json<WebhookReport>, ErrorResponse> {
    Ok(axum::Json(webhook::webhook_report(&context).await?))
}

/// Sends a message of the type `webhook.test` to each receiver, or to one, and returns what came of it. It is sent once. Operators only.
#[utoipa::path(post, operation_id = "test_webhook", path = "/api/webhook/test", request_body = WebhookTestRequest, responses(
    (status = 200, description = "The results, also of receivers that did not accept it.", body = WebhookTestResults),
    (status = 400, description = "The request is malformed, or there is no such receiver.", body = ProblemBody),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn test_webhook(
    State(context): State<SessionContext>,
    Json(request): Json<WebhookTestRequest>,
) -> Result<axum::Json<WebhookTestResults>, ErrorResponse> {
    Ok(axum::Json(WebhookTestResults { results: webhook::send_test(&context, request.receiver.as_deref()).await? }))
}

/// Sends a message of the last seven days again, with the same `webhook-id`: one that was delivered, or abandoned. Operators only.
#[utoipa::path(post, operation_id = "resend_webhook_message", path = "/api/webhook/messages/{id}/resend", params(("id" = String, Path)), responses(
    (status = 204, description = "The message is pending, and is sent at once."),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such message of the last seven days.", body = ProblemBody),
    (status = 409, description = "The message is pending already.", body = ProblemBody),
))]
pub(super) async fn resend_webhook_message(
    State(context): State<SessionContext>,
    MessagePath(id): MessagePath,
) -> Result<StatusCode, ErrorResponse> {
    webhook::resend(&context, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
