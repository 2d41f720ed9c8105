//! `GET /api/leaks`.

use super::error_response::ErrorResponse;
use anteroom_controller::{
    api_error::{ApiError, chain},
    leaks,
    session::server_context::ServerContext,
};
use anteroom_wire::{Problem, ProblemBody, operator_reports::LeakReport};
use axum::{Json, extract::State};

/// Lists orphaned processes, files and sessions of this host. Takes up to one second. Operators only.
#[utoipa::path(get, operation_id = "list_leaks", path = "/api/leaks", responses(
    (status = 200, description = "The report.", body = LeakReport),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn get_leak_report(
    State(server_context): State<ServerContext>,
) -> Result<Json<LeakReport>, ErrorResponse> {
    // Operators only: they see the cause.
    let report = leaks::report_with_server(&server_context)
        .await
        .map_err(|error| ApiError::new(Problem::Internal, chain(&error)).with_source(error))?;
    for orphan in report.orphans() {
        tracing::warn!(
            outcome = "orphan_found",
            name = orphan.name,
            why = orphan.why,
            "an orphaned resource was found"
        );
    }
    Ok(Json(report))
}
