//! Views of sessions of all hosts: what is live is asked of the hosts that hold them, all at once.

use super::{context::SessionContext, view::to_session_view};
use anteroom_store::{SessionRow, StoreError};
use anteroom_wire::{HostId, SessionId, api::SessionView};
use futures_util::future::join_all;
use std::collections::{BTreeMap, HashMap};

/// The most sessions in one question to a host.
pub const ASKED_MAX: usize = 500;

/// The present views of these sessions, in this order. Of a session whose host does not answer in time, what the database has is shown.
///
/// # Errors
/// The database cannot be read.
pub async fn to_session_views(context: &SessionContext, rows: &[SessionRow]) -> Result<Vec<SessionView>, StoreError> {
    let mut of_others = ask_hosts(context, rows).await;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(match of_others.remove(&row.id) {
            Some(view) => view,
            None => {
                let mut view = to_session_view(context, row).await?;
                view.host_is_silent = other_host(context, row).is_some();
                view
            }
        });
    }
    Ok(views)
}

/// The views of sessions that this host is asked for by another one: those that it holds.
///
/// # Errors
/// The database cannot be read.
pub async fn own_views(context: &SessionContext, sessions: &[SessionId]) -> Result<Vec<SessionView>, StoreError> {
    let mut views = Vec::new();
    for id in sessions.iter().take(ASKED_MAX) {
        if let Some(row) = context.store.get_session(id).await?.filter(|row| other_host(context, row).is_none()) {
            views.push(to_session_view(context, &row).await?);
        }
    }
    Ok(views)
}

async fn ask_hosts(context: &SessionContext, rows: &[SessionRow]) -> HashMap<SessionId, SessionView> {
    let Some(channel) = context.cluster.other_hosts().channel() else { return HashMap::new() };
    let mut by_host: BTreeMap<HostId, Vec<SessionId>> = BTreeMap::new();
    for row in rows {
        if let Some(host) = other_host(context, row) {
            by_host.entry(host).or_default().push(row.id.clone());
        }
    }
    let asked = by_host.into_iter().flat_map(|(host, sessions)| {
        let parts: Vec<_> = sessions.chunks(ASKED_MAX).map(<[SessionId]>::to_vec).collect();
        parts.into_iter().map(move |part| (host.clone(), part))
    });
    let answers = join_all(asked.map(|(host, part)| channel.read_views(host, part))).await;
    answers.into_iter().flatten().flatten().map(|view| (view.id.clone(), view)).collect()
}

/// The other host that holds the active session.
pub(crate) fn other_host(context: &SessionContext, row: &SessionRow) -> Option<HostId> {
    let own = context.store.holder()?;
    let holder = row.holder.as_ref().filter(|_| row.is_active())?;
    (holder.host != own.host).then(|| holder.host.clone())
}
