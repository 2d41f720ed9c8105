//! `POST /api/auth/start`.

use super::{
    error_response::ErrorResponse,
    extract::{AuthenticatedCaller, Json},
};
use crate::auth::{Auth, login_links};
use anteroom_controller::{
    audit::note_session,
    caller::Caller,
    session::server_context::ServerContext,
    session::{start, view},
};
use anteroom_store::{Role, SessionRow};
use anteroom_wire::{
    ProblemBody,
    api::{StartRequest, StartResponse},
};
use axum::{extract::State, http::StatusCode, response::IntoResponse};

/// Starts a sign-in session.
///
/// Returns before the machine is ready; follow the session with `GET /api/auth/session/{id}/events`. `viewer_url` is a login link for
/// the user, valid once. A request with a known `idempotency_key` and the same body returns the existing session with a new link; with
/// another body it is 409. 503: the queue is full or this host lacks capacity.
#[utoipa::path(post, operation_id = "start_session", path = "/api/auth/start", request_body = StartRequest, responses(
    (status = 202, description = "The session was accepted.", body = StartResponse),
    (status = 400, description = "The request is malformed, or names an unknown provider, method or machine.", body = ProblemBody),
    (status = 401, description = "The caller is not authenticated.", body = ProblemBody),
    (status = 409, description = "The idempotency key was used with another body, the external machine is in use, or the image does not contain the tool.", body = ProblemBody),
    (status = 429, description = "The caller or its user has as many waiting sessions or machines as it may have.", body = ProblemBody),
    (status = 503, description = "The queue is full, or this host lacks capacity.", body = ProblemBody),
))]
pub(super) async fn start_session(
    State(server_context): State<ServerContext>,
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Json(mut request): Json<StartRequest>,
) -> Result<impl IntoResponse, ErrorResponse> {
    if caller.role == Role::User {
        // A person is its own user: its quota, the audit trail and an erasure go by the subject.
        let browser = auth.store.get_browser(&caller.id).await?;
        request.user_id = browser.and_then(|browser| browser.person).map(|person| person.subject);
    }
    let owner = start::resolve_owner(&server_context, &caller, &request).await?;
    let row = start::start_session(&server_context, &owner, &request).await?;
    accepted_response(&server_context, &auth, &caller, &row).await
}

/// The response for an accepted session: the session and a login link to its page.
pub(super) async fn accepted_response(
    server_context: &ServerContext,
    auth: &Auth,
    caller: &Caller,
    row: &SessionRow,
) -> Result<(StatusCode, axum::Json<StartResponse>), ErrorResponse> {
    note_session(row);
    let viewer_url = login_links::create_viewer_login_link(auth, caller, row).await?;
    let session = view::to_session_view(server_context, row).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(StartResponse { session, viewer_url })))
}
