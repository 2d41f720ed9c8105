//! What an operator sees of the whole server: live sessions, outcomes, causes, durations of starts, capacity, refused hosts.
//!
//! Everything is computed from the sessions, their timelines and the running machines at the time of the request; only verdicts of ended
//! sessions are kept ([`verdicts`]).

pub mod machine_list;
mod percentiles;
pub mod refused_hosts;
mod starts;
pub mod verdicts;

use crate::{
    admission::{HostMemory, read_disk_free_mib},
    api_error::chain,
    session::{server_context::ServerContext, views_of_hosts},
    unix_time::{UnixMs, format_rfc3339, now_unix_ms},
};
use anteroom_store::{EndedSessions, OwnerFilter, SessionFilter, SessionRow, SessionStates, StoreError};
use anteroom_wire::{
    SessionId,
    api::{CauseCount, HostCapacity, LiveSessions, Outcomes, Overview, SessionStatus, StatusCount},
    diagnosis::Verdict,
    time::to_millis,
};
use std::collections::HashMap;

/// The newest ended sessions of a period whose causes are counted.
pub const SESSIONS_MAX: u32 = 2_000;
/// Timeline entries of a period that are read.
pub const ENTRIES_MAX: u32 = 50_000;
const REFUSED_HOSTS_MAX: usize = 10;

/// The overview of the period from `since_ms` until now.
///
/// # Errors
/// The database cannot be read.
pub async fn make_overview(server_context: &ServerContext, since_ms: UnixMs) -> Result<Overview, StoreError> {
    let now_ms = now_unix_ms();
    let (causes, causes_are_partial) = count_causes(server_context, since_ms).await?;
    let starts = starts::measure_starts(server_context, since_ms, now_ms).await?;
    let mut refused = refused_hosts::list_refused_hosts(server_context, since_ms).await?;
    refused.hosts.truncate(REFUSED_HOSTS_MAX);
    Ok(Overview {
        at: format_rfc3339(now_ms),
        since: format_rfc3339(since_ms),
        live: count_live(server_context).await?,
        outcomes: outcomes(server_context.store.count_ended_sessions(since_ms).await?),
        causes,
        is_partial: causes_are_partial || starts.is_partial || refused.is_partial,
        starts: starts.stages,
        start_history: starts.history,
        host: host_capacity(server_context),
        refused_hosts: refused.hosts,
    })
}

fn outcomes(counts: EndedSessions) -> Outcomes {
    let EndedSessions { completed, failed, cancelled, expired, uses } = counts;
    Outcomes { completed, failed, cancelled, expired, uses }
}

async fn count_live(server_context: &ServerContext) -> Result<LiveSessions, StoreError> {
    let rows = server_context.store.list_active_sessions().await?;
    let mut live = LiveSessions {
        sessions: 0,
        queued: 0,
        queue_wait_ms_max: server_context.queue.longest_wait().map(to_millis),
        viewers: 0,
        by_status: Vec::new(),
    };
    let mut by_status: HashMap<SessionStatus, u64> = HashMap::new();
    for view in views_of_hosts::to_session_views(server_context, &rows).await? {
        live.sessions += 1;
        live.queued += u64::from(view.queue_position.is_some());
        live.viewers += u64::from(view.viewers);
        *by_status.entry(view.status).or_default() += 1;
    }
    let occurring = SessionStatus::ALL.iter().filter_map(|status| Some((*status, *by_status.get(status)?)));
    live.by_status = occurring.map(|(status, sessions)| StatusCount { status, sessions }).collect();
    Ok(live)
}

/// Why sessions ended without a credential, and whether there are more than were read.
async fn count_causes(server_context: &ServerContext, since_ms: UnixMs) -> Result<(Vec<CauseCount>, bool), StoreError> {
    let mut counts: HashMap<Verdict, (u64, SessionId)> = HashMap::new();
    let rows = ended_since(server_context, since_ms).await?;
    let is_partial = rows.len() >= SESSIONS_MAX as usize;
    for row in rows.iter().filter(|row| row.credential().is_none()) {
        let Some(verdict) = verdicts::verdict_of(server_context, row).await? else { continue };
        if !matches!(verdict, Verdict::Completed) {
            // The newest session is the first one.
            counts.entry(verdict).or_insert_with(|| (0, row.id.clone())).0 += 1;
        }
    }
    let mut causes: Vec<_> = counts
        .into_iter()
        .map(|(verdict, (sessions, newest))| CauseCount {
            verdict,
            remedy: verdict.remedy().to_owned(),
            sessions,
            newest,
        })
        .collect();
    causes.sort_by(|a, b| b.sessions.cmp(&a.sessions).then_with(|| a.verdict.code().cmp(b.verdict.code())));
    Ok((causes, is_partial))
}

async fn ended_since(server_context: &ServerContext, since_ms: UnixMs) -> Result<Vec<SessionRow>, StoreError> {
    let filter =
        SessionFilter { states: SessionStates::Ended, since_ms: Some(since_ms), ..SessionFilter::of(OwnerFilter::All) };
    server_context.store.find_sessions(&filter, SESSIONS_MAX, None).await
}

/// The earliest time at which a session can have been created that has entries at `since_ms` or later.
fn created_since(server_context: &ServerContext, since_ms: UnixMs) -> UnixMs {
    since_ms.saturating_sub(server_context.config().sessions.session_s_max.saturating_mul(1_000))
}

fn host_capacity(server_context: &ServerContext) -> HostCapacity {
    let memory = HostMemory::read();
    HostCapacity {
        machines: server_context.machines.count() as u64,
        machines_max: server_context.config().machines.machines_max,
        machine_memory_mib_max: server_context.image.machine_memory_mib_max,
        memory_total_mib: memory.map(|memory| memory.total_mib),
        memory_available_mib: memory.map(|memory| memory.available_mib),
        disk_free_mib: read_disk_free_mib(&server_context.config().state_dir).ok(),
        shortage: server_context.queue.admission_shortage().map(|shortage| chain(&shortage)),
        isolation: server_context.image.isolation.clone(),
    }
}
