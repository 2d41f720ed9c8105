//! `POST /api/sweep`.

use super::body::Query;
use crate::{app::App, callers::Caller, refusal::Refusal, session::sweep};
use anteroom_wire::{ProblemBody, operations::SweepReport};
use axum::{Json, extract::State};
use serde::Deserialize;

/// Whether to do it.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
pub(super) struct How {
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// Sweeps now, or says what a sweep would do and why. Operators only.
#[utoipa::path(post, path = "/api/sweep", params(How), responses(
    (status = 200, body = SweepReport), (status = 403, body = ProblemBody)))]
pub(super) async fn sweep(
    State(app): State<App>,
    caller: Caller,
    Query(How { dry_run }): Query<How>,
) -> Result<Json<SweepReport>, Refusal> {
    caller.may_operate()?;
    let report = if dry_run { sweep::dry_run(&app).await? } else { sweep::once(&app).await? };
    Ok(Json(report))
}
