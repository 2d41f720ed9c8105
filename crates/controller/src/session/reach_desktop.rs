//! The way to a session's desktop or terminal: an open stream, or a named refusal. Never an address.

use super::{live::Live, status::Progress};
use crate::{app::App, refusal::Refusal, refusal::chain};
use anteroom_machine::{ByteStream, Channels};
use anteroom_store::SessionRow;
use anteroom_wire::{Problem, SessionId, agent::TerminalSize};
use std::{sync::Arc, time::Duration};

/// The session, if it lives; else why not, by name.
///
/// # Errors
/// The session has ended (with its reason), does not exist, or is not on this host yet.
pub async fn living(app: &App, id: &SessionId) -> Result<(SessionRow, Arc<Live>), Refusal> {
    let row = app.store.session(id).await?.ok_or(Problem::UnknownSession)?;
    if let Some(end) = row.end() {
        let detail = end.reason.detail.clone().unwrap_or_default();
        return Err(Refusal::new(end.reason.problem, detail));
    }
    let live = app.sessions.get(id).ok_or_else(|| Refusal::new(Problem::NotReady, "the session is being resumed"))?;
    Ok((row, live))
}

/// Waits (with the setting's bound) until the session's machine is open.
///
/// # Errors
/// Not ready in time (with the stage), or the session ended meanwhile.
pub async fn open_channels(app: &App, live: &Live) -> Result<Channels, Refusal> {
    channels(app, live, |progress| match progress {
        Progress::Open { channels } => Some(channels.clone()),
        Progress::Queued { .. }
        | Progress::Preparing { .. }
        | Progress::Claiming { .. }
        | Progress::Attached
        | Progress::Lost
        | Progress::Closing => None,
    })
    .await
}

/// Waits until `found` sees channels in the progress.
async fn channels(app: &App, live: &Live, found: fn(&Progress) -> Option<Channels>) -> Result<Channels, Refusal> {
    let mut facts = live.watch();
    let ready = async {
        let seen = facts.wait_for(|facts| found(&facts.progress).is_some()).await;
        let seen = seen.ok().and_then(|facts| found(&facts.progress));
        match seen {
            Some(channels) => channels,
            // Nobody writes the facts any more: the session is ending, and says why.
            None => std::future::pending().await,
        }
    };
    let wait = Duration::from_millis(app.config.sessions.socket_wait_ms_max);
    tokio::select! {
        channels = ready => Ok(channels),
        cause = live.ending.ended() => Err(cause.into()),
        () = tokio::time::sleep(wait) => {
            let progress = live.facts().progress;
            let detail = match (&progress, progress.stage()) {
                (Progress::Queued { position }, _) => format!("it waits for room, place {position} in line"),
                (_, Some(stage)) => format!("it waits for {stage:?} after {} ms", wait.as_millis()),
                (_, None) => format!("waited {} ms", wait.as_millis()),
            };
            Err(Refusal::new(Problem::NotReady, detail))
        }
    }
}

/// An open stream to the desktop (RFB).
///
/// # Errors
/// A named refusal.
pub async fn reach_desktop(app: &App, live: &Live) -> Result<ByteStream, Refusal> {
    // A picture can be sent while the machine is still being claimed.
    let channels = channels(app, live, |progress| match progress {
        Progress::Open { channels } | Progress::Claiming { channels } => Some(channels.clone()),
        Progress::Queued { .. }
        | Progress::Preparing { .. }
        | Progress::Attached
        | Progress::Lost
        | Progress::Closing => None,
    })
    .await?;
    channels.agent.desktop().await.map_err(|error| Refusal::new(Problem::DesktopUnreachable, chain(&error)))
}

/// An open stream to the tool's terminal; `name` is this stream's, for its size.
///
/// # Errors
/// A named refusal.
pub async fn reach_terminal(app: &App, live: &Live, name: &str, size: TerminalSize) -> Result<ByteStream, Refusal> {
    let channels = open_channels(app, live).await?;
    channels.agent.terminal(name, size).await.map_err(|error| Refusal::new(Problem::AgentUnreachable, chain(&error)))
}
