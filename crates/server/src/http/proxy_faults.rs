//! What a person's page notices of a reverse proxy on its way. The server itself sees only requests that arrive.

use super::{
    error_response::ErrorResponse,
    extract::{Json, OwnedSession},
};
use anteroom_controller::{
    api_error::ApiError,
    session::{
        channels::require_active,
        context::SessionContext,
        rejections::{RejectedRequest, record_rejection},
    },
};
use anteroom_wire::{Problem, ProblemBody};
use axum::{extract::State, http::StatusCode};
use serde::Deserialize;

/// Request of `POST …/proxy-fault`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyFaultReport {
    /// What was noticed.
    fault: ProxyFault,
}

/// What a reverse proxy does wrong; the codes are those of problems.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ProxyFault {
    /// An open event stream delivers nothing.
    ProxyBuffers,
    /// A request was answered with 413, and not by this server.
    ProxyBodyLimit,
    /// The page was opened without the fragment of its link.
    LinkWithoutFragment,
}

impl From<ProxyFault> for Problem {
    fn from(fault: ProxyFault) -> Self {
        match fault {
            ProxyFault::ProxyBuffers => Self::ProxyBuffers,
            ProxyFault::ProxyBodyLimit => Self::ProxyBodyLimit,
            ProxyFault::LinkWithoutFragment => Self::LinkWithoutFragment,
        }
    }
}

/// Records on the timeline what the page noticed of a reverse proxy; the same fault again is only counted. 410: the session has ended.
#[utoipa::path(post, operation_id = "report_proxy_fault", path = "/api/auth/session/{id}/proxy-fault", params(("id" = String, Path)), request_body = ProxyFaultReport, responses(
    (status = 204, description = "It is on the timeline."),
    (status = 403, description = "The caller may not use this session.", body = ProblemBody),
    (status = 410, description = "The session has ended.", body = ProblemBody),
))]
pub(super) async fn report_proxy_fault(
    State(context): State<SessionContext>,
    owned: OwnedSession,
    Json(report): Json<ProxyFaultReport>,
) -> Result<StatusCode, ErrorResponse> {
    require_active(&context, &owned.row.id).await?;
    let error = ApiError::from(Problem::from(report.fault));
    record_rejection(&context.timeline, &owned.row.id, RejectedRequest::Page, &error);
    Ok(StatusCode::NO_CONTENT)
}
