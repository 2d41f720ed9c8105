//! Ingests the events of an agent: into the session's state and onto its timeline. All data comes from the guest and is
//! untrusted: sizes are bounded, and an event changes only what the agent can know.

mod machine;
mod newest;
pub mod reported_sign_in;
mod sign_in;
mod webhook_events;

use super::{
    active_session::{ActiveSession, CurrentMachine, MachineSignIn, Moment},
    diagnose::{NOT_FOUND, NOT_USABLE, STATUS_COMMAND},
    for_person,
    request_rates::MachineRequest,
    timeline::new_entry,
    use_credential,
};
use crate::session::context::SessionContext;
use anteroom_store::{NewTimelineEntry, StoreError};
use anteroom_wire::{
    TimelineKind,
    agent::{
        AgentEvent, CaptureEvent, CaptureState, CliState, CredentialUseEvent, EventBatch, MachineEvent, NumberedEvent,
        SignInOutcome, Stage, StageState, ToolEvent,
    },
};
use reported_sign_in::Applied;
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;

/// Maximum number of events in one batch.
pub const EVENTS_MAX: usize = 256;
/// Ingests a batch. Events that were ingested before are skipped, so that a batch can be sent again.
///
/// # Errors
/// The database cannot be written: the agent keeps this event and those after it, and sends them again.
pub async fn ingest_events(
    context: &SessionContext,
    session: &Arc<ActiveSession>,
    events: EventBatch,
) -> Result<(), StoreError> {
    // If it was lost just now, its agent is not authenticated any more.
    let Some(CurrentMachine { generation, last_event, .. }) = session.state().machine else { return Ok(()) };
    let mut new_events = events.events;
    new_events.retain(|event| event.number > last_event);
    new_events.truncate(EVENTS_MAX);
    session.request_rates.wait_permitted(MachineRequest::Event, new_events.len()).await;
    newest::retain_newest(&mut new_events);
    // The page shows the new state at once, even while the timeline cannot be written.
    let accepted: Vec<bool> =
        new_events.iter().map(|numbered| apply_to_state(session, generation, &numbered.event)).collect();
    record_start_time(context, session, generation);
    notify_at_next_change(context, session, generation);
    for (NumberedEvent { number, event, .. }, is_new) in new_events.into_iter().zip(accepted) {
        if is_new {
            webhook_events::report_event(context, session, generation, &event).await?;
        }
        let use_event = if let AgentEvent::CredentialUse(event) = &event { Some(event.clone()) } else { None };
        let command_entry = match &event {
            AgentEvent::Tool(event) => use_credential::to_command_entry(context, session, event).await?,
            AgentEvent::Machine(_) | AgentEvent::SignIn(_) | AgentEvent::Capture(_) | AgentEvent::CredentialUse(_) => {
                None
            }
        };
        if is_new && let Some(entry) = command_entry.or_else(|| timeline_entry(session, event)) {
            context.timeline.append_durably(&session.id, entry).await?;
        }
        if let Some(event) = use_event {
            use_credential::apply_use_event(context, session, event).await?;
        }
        update_machine(session, generation, |machine| machine.last_event = machine.last_event.max(number));
    }
    Ok(())
}

/// Changes the state of the machine that the events are from, unless it was replaced in between.
fn update_machine(session: &ActiveSession, generation: u32, change: impl FnOnce(&mut CurrentMachine)) {
    session.update_state(|state| {
        if let Some(machine) = state.machine_of_generation(generation) {
            change(machine);
        }
    });
}

