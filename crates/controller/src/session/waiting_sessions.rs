//! The sessions of this host in a cluster: it takes waiting ones while it has room, and ends what it does for those that it has lost.
//!
//! Without a cluster there are none, and each function returns at once.

use super::{end, placement, queue::SessionOwner, reconcile, server_context::ServerContext};
use crate::{
    admission,
    api_error::{ApiError, chain},
    cluster::clock::compare_clock,
    unix_time,
};
use anteroom_machine::StopReason;
use anteroom_store::{StoreError, WaitingSession};
use anteroom_tunnel::CloseCause;
use anteroom_wire::{EndReason, Problem};
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
    while has_room(server_context) && !server_context.stop.is_cancelled() {
        let Some(id) = server_context.store.pull_session(|waiting| fits(server_context, waiting)).await? else { break };
        tracing::info!(outcome = "session_taken", session = %id, "waiting session taken by this host");
        if let Some(row) = server_context.store.get_session(&id).await? {
            reconcile::take_over(server_context, &row).await?;
        }
    }
    Ok(())
}

/// Whether a session that is accepted or taken now gets a machine of this host at once. Not while the host has lost contact.
pub(super) fn has_room(server_context: &ServerContext) -> bool {
    let queue = &server_context.queue;
    let ServerContext { image, machines, .. } = server_context;
    let in_use = queue.permits_in_use();
    server_context.cluster.may_act()
        && queue.free_permits() as usize > queue.waiting_count()
        && admission::check_capacity(&server_context.config(), image, machines, in_use).is_ok()
}

/// Requires that the line of waiting sessions has a place for another one of this owner.
///
/// # Errors
/// The line is full, or the share of the caller in it; or the database cannot be read.
pub(super) async fn require_place(server_context: &ServerContext, owner: &SessionOwner) -> Result<(), ApiError> {
    let limits = &server_context.config().sessions;
    let (waiting, of_caller) = server_context.store.count_waiting_sessions(&owner.caller).await?;
    if of_caller >= u64::from(limits.queue_by_caller_max) {
        let detail = format!("{of_caller} sessions of this caller wait for a machine (sessions.queue_by_caller_max)");
        return Err(ApiError::new(Problem::CallerQuota, detail));
    }
    if waiting >= u64::from(limits.queue_max) {
        let detail = format!("the queue is full ({waiting} sessions waiting)");
        return Err(ApiError::new(Problem::NoCapacity, detail));
    }
    Ok(())
}

/// Whether this host has what the session needs.
fn fits(server_context: &ServerContext, waiting: &WaitingSession) -> bool {
    if !placement::may_take(server_context, waiting) {
        return false;
    }
    if let Some(name) = &waiting.external_machine {
        return server_context.external.get(name).is_some();
    }
    let providers = server_context.providers();
    providers.get(&waiting.provider).is_some_and(|provider| server_context.image.has_tool(&provider.cli))
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
