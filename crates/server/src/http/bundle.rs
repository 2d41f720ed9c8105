//! `POST /api/auth/session/{id}/bundle`.

use super::{error_response::ErrorResponse, extract::OwnedSession};
use anteroom_controller::{
    api_error::{ApiError, chain},
    bundle,
    session::server_context::ServerContext,
};
use anteroom_wire::{Problem, ProblemBody};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

/// Creates a support bundle of the session and returns it. A copy is stored on the server within the retention limits.
/// Operators only.
#[utoipa::path(post, operation_id = "create_bundle", path = "/api/auth/session/{id}/bundle", params(("id" = String, Path)), responses(
    (status = 200, description = "The bundle, a .tar.gz without secrets", content_type = "application/gzip"),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such session.", body = ProblemBody),
))]
pub(super) async fn create_bundle(
    State(server_context): State<ServerContext>,
    owned: OwnedSession,
) -> Result<Response, ErrorResponse> {
    let bundle = bundle::create_bundle(&server_context, &owned.row.id).await.map_err(|error| {
        // Operators only: they see the cause.
        ApiError::new(Problem::Internal, chain(&error)).with_source(error)
    })?;
    let bundle = bundle.ok_or(Problem::UnknownSession)?;
    let mut response = bundle.bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{}\"", bundle.name)) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}
