//! The sessions of this host in a cluster: it takes waiting ones while it has room, and ends what it does for those that it has lost.
//!
//! Without a cluster there are none, and each function returns at once.

use super::{end, placement, queue::SessionOwner, reconcile, server_context::ServerContext};
use crate::{
    admission,
    api_error::{ApiError, chain},
    cluster::{TakeResponse, clock::compare_clock},
    unix_time,
};
use anteroom_machine::StopReason;
use anteroom_store::{SessionRow, StoreError, WaitingCounts, WaitingSession};
use anteroom_tunnel::CloseCause;
use anteroom_wire::{EndReason, Problem, ProviderId, SessionId, hosts::TakeAnswer};
use std::time::Duration;

/// How often a host with room looks for waiting sessions: nothing signals that another host has accepted one.
const PULL_EVERY: Duration = Duration::from_secs(1);

/// Takes waiting sessions while this host has room. Runs until the server stops.
pub async fn run_pulls(server_context: ServerContext) {
    if server_context.store.holder().is_none() {
        return;
    }
    let mut changes = server_context.queue.subscribe();
    loop {
        changes.mark_unchanged();
        if let Err(error) = pull_all(&server_context).await {
            tracing::warn!(outcome = "not_pulled", error = %chain(&error), "waiting sessions not taken; retrying");
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(PULL_EVERY) => {}
            () = server_context.stop.cancelled() => return,
        }
    }
}

async fn pull_all(server_context: &ServerContext) -> Result<(), StoreError> {
    end_overdue(server_context).await?;
    let machines_max = server_context.config().machines.machines_by_caller_max;
    loop {
        let _taking = server_context.cluster.other_hosts().lock_taking().await;
        if !has_room(server_context) || server_context.stop.is_cancelled() {
            return Ok(());
        }
        let fits = |waiting: &WaitingSession| {
            let WaitingSession { provider, external_machine, placement, .. } = waiting;
            placement::may_pull(waiting)
                && fits(server_context, provider, external_machine.as_deref(), placement.as_deref())
        };
        let Some(id) = server_context.store.pull_session(machines_max, fits).await? else { return Ok(()) };
        go_on(server_context, &id).await?;
    }
}

/// Takes a session that another host offers, if this one has room and it fits.
pub async fn take_offered(server_context: &ServerContext, id: &SessionId) -> TakeResponse {
    let answer = try_take(server_context, id).await.unwrap_or_else(|error| {
        tracing::warn!(outcome = "not_taken", session = %id, error = %chain(&error), "offered session not taken");
        TakeAnswer::Unavailable
    });
    TakeResponse { answer, room: server_context.cluster.room(|| server_context.queue.capacity()) }
}

async fn try_take(server_context: &ServerContext, id: &SessionId) -> Result<TakeAnswer, StoreError> {
    let _taking = server_context.cluster.other_hosts().lock_taking().await;
    if server_context.cluster.is_draining() || server_context.stop.is_cancelled() {
        return Ok(TakeAnswer::Draining);
    }
    if !has_room(server_context) {
        return Ok(TakeAnswer::NoRoom);
    }
    let row = server_context.store.get_session(id).await?.filter(SessionRow::waits_for_host);
    let Some(row) = row else { return Ok(TakeAnswer::NotWaiting) };
    if !fits(server_context, &row.provider, row.external_machine.as_deref(), row.placement.as_deref()) {
        return Ok(TakeAnswer::Unsuitable);
    }
    let machines_max = server_context.config().machines.machines_by_caller_max;
    if !server_context.store.take_session(id, machines_max).await? {
        let row = server_context.store.get_session(id).await?;
        let waits = row.is_some_and(|row| row.waits_for_host());
        return Ok(if waits { TakeAnswer::Unsuitable } else { TakeAnswer::NotWaiting });
    }
    go_on(server_context, id).await?;
    Ok(TakeAnswer::Taken)
}

async fn go_on(server_context: &ServerContext, id: &SessionId) -> Result<(), StoreError> {
    tracing::info!(outcome = "session_taken", session = %id, "waiting session taken by this host");
    match server_context.store.get_session(id).await? {
        Some(row) => reconcile::take_over(server_context, &row).await,
        None => Ok(()),
    }
}

