//! Timeline entries about the programs and the memory of a machine.

use super::TimelineEntry;
use anteroom_wire::agent::{StageReport, StageState};
use serde_json::json;

/// An entry for a failed stage; other stages are not recorded.
pub(super) fn stage_failed(report: &StageReport) -> Option<TimelineEntry> {
    let data = json!({ "stage": report.stage, "attempts": report.attempts, "error": report.last_error });
    let failed = report.state == StageState::Failed;
    failed.then(|| ("stage_failed", format!("The stage {:?} failed in the machine.", report.stage), data))
}

pub(super) fn child_exited(name: &str, code: Option<i32>, restarts: u32, last_lines: &[String]) -> TimelineEntry {
    let sentence = match code {
        Some(_) => format!("{name} exited in the machine and is being restarted."),
        None => format!("{name} could not be started in the machine."),
    };
    let data = json!({ "name": name, "code": code, "restarts": restarts, "last_lines": last_lines });
    ("child_exited", sentence, data)
}

pub(super) fn crash_loop(
    name: &str,
    exits: u32,
    window_s: u64,
    code: Option<i32>,
    last_lines: &[String],
) -> TimelineEntry {
    let outcome = if code.is_some() { "exited" } else { "could not be started" };
    let sentence = format!("{name} {outcome} {exits} times within {window_s} s in the machine.");
    let data = json!({ "name": name, "exits": exits, "window_s": window_s, "code": code, "last_lines": last_lines });
    ("crash_loop", sentence, data)
}

pub(super) fn crash_loop_ended(name: &str) -> TimelineEntry {
    ("crash_loop_ended", format!("{name} runs stably in the machine again."), json!({ "name": name }))
}

pub(super) fn memory_pressure(low: bool, available_mib: u64, some_avg10: Option<f64>) -> TimelineEntry {
    (
        if low { "memory_low" } else { "memory_recovered" },
        format!("The machine has {available_mib} MiB of memory left{}.", if low { "" } else { " again" }),
        json!({ "available_mib": available_mib, "some_avg10": some_avg10 }),
    )
}

pub(super) fn out_of_memory(victim: Option<&str>, kills: u64) -> TimelineEntry {
    (
        "out_of_memory",
        format!("The machine's kernel killed {} because memory ran out.", victim.unwrap_or("a program")),
        json!({ "victim": victim, "kills": kills }),
    )
}
