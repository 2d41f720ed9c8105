//! `POST /api/auth/session/{id}/bundle`.

use super::body::OwnedSession;
use crate::{app::App, bundle, api_error::ApiError, api_error::chain};
use anteroom_wire::{Problem, ProblemBody};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

/// Makes a support bundle of the session, keeps it on the server for a while, and gives it. Operators only.
#[utoipa::path(post, path = "/api/auth/session/{id}/bundle", params(("id" = String, Path)), responses(
    (status = 200, description = "A .tar.gz without secrets", content_type = "application/gzip"),
    (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(super) async fn make(State(app): State<App>, mine: OwnedSession) -> Result<Response, ApiError> {
    mine.caller.may_operate()?;
    let made = bundle::make(&app, &mine.row.id).await.map_err(|error| {
        tracing::error!(outcome = "bundle_failed", session = %mine.row.id, error = %chain(&error), "a support bundle could not be made");
        ApiError::new(Problem::Internal, chain(&error))
    })?;
    let made = made.ok_or(Problem::UnknownSession)?;
    let mut response = made.bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{}\"", made.name)) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}
