//! Allows the machines of one session a host that was denied to them, until the session ends: the sign-in of an account may lead to an
//! identity provider that no descriptor can name.
//!
//! A grant is as narrow as it can be: one name, no wildcard, port 443, only after a machine of the session asked for it, a few for each
//! session. It is on the timeline, from which a server that is started again has it.

use super::{
    active_session::ActiveSession, channels::open_channels, context::SessionContext, server_context::ServerContext,
    timeline::new_entry,
};
use crate::api_error::{ApiError, chain};
use anteroom_egress::HostName;
use anteroom_store::{SessionRow, StoreError};
use anteroom_wire::{
    Problem, SessionId, TimelineKind,
    agent::OpenUrl,
    provider::{EgressRule, Provider},
};
use serde_json::json;
use std::sync::Arc;

/// The most hosts that are granted to one session.
pub const GRANTS_PER_SESSION_MAX: usize = 16;
/// The port of a grant.
const PORT: u16 = 443;
/// The entries of a timeline that are searched for grants.
const ENTRIES_READ_MAX: u32 = 10_000;

/// Grants a host to the machines of the session. Returns its name. A host that is granted already stays granted.
///
/// # Errors
/// [`Problem::Malformed`]: not a name that was denied to this session, or it has [`GRANTS_PER_SESSION_MAX`] grants.
pub async fn grant_host(
    context: &SessionContext,
    row: &SessionRow,
    session: &Arc<ActiveSession>,
    host: &str,
) -> Result<HostName, ApiError> {
    let malformed = |detail: String| ApiError::new(Problem::Malformed, detail);
    let name = HostName::parse(host).map_err(|error| malformed(format!("host: {}", error.detail)))?;
    // Two requests at once must not grant more than the limit.
    let _lock = session.method_lock.lock().await;
    let Some(gate) = session.egress_gate.get().filter(|_| is_denied(session, name.as_str())) else {
        return Err(malformed(format!("host: {name} was not denied to this session at port {PORT}")));
    };
    if gate.grants(&name) {
        return Ok(name);
    }
    if granted_hosts(context, &row.id).await?.len() >= GRANTS_PER_SESSION_MAX {
        return Err(malformed(format!("the session has {GRANTS_PER_SESSION_MAX} additional hosts already")));
    }
    let sentence = format!("An operator allowed {name}:{PORT} for this session.");
    let entry =
        new_entry(TimelineKind::EgressGranted, sentence).with_data(json!({ "host": name.as_str(), "port": PORT }));
    context.timeline.wait_written(&row.id).await;
    context.store.append_entry(&row.id, entry).await?;
    gate.grant(&name);
    session.egress_faults.lock().forget(name.as_str(), PORT);
    session.notify_subscribers();
    reopen_page(context, session, &name);
    Ok(name)
}

/// Whether an operator can allow this host for the session.
pub fn is_grantable(server_context: &ServerContext, session: &SessionId, host: &str, port: u16) -> bool {
    let (Some(session), Ok(name)) = (server_context.sessions.get(session), HostName::parse(host)) else { return false };
    port == PORT
        && is_denied(&session, name.as_str())
        && session.egress_gate.get().is_some_and(|gate| !gate.grants(&name))
}

/// Whether the gate has denied the host to a machine of the session.
fn is_denied(session: &ActiveSession, host: &str) -> bool {
    let totals = session.egress_summary().totals();
    let mut of_host = totals.iter().filter(|totals| (totals.host.as_str(), totals.port) == (host, PORT));
    of_host.any(|totals| totals.failures_by_problem.contains_key(Problem::EgressDenied.code()))
}

/// The descriptor with the hosts that were granted to the session before the server was started again.
pub(super) async fn with_granted_hosts(
    server_context: &ServerContext,
    session: &SessionId,
    mut provider: Provider,
) -> Result<Provider, StoreError> {
    for host in granted_hosts(server_context, session).await? {
        provider.egress.push(EgressRule { host, ports: Vec::new(), reason: String::new() });
    }
    Ok(provider)
}

async fn granted_hosts(context: &SessionContext, session: &SessionId) -> Result<Vec<String>, StoreError> {
    let entries = context.store.list_timeline(session, 0, ENTRIES_READ_MAX).await?;
    let granted = entries.iter().filter(|entry| entry.kind == TimelineKind::EgressGranted);
    let host = |data: &serde_json::Value| data.get("host")?.as_str().map(str::to_owned);
    Ok(granted.filter_map(|entry| host(&entry.data)).collect())
}

/// Opens the sign-in again in the machine's browser if it shows the page that was denied. In the background: the grant holds without it.
fn reopen_page(context: &SessionContext, session: &Arc<ActiveSession>, host: &HostName) {
    let state = session.state();
    let Some(sign_in) = state.machine.map(|machine| machine.sign_in) else { return };
    let is_shown = sign_in.page.is_some_and(|page| page.host.eq_ignore_ascii_case(host.as_str()));
    let reported = sign_in.reported_status;
    let Some(url) = reported.browser_url.or(reported.url.map(|found| found.url)).filter(|_| is_shown) else { return };
    let (task_context, session) = (context.clone(), Arc::clone(session));
    context.tasks.spawn(async move {
        let opened = match open_channels(&task_context, &session).await {
            Ok(channels) => channels.agent.open_url(&OpenUrl { url }).await.map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        if let Err(why) = opened {
            tracing::warn!(outcome = "page_not_reopened", session = %session.id, why, "page of the sign-in not opened again");
        }
    });
}
