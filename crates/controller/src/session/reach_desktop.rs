//! An open stream to a session's desktop, or an error. Never an address.

use super::{
    active_session::ActiveSession,
    channels::{Way, living, way},
    status::Progress,
    timeline,
};
use crate::{
    api_error::{ApiError, chain},
    app::App,
    external::{self, Duplex},
};
use anteroom_wire::Problem;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

/// An open stream to the desktop (RFB). Of an external one, dialled at this moment. Answers by `until`: whoever waits for
/// it has no limit of its own that could end with this one and take the refusal's name away. (The dialling of an external
/// machine is held by that machine's own limits.)
///
/// # Errors
/// A named refusal.
pub async fn reach_desktop(app: &App, session: &ActiveSession, until: Instant) -> Result<Box<dyn Duplex>, ApiError> {
    // A picture can be sent while the machine is still being claimed.
    let way = way(session, until, |progress| match progress {
        Progress::Open { channels } | Progress::Claiming { channels } => Some(Way::Channels(channels.clone())),
        Progress::Attached => Some(Way::External),
        Progress::Queued { .. } | Progress::Preparing { .. } | Progress::Lost | Progress::Closing => None,
    });
    match way.await? {
        Way::Channels(channels) => {
            let Ok(opened) = timeout_at(until, channels.agent.desktop()).await else {
                return Err(ApiError::new(Problem::DesktopUnreachable, "its agent has not opened it in time"));
            };
            let stream = opened.map_err(|error| ApiError::new(Problem::DesktopUnreachable, chain(&error)))?;
            Ok(Box::new(stream))
        }
        Way::External => external(app, session).await,
    }
}

/// Dials the external machine of a session that lives; of one that has ended, nothing is dialled.
async fn external(app: &App, session: &ActiveSession) -> Result<Box<dyn Duplex>, ApiError> {
    let (row, _) = living(app, &session.id).await?;
    let name = row.external_machine.ok_or(Problem::Internal)?;
    let machine = app.external.get(&name);
    let machine = machine.ok_or_else(|| ApiError::new(Problem::UnknownMachine, format!("{name} was taken out")))?;
    let began = Instant::now();
    let dialled = tokio::select! {
        dialled = external::dial(machine) => dialled,
        cause = session.close_signal.closed() => return Err(cause.into()),
    };
    let after_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    // Only what is new goes on the timeline: a page connects again and again.
    if app.external.record_dial_result(&name, &session.id, dialled.as_ref().err().map(|fault| fault.problem)) {
        let (kind, sentence, reason, detail) = match &dialled {
            Ok(_) => ("desktop_connected", format!("The desktop of the external machine {name} answers."), None, None),
            Err(fault) => {
                let said = fault.problem.sentence();
                let sentence = format!("The desktop of the external machine {name} could not be opened: {said}");
                ("desktop_connect_failed", sentence, Some(fault.problem.code()), Some(fault.detail.as_str()))
            }
        };
        let data = json!({ "machine": name, "reason": reason, "detail": detail, "after_ms": after_ms });
        timeline::append_in_background(app, &session.id, kind, sentence, data);
    }
    match dialled {
        Ok(stream) => Ok(Box::new(stream)),
        Err(fault) => Err(ApiError::new(fault.problem, fault.detail)),
    }
}
