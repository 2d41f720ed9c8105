//! Asking tools about their stored credentials, when nobody did for `credentials.check_every_s`: the longest ago first, each in a
//! machine of its own, by the same sessions as everybody's checks. People go first: nothing is checked while somebody waits for a
//! machine, and never more at once than `credentials.concurrent_checks_max` or the room that is free.

use crate::{
    admission,
    api_error::{ApiError, chain},
    app::App,
    clock,
    session::start::for_use,
};
use anteroom_store::{CredentialRow, StoreError};
use anteroom_wire::{CredentialId, agent::UsePurpose, api::UseRequest};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// The longest and the shortest time between two looks, seconds.
const LOOK_S_MAX: u64 = 30;
const LOOK_S_MIN: u64 = 1;

/// Looks until the server stops.
pub async fn run(app: App) {
    let settings = &app.config.credentials;
    let look_s = if settings.check_every_s == 0 { LOOK_S_MAX } else { settings.check_every_s / 10 };
    let look_every = Duration::from_secs(look_s.clamp(LOOK_S_MIN, LOOK_S_MAX));
    let mut tried = Tried::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(look_every) => {}
            () = app.stop.cancelled() => return,
        }
        app.exec_cache.discard_screens_older_than(Duration::from_secs(settings.last_screen_s_max));
        if settings.check_every_s == 0 {
            continue;
        }
        if let Err(error) = look(&app, &mut tried).await {
            tracing::warn!(outcome = "checks_delayed", error = %chain(&error), "stored credentials could not be looked at");
        }
    }
}

/// Credentials that were tried: one whose check came to nothing is not tried again at once, and keeps no other from its turn.
#[derive(Debug, Default)]
struct Tried(HashMap<CredentialId, Instant>);

impl Tried {
    fn forget(&mut self, after: Duration) {
        self.0.retain(|_, at| at.elapsed() < after);
    }
}

/// Starts what is due, as far as there is room for it.
async fn look(app: &App, tried: &mut Tried) -> Result<(), StoreError> {
    let every_s = app.config.credentials.check_every_s;
    tried.forget(Duration::from_secs(every_s));
    let room = room(app).await?;
    if room == 0 {
        return Ok(());
    }
    let before = clock::now().saturating_sub(every_s.saturating_mul(1_000));
    for row in due(app, before, room, tried).await? {
        tried.0.insert(row.id.clone(), Instant::now());
        let request = UseRequest { purpose: UsePurpose::Check, argv: Vec::new() };
        match for_use::start_for(app, &app.local_operator, &row, &request).await {
            Ok(session) => {
                tracing::info!(outcome = "check_started", credential = %row.id, session = %session.id, checked_at = clock::rfc3339(row.checked_at_ms), "a stored credential is checked");
            }
            Err(ApiError { problem, detail }) => {
                tracing::warn!(outcome = "check_not_started", credential = %row.id, reason = problem.code(), detail, "a stored credential could not be checked");
            }
        }
    }
    Ok(())
}

/// How many more may be checked now.
async fn room(app: &App) -> Result<u32, StoreError> {
    if app.queue.waiting() > 0 || admission::check_capacity(app).is_err() {
        return Ok(0);
    }
    let is_check = |purpose| purpose == UsePurpose::Check;
    let active = app.store.active_sessions().await?;
    let running =
        active.iter().filter(|row| row.purpose.credential_use().is_some_and(|using| is_check(using.purpose))).count();
    let running = u32::try_from(running).unwrap_or(u32::MAX);
    Ok(app.config.credentials.concurrent_checks_max.saturating_sub(running).min(app.queue.free()))
}

/// Credentials that are due, the longest ago first.
async fn due(app: &App, before: clock::UnixMs, room: u32, tried: &Tried) -> Result<Vec<CredentialRow>, StoreError> {
    let limit = room.saturating_add(u32::try_from(tried.0.len()).unwrap_or(u32::MAX));
    let mut due = Vec::new();
    for provider in app.providers.iter().filter(|provider| !provider.credential.status_argv.is_empty()) {
        due.extend(app.store.unchecked_credentials(&provider.id, before, limit).await?);
    }
    due.retain(|row| !tried.0.contains_key(&row.id));
    due.sort_by_key(|row| row.checked_at_ms);
    due.truncate(room as usize);
    Ok(due)
}