/// Applies an event to the machine's state. Returns whether the event is recorded on the timeline: it adds something, and it fits to
/// the provider's descriptor.
fn apply_to_state(session: &ActiveSession, generation: u32, event: &AgentEvent) -> bool {
    match event {
        AgentEvent::Tool(event) => {
            update_machine(session, generation, |machine| apply_tool_event(&mut machine.sign_in, event));
        }
        AgentEvent::SignIn(event) => {
            let (provider, mut applied) = (session.provider(), Applied::Rejected);
            update_machine(session, generation, |machine| {
                applied = reported_sign_in::apply(&mut machine.sign_in, &provider, event);
            });
            if applied == Applied::Rejected {
                session.timeline_budget.lock().add_dropped("not_of_the_provider", 1);
            }
            return applied == Applied::Recorded;
        }
        AgentEvent::Capture(event) => {
            update_machine(session, generation, |machine| apply_capture_event(machine, event))
        }
        AgentEvent::Machine(MachineEvent::Stage(report)) if report.stage == Stage::Cli => {
            let has_failed = report.state == StageState::Failed;
            update_machine(session, generation, |machine| machine.sign_in.tool_not_started = has_failed);
        }
        AgentEvent::Machine(_) | AgentEvent::CredentialUse(_) => {}
    }
    true
}

/// Records how long the tool took until it showed what the user must do, and how long the browser took to show its page.
fn record_start_time(context: &SessionContext, session: &ActiveSession, generation: u32) {
    let (provider, mut start_time) = (session.provider(), None);
    update_machine(session, generation, |machine| start_time = machine.sign_in.take_start_time());
    if let Some(start_time) = start_time {
        context.start_times.record(&provider, start_time);
    }
    let mut page_time = None;
    update_machine(session, generation, |machine| page_time = machine.sign_in.page_time.take());
    if let Some(page_time) = page_time {
        context.page_times.record(&provider, page_time);
    }
}

/// Notifies the session's pages when its situation changes although its machine reports nothing: a tool that is signed in left no
/// credential, a code is no longer valid, or was not recognized.
pub(in crate::session) fn notify_at_next_change(
    context: &SessionContext,
    session: &Arc<ActiveSession>,
    generation: u32,
) {
    let (provider, mut wait_until) = (session.provider(), None);
    update_machine(session, generation, |machine| {
        let next = for_person::next_change(&provider, &machine.sign_in);
        if machine.sign_in.next_change != next {
            machine.sign_in.next_change = next;
            wait_until = next;
        }
    });
    let Some(at) = wait_until else { return };
    // The session may end long before.
    let (weak, context) = (Arc::downgrade(session), context.clone());
    context.tasks.clone().spawn(async move {
        tokio::select! {
            () = tokio::time::sleep_until(at) => {}
            () = context.stop.cancelled() => return,
        }
        let Some(session) = weak.upgrade() else { return };
        session.notify_subscribers();
        notify_at_next_change(&context, &session, generation);
    });
}

fn apply_tool_event(sign_in: &mut MachineSignIn, event: &ToolEvent) {
    match event {
        ToolEvent::Started => {
            sign_in.clear_tool_output();
            sign_in.reported_status.cli = CliState::Running;
            sign_in.tool_started = Some(Moment::now());
        }
        ToolEvent::Exited { code, last_lines } => {
            sign_in.reported_status.cli = CliState::Exited { code: *code };
            sign_in.reported_status.prompt = None;
            sign_in.is_answered = false;
            // The end of a tool that was signed in before is no news about its credential.
            let was_done = *code == 0 && sign_in.reported_status.outcome == Some(SignInOutcome::Done);
            sign_in.ended_at = sign_in.ended_at.filter(|_| was_done).or_else(|| Some(Instant::now()));
            sign_in.last_lines = last_lines.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n");
        }
    }
}

fn apply_capture_event(machine: &mut CurrentMachine, event: &CaptureEvent) {
    let capture = &mut machine.sign_in.reported_status.capture;
    match event {
        CaptureEvent::CandidateRejected { path, why } => {
            *capture = CaptureState::CandidateRejected { path: path.clone(), why: why.clone() };
        }
        CaptureEvent::CandidateAccepted { .. } => {
            machine.delivery_pending = true;
            *capture = CaptureState::Delivering { attempts: 0, last_error: None };
        }
        CaptureEvent::DeliveryRetry { attempts, error } => {
            machine.delivery_pending = true;
            *capture = CaptureState::Delivering { attempts: *attempts, last_error: Some(error.clone()) };
        }
        CaptureEvent::KeptInMachine { .. } => machine.sign_in.kept_in_machine = true,
    }
}

