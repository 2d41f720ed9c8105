//! The helpers of a session: list them, end one.

use super::{active_session::ActiveSession, context::SessionContext};
use crate::{api_error::ApiError, unix_time};
use anteroom_store::{HelperAccess, HelperRow, StoreError};
use anteroom_wire::{
    CallerId, Problem, SessionId,
    api::{HelperList, HelperStatus, HelperView},
};

/// Helpers and open invitations of one session.
pub const HELPERS_MAX: u32 = 20;

/// Whether a list of helpers has their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelperAddresses {
    /// For operators.
    Shown,
    /// For everyone else.
    Hidden,
}

/// The helpers and open invitations of a session.
///
/// # Errors
/// The database cannot be read.
pub async fn list_helpers(
    context: &SessionContext,
    session: &SessionId,
    addresses: HelperAddresses,
) -> Result<HelperList, StoreError> {
    let rows = context.store.list_helpers(session, unix_time::now_unix_ms(), HELPERS_MAX).await?;
    let active = context.sessions.get(session);
    let is_connected = |active: &ActiveSession, id: &CallerId| active.borrow_state().helpers.is_connected(id);
    let to_view = |row: HelperRow| {
        let is_connected = active.as_ref().is_some_and(|active| is_connected(active, &row.id));
        to_view(row, is_connected, addresses)
    };
    Ok(HelperList { helpers: rows.into_iter().map(to_view).collect() })
}

fn to_view(row: HelperRow, is_connected: bool, addresses: HelperAddresses) -> HelperView {
    let HelperRow { id, name, access } = row;
    match access {
        HelperAccess::Invited { expires_at_ms } => HelperView {
            id,
            name,
            status: HelperStatus::Invited,
            joined_at: None,
            last_seen_at: None,
            expires_at: Some(unix_time::format_rfc3339(expires_at_ms)),
            address: None,
        },
        HelperAccess::Admitted { since_ms, last_used_at_ms, expires_at_ms, address } => HelperView {
            id,
            name,
            status: if is_connected { HelperStatus::Connected } else { HelperStatus::Away },
            joined_at: Some(unix_time::format_rfc3339(since_ms)),
            last_seen_at: Some(unix_time::format_rfc3339(last_used_at_ms)),
            expires_at: expires_at_ms.map(unix_time::format_rfc3339),
            address: address.filter(|_| addresses == HelperAddresses::Shown),
        },
    }
}

/// Ends the access of a helper, or an invitation that was not used yet. The caller closes the helper's connections.
///
/// # Errors
/// The session has no such helper, or the database cannot be written.
pub async fn end_helper(context: &SessionContext, session: &SessionId, helper: &CallerId) -> Result<(), ApiError> {
    if !context.store.end_helper(session, helper, unix_time::now_unix_ms()).await? {
        return Err(Problem::UnknownHelper.into());
    }
    notify_changed(context, session);
    Ok(())
}

/// Notifies the event streams of the session that its helpers or their invitations changed.
pub fn notify_changed(context: &SessionContext, session: &SessionId) {
    if let Some(active) = context.sessions.get(session) {
        active.notify_helpers_changed();
    }
}
