//! Periodic checks of stored credentials that were not checked for `credentials.check_every_s`, the oldest first, each in a session
//! with a machine. Sign-ins have priority: no check starts while a session waits in the queue, and the number of checks is limited by
//! `credentials.concurrent_checks_max` and the free permits.

use crate::{
    admission,
    api_error::chain,
    clock,
    session::launcher::ServerContext,
    session::start::for_use,
    session::use_credential::volatile_execs::LAST_SCREEN_AGE_MAX,
};
use anteroom_store::{CredentialRow, StoreError};
use anteroom_wire::{CredentialId, agent::UsePurpose, api::CredentialUseRequest};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// The longest and the shortest time between two runs, seconds.
const INTERVAL_S_MAX: u64 = 30;
const INTERVAL_S_MIN: u64 = 1;

/// Runs until the server stops.
pub async fn run_check_job(launcher: ServerContext) {
    let settings = &launcher.config.credentials;
    let interval_s = if settings.check_every_s == 0 { INTERVAL_S_MAX } else { settings.check_every_s / 10 };
    let interval = Duration::from_secs(interval_s.clamp(INTERVAL_S_MIN, INTERVAL_S_MAX));
    let mut attempts = RecentAttempts::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = launcher.stop.cancelled() => return,
        }
        launcher.volatile_execs.discard_screens_older_than(LAST_SCREEN_AGE_MAX);
        if settings.check_every_s == 0 {
            continue;
        }
        if let Err(error) = start_due_checks(&launcher, &mut attempts).await {
            tracing::warn!(outcome = "checks_delayed", error = %chain(&error), "credential checks delayed");
        }
    }
}

/// Recent attempts: a check without a result is not repeated at once, so that other credentials get their turn.
#[derive(Debug, Default)]
struct RecentAttempts(HashMap<CredentialId, Instant>);

impl RecentAttempts {
    fn discard_older_than(&mut self, after: Duration) {
        self.0.retain(|_, at| at.elapsed() < after);
    }
}

/// Starts the checks that are due, as far as capacity allows.
async fn start_due_checks(launcher: &ServerContext, attempts: &mut RecentAttempts) -> Result<(), StoreError> {
    let every_s = launcher.config.credentials.check_every_s;
    attempts.discard_older_than(Duration::from_secs(every_s));
    let capacity = free_checks(launcher).await?;
    if capacity == 0 {
        return Ok(());
    }
    let checked_before = clock::now_unix_ms().saturating_sub(every_s.saturating_mul(1_000));
    for row in due(launcher, checked_before, capacity, attempts).await? {
        attempts.0.insert(row.id.clone(), Instant::now());
        let request = CredentialUseRequest { purpose: UsePurpose::Check, argv: Vec::new() };
        match for_use::start_credential_use_as(launcher, &launcher.local_operator, &row, &request).await {
            Ok(session) => {
                tracing::info!(outcome = "check_started", credential = %row.id, session = %session.id, checked_at = clock::format_rfc3339(row.checked_at_ms), "credential check started");
            }
            Err(error) => {
                tracing::warn!(outcome = "check_not_started", credential = %row.id, reason = error.problem.code(), detail = error.detail, "credential check not started");
                error.log_fault();
            }
        }
    }
    Ok(())
}

/// How many checks may start now.
async fn free_checks(launcher: &ServerContext) -> Result<u32, StoreError> {
    if launcher.queue.waiting_count() > 0
        || admission::check_capacity(&launcher.config, &launcher.machines, launcher.queue.permits_in_use()).is_err()
    {
        return Ok(0);
    }
    let is_check = |purpose| purpose == UsePurpose::Check;
    let active = launcher.store.list_active_sessions().await?;
    let running =
        active.iter().filter(|row| row.purpose.credential_use().is_some_and(|using| is_check(using.purpose))).count();
    let running = u32::try_from(running).unwrap_or(u32::MAX);
    Ok(launcher.config.credentials.concurrent_checks_max.saturating_sub(running).min(launcher.queue.free_permits()))
}

/// The credentials that are due, the oldest check first.
async fn due(
    launcher: &ServerContext,
    checked_before: clock::UnixMs,
    count_max: u32,
    attempts: &RecentAttempts,
) -> Result<Vec<CredentialRow>, StoreError> {
    let limit = count_max.saturating_add(u32::try_from(attempts.0.len()).unwrap_or(u32::MAX));
    let mut due = Vec::new();
    for provider in launcher.providers.iter().filter(|provider| !provider.credential.status_argv.is_empty()) {
        due.extend(launcher.store.list_unchecked_credentials(&provider.id, checked_before, limit).await?);
    }
    due.retain(|row| !attempts.0.contains_key(&row.id));
    due.sort_by_key(|row| row.checked_at_ms);
    due.truncate(count_max as usize);
    Ok(due)
}
