//! Opens a stream to a session's desktop. Returns the stream or an error, never an address.

use super::{
    active_session::ActiveSession,
    channels::{Route, require_active, wait_for_route},
    status::Progress,
};
use crate::{
    api_error::{ApiError, chain},
    external::{self, DialError, Duplex},
    session::{server_context::ServerContext, timeline::new_entry},
};
use anteroom_wire::{Problem, TimelineKind, time::to_millis};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

/// Opens a stream to the desktop (RFB); an external desktop is dialed now. Returns by `until`, so that the caller needs no timeout
/// that would hide the reason. (Dialing an external machine has the limits of that machine's settings.) `view_only`: the viewer's input is
/// removed.
///
/// # Errors
/// The reason why it cannot be opened.
pub async fn reach_desktop(
    server_context: &ServerContext,
    session: &ActiveSession,
    view_only: bool,
    until: Instant,
) -> Result<Box<dyn Duplex>, ApiError> {
    // The desktop can be viewed while the machine is still being claimed.
    let route = wait_for_route(server_context, session, until, |progress| match progress {
        Progress::Open { channels } | Progress::Claiming { channels } => Some(Route::Channels(channels.clone())),
        Progress::Attached => Some(Route::External),
        Progress::Queued { .. } | Progress::Preparing { .. } | Progress::Lost | Progress::Closing => None,
    });
    match route.await? {
        Route::Channels(channels) => {
            let Ok(opened) = timeout_at(until, channels.agent.open_desktop()).await else {
                return Err(ApiError::new(Problem::DesktopUnreachable, "the agent did not open it in time"));
            };
            let stream =
                opened.map_err(|error| ApiError::new(Problem::DesktopUnreachable, chain(&error)).with_source(error))?;
            Ok(Box::new(stream))
        }
        Route::External => dial_external(server_context, session, view_only).await,
    }
}

/// Dials the external machine of an active session.
async fn dial_external(
    server_context: &ServerContext,
    session: &ActiveSession,
    view_only: bool,
) -> Result<Box<dyn Duplex>, ApiError> {
    let (row, _) = require_active(server_context, &session.id).await?;
    let name = row.external_machine.ok_or_else(|| ApiError::internal("the session has no external machine"))?;
    let machine = server_context.external.get(&name);
    let machine = machine
        .ok_or_else(|| ApiError::new(Problem::UnknownMachine, format!("{name} was removed from the configuration")))?;
    let started = Instant::now();
    let dialed = tokio::select! {
        dialed = external::dial_desktop(machine, view_only) => dialed,
        cause = session.close_signal.wait_closed() => return Err(Problem::from(cause).into()),
    };
    let after_ms = to_millis(started.elapsed());
    // Only a changed result is recorded: a page reconnects repeatedly.
    if server_context.external.record_dial_result(&name, &session.id, dialed.as_ref().err().map(DialError::to_problem))
    {
        let error = dialed.as_ref().err();
        let entry = match error {
            None => new_entry(
                TimelineKind::DesktopConnected,
                format!("The desktop of the external machine {name} answers."),
            ),
            Some(error) => {
                let why = error.to_problem().sentence();
                let sentence = format!("The desktop of the external machine {name} could not be opened: {why}");
                new_entry(TimelineKind::DesktopConnectFailed, sentence)
            }
        };
        let (reason, detail) = (error.map(|error| error.to_problem().code()), error.map(ToString::to_string));
        let data = json!({ "machine": name, "reason": reason, "detail": detail, "after_ms": after_ms });
        server_context.timeline.append_in_background(&session.id, entry.with_data(data));
    }
    match dialed {
        Ok(stream) => Ok(stream),
        Err(error) => Err(ApiError::new(error.to_problem(), error.to_string()).with_source(error)),
    }
}
