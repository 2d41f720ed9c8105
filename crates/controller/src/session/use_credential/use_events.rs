//! Applies the agent's events about a credential use: they update the credential's health and end the session.

use super::super::{
    active_session::{ActiveSession, SessionState},
    status::Progress,
};
use crate::{
    session::{context::SessionContext, egress_faults::UNREACHABLE, timeline::new_entry},
    unix_time,
};
use anteroom_store::{
    CompleteUse, CompleteUseOutcome, CredentialUse, HealthKind, HealthUpdate, NewTimelineEntry, Regarding, StoreError,
    TimelineRow,
};
use anteroom_wire::{
    EndReason, Problem, TimelineKind,
    agent::{CredentialUseEvent, ToolEvent, UsePurpose},
    webhook::EventType,
};
use serde_json::json;
use std::time::Duration;

/// The timeout for the content of the terminal, milliseconds.
const SCREEN_MS_MAX: u64 = 2_000;
/// Entries of a timeline that are searched.
const ENTRIES_MAX: u32 = 1_000;

/// Applies an event of a credential use. Idempotent.
///
/// # Errors
/// The database cannot be written: the agent sends the event again.
pub async fn apply_use_event(
    context: &SessionContext,
    session: &ActiveSession,
    event: CredentialUseEvent,
) -> Result<(), StoreError> {
    let Some(row) = context.store.get_session(&session.id).await? else { return Ok(()) };
    let Some(credential_use) = row.purpose.credential_use() else {
        tracing::warn!(outcome = "not_a_use", session = %session.id, "credential-use event received in a session that uses no credential");
        return Ok(());
    };
    match event {
        // Recorded on the timeline only.
        CredentialUseEvent::Checked { conclusive: false, .. } => Ok(()),
        CredentialUseEvent::Checked { signed_in, detail, conclusive: true } => {
            checked(context, session, credential_use, signed_in, &detail).await
        }
        CredentialUseEvent::Completed { code, changed } => {
            complete_use(context, session, credential_use, code, changed).await
        }
    }
}

async fn checked(
    context: &SessionContext,
    session: &ActiveSession,
    credential_use: &CredentialUse,
    signed_in: bool,
    detail: &str,
) -> Result<(), StoreError> {
    if !signed_in && egress_was_unreachable(context, session).await? {
        // Without egress the tool's answer is not about the credential.
        let sentence = "The machine could reach none of the hosts that it requested, so the check is inconclusive.";
        let entry = new_entry(TimelineKind::CredentialCheckInconclusive, sentence)
            .with_data(json!({ "credential": credential_use.credential }));
        context.timeline.append_durably(&session.id, entry).await?;
        return Ok(());
    }
    let output = if detail.trim().is_empty() { String::new() } else { format!(" Its output: {}", detail.trim()) };
    let (health, sentence) = if signed_in {
        // A confirmed credential that expires soon stays expiring.
        let known = context.store.get_credential(&credential_use.credential).await?.map(|row| row.health);
        let health = known.filter(|health| *health == HealthKind::Expiring).unwrap_or(HealthKind::Valid);
        (health, format!("The tool confirmed the credential when it was checked.{output}"))
    } else {
        (HealthKind::NeedsAuth, format!("The tool rejected the credential when it was checked.{output}"))
    };
    update_health(context, session, credential_use, health, &sentence).await
}

/// Whether the machine requested allowed hosts and could reach none of them.
async fn egress_was_unreachable(context: &SessionContext, session: &ActiveSession) -> Result<bool, StoreError> {
    context.timeline.wait_written(&session.id).await;
    let timeline = context.store.list_timeline(&session.id, 0, ENTRIES_MAX).await?;
    let unreachable = UNREACHABLE.map(Problem::code);
    let is_unreachable =
        |entry: &TimelineRow| entry.data["reason"].as_str().is_some_and(|reason| unreachable.contains(&reason));
    let attempted = timeline.iter().any(|entry| entry.kind == TimelineKind::EgressDenied && is_unreachable(entry));
    Ok(attempted && !timeline.iter().any(|entry| entry.kind == TimelineKind::EgressAllowed))
}

async fn update_health(
    context: &SessionContext,
    session: &ActiveSession,
    credential_use: &CredentialUse,
    health: HealthKind,
    detail: &str,
) -> Result<(), StoreError> {
    let known = context.store.get_credential(&credential_use.credential).await?;
    // Reported once, not at each check.
    let is_change = health == HealthKind::NeedsAuth && known.is_some_and(|row| row.health != HealthKind::NeedsAuth);
    let subject =
        (EventType::CredentialNeedsAuth, Regarding::Both(session.id.clone(), credential_use.credential.clone()));
    let messages = if is_change { context.webhook_messages.new_messages(&[subject]) } else { Vec::new() };
    let update = HealthUpdate {
        credential: &credential_use.credential,
        revision: credential_use.revision,
        health,
        detail,
        checked_at_ms: Some(unix_time::now_unix_ms()),
        webhook_messages: &messages,
    };
    let is_updated = context.store.set_credential_health(&update).await?;
    context.webhook_messages.wake_sender();
    tracing::info!(outcome = "credential_checked", credential = %credential_use.credential, health = health.as_str(), is_updated, "credential checked");
    Ok(())
}

