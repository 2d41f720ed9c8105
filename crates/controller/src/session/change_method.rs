//! Another method: the row first, so that it holds for every machine to come; then what is known of the session, so that a machine that
//! is claimed from now on is claimed with it; then the agent of the machine that runs. A server that ends between the first and the
//! last, or a channel that breaks there, leaves the tool behind the row: whoever comes to the agent next tells it again.

use super::{
    active_session::ActiveSession,
    channels::{living, open_channels},
    lifecycle::Delivery,
    status::Progress,
    timeline,
};
use crate::{
    api_error::{ApiError, chain},
    app::App,
    clock,
};
use anteroom_machine::Channels;
use anteroom_store::{Change, Expect, NewEvent, SessionRow, Transition};
use anteroom_wire::{
    Problem, SessionId,
    agent::{SignIn, SwitchMethod},
    provider::{MethodName, Provider},
};
use serde_json::json;
use std::sync::Arc;

/// Signs in by the method of this name from now on. The method that is used already is begun anew.
///
/// # Errors
/// No such method, a credential is on its way, the session has ended, or the machine's agent does not do it: then a machine that
/// takes its place would.
pub async fn change_method(app: &App, id: &SessionId, name: &str) -> Result<SessionRow, ApiError> {
    let (row, session) = living(app, id).await?;
    if row.external_machine.is_some() {
        return Err(ApiError::new(Problem::ExternalDesktopOnly, "the tool of an external machine is not started here"));
    }
    if row.purpose.credential_use().is_some() {
        return Err(ApiError::new(Problem::UnknownMethod, "a stored credential is used here; nobody signs in"));
    }
    let provider = app.providers.get(&row.provider).ok_or(Problem::UnknownProvider)?;
    let (method, wanted) = chosen(provider, name)?;
    // To its end, also when nobody waits for the answer any more: row and tool shall not part.
    let on = app.clone();
    let switched = app.tasks.spawn(async move { to_the_end(&on, &session, &row, method, wanted).await }).await;
    switched.map_err(|error| ApiError::new(Problem::Internal, error.to_string()))?
}

async fn to_the_end(
    app: &App,
    session: &ActiveSession,
    row: &SessionRow,
    method: MethodName,
    wanted: Provider,
) -> Result<SessionRow, ApiError> {
    let _one_at_a_time = session.method_lock.lock().await;
    if session.state().delivery() != Delivery::None {
        return Err(Problem::DeliveryInProgress.into());
    }
    session.activity.touch();
    let row = remember(app, row, &method, &wanted).await?;
    session.change(|state| state.provider = Arc::new(wanted.clone()));
    tell(app, session, wanted).await?;
    Ok(row)
}

/// A provider's method by its name, and the descriptor as it is for it.
///
/// # Errors
/// There is none of this name; the detail lists those that there are.
pub fn chosen(provider: &Provider, name: &str) -> Result<(MethodName, Provider), ApiError> {
    let found = MethodName::try_from(name.to_owned()).ok();
    let found = found.and_then(|method| Some((method.clone(), provider.with_method(&method)?)));
    found.ok_or_else(|| {
        let names: Vec<&str> = provider.method_labels().into_iter().map(|(name, _)| name.as_str()).collect();
        ApiError::new(Problem::UnknownMethod, format!("{} has these: {}", provider.id, names.join(", ")))
    })
}

async fn remember(app: &App, row: &SessionRow, method: &MethodName, wanted: &Provider) -> Result<SessionRow, ApiError> {
    let how = if wanted.label.is_empty() { method.as_str() } else { wanted.label.as_str() };
    let sentence = format!("Another way of signing in was chosen: {how}.");
    let event = NewEvent::new(clock::now(), "method_chosen", sentence).with(json!({ "method": method.as_str() }));
    timeline::flush(app, &row.id).await;
    match app.store.transition(&row.id, Expect::Active, Change::new().method(method.clone()), event).await? {
        Transition::Done { row, .. } => Ok(*row),
        Transition::Conflict(row) => {
            let end = row.end().ok_or(Problem::Internal)?;
            Err(ApiError::new(end.reason.problem, end.reason.detail.clone().unwrap_or_default()))
        }
    }
}

/// A machine that is not claimed yet will be claimed with the new method; to the others it is said.
async fn tell(app: &App, session: &ActiveSession, provider: Provider) -> Result<(), ApiError> {
    match session.state().progress {
        Progress::Queued { .. } | Progress::Preparing { .. } | Progress::Lost | Progress::Closing => Ok(()),
        Progress::Claiming { .. } | Progress::Open { .. } | Progress::Attached => {
            let channels = open_channels(app, session).await?;
            Ok(channels.agent.switch_method(&SwitchMethod { provider }).await?)
        }
    }
}

/// Tells the agent again which method was chosen, if `sign_in` says that its tool signs in by another. A credential of the former
/// method that is on its way already goes before.
///
/// # Errors
/// Why the tool of the chosen method does not run, for people.
pub(super) async fn resync_method(
    app: &App,
    session: &ActiveSession,
    channels: &Channels,
    sign_in: &SignIn,
) -> Result<(), String> {
    let wanted = session.provider();
    // An agent that does not say it is not asked to begin anew what it may be doing.
    if sign_in.method.as_deref().is_none_or(|runs| runs == wanted.method.as_str()) {
        return Ok(());
    }
    let provider = (*wanted).clone();
    let (method, former) = (provider.method.to_string(), sign_in.method.clone());
    match channels.agent.switch_method(&SwitchMethod { provider }).await {
        Ok(()) => {
            let sentence = "The machine's agent was told again which way of signing in was chosen.";
            timeline::append(
                app,
                &session.id,
                "method_resent",
                sentence,
                json!({ "method": method, "former": former }),
            )
            .await;
            Ok(())
        }
        Err(error) => {
            let reason = chain(&error);
            if ApiError::from(error).problem == Problem::DeliveryInProgress { Ok(()) } else { Err(reason) }
        }
    }
}

/// The same after the way to the agent was opened again, by itself: nobody waits for it.
pub(super) fn resync_method_in_background(app: &App, session: &Arc<ActiveSession>, channels: Channels) {
    let (app, session) = (app.clone(), Arc::clone(session));
    app.clone().tasks.spawn(async move {
        let _one_at_a_time = session.method_lock.lock().await;
        let caught_up = match channels.agent.sign_in().await {
            Ok(sign_in) => resync_method(&app, &session, &channels, &sign_in).await,
            Err(error) => Err(chain(&error)),
        };
        if let Err(why) = caught_up {
            // A channel that broke anew is opened anew, and then this is done again.
            tracing::warn!(outcome = "method_resend_failed", session = %session.id, why, "the agent could not be told again which method was chosen");
        }
    });
}
