//! The checks that ask the database. A database that does not answer is reported as such, in time.

use super::check;
use crate::{api_error::chain, session::server_context::ServerContext, unix_time};
use anteroom_store::{StoreError, WriteOutcome};
use anteroom_wire::api::{HealthCheck, HealthStatus};
use std::time::Duration;
use tokio::time::timeout;

/// How long a report waits until a row was written to PostgreSQL and read back, milliseconds.
pub const WRITE_MS_MAX: u64 = 600;
/// How long a report waits for what is counted in PostgreSQL, milliseconds.
const COUNTS_MS_MAX: u64 = 300;
/// A database that has answered something within this time is slow, not away, milliseconds.
const SLOW_MS_MAX: u64 = 2_000;

/// Writes and reads a row.
pub(super) async fn store(server_context: &ServerContext) -> HealthCheck {
    let store = server_context.store.clone();
    let written = tokio::spawn({
        // On a task of its own: a write is not cancelled.
        let store = store.clone();
        async move { store.check_writable().await }
    });
    match timeout(limit(server_context, WRITE_MS_MAX), written).await {
        Ok(Ok(Ok(()))) => check("store", HealthStatus::Ok, works(server_context)),
        Ok(Ok(Err(error))) => check("store", HealthStatus::Down, chain(&error) + &since(server_context)),
        Ok(Err(failed)) => check("store", HealthStatus::Down, format!("the check of the database failed: {failed}")),
        Err(_)
            if !store.is_disconnected()
                && store.answered_ago().is_some_and(|ago| ago < Duration::from_millis(SLOW_MS_MAX)) =>
        {
            let detail = format!("{} is slow: a write takes longer than {WRITE_MS_MAX} ms", store.address());
            check("store", HealthStatus::Degraded, detail)
        }
        Err(_) => {
            let detail = format!("{} does not answer{}", store.address(), since(server_context));
            check("store", HealthStatus::Down, detail)
        }
    }
}

fn works(server_context: &ServerContext) -> String {
    let metrics = &server_context.db_metrics;
    format!(
        "{}: a row was written and read back; {} writes since the start, {} failed, {} slow",
        server_context.store.database(),
        metrics.write_count_with_outcome(WriteOutcome::Written),
        metrics.write_count_with_outcome(WriteOutcome::Failed),
        metrics.slow_write_count()
    )
}

/// How long to wait for the database. A file answers by itself, also one that is locked.
fn limit(server_context: &ServerContext, milliseconds: u64) -> Duration {
    match server_context.store.answered_ago() {
        Some(_) => Duration::from_millis(milliseconds),
        None => Duration::MAX,
    }
}

/// When PostgreSQL answered last.
fn since(server_context: &ServerContext) -> String {
    server_context.store.answered_ago().map_or_else(String::new, |ago| {
        let at_ms = unix_time::now_unix_ms().saturating_sub(anteroom_wire::time::to_millis(ago));
        format!("; it answered last at {}", unix_time::format_rfc3339(at_ms))
    })
}

/// The keys that stored credentials need.
pub(super) async fn vault(server_context: &ServerContext, store: HealthStatus) -> HealthCheck {
    if store == HealthStatus::Down {
        return check("vault", HealthStatus::Degraded, "not checked, since the database does not work");
    }
    match timeout(limit(server_context, COUNTS_MS_MAX), keys(server_context)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => check("vault", HealthStatus::Down, chain(&error)),
        Err(_) => check("vault", HealthStatus::Degraded, "not checked, since the database is slow"),
    }
}

async fn keys(server_context: &ServerContext) -> Result<HealthCheck, StoreError> {
    let report = server_context.key_rotation.report().await?;
    let available = server_context.vault.key_ids();
    let used = server_context.store.list_keys_in_use().await?;
    let missing: Vec<String> = used.iter().filter(|id| !available.contains(id)).map(ToString::to_string).collect();
    if !missing.is_empty() {
        let detail =
            format!("stored credentials need the keys {}, which are missing in the key file", missing.join(", "));
        return Ok(check("vault", HealthStatus::Down, detail));
    }
    let unreadable = server_context.key_rotation.unreadable_records();
    if let Some((id, error)) = unreadable.first() {
        let detail = format!("{} credential(s) cannot be opened; the first is {id}: {error}", unreadable.len());
        return Ok(check("vault", HealthStatus::Degraded, detail));
    }
    let (keys, waiting, failed) = (available.len(), report.records_to_rewrap, report.records_failed);
    let detail = format!("the key file has {keys} key(s), including all that stored credentials need");
    if failed > 0 {
        let detail = format!("{detail}; {failed} credential(s) could not be rewrapped: the log names each");
        return Ok(check("vault", HealthStatus::Degraded, detail));
    }
    let detail = if waiting > 0 { format!("{detail}; {waiting} are being rewrapped") } else { detail };
    Ok(check("vault", HealthStatus::Ok, detail))
}
