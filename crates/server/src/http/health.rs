//! `GET /health`: the server's health; for authenticated callers also each check.

use anteroom_controller::{
    caller::{Action, Caller, Resource},
    health::health_report,
    session::server_context::ServerContext,
};
use anteroom_wire::api::{Health, HealthStatus};
use axum::{Extension, Json, extract::State, http::StatusCode, response::IntoResponse};

/// Returns the server's health. `checks` is for authenticated callers, `isolation` for operators. 503: the server is down.
#[utoipa::path(get, operation_id = "get_health", path = "/health", responses(
    (status = 200, description = "The server works, possibly with restrictions (`degraded`).", body = Health),
    (status = 503, description = "The server does not work (`down`).", body = Health),
))]
pub(super) async fn get_health(
    State(server_context): State<ServerContext>,
    caller: Option<Extension<Caller>>,
) -> impl IntoResponse {
    let mut health = health_report(&server_context).await;
    if caller.is_none() {
        health.checks.clear();
    }
    if caller.is_none_or(|Extension(caller)| caller.require(Action::OperateServer, Resource::Server).is_err()) {
        health.isolation = None;
    }
    let code = if health.status == HealthStatus::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(health))
}
