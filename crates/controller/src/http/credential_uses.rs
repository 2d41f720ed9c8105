//! Using a stored credential; one credential's facts; the terminal as text.

use super::body::{Credential, Json, OwnedSession};
use crate::{
    app::App,
    auth::{self, Caller},
    credentials,
    api_error::{ApiError, chain},
    session::{
        channels::{living, open_channels},
        start::for_use,
        view,
    },
};
use anteroom_wire::{
    Problem, ProblemBody,
    api::{CredentialMeta, ScreenView, StartResponse, UseRequest},
};
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::time::Duration;

/// Starts a session in which the credential is used: a command of the owner's (`exec`), the tool's status command (`check`), its
/// sign-out (`logout`). Answers at once; the machine is on the way. The view's `uses` has the exit code at the end.
#[utoipa::path(post, path = "/api/credentials/{id}/use", params(("id" = String, Path)), request_body = UseRequest, responses(
    (status = 202, body = StartResponse), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody),
    (status = 404, body = ProblemBody), (status = 409, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(super) async fn start(
    State(app): State<App>,
    caller: Caller,
    Credential(id): Credential,
    Json(request): Json<UseRequest>,
) -> Result<impl IntoResponse, ApiError> {
    let row = for_use::start(&app, &caller, &id, &request).await?;
    let viewer_url = auth::login_links::viewer_link(&app, &row).await?;
    let session = view::view(&app, &row).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(StartResponse { session, viewer_url })))
}

/// One credential without its secret.
#[utoipa::path(get, path = "/api/credentials/{id}", params(("id" = String, Path)), responses(
    (status = 200, body = CredentialMeta), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(super) async fn read(
    State(app): State<App>,
    caller: Caller,
    Credential(id): Credential,
) -> Result<axum::Json<CredentialMeta>, ApiError> {
    let row = credentials::require_present(&app, &caller, &id).await?;
    Ok(axum::Json(credentials::credential_meta(&app, &row)))
}

/// The tool's terminal as text. Of a command that used a credential and has ended: what stood there then, for a short while.
#[utoipa::path(get, path = "/api/auth/session/{id}/screen", params(("id" = String, Path)), responses(
    (status = 200, body = ScreenView), (status = 403, body = ProblemBody), (status = 409, body = ProblemBody),
    (status = 410, body = ProblemBody)))]
pub(super) async fn screen(State(app): State<App>, mine: OwnedSession) -> Result<Response, ApiError> {
    let life = Duration::from_secs(app.config.credentials.last_screen_s_max);
    let screen = match app.exec_cache.screen(&mine.row.id, life) {
        Some(lines) => ScreenView { lines, is_final: true },
        None => {
            let (_, live) = living(&app, &mine.row.id).await?;
            let channels = open_channels(&app, &live).await?;
            let seen = channels.agent.screen().await;
            let seen = seen.map_err(|error| ApiError::new(Problem::AgentUnreachable, chain(&error)))?;
            ScreenView { lines: seen.lines, is_final: false }
        }
    };
    let mut response = axum::Json(screen).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
