//! Sessions that use a stored credential; metadata of one credential; the terminal's screen as text.

use super::{
    error_response::ErrorResponse,
    extract::{AuthenticatedCaller, Credential, Json, OwnedSession},
};
use crate::auth::{Auth, login_links};
use anteroom_controller::{
    api_error::{ApiError, chain},
    credentials,
    session::launcher::Launcher,
    session::{
        channels::{open_channels, require_active},
        start::for_use,
        use_credential::volatile_execs::LAST_SCREEN_AGE_MAX,
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

/// Starts a session that uses the credential: runs a command of the caller (`exec`), the tool's status command (`check`) or its
/// sign-out command (`logout`).
///
/// Returns before the machine is ready. The exit code is in `uses` of the session once it has ended.
#[utoipa::path(post, operation_id = "use_credential", path = "/api/credentials/{id}/use", params(("id" = String, Path)), request_body = UseRequest, responses(
    (status = 202, description = "The session was accepted.", body = StartResponse),
    (status = 400, description = "The request is malformed.", body = ProblemBody),
    (status = 403, description = "The caller may not use this credential, or the provider's policy forbids this use.", body = ProblemBody),
    (status = 404, description = "There is no such credential.", body = ProblemBody),
    (status = 409, description = "The tool has no command for this purpose, or the image does not contain the tool.", body = ProblemBody),
    (status = 503, description = "The queue is full, or this host lacks capacity.", body = ProblemBody),
))]
pub(super) async fn start(
    State(launcher): State<Launcher>,
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Credential(id): Credential,
    Json(request): Json<UseRequest>,
) -> Result<impl IntoResponse, ErrorResponse> {
    let row = for_use::start(&launcher, &caller, &id, &request).await?;
    let viewer_url = login_links::viewer_link(&auth, &row).await?;
    let session = view::view(&launcher, &row).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(StartResponse { session, viewer_url })))
}

/// Returns the metadata of one credential, without its content.
#[utoipa::path(get, operation_id = "get_credential", path = "/api/credentials/{id}", params(("id" = String, Path)), responses(
    (status = 200, description = "The metadata.", body = CredentialMeta),
    (status = 403, description = "The caller may not use this credential.", body = ProblemBody),
    (status = 404, description = "There is no such credential.", body = ProblemBody),
))]
pub(super) async fn read(
    State(launcher): State<Launcher>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Credential(id): Credential,
) -> Result<axum::Json<CredentialMeta>, ErrorResponse> {
    let row = credentials::require_present(&launcher, &caller, &id).await?;
    Ok(axum::Json(credentials::credential_meta(&launcher, &row)))
}

/// Returns the visible lines of the session's terminal.
///
/// After a session that used a credential has ended, the last screen is available for one minute (`is_final` is true),
/// then 410.
#[utoipa::path(get, operation_id = "get_screen", path = "/api/auth/session/{id}/screen", params(("id" = String, Path)), responses(
    (status = 200, description = "The lines of the screen.", body = ScreenView),
    (status = 403, description = "The caller may not use this session.", body = ProblemBody),
    (status = 409, description = "The machine is not ready, or it is external.", body = ProblemBody),
    (status = 410, description = "The session has ended and its last screen is no longer available.", body = ProblemBody),
))]
pub(super) async fn screen(State(launcher): State<Launcher>, owned: OwnedSession) -> Result<Response, ErrorResponse> {
    let screen = match launcher.volatile_execs.screen(&owned.row.id, LAST_SCREEN_AGE_MAX) {
        Some(lines) => ScreenView { lines, is_final: true },
        None => {
            let (_, session) = require_active(&launcher, &owned.row.id).await?;
            let channels = open_channels(&launcher, &session).await?;
            let screen = channels.agent.screen().await;
            let screen = screen.map_err(|error| ApiError::new(Problem::AgentUnreachable, chain(&error)))?;
            ScreenView { lines: screen.lines, is_final: false }
        }
    };
    let mut response = axum::Json(screen).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