/// The timeline entry for an event; `None` if the event is not recorded.
fn timeline_entry(session: &ActiveSession, event: AgentEvent) -> Option<NewTimelineEntry> {
    let provider = session.provider();
    let tool = &provider.name;
    match event {
        AgentEvent::Machine(event) => machine::to_timeline_entry(event),
        AgentEvent::Tool(event) => Some(tool_entry(tool, event)),
        AgentEvent::SignIn(event) => Some(sign_in::to_timeline_entry(&provider, event)),
        AgentEvent::Capture(event) => Some(capture_entry(tool, event)),
        AgentEvent::CredentialUse(event) => Some(use_entry(tool, event)),
    }
}

fn tool_entry(tool: &str, event: ToolEvent) -> NewTimelineEntry {
    match event {
        ToolEvent::Started => new_entry(TimelineKind::CliStarted, format!("{tool} was started.")),
        ToolEvent::Exited { code, last_lines } => {
            new_entry(TimelineKind::CliExited, format!("{tool} exited with code {code}."))
                .with_data(json!({ "code": code, "last_lines": last_lines }))
        }
    }
}

fn capture_entry(tool: &str, event: CaptureEvent) -> NewTimelineEntry {
    match event {
        CaptureEvent::CandidateRejected { path, why } => {
            let sentence = rejected_sentence(&path, &why);
            new_entry(TimelineKind::CandidateRejected, sentence).with_data(json!({ "path": path, "why": why }))
        }
        CaptureEvent::CandidateAccepted { path, bytes } => {
            let sentence = format!("A complete credential was found and is being delivered: {path}.");
            new_entry(TimelineKind::CandidateAccepted, sentence).with_data(json!({ "path": path, "bytes": bytes }))
        }
        CaptureEvent::DeliveryRetry { attempts, error } => {
            let sentence = format!("The delivery failed {attempts} time(s) and will be retried.");
            new_entry(TimelineKind::DeliveryRetry, sentence).with_data(json!({ "attempts": attempts, "error": error }))
        }
        CaptureEvent::KeptInMachine { path } => {
            let sentence = format!("{tool} is signed in; its credential stays in the machine: {path}.");
            new_entry(TimelineKind::CredentialKeptInMachine, sentence).with_data(json!({ "path": path }))
        }
    }
}

/// The agent's reason says whether the file is incomplete, is complete and not confirmed, or is missing.
fn rejected_sentence(path: &str, why: &str) -> String {
    if why.starts_with(STATUS_COMMAND) {
        format!("A complete credential file appeared and is not confirmed: {path}.")
    } else if why.starts_with(NOT_USABLE) {
        format!("A complete credential file appeared, and the tool has not shown that it is signed in: {path}.")
    } else if why.starts_with(NOT_FOUND) {
        format!("No credential file appeared where it is expected: {path}.")
    } else {
        format!("A credential file appeared and is incomplete: {path}.")
    }
}

fn use_entry(tool: &str, event: CredentialUseEvent) -> NewTimelineEntry {
    match event {
        CredentialUseEvent::Checked { detail, conclusive: false, .. } => {
            let sentence = format!("The check of the credential with {tool} was inconclusive: {detail}.");
            new_entry(TimelineKind::CredentialCheckInconclusive, sentence).with_data(json!({ "detail": detail }))
        }
        CredentialUseEvent::Checked { signed_in, detail, conclusive: true } => {
            let sentence = if signed_in {
                format!("{tool} confirmed the credential.")
            } else {
                format!("{tool} rejected the credential: {detail}")
            };
            let data = json!({ "signed_in": signed_in, "detail": detail });
            new_entry(TimelineKind::CredentialChecked, sentence).with_data(data)
        }
        CredentialUseEvent::Completed { code, changed } => {
            let result = if changed { "the command changed the credential" } else { "the credential is unchanged" };
            new_entry(TimelineKind::UseCompleted, format!("The use is complete; {result}."))
                .with_data(json!({ "code": code, "changed": changed }))
        }
    }
}
