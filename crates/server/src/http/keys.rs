//! `GET /api/keys`, `POST /api/keys/rotate`, `POST /api/keys/{id}/retire`.

use super::error_response::ErrorResponse;
use anteroom_controller::{api_error::ApiError, audit::note_detail, session::context::SessionContext};
use anteroom_vault::KeyId;
use anteroom_wire::{Problem, ProblemBody, operator_reports::KeyReport};
use axum::{
    Json,
    extract::{Path, State},
};

/// Lists the keys that wrap stored credentials, and the progress of a rotation. Operators only.
#[utoipa::path(get, operation_id = "list_keys", path = "/api/keys", responses(
    (status = 200, description = "The keys, without their secrets.", body = KeyReport),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn list_keys(State(context): State<SessionContext>) -> Result<Json<KeyReport>, ErrorResponse> {
    Ok(Json(context.key_rotation.report().await?))
}

/// Adds a key that seals new records; existing ones are rewrapped in the background. Operators only.
#[utoipa::path(post, operation_id = "rotate_keys", path = "/api/keys/rotate", responses(
    (status = 200, description = "The keys after the rotation.", body = KeyReport),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 409, description = "Another program provides the keys.", body = ProblemBody),
    (status = 503, description = "The keys or the database cannot be written.", body = ProblemBody),
))]
pub(super) async fn rotate_keys(State(context): State<SessionContext>) -> Result<Json<KeyReport>, ErrorResponse> {
    let report = context.key_rotation.rotate().await.map_err(ApiError::from)?;
    context.audit.set_keys(&context.vault);
    Ok(Json(report))
}

/// Removes a key that no record uses, and wipes it. Operators only.
#[utoipa::path(post, operation_id = "retire_key", path = "/api/keys/{id}/retire", params(("id" = u32, Path, description = "The key's number.")), responses(
    (status = 200, description = "The keys that are left.", body = KeyReport),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such key.", body = ProblemBody),
    (status = 409, description = "The key is still needed, or another program provides the keys.", body = ProblemBody),
    (status = 503, description = "The keys or the database cannot be written.", body = ProblemBody),
))]
pub(super) async fn retire_key(
    State(context): State<SessionContext>,
    Path(id): Path<String>,
) -> Result<Json<KeyReport>, ErrorResponse> {
    let id = id.parse().map_err(|_| ApiError::new(Problem::Malformed, "the key's number is not a number"))?;
    note_detail("key", id);
    let report = context.key_rotation.retire(KeyId(id)).await.map_err(ApiError::from)?;
    context.audit.set_keys(&context.vault);
    Ok(Json(report))
}
