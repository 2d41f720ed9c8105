//! Timeline entries about the boot stages, the programs and the memory of a machine.

use crate::session::timeline::new_entry;
use anteroom_store::NewTimelineEntry;
use anteroom_wire::{
    GuestLines, TimelineKind,
    agent::{MachineEvent, StageReport, StageState},
};
use serde_json::json;

/// The entry for an event; `None` for a stage that has not failed.
pub(super) fn to_timeline_entry(event: MachineEvent) -> Option<NewTimelineEntry> {
    Some(match event {
        MachineEvent::Stage(report) => return stage_failed(&report),
        MachineEvent::ChildExited { name, code, restarts, last_lines } => {
            let sentence = match code {
                Some(_) => format!("{name} exited in the machine and is being restarted."),
                None => format!("{name} could not be started in the machine{}.", start_error(&last_lines)),
            };
            let data = json!({ "name": name, "code": code, "restarts": restarts, "last_lines": last_lines });
            new_entry(TimelineKind::ChildExited, sentence).with_data(data)
        }
        MachineEvent::CrashLoop { name, exits, window_s, code, last_lines } => {
            let outcome = if code.is_some() { "exited" } else { "could not be started" };
            let sentence = format!("{name} {outcome} {exits} times within {window_s} s in the machine.");
            let data =
                json!({ "name": name, "exits": exits, "window_s": window_s, "code": code, "last_lines": last_lines });
            new_entry(TimelineKind::CrashLoop, sentence).with_data(data)
        }
        MachineEvent::CrashLoopEnded { name } => {
            new_entry(TimelineKind::CrashLoopEnded, format!("{name} runs stably in the machine again."))
                .with_data(json!({ "name": name }))
        }
        MachineEvent::MemoryPressure { low, available_mib, some_avg10 } => {
            let kind = if low { TimelineKind::MemoryLow } else { TimelineKind::MemoryRecovered };
            let again = if low { "" } else { " again" };
            new_entry(kind, format!("The machine has {available_mib} MiB of memory left{again}."))
                .with_data(json!({ "available_mib": available_mib, "some_avg10": some_avg10 }))
        }
        MachineEvent::OutOfMemory { victim, kills } => {
            let killed = victim.as_deref().unwrap_or("a program");
            let sentence = format!("The machine's kernel killed {killed} because memory ran out.");
            new_entry(TimelineKind::OutOfMemory, sentence).with_data(json!({ "victim": victim, "kills": kills }))
        }
    })
}

/// `: ERROR` from the last line of a program that could not be started, which names its command; empty: it printed none.
fn start_error(lines: &GuestLines) -> String {
    let line = lines.iter().rfind(|line| !line.trim().is_empty());
    line.map_or_else(String::new, |line| format!(": {}", line.trim().trim_end_matches('.')))
}

fn stage_failed(report: &StageReport) -> Option<NewTimelineEntry> {
    if report.state != StageState::Failed {
        return None;
    }
    let data = json!({ "stage": report.stage, "attempts": report.attempts, "error": report.last_error });
    Some(
        new_entry(TimelineKind::StageFailed, format!("The stage {:?} failed in the machine.", report.stage))
            .with_data(data),
    )
}
