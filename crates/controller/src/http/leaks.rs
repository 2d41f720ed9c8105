//! `GET /api/leaks`.

use crate::{app::App, auth::Caller, leaks, api_error::ApiError, api_error::chain};
use anteroom_wire::{Problem, ProblemBody, operations::LeakReport};
use axum::{Json, extract::State};

/// What exists on this host against what should. Operators only.
#[utoipa::path(get, path = "/api/leaks", responses((status = 200, body = LeakReport), (status = 403, body = ProblemBody)))]
pub(super) async fn look(State(app): State<App>, caller: Caller) -> Result<Json<LeakReport>, ApiError> {
    caller.may_operate()?;
    let report = leaks::with_server(&app).await.map_err(|error| ApiError::new(Problem::Internal, chain(&error)))?;
    for orphan in report.orphans() {
        tracing::warn!(outcome = "orphan_found", name = orphan.name, why = orphan.why, "an orphaned resource was found");
    }
    Ok(Json(report))
}
