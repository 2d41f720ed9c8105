//! The hosts of the cluster, for operators: list, drain, remove, fence.

use crate::{api_error::ApiError, caller::Caller, session::context::SessionContext, unix_time};
use anteroom_store::{Fence, HostRow};
use anteroom_wire::{
    HostId, Problem,
    hosts::{HostState, HostStatus, HostView},
};
use std::collections::BTreeMap;

/// The hosts that are in the cluster, in the order of their names.
///
/// # Errors
/// The database cannot be read.
pub async fn list_rows(context: &SessionContext) -> Result<Vec<HostRow>, ApiError> {
    let mut rows = context.store.list_hosts().await?;
    rows.retain(|row| row.left_at_ms.is_none());
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(rows)
}

/// How many active sessions each host holds.
///
/// # Errors
/// The database cannot be read.
pub async fn count_sessions(context: &SessionContext) -> Result<BTreeMap<HostId, u64>, ApiError> {
    Ok(context.store.count_sessions_by_host().await?)
}

/// A host for operators. `status`: what it answered, `None` if it did not.
pub fn to_view(row: HostRow, sessions: u64, status: Option<HostStatus>) -> HostView {
    let state = match (&status, row.is_fenced()) {
        (_, true) => HostState::Fenced,
        (Some(_), false) => HostState::Answers,
        (None, false) => HostState::Silent,
    };
    let at = unix_time::format_rfc3339;
    let fenced = row.fenced_at_ms.map(|ms| {
        let by = row.fenced_by.as_deref().unwrap_or("an operator");
        format!("by {by}, {}", at(ms))
    });
    let (machines, machines_max, version) = match status {
        Some(status) => (Some(status.machines), Some(status.machines_max), Some(status.version)),
        None => (None, None, None),
    };
    HostView {
        state,
        draining: row.is_draining,
        incarnation: row.incarnation,
        sessions,
        machines,
        machines_max,
        version,
        peer_url: row.report.as_deref().and_then(peer_url),
        zone: row.zone,
        labels: row.labels,
        heartbeat_at: row.heartbeat_at_ms.map(at),
        joined_at: at(row.joined_at_ms),
        fenced,
        id: row.id,
        name: row.name,
    }
}

/// The address for other hosts in a host's report.
pub fn peer_url(report: &str) -> Option<String> {
    let report: serde_json::Value = serde_json::from_str(report).ok()?;
    report.get("peer_url")?.as_str().map(str::to_owned)
}

/// Sets whether the host takes no further sessions.
///
/// # Errors
/// There is no such host, or the database cannot be written.
pub async fn set_draining(context: &SessionContext, host: &HostId, is_draining: bool) -> Result<(), ApiError> {
    if !context.store.set_draining(host, is_draining).await? {
        return Err(Problem::UnknownHost.into());
    }
    if context.store.holder().is_some_and(|own| own.host == *host) {
        context.cluster.set_draining(is_draining);
    }
    Ok(())
}

/// Removes a host that holds no session from the cluster: its certificate counts no more.
///
/// # Errors
/// There is no such host, it holds sessions, it is the one that is asked, or the database cannot be written.
pub async fn remove(context: &SessionContext, host: &HostId) -> Result<(), ApiError> {
    if context.store.holder().is_some_and(|own| own.host == *host) {
        return Err(ApiError::new(
            Problem::HostInUse,
            "this host answers the request: ask another one, after it was stopped",
        ));
    }
    if context.store.remove_host(host, unix_time::now_unix_ms()).await? {
        return Ok(());
    }
    let is_known = list_rows(context).await?.iter().any(|row| row.id == *host);
    if !is_known {
        return Err(Problem::UnknownHost.into());
    }
    let sessions = count_sessions(context).await?.get(host).copied().unwrap_or_default();
    Err(ApiError::new(Problem::HostInUse, format!("it holds {sessions} active sessions")))
}

/// Takes the sessions of a host away that an operator knows to be dead. Returns how many.
///
/// # Errors
/// There is no such host, it answers, it was fenced already, or the database cannot be written.
pub async fn fence(context: &SessionContext, host: &HostId, answers: bool, by: &Caller) -> Result<u64, ApiError> {
    let row = list_rows(context).await?.into_iter().find(|row| row.id == *host);
    let row = row.ok_or(Problem::UnknownHost)?;
    if answers {
        return Err(ApiError::new(
            Problem::HostInUse,
            "it answers, so it is not dead; `anteroom host fence` is for one whose machines have ended",
        ));
    }
    let (by, at_ms) = (format!("operator {}", by.name), unix_time::now_unix_ms());
    let fence = Fence { host, incarnation: row.incarnation, silent_ms: 0, by: &by, at_ms };
    let released = context.store.fence_host(&fence).await?;
    let released = released.ok_or_else(|| ApiError::new(Problem::HostInUse, "it was fenced already"))?;
    Ok(released.len() as u64)
}
