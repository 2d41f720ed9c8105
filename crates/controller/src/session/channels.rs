//! Access to an active session's machine: its row, the channels to its agent, its terminal.

use super::{active_session::ActiveSession, status::Progress};
use crate::{
    api_error::{ApiError, chain},
    app::App,
};
use anteroom_machine::{ByteStream, Channels};
use anteroom_store::SessionRow;
use anteroom_wire::{Problem, SessionId, agent::TerminalSize};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// The session, if it lives; else why not, by name.
///
/// # Errors
/// The session has ended (with its reason), does not exist, or is not on this host yet.
pub async fn living(app: &App, id: &SessionId) -> Result<(SessionRow, Arc<ActiveSession>), ApiError> {
    let row = app.store.session(id).await?.ok_or(Problem::UnknownSession)?;
    if let Some(end) = row.end() {
        let detail = end.reason.detail.clone().unwrap_or_default();
        return Err(ApiError::new(end.reason.problem, detail));
    }
    let session =
        app.sessions.get(id).ok_or_else(|| ApiError::new(Problem::NotReady, "the session is being resumed"))?;
    Ok((row, session))
}

/// What a session's progress opens.
pub(super) enum Way {
    /// The way to its machine's agent.
    Channels(Channels),
    /// An external machine: only its desktop, and nothing on this host leads there.
    External,
}

/// Waits (with the setting's bound) until the session's machine is open.
///
/// # Errors
/// Not ready in time (with the stage), the session ended meanwhile, or its machine is an external one.
pub async fn open_channels(app: &App, session: &ActiveSession) -> Result<Channels, ApiError> {
    let wait = Duration::from_millis(app.config.sessions.socket_wait_ms_max);
    let way = way(session, Instant::now() + wait, |progress| match progress {
        Progress::Open { channels } => Some(Way::Channels(channels.clone())),
        Progress::Attached => Some(Way::External),
        Progress::Queued { .. }
        | Progress::Preparing { .. }
        | Progress::Claiming { .. }
        | Progress::Lost
        | Progress::Closing => None,
    });
    match way.await? {
        Way::Channels(channels) => Ok(channels),
        Way::External => Err(Problem::ExternalDesktopOnly.into()),
    }
}

/// Waits until `found` sees a way in the progress, up to `until`.
pub(super) async fn way(
    session: &ActiveSession,
    until: Instant,
    found: fn(&Progress) -> Option<Way>,
) -> Result<Way, ApiError> {
    let (began, mut state) = (Instant::now(), session.watch());
    let ready = async {
        let seen = state.wait_for(|state| found(&state.progress).is_some()).await;
        let seen = seen.ok().and_then(|state| found(&state.progress));
        match seen {
            Some(way) => way,
            // Nobody writes the facts any more: the session is ending, and says why.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        way = ready => Ok(way),
        cause = session.close_signal.closed() => Err(cause.into()),
        () = sleep_until(until) => {
            let waited_ms = began.elapsed().as_millis();
            let progress = session.state().progress;
            let detail = match (&progress, progress.stage()) {
                (Progress::Queued { position }, _) => format!("it waits for room, place {position} in line"),
                (_, Some(stage)) => format!("it waits for {stage:?} after {waited_ms} ms"),
                (_, None) => format!("waited {waited_ms} ms"),
            };
            Err(ApiError::new(Problem::NotReady, detail))
        }
    }
}

/// An open stream to the tool's terminal; `name` is this stream's, for its size.
///
/// # Errors
/// A named refusal.
pub async fn reach_terminal(
    app: &App,
    session: &ActiveSession,
    name: &str,
    size: TerminalSize,
) -> Result<ByteStream, ApiError> {
    let channels = open_channels(app, session).await?;
    channels.agent.terminal(name, size).await.map_err(|error| ApiError::new(Problem::AgentUnreachable, chain(&error)))
}