async fn complete_use(
    context: &SessionContext,
    session: &ActiveSession,
    credential_use: &CredentialUse,
    code: i32,
    changed: bool,
) -> Result<(), StoreError> {
    let state = session.state();
    let Some(machine) = &state.machine else { return Ok(()) };
    let screen = match credential_use.purpose {
        UsePurpose::Exec | UsePurpose::Logout => last_screen(&state).await,
        UsePurpose::Check => None,
    };
    if credential_use.purpose == UsePurpose::Logout && code == 0 {
        update_health(
            context,
            session,
            credential_use,
            HealthKind::NeedsAuth,
            "It was signed out at the provider, as requested.",
        )
        .await?;
    }
    // A check reports only its finding, not its end.
    let subject = (EventType::SessionEnded, Regarding::Both(session.id.clone(), credential_use.credential.clone()));
    let messages = match credential_use.purpose {
        UsePurpose::Exec | UsePurpose::Logout => context.webhook_messages.new_messages(&[subject]),
        UsePurpose::Check => Vec::new(),
    };
    let end = CompleteUse {
        session: &session.id,
        generation: machine.generation,
        agent_token: &machine.agent_token,
        exit_code: code,
        webhook_messages: &messages,
        at_ms: unix_time::now_unix_ms(),
    };
    let entry = new_entry(TimelineKind::Completed, outcome_sentence(credential_use.purpose, code))
        .with_data(json!({ "credential": credential_use.credential, "code": code, "changed": changed }));
    context.timeline.wait_written(&session.id).await;
    match context.store.complete_use(&end, entry).await? {
        CompleteUseOutcome::Completed { .. } => {
            context.webhook_messages.wake_sender();
            context.volatile_execs.discard_argv_and_store_screen(&session.id, screen);
            tracing::info!(outcome = "completed", session = %session.id, credential = %credential_use.credential, purpose = ?credential_use.purpose, code, changed, "credential use completed");
            session.close(EndReason::UseCompleted);
        }
        CompleteUseOutcome::Ignored(row) => {
            if let Some(end) = row.end() {
                session.close(end.reason.kind);
            }
        }
        CompleteUseOutcome::WrongToken => {
            tracing::warn!(outcome = "not_the_machine", session = %session.id, "completion of a credential use received from a replaced machine");
        }
    }
    Ok(())
}

/// The timeline entry for the start or exit of a command that uses a credential; `None` for other sessions. The output
/// of the owner's command stays out of the database: it may contain the credential.
///
/// # Errors
/// The database cannot be read.
pub async fn to_command_entry(
    context: &SessionContext,
    session: &ActiveSession,
    event: &ToolEvent,
) -> Result<Option<NewTimelineEntry>, StoreError> {
    let row = context.store.get_session(&session.id).await?;
    let Some(purpose) = row.and_then(|row| row.purpose.credential_use().map(|credential_use| credential_use.purpose))
    else {
        return Ok(None);
    };
    let ToolEvent::Exited { code, last_lines } = event else {
        return Ok(Some(new_entry(TimelineKind::CliStarted, "The command was started.")));
    };
    let data = match purpose {
        UsePurpose::Exec => json!({ "code": code }),
        UsePurpose::Check | UsePurpose::Logout => json!({ "code": code, "last_lines": last_lines }),
    };
    Ok(Some(new_entry(TimelineKind::CliExited, format!("The command exited with code {code}.")).with_data(data)))
}

/// The outcome of a credential use, one sentence.
pub fn outcome_sentence(purpose: UsePurpose, code: i32) -> String {
    match (purpose, code) {
        (UsePurpose::Exec, _) => format!("The command with the stored credential exited with code {code}."),
        (UsePurpose::Check, 126 | 127 | 129..=192) => "The credential could not be checked with the tool.".to_owned(),
        (UsePurpose::Check, _) => "The credential was checked with the tool.".to_owned(),
        (UsePurpose::Logout, 0) => "The tool signed out at the provider.".to_owned(),
        (UsePurpose::Logout, _) => format!("The tool's sign-out exited with code {code}."),
    }
}

/// The content of the terminal, from the agent.
async fn last_screen(state: &SessionState) -> Option<Vec<String>> {
    let Progress::Open { channels } = &state.progress else { return None };
    let response = tokio::time::timeout(Duration::from_millis(SCREEN_MS_MAX), channels.agent.read_screen()).await;
    Some(response.ok()?.ok()?.lines.into_iter().map(Into::into).collect())
}
