//! Sessions that use a stored credential; metadata of one credential; the terminal's screen as text.

use super::{
    error_response::ErrorResponse,
    extract::{AuthenticatedCaller, CredentialPath, Json, OwnedSession},
    start_session::accepted_response,
};
use crate::auth::{Auth, browsers};
use anteroom_controller::{
    api_error::{ApiError, chain},
    caller::Action,
    credentials,
    session::server_context::ServerContext,
    session::{
        channels::{open_channels, require_active},
        request_rates::ViewerRequest,
        start::for_use,
        use_credential::volatile_execs::LAST_SCREEN_AGE_MAX,
    },
};
use anteroom_wire::{
    Problem, ProblemBody,
    agent::UsePurpose,
    api::{CredentialMeta, CredentialUseRequest, ScreenView, StartResponse},
};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

/// Starts a session that uses the credential: runs a command of the caller (`exec`), the tool's status command (`check`) or its
/// sign-out command (`logout`).
///
/// Returns before the machine is ready. The exit code is in `uses` of the session once it has ended.
#[utoipa::path(post, operation_id = "use_credential", path = "/api/credentials/{id}/use", params(("id" = String, Path)), request_body = CredentialUseRequest, responses(
    (status = 202, description = "The session was accepted.", body = StartResponse),
    (status = 400, description = "The request is malformed.", body = ProblemBody),
    (status = 403, description = "The caller may not use this credential, the provider's policy forbids this use, or an `exec` needs a confirmation first.", body = ProblemBody),
    (status = 404, description = "There is no such credential.", body = ProblemBody),
    (status = 409, description = "The tool has no command for this purpose, or the image does not contain the tool.", body = ProblemBody),
    (status = 429, description = "The credential's owner or its user has as many waiting sessions as it may have.", body = ProblemBody),
    (status = 503, description = "The queue is full, or this host lacks capacity.", body = ProblemBody),
))]
pub(super) async fn start_credential_use(
    State(server_context): State<ServerContext>,
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    CredentialPath(id): CredentialPath,
    Json(request): Json<CredentialUseRequest>,
) -> Result<impl IntoResponse, ErrorResponse> {
    // A command of the caller can print the credential.
    if request.purpose == UsePurpose::Exec {
        browsers::require_confirmation(&auth, &caller).await?;
    }
    let row = for_use::start_credential_use(&server_context, &caller, &id, &request).await?;
    accepted_response(&server_context, &auth, &caller, &row).await
}

/// Returns the metadata of one credential, without its content.
#[utoipa::path(get, operation_id = "get_credential", path = "/api/credentials/{id}", params(("id" = String, Path)), responses(
    (status = 200, description = "The metadata.", body = CredentialMeta),
    (status = 403, description = "The caller may not use this credential.", body = ProblemBody),
    (status = 404, description = "There is no such credential.", body = ProblemBody),
))]
pub(super) async fn get_credential(
    State(server_context): State<ServerContext>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    CredentialPath(id): CredentialPath,
) -> Result<axum::Json<CredentialMeta>, ErrorResponse> {
    let row = credentials::require_undeleted_credential(&server_context, &caller, Action::ReadCredential, &id).await?;
    Ok(axum::Json(credentials::to_credential_meta(&server_context, &row)))
}

/// Returns the visible lines of the session's terminal.
///
/// After a session that used a credential has ended, the last screen is available for one minute (`is_final` is true),
/// then 410.
#[utoipa::path(get, operation_id = "get_screen", path = "/api/auth/session/{id}/screen", params(("id" = String, Path)), responses(
    (status = 200, description = "The lines of the screen.", body = ScreenView),
    (status = 403, description = "The caller may not use this session.", body = ProblemBody),
    (status = 409, description = "The machine is not ready, or it is external.", body = ProblemBody),
    (status = 429, description = "Too many in a short time.", body = ProblemBody),
    (status = 410, description = "The session has ended and its last screen is no longer available.", body = ProblemBody),
))]
pub(super) async fn get_screen(
    State(server_context): State<ServerContext>,
    owned: OwnedSession,
) -> Result<Response, ErrorResponse> {
    let screen = match server_context.volatile_execs.last_screen(&owned.row.id, LAST_SCREEN_AGE_MAX) {
        Some(lines) => ScreenView { lines, is_final: true },
        None => {
            let (_, session) = require_active(&server_context, &owned.row.id).await?;
            session.request_rates.check(ViewerRequest::Screen)?;
            let channels = open_channels(&server_context, &session).await?;
            let screen = channels.agent.read_screen().await;
            let screen = screen.map_err(|error| ApiError::new(Problem::AgentUnreachable, chain(&error)))?;
            ScreenView { lines: screen.lines.into_iter().map(Into::into).collect(), is_final: false }
        }
    };
    let mut response = axum::Json(screen).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
