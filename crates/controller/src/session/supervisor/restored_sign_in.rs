//! What the timeline says about the sign-in in an adopted machine. Its agent reports the present state only: not the times, a
//! tool's last lines and failed requests, which the server that recorded them had in memory.

use crate::{
    session::{
        active_session::{ActiveSession, MachineSignIn, Moment},
        agent_events,
        context::SessionContext,
        diagnose::TIMELINE_ENTRIES_MAX,
        egress_faults::EgressFaults,
    },
    unix_time::{UnixMs, now_unix_ms},
};
use anteroom_store::{StoreError, TimelineRow};
use anteroom_wire::{
    Problem, TimelineKind,
    agent::{CliState, PasteResult},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Completes the state of the session's machine, which was adopted.
///
/// # Errors
/// The database cannot be read.
pub(super) async fn restore_sign_in(
    context: &SessionContext,
    session: &Arc<ActiveSession>,
    generation: u32,
) -> Result<(), StoreError> {
    let timeline = context.store.list_timeline(&session.id, 0, TIMELINE_ENTRIES_MAX).await?;
    let from = timeline.iter().rposition(|entry| entry.kind == TimelineKind::MachineRequested).unwrap_or(0);
    let entries = timeline.get(from..).unwrap_or_default();
    {
        let mut faults = session.egress_faults.lock();
        entries.iter().for_each(|entry| restore_fault(&mut faults, entry));
    }
    session.update_state(|state| {
        if let Some(machine) = state.machine_of_generation(generation) {
            entries.iter().for_each(|entry| apply(&mut machine.sign_in, entry));
            // A tool that runs has not ended, whatever an earlier process of it did.
            if machine.sign_in.reported_status.cli == CliState::Running
                && machine.sign_in.reported_status.outcome.is_none()
            {
                machine.sign_in.ended_at = None;
            }
        }
    });
    agent_events::notify_at_next_change(context, session, generation);
    Ok(())
}

fn moment(at_ms: UnixMs) -> Moment {
    let (now, ago) = (Instant::now(), Duration::from_millis(now_unix_ms().saturating_sub(at_ms)));
    Moment { at: now.checked_sub(ago).unwrap_or(now), at_ms }
}

fn text<'a>(entry: &'a TimelineRow, key: &str) -> &'a str {
    entry.data.get(key).and_then(Value::as_str).unwrap_or("")
}

fn apply(sign_in: &mut MachineSignIn, entry: &TimelineRow) {
    let (kind, moment) = (entry.kind, moment(entry.at_ms));
    if kind == TimelineKind::CliStarted {
        (sign_in.tool_started, sign_in.ended_at, sign_in.shown_at) = (Some(moment), None, None);
        (sign_in.device_code_at, sign_in.is_answered, sign_in.tool_not_started) = (None, false, false);
        sign_in.last_lines.clear();
    } else if matches!(kind, TimelineKind::SignInUrl | TimelineKind::DeviceCode | TimelineKind::PromptOpened) {
        sign_in.shown_at.get_or_insert(moment.at);
        sign_in.is_answered = false;
        if kind == TimelineKind::DeviceCode {
            sign_in.device_code_at = Some(moment);
        }
    } else if kind == TimelineKind::Pasted {
        let pasted = serde_json::from_value(entry.data.clone()).ok();
        sign_in.is_answered |= pasted.is_some_and(|pasted: PasteResult| pasted.is_answer());
    } else if matches!(kind, TimelineKind::ToolSignedIn | TimelineKind::ToolFailed) {
        sign_in.ended_at.get_or_insert(moment.at);
        sign_in.is_answered = false;
    } else if kind == TimelineKind::CliExited {
        (sign_in.ended_at, sign_in.is_answered) = (Some(moment.at), false);
        let lines = entry.data.get("last_lines").and_then(Value::as_array).into_iter().flatten();
        sign_in.last_lines = lines.filter_map(Value::as_str).collect::<Vec<_>>().join("\n");
    } else if kind == TimelineKind::CredentialKeptInMachine {
        sign_in.kept_in_machine = true;
    } else if kind == TimelineKind::StageFailed && text(entry, "stage") == "cli" {
        sign_in.tool_not_started = true;
    } else if matches!(
        kind,
        TimelineKind::BrowserOpening | TimelineKind::BrowserOpened | TimelineKind::BrowserNotOpened
    ) && let Some(page) = sign_in.page.as_mut().filter(|page| *page.host == *text(entry, "host"))
    {
        page.reported = moment;
    }
}

fn restore_fault(faults: &mut EgressFaults, entry: &TimelineRow) {
    let (host, at) = (text(entry, "host"), moment(entry.at_ms).at);
    let port = entry.data.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let Some(port) = port else { return };
    if entry.kind == TimelineKind::EgressAllowed {
        faults.restore_reached(host, port, at);
    } else if let Some(problem) = Problem::from_code(text(entry, "reason"))
        && entry.kind == TimelineKind::EgressDenied
    {
        faults.restore_fault(host, port, problem, at);
    }
}
