//! Access to an active session's machine: its row, the channels to its agent, its terminal.

use super::{active_session::ActiveSession, status::Progress};
use crate::{
    api_error::{ApiError, chain},
    session::context::SessionContext,
};
use anteroom_machine::{ByteStream, Channels};
use anteroom_store::SessionRow;
use anteroom_wire::{
    Problem, SessionId,
    agent::TerminalSize,
    exec::{ExecStart, START, length_prefix},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep_until},
};

/// The row and state of an active session.
///
/// # Errors
/// The session has ended (with its reason), does not exist, or is not resumed yet.
pub async fn require_active(
    context: &SessionContext,
    id: &SessionId,
) -> Result<(SessionRow, Arc<ActiveSession>), ApiError> {
    let row = context.store.get_session(id).await?.ok_or(Problem::UnknownSession)?;
    if let Some(end) = row.end() {
        let detail = end.reason.detail.clone().unwrap_or_default();
        return Err(ApiError::new(Problem::Ended(end.reason.kind), detail));
    }
    let session =
        context.sessions.get(id).ok_or_else(|| ApiError::new(Problem::NotReady, "the session is being resumed"))?;
    Ok((row, session))
}

/// How a session's machine is reached.
pub(super) enum Route {
    /// Through the channels to its agent.
    Channels(Channels),
    /// By a connection to an external machine, which offers only its desktop.
    External,
}

/// Waits until the session's machine is open, at most for `sessions.socket_wait_ms_max`.
///
/// # Errors
/// Not ready in time (with the stage), the session ended while waiting, or its machine is an external one.
pub async fn open_channels(context: &SessionContext, session: &ActiveSession) -> Result<Channels, ApiError> {
    let wait = Duration::from_millis(context.config().sessions.socket_wait_ms_max);
    let route = wait_for_route(context, session, Instant::now() + wait, |progress| match progress {
        Progress::Open { channels } => Some(Route::Channels(channels.clone())),
        Progress::Attached => Some(Route::External),
        Progress::Queued { .. }
        | Progress::Preparing { .. }
        | Progress::Claiming { .. }
        | Progress::Lost
        | Progress::Closing => None,
    });
    match route.await? {
        Route::Channels(channels) => Ok(channels),
        Route::External => Err(Problem::ExternalDesktopOnly.into()),
    }
}

/// Waits until the progress offers a route, at most until `until`. There is none while this host may not act.
pub(super) async fn wait_for_route(
    context: &SessionContext,
    session: &ActiveSession,
    until: Instant,
    route_of: fn(&Progress) -> Option<Route>,
) -> Result<Route, ApiError> {
    let (started, mut state) = (Instant::now(), session.subscribe_state());
    let ready = async {
        let changed = state.wait_for(|state| route_of(&state.progress).is_some()).await;
        let route = changed.ok().and_then(|state| route_of(&state.progress));
        match route {
            Some(route) => route,
            // The state is no longer published: the session is ending, and its close signal carries the reason.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        route = ready => context.cluster.require_may_act().map(|()| route),
        cause = session.close_signal.wait_closed() => Err(Problem::from(cause).into()),
        () = sleep_until(until) => {
            let waited_ms = started.elapsed().as_millis();
            let progress = session.state().progress;
            let detail = match (&progress, progress.pending_stage()) {
                (Progress::Queued { position }, _) => format!("the session is queued at position {position}"),
                (_, Some(stage)) => format!("still waiting for {stage:?} after {waited_ms} ms"),
                (_, None) => format!("waited {waited_ms} ms"),
            };
            Err(ApiError::new(Problem::NotReady, detail))
        }
    }
}

/// Opens a stream to the tool's terminal. `name` identifies the stream when its size changes.
///
/// # Errors
/// The reason why it cannot be opened.
pub async fn reach_terminal(
    context: &SessionContext,
    session: &ActiveSession,
    name: &str,
    size: TerminalSize,
) -> Result<ByteStream, ApiError> {
    let channels = open_channels(context, session).await?;
    channels
        .agent
        .open_terminal(name, size)
        .await
        .map_err(|error| ApiError::new(Problem::AgentUnreachable, chain(&error)))
}

/// Opens an exec channel to the machine's agent and sends the start on it.
///
/// # Errors
/// The reason why it cannot be opened.
pub async fn reach_exec(
    context: &SessionContext,
    session: &ActiveSession,
    start: &ExecStart,
) -> Result<ByteStream, ApiError> {
    let channels = open_channels(context, session).await?;
    let mut stream =
        channels.agent.open_exec().await.map_err(|error| ApiError::new(Problem::AgentUnreachable, chain(&error)))?;
    let start = serde_json::to_vec(start).map_err(ApiError::internal)?;
    let message = [&length_prefix(1 + start.len())[..], &[START], &start].concat();
    let sent = async {
        stream.write_all(&message).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| ApiError::new(Problem::AgentUnreachable, error.to_string()))?;
    Ok(stream)
}
