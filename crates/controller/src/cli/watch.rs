//! Following a session from the command line: every timeline entry once and every new view, over a server's restart too.

use super::client::{Client, ClientError};
use anteroom_wire::{
    SessionId,
    api::{SessionView, TimelineEntry},
};
use std::time::Duration;
use tokio::time::Instant;

/// How long a server that went away may take to come back.
const AWAY_S_MAX: u64 = 60;
/// Between two tries to reach it.
const AGAIN_MS: u64 = 500;

/// What is new.
#[derive(Debug)]
pub(super) enum Told {
    /// An entry of the timeline.
    Entry(TimelineEntry),
    /// The session as it is now.
    View(Box<SessionView>),
}

/// Follows a session until it has ended; how it is then. `on` hears what is new, in order.
///
/// # Errors
/// The server refuses, or went away and does not come back.
pub(super) async fn follow(
    client: &Client,
    id: &SessionId,
    mut on: impl FnMut(Told),
) -> Result<SessionView, ClientError> {
    let mut after = 0;
    let mut heard = Instant::now();
    loop {
        let mut over = None;
        let path = format!("/api/auth/session/{id}/events?after={after}");
        let followed = client.follow(&path, |name, data| {
            heard = Instant::now();
            if name == "timeline" {
                if let Ok(entry) = serde_json::from_str::<TimelineEntry>(data) {
                    after = entry.number;
                    on(Told::Entry(entry));
                }
                return true;
            }
            let Ok(view) = serde_json::from_str::<SessionView>(data) else { return true };
            let goes_on = !view.status.is_terminal();
            on(Told::View(Box::new(view.clone())));
            if !goes_on {
                over = Some(view);
            }
            goes_on
        });
        let ended = followed.await;
        if let Some(view) = over {
            return Ok(view);
        }
        match ended {
            Err(error @ ClientError::Refused(_)) => return Err(error),
            Err(error) if heard.elapsed() > Duration::from_secs(AWAY_S_MAX) => return Err(error),
            Err(_) | Ok(()) => tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await,
        }
    }
}
