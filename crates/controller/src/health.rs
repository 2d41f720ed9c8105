//! Health checks of the server's dependencies. Each check uses the dependency instead of reading a stored state.

use crate::{admission::{self, shortage::Shortage}, api_error::chain, clock, session::launcher::ServerContext};
use anteroom_store::WriteOutcome;
use anteroom_wire::api::{Health, HealthCheck, HealthStatus};

/// Number of reconciliation intervals without a finished reconciliation before the server is degraded. A briefly locked database
/// is reported by the `store` check.
const MISSED_RECONCILIATIONS_MAX: u64 = 5;
/// Minimum time without a finished reconciliation before the server is degraded, milliseconds.
const RECONCILIATION_LATE_MS_MIN: u64 = 30_000;

/// Runs all checks. The overall status is the worst of them: `degraded` works with restrictions, `down` does not work.
pub async fn health_report(launcher: &ServerContext) -> Health {
    let checks = vec![
        store(launcher).await,
        vault(launcher).await,
        image(launcher),
        accelerator(launcher),
        machines(launcher),
        capacity("disk", admission::check_disk(&launcher.config)),
        capacity(
            "memory",
            admission::check_memory(
                &launcher.config,
                admission::count_pending_machines(&launcher.machines, launcher.queue.permits_in_use()) + 1,
            ),
        ),
        reconcile(launcher),
    ];
    let status = checks.iter().map(|check| check.status).max().unwrap_or(HealthStatus::Ok);
    Health { status, version: env!("CARGO_PKG_VERSION").to_owned(), checks }
}

fn check(name: &str, status: HealthStatus, detail: impl Into<String>) -> HealthCheck {
    HealthCheck { name: name.to_owned(), status, detail: detail.into() }
}

async fn store(launcher: &ServerContext) -> HealthCheck {
    match launcher.store.check_writable().await {
        Ok(()) => {
            let (written, failed) = (
                launcher.db_metrics.write_count_with_outcome(WriteOutcome::Written),
                launcher.db_metrics.write_count_with_outcome(WriteOutcome::Failed),
            );
            let writes =
                format!("{written} writes since the start, {failed} failed, {} slow", launcher.db_metrics.slow_write_count());
            check("store", HealthStatus::Ok, format!("a row was written and read back; {writes}"))
        }
        Err(error) => check("store", HealthStatus::Down, chain(&error)),
    }
}

async fn vault(launcher: &ServerContext) -> HealthCheck {
    let available = launcher.vault.key_ids();
    match launcher.store.list_keys_in_use().await {
        Ok(used) => {
            let missing: Vec<String> =
                used.iter().filter(|id| !available.contains(id)).map(ToString::to_string).collect();
            if missing.is_empty() {
                check(
                    "vault",
                    HealthStatus::Ok,
                    format!("the key file has {} key(s), including all that stored credentials need", available.len()),
                )
            } else {
                let detail = format!(
                    "stored credentials need the keys {}, which are missing in the key file",
                    missing.join(", ")
                );
                check("vault", HealthStatus::Down, detail)
            }
        }
        Err(error) => check("vault", HealthStatus::Down, chain(&error)),
    }
}

fn image(launcher: &ServerContext) -> HealthCheck {
    let current = launcher.machines.image_hash();
    if current == launcher.image.hash {
        let short: String = current.chars().take(12).collect();
        check("image", HealthStatus::Ok, format!("machines run image {short}"))
    } else {
        check(
            "image",
            HealthStatus::Degraded,
            format!("new machines run {current}, this server expects {}", launcher.image.hash),
        )
    }
}

fn accelerator(launcher: &ServerContext) -> HealthCheck {
    let status = if launcher.image.is_emulated { HealthStatus::Degraded } else { HealthStatus::Ok };
    check("accelerator", status, launcher.image.accelerator.clone())
}

fn machines(launcher: &ServerContext) -> HealthCheck {
    let (count, waiting) = (launcher.machines.count(), launcher.queue.waiting_count());
    let status = if waiting > 0 { HealthStatus::Degraded } else { HealthStatus::Ok };
    let max = launcher.config.machines.machines_max;
    check("machines", status, format!("{count} of {max} machines run, {waiting} session(s) are queued"))
}

/// Reports a reconciliation that does not run or cannot finish; nothing else shows it.
fn reconcile(launcher: &ServerContext) -> HealthCheck {
    let Some(last) = launcher.reconcile_history.last_run() else {
        return check("reconcile", HealthStatus::Degraded, "no reconciliation has finished since the server's start");
    };
    let ago_ms = clock::now_unix_ms().saturating_sub(last.at_ms);
    let late = ago_ms
        > launcher
            .limits
            .sessions
            .reconcile_every_ms
            .saturating_mul(MISSED_RECONCILIATIONS_MAX)
            .max(RECONCILIATION_LATE_MS_MIN);
    let status = if late || last.deferred > 0 { HealthStatus::Degraded } else { HealthStatus::Ok };
    let detail = format!(
        "the last reconciliation finished {} s ago, with {} action(s) done and {} deferred",
        ago_ms / 1_000,
        last.actions_done,
        last.deferred
    );
    check("reconcile", status, detail)
}

/// Without capacity the server is degraded, not down: running sessions continue, and new ones are rejected.
fn capacity(name: &str, found: Result<String, Shortage>) -> HealthCheck {
    match found {
        Ok(detail) => check(name, HealthStatus::Ok, detail),
        Err(shortage) => {
            check(name, HealthStatus::Degraded, format!("{}; new sessions are rejected and queued ones wait", chain(&shortage)))
        }
    }
}
