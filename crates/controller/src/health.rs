//! Health checks of the server's dependencies. Each check uses the dependency instead of reading a stored state.

pub mod database;

use crate::{
    admission::{self, MachineCounts, shortage::ResourceShortage},
    api_error::chain,
    cluster,
    oidc::ProviderStatus,
    session::server_context::ServerContext,
    unix_time,
};
use anteroom_wire::{
    api::{Health, HealthCheck, HealthStatus, IsolationLevel},
    guest_text::clean_line,
};

/// Number of reconciliation intervals without a finished reconciliation before the server is degraded. A briefly locked database
/// is reported by the `store` check.
const MISSED_RECONCILIATIONS_MAX: u64 = 5;
/// Minimum time without a finished reconciliation before the server is degraded, milliseconds.
const RECONCILIATION_LATE_MS_MIN: u64 = 30_000;

/// Longest error text of another server in a check, bytes.
const DETAIL_BYTES_MAX: usize = 500;

/// Runs all checks. The overall status is the worst of them: `degraded` works with restrictions, `down` does not work.
pub async fn health_report(server_context: &ServerContext) -> Health {
    let store = database::store(server_context).await;
    let vault = database::vault(server_context, store.status).await;
    let mut checks = vec![
        store,
        vault,
        rows(server_context),
        image(server_context),
        isolation(server_context),
        machines(server_context),
        capacity("disk", admission::check_disk(&server_context.config())),
        capacity(
            "memory",
            admission::check_memory(
                &server_context.config(),
                &server_context.image,
                counts_with_another(server_context),
            ),
        ),
        reconcile(server_context),
    ];
    checks
        .extend(cluster::report::health(&server_context.cluster).map(|(status, text)| check("cluster", status, text)));
    checks.extend(external_machines(server_context));
    checks.extend(certificate(server_context));
    checks.extend(sign_in_provider(server_context));
    let status = checks.iter().map(|check| check.status).max().unwrap_or(HealthStatus::Ok);
    let isolation = Some(server_context.image.isolation.clone());
    Health { status, version: env!("CARGO_PKG_VERSION").to_owned(), checks, isolation }
}

fn check(name: &str, status: HealthStatus, detail: impl Into<String>) -> HealthCheck {
    HealthCheck { name: name.to_owned(), status, detail: detail.into() }
}

/// Rows of the database that were changed outside of this server.
fn rows(server_context: &ServerContext) -> HealthCheck {
    let tampered = server_context.store.tampered_rows();
    match tampered.first() {
        None => check("rows", HealthStatus::Ok, "no row of the database was changed outside of this server"),
        Some(first) => {
            let detail = format!(
                "{} row(s) of the database were changed outside of this server and are not accepted; the first is in the table {}: {}",
                tampered.len(),
                first.table,
                first.row
            );
            check("rows", HealthStatus::Degraded, detail)
        }
    }
}

fn image(server_context: &ServerContext) -> HealthCheck {
    let current = server_context.machines.image_hash();
    if current == server_context.image.hash {
        let short: String = current.chars().take(12).collect();
        check("image", HealthStatus::Ok, format!("machines run image {short}"))
    } else {
        check(
            "image",
            HealthStatus::Degraded,
            format!("new machines run {current}, this server expects {}", server_context.image.hash),
        )
    }
}

fn isolation(server_context: &ServerContext) -> HealthCheck {
    let isolation = &server_context.image.isolation;
    let status = match isolation.level {
        IsolationLevel::Strong => HealthStatus::Ok,
        IsolationLevel::Partial | IsolationLevel::Emulated => HealthStatus::Degraded,
    };
    check("isolation", status, format!("{} ({})", isolation.detail, server_context.image.kind))
}

/// The machines with the one of the next session, which is a warm one if there is one.
fn counts_with_another(server_context: &ServerContext) -> MachineCounts {
    let counts = MachineCounts::of(&server_context.machines, server_context.queue.permits_in_use());
    if server_context.warm_machines.count() > 0 { counts } else { counts.with_another() }
}

fn machines(server_context: &ServerContext) -> HealthCheck {
    let (count, waiting) = (server_context.machines.count(), server_context.queue.waiting_count());
    let status = if waiting > 0 { HealthStatus::Degraded } else { HealthStatus::Ok };
    let max = server_context.config().machines.machines_max;
    let warm = match server_context.warm_machines.count() {
        0 => String::new(),
        warm => format!(" ({warm} of them wait for a session)"),
    };
    check("machines", status, format!("{count} of {max} machines run{warm}, {waiting} session(s) are queued"))
}

/// Reports external machines whose connections are not encrypted; `None`: there are none.
fn external_machines(server_context: &ServerContext) -> Option<HealthCheck> {
    let unencrypted = server_context.external.unencrypted_names();
    let detail = format!("connections to these desktops are not encrypted: {}", unencrypted.join(", "));
    (!unencrypted.is_empty()).then(|| check("external_machines", HealthStatus::Degraded, detail))
}

/// Reports how long this server's certificate is valid; `None`: it has none.
fn certificate(server_context: &ServerContext) -> Option<HealthCheck> {
    let report = server_context.tls.as_ref()?.report();
    let status = if report.is_good { HealthStatus::Ok } else { HealthStatus::Degraded };
    Some(check("certificate", status, report.sentence))
}

/// Reports whether the OpenID provider answers, and the redirect URI that it must know; `None`: none is configured. A report does not
/// wait for the provider: it is asked in the background.
fn sign_in_provider(server_context: &ServerContext) -> Option<HealthCheck> {
    let oidc = server_context.oidc.as_ref()?;
    let (status, state) = match oidc.status() {
        ProviderStatus::Answers => (HealthStatus::Ok, "it answers".to_owned()),
        ProviderStatus::NotAsked => (HealthStatus::Ok, "it was not asked yet".to_owned()),
        ProviderStatus::Failed { detail } => (
            HealthStatus::Degraded,
            format!("people cannot sign in with it: {}", clean_line(&detail, DETAIL_BYTES_MAX)),
        ),
    };
    let detail = format!("{}: {state}; its redirect URI for this server is {}", oidc.issuer(), oidc.redirect_uri());
    Some(check("sign_in_provider", status, detail))
}

/// Reports a reconciliation that does not run or cannot finish; nothing else shows it.
fn reconcile(server_context: &ServerContext) -> HealthCheck {
    let Some(last) = server_context.reconcile_history.last_run() else {
        return check("reconcile", HealthStatus::Degraded, "no reconciliation has finished since the server's start");
    };
    let ago_ms = unix_time::now_unix_ms().saturating_sub(last.at_ms);
    let late = ago_ms
        > server_context
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
fn capacity(name: &str, found: Result<String, ResourceShortage>) -> HealthCheck {
    match found {
        Ok(detail) => check(name, HealthStatus::Ok, detail),
        Err(shortage) => check(
            name,
            HealthStatus::Degraded,
            format!("{}; new sessions are rejected and queued ones wait", chain(&shortage)),
        ),
    }
}
