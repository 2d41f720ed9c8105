//! What the server depends on, really asked.

use crate::{admission, app::App, clock, api_error::chain};
use anteroom_store::WriteOutcome;
use anteroom_wire::api::{Health, HealthCheck, HealthStatus};

/// So many sweeps may fail to finish before it is said; a database that is locked for a moment is said by its own check.
const SWEEPS_MISSED_MAX: u64 = 5;
/// And no sooner than this, milliseconds.
const SWEEP_LATE_MS_MIN: u64 = 30_000;

/// Every check. The sum is the worst of them: `degraded` works, but something is worse than it should be; `down` does not.
pub async fn look(app: &App) -> Health {
    let checks = vec![
        store(app).await,
        vault(app).await,
        image(app),
        accelerator(app),
        machines(app),
        room("disk", admission::disk(&app.config)),
        room("memory", admission::memory(&app.config, admission::pending_machines(app) + 1)),
        sweep(app),
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
            let (written, failed) = (app.db_metrics.all(WriteOutcome::Written), app.db_metrics.all(WriteOutcome::Failed));
            let since = format!("{written} writes since the start, {failed} failed, {} slow", app.db_metrics.slow());
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

/// A sweep that does not run, or cannot finish, is otherwise noticed by nobody.
fn sweep(app: &App) -> HealthCheck {
    let Some(last) = app.reconcile_history.last() else {
        return check("reconcile", HealthStatus::Degraded, "no sweep has finished since the server's start");
    };
    let ago_ms = clock::now().saturating_sub(last.at_ms);
    let late = ago_ms > app.config.sessions.reconcile_every_ms.saturating_mul(SWEEPS_MISSED_MAX).max(SWEEP_LATE_MS_MIN);
    let status = if late || last.deferred > 0 { HealthStatus::Degraded } else { HealthStatus::Ok };
    let detail = format!(
        "the last sweep finished {} s ago; it did {} thing(s) and left {} for the next",
        ago_ms / 1_000,
        last.actions_done,
        last.deferred
    );
    check("reconcile", status, detail)
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
