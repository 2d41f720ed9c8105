//! `GET /health`: whether all is well, and for callers each check.

use crate::{app::App, auth::Caller, health::look};
use anteroom_wire::api::{Health, HealthStatus};
use axum::{Extension, Json, extract::State, http::StatusCode, response::IntoResponse};

/// Whether all is well. Callers see each check; others only the sum.
#[utoipa::path(get, path = "/health", responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(super) async fn health(State(app): State<App>, caller: Option<Extension<Caller>>) -> impl IntoResponse {
    let mut health = look(&app).await;
    if caller.is_none() {
        health.checks.clear();
    }
    let code = if health.status == HealthStatus::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(health))
}
