//! The way to a session's desktop or terminal: an open stream, or a named refusal. Never an address.

use super::{live::Live, note::later, status::Progress};
use crate::{
    app::App,
    external::{self, Duplex},
    refusal::Refusal,
    refusal::chain,
};
use anteroom_machine::{ByteStream, Channels};
use anteroom_store::SessionRow;
use anteroom_wire::{Problem, SessionId, agent::TerminalSize};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout_at};

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

/// What a session's progress opens.
enum Way {
    /// The way to its machine's agent.
    Channels(Channels),
    /// An external machine: only its desktop, and nothing on this host leads there.
    External,
}

/// Waits (with the setting's bound) until the session's machine is open.
///
/// # Errors
/// Not ready in time (with the stage), the session ended meanwhile, or its machine is an external one.
pub async fn open_channels(app: &App, live: &Live) -> Result<Channels, Refusal> {
    let wait = Duration::from_millis(app.config.sessions.socket_wait_ms_max);
    let way = way(live, Instant::now() + wait, |progress| match progress {
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
async fn way(live: &Live, until: Instant, found: fn(&Progress) -> Option<Way>) -> Result<Way, Refusal> {
    let (began, mut facts) = (Instant::now(), live.watch());
    let ready = async {
        let seen = facts.wait_for(|facts| found(&facts.progress).is_some()).await;
        let seen = seen.ok().and_then(|facts| found(&facts.progress));
        match seen {
            Some(way) => way,
            // Nobody writes the facts any more: the session is ending, and says why.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        way = ready => Ok(way),
        cause = live.ending.ended() => Err(cause.into()),
        () = sleep_until(until) => {
            let waited_ms = began.elapsed().as_millis();
            let progress = live.facts().progress;
            let detail = match (&progress, progress.stage()) {
                (Progress::Queued { position }, _) => format!("it waits for room, place {position} in line"),
                (_, Some(stage)) => format!("it waits for {stage:?} after {waited_ms} ms"),
                (_, None) => format!("waited {waited_ms} ms"),
            };
            Err(Refusal::new(Problem::NotReady, detail))
        }
    }
}

/// An open stream to the desktop (RFB). Of an external one, dialled at this moment. Answers by `until`: whoever waits for
/// it has no limit of its own that could end with this one and take the refusal's name away. (The dialling of an external
/// machine is held by that machine's own limits.)
///
/// # Errors
/// A named refusal.
pub async fn reach_desktop(app: &App, live: &Live, until: Instant) -> Result<Box<dyn Duplex>, Refusal> {
    // A picture can be sent while the machine is still being claimed.
    let way = way(live, until, |progress| match progress {
        Progress::Open { channels } | Progress::Claiming { channels } => Some(Way::Channels(channels.clone())),
        Progress::Attached => Some(Way::External),
        Progress::Queued { .. } | Progress::Preparing { .. } | Progress::Lost | Progress::Closing => None,
    });
    match way.await? {
        Way::Channels(channels) => {
            let Ok(opened) = timeout_at(until, channels.agent.desktop()).await else {
                return Err(Refusal::new(Problem::DesktopUnreachable, "its agent has not opened it in time"));
            };
            let stream = opened.map_err(|error| Refusal::new(Problem::DesktopUnreachable, chain(&error)))?;
            Ok(Box::new(stream))
        }
        Way::External => external(app, live).await,
    }
}

/// Dials the external machine of a session that lives; of one that has ended, nothing is dialled.
async fn external(app: &App, live: &Live) -> Result<Box<dyn Duplex>, Refusal> {
    let (row, _) = living(app, &live.id).await?;
    let name = row.external_machine.ok_or(Problem::Internal)?;
    let machine = app.external.get(&name);
    let machine = machine.ok_or_else(|| Refusal::new(Problem::UnknownMachine, format!("{name} was taken out")))?;
    let began = Instant::now();
    let dialled = tokio::select! {
        dialled = external::dial(machine) => dialled,
        cause = live.ending.ended() => return Err(cause.into()),
    };
    let after_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    // Only what is new goes on the timeline: a page connects again and again.
    if app.external.is_news(&name, &live.id, dialled.as_ref().err().map(|fault| fault.problem)) {
        let (kind, sentence, reason, detail) = match &dialled {
            Ok(_) => ("desktop_reached", format!("The desktop of the external machine {name} answers."), None, None),
            Err(fault) => {
                let said = fault.problem.sentence();
                let sentence = format!("The desktop of the external machine {name} could not be opened: {said}");
                ("desktop_refused", sentence, Some(fault.problem.code()), Some(fault.detail.as_str()))
            }
        };
        let data = json!({ "machine": name, "reason": reason, "detail": detail, "after_ms": after_ms });
        later(app, &live.id, kind, sentence, data);
    }
    match dialled {
        Ok(stream) => Ok(Box::new(stream)),
        Err(fault) => Err(Refusal::new(fault.problem, fault.detail)),
    }
}

/// An open stream to the tool's terminal; `name` is this stream's, for its size.
///
/// # Errors
/// A named refusal.
pub async fn reach_terminal(app: &App, live: &Live, name: &str, size: TerminalSize) -> Result<ByteStream, Refusal> {
    let channels = open_channels(app, live).await?;
    channels.agent.terminal(name, size).await.map_err(|error| Refusal::new(Problem::AgentUnreachable, chain(&error)))
}
