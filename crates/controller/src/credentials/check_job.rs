//! Periodic checks of stored credentials that were not checked for `credentials.check_every_s`, the oldest first, each in a session
//! with a machine. Sign-ins have priority: no check starts while a session waits for a free permit, and the number of checks is limited by
//! `credentials.concurrent_checks_max` and the free permits.

use crate::{
    admission, api_error::chain, session::server_context::ServerContext, session::start::for_use,
    session::use_credential::volatile_execs::LAST_SCREEN_AGE_MAX, unix_time,
};
use anteroom_store::{CredentialRow, StoreError};
use anteroom_wire::{CredentialId, agent::UsePurpose, api::CredentialUseRequest};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// The longest and the shortest time between two runs, seconds.
const INTERVAL_S_MAX: u64 = 30;
const INTERVAL_S_MIN: u64 = 1;

/// Runs until the server stops.
pub async fn run_check_job(server_context: ServerContext) {
    let mut attempts = RecentAttempts::default();
    loop {
        let every_s = server_context.config().credentials.check_every_s;
        let interval_s = if every_s == 0 { INTERVAL_S_MAX } else { every_s / 10 };
        let interval = Duration::from_secs(interval_s.clamp(INTERVAL_S_MIN, INTERVAL_S_MAX));
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = server_context.stop.cancelled() => return,
        }
        server_context.volatile_execs.discard_screens_older_than(LAST_SCREEN_AGE_MAX);
        if server_context.config().credentials.check_every_s == 0 || !server_context.cluster.may_act() {
            continue;
        }
        if let Err(error) = start_due_checks(&server_context, &mut attempts).await {
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
async fn start_due_checks(server_context: &ServerContext, attempts: &mut RecentAttempts) -> Result<(), StoreError> {
    let every_s = server_context.config().credentials.check_every_s;
    attempts.discard_older_than(Duration::from_secs(every_s));
    // Each credential is checked by one host of a cluster.
    if !server_context.store.is_first_host().await? {
        return Ok(());
    }
    let capacity = free_checks(server_context).await?;
    if capacity == 0 {
        return Ok(());
    }
    let checked_before = unix_time::now_unix_ms().saturating_sub(every_s.saturating_mul(1_000));
    for row in due(server_context, checked_before, capacity, attempts).await? {
        attempts.0.insert(row.id.clone(), Instant::now());
        let request = CredentialUseRequest { purpose: UsePurpose::Check, argv: Vec::new(), attached: false };
        match for_use::start_credential_use_as(server_context, &server_context.local_operator, &row, &request).await {
            Ok(session) => {
                tracing::info!(outcome = "check_started", credential = %row.id, session = %session.id, checked_at = unix_time::format_rfc3339(row.checked_at_ms), "credential check started");
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
async fn free_checks(server_context: &ServerContext) -> Result<u32, StoreError> {
    if server_context.queue.permitted_count() > 0
        || admission::check_capacity(
            &server_context.config(),
            &server_context.image,
            (&server_context.machines, &server_context.warm_machines),
            server_context.queue.permits_in_use(),
        )
        .is_err()
    {
        return Ok(0);
    }
    let is_check = |purpose| purpose == UsePurpose::Check;
    let active = server_context.store.list_active_sessions().await?;
    let running =
        active.iter().filter(|row| row.purpose.credential_use().is_some_and(|using| is_check(using.purpose))).count();
    let running = u32::try_from(running).unwrap_or(u32::MAX);
    Ok(server_context
        .config()
        .credentials
        .concurrent_checks_max
        .saturating_sub(running)
        .min(server_context.queue.free_permits()))
}

/// The credentials that are due, the oldest check first.
async fn due(
    server_context: &ServerContext,
    checked_before: unix_time::UnixMs,
    count_max: u32,
    attempts: &RecentAttempts,
) -> Result<Vec<CredentialRow>, StoreError> {
    let limit = count_max.saturating_add(u32::try_from(attempts.0.len()).unwrap_or(u32::MAX));
    let mut due = Vec::new();
    for provider in server_context.providers().iter().filter(|provider| !provider.credential.status_argv.is_empty()) {
        due.extend(server_context.store.list_unchecked_credentials(&provider.id, checked_before, limit).await?);
    }
    // A use renews the credential, or shows soon that it cannot.
    due.retain(|row| !attempts.0.contains_key(&row.id));
    due.sort_by_key(|row| row.checked_at_ms);
    let mut unused = Vec::new();
    for row in due {
        if unused.len() < count_max as usize && !server_context.credential_turns.is_in_use(&row.id).await? {
            unused.push(row);
        }
    }
    Ok(unused)
}
