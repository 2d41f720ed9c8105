//! Follows a session: every timeline entry once and every changed view, across restarts of the server.

use super::client::{ApiClient, ClientError, parse_json};
use anteroom_wire::{
    SessionId,
    api::{SessionView, TimelineEntry},
};
use std::time::Duration;
use tokio::time::Instant;

/// Time after which an unreachable server is an error, seconds.
const UNREACHABLE_S_MAX: u64 = 60;
/// Delay between two connection attempts, milliseconds.
const RETRY_MS: u64 = 500;

/// An update of a session.
#[derive(Debug)]
pub(super) enum SessionUpdate {
    /// A new timeline entry.
    Entry(TimelineEntry),
    /// The session's current state.
    View(Box<SessionView>),
}

/// Follows a session until it has ended and returns its final state. `on_update` receives all updates in order.
///
/// # Errors
/// The server rejects the request, or is not reachable for [`UNREACHABLE_S_MAX`].
pub(super) async fn follow_session(
    client: &ApiClient,
    id: &SessionId,
    mut on_update: impl FnMut(SessionUpdate),
) -> Result<SessionView, ClientError> {
    let mut after = 0;
    let mut failing_since = None;
    loop {
        let mut final_view = None;
        let path = format!("/api/auth/session/{id}/events?after={after}");
        let followed = client.follow_events(&path, |name, data| {
            failing_since = None;
            if name == "timeline" {
                if let Ok(entry) = parse_json::<TimelineEntry>(data.as_bytes()) {
                    after = entry.number;
                    on_update(SessionUpdate::Entry(entry));
                }
                return true;
            }
            let Ok(view) = parse_json::<SessionView>(data.as_bytes()) else { return true };
            let is_active = !view.status.is_ended();
            on_update(SessionUpdate::View(Box::new(view.clone())));
            if !is_active {
                final_view = Some(view);
            }
            is_active
        });
        let result = followed.await;
        if let Some(view) = final_view {
            return Ok(view);
        }
        match result {
            Err(error @ (ClientError::Api(_) | ClientError::TokenRefused { .. })) => return Err(error),
            Err(error) => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_secs(UNREACHABLE_S_MAX) {
                    return Err(error);
                }
            }
            Ok(()) => {}
        }
        tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
    }
}
