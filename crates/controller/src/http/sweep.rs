//! `POST /api/reconcile`.

use super::body::Query;
use crate::{app::App, auth::Caller, api_error::ApiError, session::reconcile};
use anteroom_wire::{ProblemBody, operations::ReconcileReport};
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
#[utoipa::path(post, path = "/api/reconcile", params(How), responses(
    (status = 200, body = ReconcileReport), (status = 403, body = ProblemBody)))]
pub(super) async fn sweep(
    State(app): State<App>,
    caller: Caller,
    Query(How { dry_run }): Query<How>,
) -> Result<Json<ReconcileReport>, ApiError> {
    caller.may_operate()?;
    let report = if dry_run { reconcile::dry_run(&app).await? } else { reconcile::once(&app).await? };
    Ok(Json(report))
}
