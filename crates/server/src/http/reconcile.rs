//! `POST /api/reconcile`.

use super::{error_response::ErrorResponse, extract::Query};
use anteroom_controller::{session::reconcile, session::server_context::ServerContext};
use anteroom_wire::{ProblemBody, operator_reports::ReconcileReport};
use axum::{Json, extract::State};
use serde::Deserialize;

/// Query of `POST /api/reconcile`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
pub(super) struct ReconcileQuery {
    /// Only return the planned actions; do nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Runs one reconciliation now, or returns its plan. Each action has its reason. Operators only.
#[utoipa::path(post, path = "/api/reconcile", params(ReconcileQuery), responses(
    (status = 200, description = "The actions, done or planned.", body = ReconcileReport),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
))]
pub(super) async fn run_reconcile(
    State(server_context): State<ServerContext>,
    Query(ReconcileQuery { dry_run }): Query<ReconcileQuery>,
) -> Result<Json<ReconcileReport>, ErrorResponse> {
    let report =
        if dry_run { reconcile::dry_run(&server_context).await? } else { reconcile::run_once(&server_context).await? };
    Ok(Json(report))
}
