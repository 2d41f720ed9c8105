//! `POST /api/auth/start`.

use super::{
    error_response::ErrorResponse,
    extract::{AuthenticatedCaller, Json},
};
use crate::auth::{Auth, login_links};
use anteroom_controller::{
    api_error::ApiError,
    audit::note_session,
    caller::Caller,
    session::server_context::ServerContext,
    session::{start, view},
};
use anteroom_store::{Role, SessionRow};
use anteroom_wire::{
    Problem, ProblemBody,
    api::{StartRequest, StartResponse},
};
use axum::{
    extract::{FromRequestParts, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

/// Starts a sign-in session.
///
/// Returns before the machine is ready; follow the session with `GET /api/auth/session/{id}/events`. `viewer_url` is a login link for
/// the user, valid once. A request with a known `idempotency_key` and the same body returns the existing session with a new link; with
/// another body it is 409. One key is one attempt, also after the session has ended: a new attempt needs a new key. A key lives as long as
/// its session. The key may be in the header `Idempotency-Key` instead. 503: the queue is full or this host lacks capacity.
#[utoipa::path(post, operation_id = "start_session", path = "/api/auth/start", params(("Idempotency-Key" = Option<String>, Header, description = "As `idempotency_key` in the body.")), request_body = StartRequest, responses(
    (status = 202, description = "The session was accepted.", body = StartResponse),
    (status = 400, description = "The request is malformed, or names an unknown provider, method or machine.", body = ProblemBody),
    (status = 401, description = "The caller is not authenticated.", body = ProblemBody),
    (status = 404, description = "There is no such external machine or credential to renew.", body = ProblemBody),
    (status = 409, description = "The idempotency key was used with another body, the credential to renew is of another user, the external machine is in use, or the image does not contain the tool.", body = ProblemBody),
    (status = 429, description = "The caller or its user has as many waiting sessions or machines as it may have.", body = ProblemBody),
    (status = 503, description = "The queue is full, or this host lacks capacity.", body = ProblemBody),
))]
pub(super) async fn start_session(
    State(server_context): State<ServerContext>,
    State(auth): State<Auth>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    idempotency_key: IdempotencyKeyHeader,
    Json(mut request): Json<StartRequest>,
) -> Result<impl IntoResponse, ErrorResponse> {
    request.idempotency_key = idempotency_key.or_in_body(request.idempotency_key)?;
    if caller.role == Role::User {
        // A person is its own user: its quota, the audit trail and an erasure go by the subject.
        let browser = auth.store.get_browser(&caller.id).await?;
        request.user_id = browser.and_then(|browser| browser.person).map(|person| person.subject);
    }
    let owner = start::resolve_owner(&server_context, &caller, &request).await?;
    let row = start::start_session(&server_context, &owner, &request).await?;
    accepted_response(&server_context, &auth, &caller, &row).await
}

/// The key in the header `Idempotency-Key`: as it is, or quoted as a string of structured fields (RFC 9651).
pub(super) struct IdempotencyKeyHeader(Option<String>);

impl<S: Sync> FromRequestParts<S> for IdempotencyKeyHeader {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorResponse> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let text = std::str::from_utf8(value.as_bytes())
            .map_err(|_| ApiError::new(Problem::Malformed, "Idempotency-Key is not UTF-8"))?;
        let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Ok(Self(Some(quoted.unwrap_or(text).to_owned())))
    }
}

impl IdempotencyKeyHeader {
    /// The key of the request, which the body may have as well.
    fn or_in_body(self, in_body: Option<String>) -> Result<Option<String>, ApiError> {
        match (self.0, in_body) {
            (Some(header), Some(body)) if header != body => {
                Err(ApiError::new(Problem::Malformed, "Idempotency-Key and idempotency_key differ"))
            }
            (header, body) => Ok(header.or(body)),
        }
    }
}

/// The response for an accepted session: the session and a login link to its page.
pub(super) async fn accepted_response(
    server_context: &ServerContext,
    auth: &Auth,
    caller: &Caller,
    row: &SessionRow,
) -> Result<Response, ErrorResponse> {
    note_session(row);
    let created = login_links::create_viewer_login_link(auth, caller, row).await;
    if created.is_err() && auth.store.get_session(&row.id).await?.is_none() {
        // It was erased at this moment.
        return Err(Problem::UnknownSession.into());
    }
    let viewer_url = created?;
    let session = view::to_session_view(server_context, row).await?;
    let location = [(header::LOCATION, session_path(row))];
    Ok((StatusCode::ACCEPTED, location, axum::Json(StartResponse { session, viewer_url })).into_response())
}

/// The path at which a session is read.
pub(super) fn session_path(row: &SessionRow) -> String {
    format!("/api/auth/session/{}", row.id)
}
