//! Messages to the webhook's receivers about an active sign-in: it waits for its person, or its tool failed.

use crate::session::{active_session::ActiveSession, context::SessionContext};
use anteroom_store::{Regarding, StoreError};
use anteroom_wire::{
    agent::{AgentEvent, MachineEvent, SignInEvent, SignInOutcome, Stage, StageState, ToolEvent},
    webhook::EventType,
};

/// What the event means for a sign-in.
fn event_type(event: &AgentEvent) -> Option<EventType> {
    match event {
        AgentEvent::SignIn(
            SignInEvent::Url(_) | SignInEvent::DeviceCode { .. } | SignInEvent::PromptOpened { ask: Some(_), .. },
        ) => Some(EventType::SessionWaiting),
        AgentEvent::SignIn(SignInEvent::Outcome(SignInOutcome::Failed { .. })) => Some(EventType::SessionFailed),
        AgentEvent::Tool(ToolEvent::Exited { code, .. }) if *code != 0 => Some(EventType::SessionFailed),
        AgentEvent::Machine(MachineEvent::Stage(report))
            if report.stage == Stage::Cli && report.state == StageState::Failed =>
        {
            Some(EventType::SessionFailed)
        }
        AgentEvent::SignIn(_)
        | AgentEvent::Tool(_)
        | AgentEvent::Machine(_)
        | AgentEvent::Capture(_)
        | AgentEvent::CredentialUse(_) => None,
    }
}

/// Writes the messages that report the event, once for each machine and type.
///
/// # Errors
/// The database cannot be used; the event may be reported again.
pub(super) async fn report_event(
    context: &SessionContext,
    session: &ActiveSession,
    generation: u32,
    event: &AgentEvent,
) -> Result<(), StoreError> {
    let Some(kind) = event_type(event) else { return Ok(()) };
    if session.reported_to_webhook.lock().contains(&(generation, kind)) {
        return Ok(());
    }
    let messages = context.webhook_messages.new_messages(&[(kind, Regarding::Session(session.id.clone()))]);
    let row = if messages.is_empty() { None } else { context.store.get_session(&session.id).await? };
    if row.is_some_and(|row| row.is_active() && row.purpose.credential_use().is_none()) {
        context.store.enqueue_messages(&messages).await?;
        context.webhook_messages.wake_sender();
    }
    session.reported_to_webhook.lock().insert((generation, kind));
    Ok(())
}
