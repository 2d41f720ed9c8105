//! `POST /api/auth/session/{id}/hosts`: allows the machines of one session a host that was denied to them.

use super::{
    error_response::ErrorResponse,
    extract::{Json, OwnedSession},
};
use anteroom_controller::{
    audit::note_detail,
    session::{channels::require_active, context::SessionContext, grant_host},
};
use anteroom_wire::ProblemBody;
use axum::{extract::State, http::StatusCode};
use serde::Deserialize;

/// Request of `POST …/hosts`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantHostRequest {
    /// A host name that was denied to a machine of this session at port 443.
    host: String,
}

/// Allows the machines of this session one more host at port 443, until the session ends: one that was denied to them, such as the identity
/// provider of a company. Operators only. The page of the sign-in is opened again if it is on that host.
#[utoipa::path(post, operation_id = "grant_host", path = "/api/auth/session/{id}/hosts", params(("id" = String, Path)), request_body = GrantHostRequest, responses(
    (status = 204, description = "The host is allowed."),
    (status = 400, description = "It is not a host name that was denied to this session at port 443, or the session has as many additional hosts as it may have.", body = ProblemBody),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 404, description = "There is no such session.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
))]
pub(super) async fn grant_host(
    State(context): State<SessionContext>,
    owned: OwnedSession,
    Json(request): Json<GrantHostRequest>,
) -> Result<StatusCode, ErrorResponse> {
    let (row, session) = require_active(&context, &owned.row.id).await?;
    let host = grant_host::grant_host(&context, &row, &session, &request.host).await?;
    note_detail("host", host);
    Ok(StatusCode::NO_CONTENT)
}
