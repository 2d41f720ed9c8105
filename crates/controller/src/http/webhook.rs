//! `GET /api/webhook`.

use crate::{app::App, auth::Caller, api_error::ApiError, webhook};
use anteroom_wire::{ProblemBody, operations::WebhookReport};
use axum::{Json, extract::State};

/// How telling the configured receiver fares: what waits, and why the last try failed. Operators only.
#[utoipa::path(get, path = "/api/webhook", responses((status = 200, body = WebhookReport), (status = 403, body = ProblemBody)))]
pub(super) async fn read(State(app): State<App>, caller: Caller) -> Result<Json<WebhookReport>, ApiError> {
    caller.may_operate()?;
    Ok(Json(webhook::report(&app).await?))
}
