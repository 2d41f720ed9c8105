//! `GET /api/leaks`.

use crate::{app::App, callers::Caller, leaks, refusal::Refusal, refusal::chain};
use anteroom_wire::{Problem, ProblemBody, operations::LeakReport};
use axum::{Json, extract::State};

/// What exists on this host against what should. Operators only.
#[utoipa::path(get, path = "/api/leaks", responses((status = 200, body = LeakReport), (status = 403, body = ProblemBody)))]
pub(super) async fn look(State(app): State<App>, caller: Caller) -> Result<Json<LeakReport>, Refusal> {
    caller.may_operate()?;
    let report = leaks::with_server(&app).await.map_err(|error| Refusal::new(Problem::Internal, chain(&error)))?;
    for unowned in report.unowned() {
        tracing::warn!(outcome = "unowned", name = unowned.name, why = unowned.why, "something is owned by no session");
    }
    Ok(Json(report))
}
