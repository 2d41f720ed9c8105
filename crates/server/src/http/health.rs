//! `GET /health`: the server's health; for authenticated callers also each check.

use crate::app::App;
use anteroom_controller::{
    caller::{Action, Caller, Resource},
    health::health_report,
    session::host_facts::without_host_facts,
};
use anteroom_store::Role;
use anteroom_wire::api::{Health, HealthStatus};
use axum::{Extension, Json, extract::State, http::StatusCode, response::IntoResponse};
use std::time::Duration;
use tokio::{sync::Mutex, time::Instant};

/// Age of the report that clients without a caller share, milliseconds: a report writes to the database.
pub(super) const PUBLIC_REPORT_MS_MAX: u64 = 1_000;

/// The report that clients without a caller share.
#[derive(Debug, Default)]
pub struct PublicHealth(Mutex<Option<(Instant, Health)>>);

impl PublicHealth {
    /// The last report, or a new one if that is too old. Requests that arrive while it is made wait for the same one.
    async fn get(&self, app: &App) -> Health {
        let mut last = self.0.lock().await;
        if let Some((at, health)) = &*last
            && at.elapsed() < Duration::from_millis(PUBLIC_REPORT_MS_MAX)
        {
            return health.clone();
        }
        let health = health_report(app).await;
        *last = Some((Instant::now(), health.clone()));
        health
    }
}

/// Returns the server's health. `checks` is for authenticated callers other than a session's person and helpers, `isolation` for operators.
/// 503: the server is down.
#[utoipa::path(get, operation_id = "get_health", path = "/health", responses(
    (status = 200, description = "The server works, possibly with restrictions (`degraded`).", body = Health),
    (status = 503, description = "The server does not work (`down`).", body = Health),
))]
pub(super) async fn get_health(State(app): State<App>, caller: Option<Extension<Caller>>) -> impl IntoResponse {
    let mut health = if caller.is_some() { health_report(&app).await } else { app.public_health.get(&app).await };
    let is_of_person = |caller: &Caller| matches!(caller.role, Role::Viewer(_) | Role::Helper(_));
    if caller.as_ref().is_none_or(|Extension(caller)| is_of_person(caller)) {
        health.checks.clear();
    }
    if caller.is_none_or(|Extension(caller)| caller.require(Action::OperateServer, Resource::Server).is_err()) {
        health.isolation = None;
        for check in &mut health.checks {
            check.detail = without_host_facts(&check.detail);
        }
    }
    let code = if health.status == HealthStatus::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(health))
}
