//! What the server depends on, really asked.

use crate::{admission, app::App, refusal::chain};
use anteroom_store::WriteOutcome;
use anteroom_wire::api::{Health, HealthCheck, HealthStatus};

/// Every check. The sum is the worst of them: `degraded` works, but something is worse than it should be; `down` does not.
pub async fn look(app: &App) -> Health {
    let checks = vec![
        store(app).await,
        vault(app).await,
        image(app),
        accelerator(app),
        machines(app),
        room("disk", admission::disk(&app.config)),
        room("memory", admission::memory(&app.config, admission::coming(app))),
    ];
    let status = checks.iter().map(|check| check.status).max().unwrap_or(HealthStatus::Ok);
    Health { status, version: env!("CARGO_PKG_VERSION").to_owned(), checks }
}

fn check(name: &str, status: HealthStatus, detail: impl Into<String>) -> HealthCheck {
    HealthCheck { name: name.to_owned(), status, detail: detail.into() }
}

async fn store(app: &App) -> HealthCheck {
    match app.store.check().await {
        Ok(()) => {
            let (written, failed) = (app.writes.all(WriteOutcome::Written), app.writes.all(WriteOutcome::Failed));
            let since = format!("{written} writes since the start, {failed} failed, {} slow", app.writes.slow());
            check("store", HealthStatus::Ok, format!("a row was written and read back; {since}"))
        }
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

/// What lives goes on; what is new is refused: worse than it should be, but not down.
fn room(name: &str, found: Result<String, admission::Shortage>) -> HealthCheck {
    match found {
        Ok(detail) => check(name, HealthStatus::Ok, detail),
        Err(shortage) => {
            check(name, HealthStatus::Degraded, format!("{shortage}; new sessions are refused and waiting ones wait"))
        }
    }
}
