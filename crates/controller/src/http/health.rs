//! `GET /health`: what the server depends on, really asked.

use crate::{app::App, callers::Caller, refusal::chain};
use anteroom_wire::api::{Health, HealthCheck, HealthStatus};
use axum::{Extension, Json, extract::State, http::StatusCode, response::IntoResponse};

/// Below this a new machine or a database write may fail soon.
const DISK_BYTES_LOW: u64 = 1 << 30;

/// Whether all is well. Callers see each check; others only the sum.
#[utoipa::path(get, path = "/health", responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(super) async fn health(State(app): State<App>, caller: Option<Extension<Caller>>) -> impl IntoResponse {
    let mut checks =
        vec![store(&app).await, vault(&app).await, image(&app), accelerator(&app), machines(&app), disk(&app)];
    let status = checks.iter().map(|check| check.status).max().unwrap_or(HealthStatus::Ok);
    if caller.is_none() {
        checks.clear();
    }
    let code = if status == HealthStatus::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(Health { status, version: env!("CARGO_PKG_VERSION").to_owned(), checks }))
}

fn check(name: &str, status: HealthStatus, detail: impl Into<String>) -> HealthCheck {
    HealthCheck { name: name.to_owned(), status, detail: detail.into() }
}

async fn store(app: &App) -> HealthCheck {
    match app.store.check().await {
        Ok(()) => check("store", HealthStatus::Ok, "a row was written and read back"),
        Err(error) => check("store", HealthStatus::Down, chain(&error)),
    }
}

async fn vault(app: &App) -> HealthCheck {
    let have = app.vault.key_ids();
    match app.store.keys_in_use().await {
        Ok(used) => {
            let missing: Vec<String> = used.iter().filter(|id| !have.contains(id)).map(ToString::to_string).collect();
            if missing.is_empty() {
                check("vault", HealthStatus::Ok, format!("{} key(s); all that stored credentials need", have.len()))
            } else {
                let detail =
                    format!("stored credentials need the keys {}, which the key file lacks", missing.join(", "));
                check("vault", HealthStatus::Down, detail)
            }
        }
        Err(error) => check("vault", HealthStatus::Down, chain(&error)),
    }
}

fn image(app: &App) -> HealthCheck {
    let wanted = app.machines.image_hash();
    if wanted == app.image.hash {
        let short: String = wanted.chars().take(12).collect();
        check("image", HealthStatus::Ok, format!("machines run image {short}"))
    } else {
        check(
            "image",
            HealthStatus::Degraded,
            format!("new machines run {wanted}, this server expects {}", app.image.hash),
        )
    }
}

fn accelerator(app: &App) -> HealthCheck {
    let status = if app.image.emulated { HealthStatus::Degraded } else { HealthStatus::Ok };
    check("accelerator", status, app.image.accelerator.clone())
}

fn machines(app: &App) -> HealthCheck {
    let (count, waiting) = (app.machines.count(), app.queue.waiting());
    let status = if waiting > 0 { HealthStatus::Degraded } else { HealthStatus::Ok };
    let most = app.config.machines.machines_max;
    check("machines", status, format!("{count} of {most} machines live, {waiting} session(s) wait for room"))
}

fn disk(app: &App) -> HealthCheck {
    match rustix::fs::statvfs(&app.config.state_dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let status = if free < DISK_BYTES_LOW { HealthStatus::Degraded } else { HealthStatus::Ok };
            check("disk", status, format!("{} MiB free below the state directory", free >> 20))
        }
        Err(error) => check("disk", HealthStatus::Down, format!("the state directory cannot be looked at: {error}")),
    }
}
