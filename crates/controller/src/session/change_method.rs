//! Changes the sign-in method: first in the row, for every later machine; then in the session's state, for the next claim; then in
//! the agent of the running machine. If the server ends or the channel breaks in between, the agent lags behind the row until
//! [`resend_method`] sends the method again.

use super::{
    active_session::ActiveSession,
    channels::{open_channels, require_active},
    lifecycle::DeliveryState,
    request_rates::ViewerRequest,
    status::Progress,
};
use crate::{
    api_error::{ApiError, chain},
    session::{context::SessionContext, timeline::new_entry},
};
use anteroom_machine::{AgentError, Channels};
use anteroom_store::{ExpectedState, SessionChange, SessionRow, TransitionOutcome};
use anteroom_wire::{
    Problem, SessionId, TimelineKind,
    agent::{ChangeMethod, SignInStatus},
    provider::{MethodName, Provider},
};
use serde_json::json;
use std::sync::Arc;

/// Changes to the method of this name. If it is the current method, the sign-in starts again.
///
/// # Errors
/// No such method, a credential is being delivered, the session has ended, or the machine's agent cannot do it: then the next
/// machine uses the method.
pub async fn change_method(context: &SessionContext, id: &SessionId, name: &str) -> Result<SessionRow, ApiError> {
    let (row, session) = require_active(context, id).await?;
    session.request_rates.check(ViewerRequest::MethodChange)?;
    if row.external_machine.is_some() {
        return Err(ApiError::new(Problem::ExternalDesktopOnly, "the tool of an external machine is not started here"));
    }
    if row.purpose.credential_use().is_some() {
        return Err(ApiError::new(Problem::UnknownMethod, "the session uses a stored credential and has no sign-in"));
    }
    let providers = context.providers();
    let provider = providers.get(&row.provider).ok_or(Problem::UnknownProvider)?;
    let (method, descriptor) = resolve_method(provider, name)?;
    let descriptor = descriptor.with_settings(&row.settings);
    // On a task, so that it completes even if the caller disconnects: row and agent must not diverge.
    let task_context = context.clone();
    let changed =
        context.tasks.spawn(async move { apply(&task_context, &session, &row, method, descriptor).await }).await;
    changed.map_err(ApiError::internal)?
}

async fn apply(
    context: &SessionContext,
    session: &ActiveSession,
    row: &SessionRow,
    method: MethodName,
    descriptor: Provider,
) -> Result<SessionRow, ApiError> {
    let _lock = session.method_lock.lock().await;
    if session.state().delivery() != DeliveryState::None {
        return Err(Problem::DeliveryInProgress.into());
    }
    session.activity.record();
    let row = write_method(context, row, &method, &descriptor).await?;
    session.update_state(|state| state.provider = Arc::new(descriptor.clone()));
    send_to_agent(context, session, descriptor).await?;
    Ok(row)
}

/// The provider's method of this name, and the descriptor resolved for it.
///
/// # Errors
/// No method has this name; the detail lists the methods.
pub fn resolve_method(provider: &Provider, name: &str) -> Result<(MethodName, Provider), ApiError> {
    let resolved = MethodName::try_from(name.to_owned()).ok();
    let resolved = resolved.and_then(|method| Some((method.clone(), provider.with_method(&method)?)));
    resolved.ok_or_else(|| {
        let names: Vec<&str> = provider.method_labels().into_iter().map(|(name, _)| name.as_str()).collect();
        ApiError::new(Problem::UnknownMethod, format!("{} has the methods {}", provider.id, names.join(", ")))
    })
}

async fn write_method(
    context: &SessionContext,
    row: &SessionRow,
    method: &MethodName,
    descriptor: &Provider,
) -> Result<SessionRow, ApiError> {
    let label = if descriptor.label.is_empty() { method.as_str() } else { descriptor.label.as_str() };
    let sentence = format!("The sign-in method was changed: {label}.");
    let entry = new_entry(TimelineKind::MethodChosen, sentence).with_data(json!({ "method": method.as_str() }));
    context.timeline.wait_written(&row.id).await;
    match context
        .store
        .transition(&row.id, ExpectedState::Active, SessionChange::new().with_method(method.clone()), entry)
        .await?
    {
        TransitionOutcome::Done { row, .. } => Ok(*row),
        TransitionOutcome::Conflict(row) => {
            let end = row.end().ok_or_else(|| ApiError::internal("a session that is not active has no end reason"))?;
            Err(ApiError::new(Problem::Ended(end.reason.kind), end.reason.detail.clone().unwrap_or_default()))
        }
    }
}

/// Sends the method to the agent of a claimed machine. A machine that is not claimed yet is claimed with the new method.
pub(super) async fn send_to_agent(
    context: &SessionContext,
    session: &ActiveSession,
    provider: Provider,
) -> Result<(), ApiError> {
    match session.state().progress {
        Progress::Queued { .. } | Progress::Preparing { .. } | Progress::Lost | Progress::Closing => Ok(()),
        Progress::Claiming { .. } | Progress::Open { .. } | Progress::Attached => {
            let channels = open_channels(context, session).await?;
            let restart = session.state().must_restart_tool();
            let provider = provider.for_agent(&channels.agent_info.capabilities);
            Ok(channels.agent.change_method(&ChangeMethod { provider, restart }).await?)
        }
    }
}

/// Sends the chosen method to the agent again if its tool signs in with another. A credential of the former method that is being
/// delivered already takes precedence.
///
/// # Errors
/// The agent did not change to the chosen method.
pub(super) async fn resend_method(
    context: &SessionContext,
    session: &ActiveSession,
    channels: &Channels,
    sign_in: &SignInStatus,
) -> Result<(), AgentError> {
    let descriptor = session.provider();
    // An agent that reports no method may be in the middle of a sign-in, which must not restart.
    if sign_in.method.as_deref().is_none_or(|current| current == descriptor.method.as_str()) {
        return Ok(());
    }
    let provider = descriptor.for_agent(&channels.agent_info.capabilities);
    let (method, former) = (provider.method.to_string(), sign_in.method.clone());
    match channels.agent.change_method(&ChangeMethod { provider, restart: false }).await {
        Ok(()) => {
            let sentence = "The chosen sign-in method was sent to the machine's agent again.";
            let entry = new_entry(TimelineKind::MethodResent, sentence);
            context.timeline.append(&session.id, entry.with_data(json!({ "method": method, "former": former }))).await;
            Ok(())
        }
        Err(AgentError::Rejected { problem, .. }) if problem.code == Problem::DeliveryInProgress.code() => Ok(()),
        Err(error) => Err(error),
    }
}

/// As [`resend_method`], in the background, after the channel to the agent was opened again.
pub(super) fn resend_method_in_background(context: &SessionContext, session: &Arc<ActiveSession>, channels: Channels) {
    let (context, session) = (context.clone(), Arc::clone(session));
    context.clone().tasks.spawn(async move {
        let _lock = session.method_lock.lock().await;
        let resent = match channels.agent.sign_in_state().await {
            Ok(sign_in) => resend_method(&context, &session, &channels, &sign_in).await,
            Err(error) => Err(error),
        };
        if let Err(error) = resent {
            // If the channel broke again, this is repeated when it is open again.
            tracing::warn!(outcome = "method_resend_failed", session = %session.id, why = chain(&error), "chosen method not sent to the agent");
        }
    });
}