/// Whether a session that is accepted or taken now gets a machine of this host at once. Not while the host has lost contact.
pub(super) fn has_room(server_context: &ServerContext) -> bool {
    let queue = &server_context.queue;
    let ServerContext { image, machines, warm_machines, .. } = server_context;
    let in_use = queue.permits_in_use();
    server_context.cluster.may_act()
        && queue.free_permits() as usize > queue.waiting_count()
        && admission::check_capacity(&server_context.config(), image, (machines, warm_machines), in_use).is_ok()
}

/// Requires that the line of waiting sessions has a place for another one of this owner.
///
/// # Errors
/// The line is full, or the share of the caller in it; or the database cannot be read.
pub(super) async fn require_place(server_context: &ServerContext, owner: &SessionOwner) -> Result<(), ApiError> {
    let limits = &server_context.config().sessions;
    let waiting = server_context.store.count_waiting_sessions(&owner.caller, owner.user_id.as_deref()).await?;
    let WaitingCounts { all, of_caller, of_user } = waiting;
    if of_caller >= u64::from(limits.queue_by_caller_max) {
        let detail = format!("{of_caller} sessions of this caller wait for a machine (sessions.queue_by_caller_max)");
        return Err(ApiError::new(Problem::CallerQuota, detail));
    }
    if of_user >= u64::from(limits.queue_by_user_max) {
        let detail = format!("{of_user} sessions of this user wait for a machine (sessions.queue_by_user_max)");
        return Err(ApiError::new(Problem::UserQuota, detail));
    }
    if all >= u64::from(limits.queue_max) {
        let detail = format!("the queue is full ({all} sessions waiting)");
        return Err(ApiError::new(Problem::NoCapacity, detail));
    }
    Ok(())
}

/// Whether this host has what the session needs.
fn fits(
    server_context: &ServerContext,
    provider: &ProviderId,
    external_machine: Option<&str>,
    placement: Option<&str>,
) -> bool {
    if !placement::fits(server_context, placement) {
        return false;
    }
    if let Some(name) = external_machine {
        return server_context.external.get(name).is_some();
    }
    let providers = server_context.providers();
    providers.get(provider).is_some_and(|provider| server_context.image.has_tool(&provider.cli))
}

/// Ends sessions that have waited for a host too long; any host does.
async fn end_overdue(server_context: &ServerContext) -> Result<(), StoreError> {
    let (store, wait_s_max) = (&server_context.store, server_context.config().sessions.queue_s_max);
    let since = |now: u64| now.saturating_sub(wait_s_max.saturating_mul(1_000));
    let now = unix_time::now_unix_ms();
    if store.list_overdue_waiting_sessions(now, since(now)).await?.is_empty() {
        return Ok(());
    }
    // Another host may have stored these times: they are not compared with a clock that has jumped.
    compare_clock(store).await?;
    let now = unix_time::now_unix_ms();
    for row in store.list_overdue_waiting_sessions(now, since(now)).await? {
        let (reason, detail) = if row.deadline_ms <= now {
            (EndReason::DeadlineExpired, String::new())
        } else {
            let detail = format!("no machine became free for it within {wait_s_max} s (sessions.queue_s_max)");
            (EndReason::NoCapacity, detail)
        };
        match end::end_session(server_context, &row.id, reason, &detail).await {
            // Another host took it at this moment.
            Ok(_) | Err(StoreError::NotHolder(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends what this host does for sessions that it does not hold any more. Runs until the server stops.
pub async fn run_refusals(server_context: ServerContext) {
    loop {
        let refused = tokio::select! {
            refused = server_context.store.next_refused_sessions() => refused,
            () = server_context.stop.cancelled() => return,
        };
        for id in refused {
            let Some(session) = server_context.sessions.get(&id) else { continue };
            tracing::warn!(outcome = "session_lost", session = %id, "this host does not hold the session any more");
            let machine = session.state().machine_id().cloned();
            // The supervisor ends without a write.
            session.close_signal.close(CloseCause::ServerStopping);
            if let Some(machine) = machine {
                server_context.machines.stop(&machine, StopReason::Orphaned);
            }
        }
    }
}
