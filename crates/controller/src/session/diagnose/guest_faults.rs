//! Faults inside a running machine: programs that crash repeatedly, and low memory.

use super::{
    Finding,
    timeline_view::{TimelineView, data_number, data_text, format_time, quote, quoted_last_lines},
};
use anteroom_store::TimelineRow;
use anteroom_wire::{TimelineKind, diagnosis::Verdict};

/// The exit code of a process that the kernel killed because memory ran out: 128 + SIGKILL.
const KILLED: i64 = 137;
/// The agent polls for kills once a second: the entry for a kill is at most this long before or after the tool's exit,
/// milliseconds.
const NEAR_MS: u64 = 10_000;

/// The guest's kernel killed a program because memory ran out, and the sign-in made no progress since.
pub(super) fn find_out_of_memory<'a>(timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let kill = timeline.last_of_kind(TimelineKind::OutOfMemory)?;
    let victim = Some(data_text(kill, "victim")).filter(|name| !name.is_empty());
    let victim = victim.map_or_else(|| "a program".to_owned(), quote);
    let killed = format!("The machine ran out of memory at {}: its kernel killed {victim}", format_time(kill));
    let evidence = timeline.last_of_kind(TimelineKind::MemoryLow).into_iter().chain([kill]);
    let exit = timeline
        .last_of_kind(TimelineKind::CliExited)
        .filter(|exit| data_number(exit, "code") == Some(KILLED) && exit.at_ms.abs_diff(kill.at_ms) <= NEAR_MS);
    let later = |kind| timeline.last_of_kind(kind).is_some_and(|entry| entry.number > kill.number);
    if let Some(exit) = exit.filter(|_| !later(TimelineKind::CliStarted)) {
        let sentence = format!("{killed}; the tool ended with exit code {KILLED} at {}.", format_time(exit));
        return Some(Finding::new(Verdict::GuestOutOfMemory, sentence, evidence.chain([exit])));
    }
    let progress_kinds = [
        TimelineKind::CliStarted,
        TimelineKind::CliExited,
        TimelineKind::SignInUrl,
        TimelineKind::DeviceCode,
        TimelineKind::BrowserOpened,
        TimelineKind::CandidateAccepted,
        TimelineKind::CandidateRejected,
    ];
    if progress_kinds.into_iter().any(later) {
        return None;
    }
    Some(Finding::new(Verdict::GuestOutOfMemory, format!("{killed}."), evidence))
}

/// A program of the machine crashes repeatedly.
pub(super) fn find_crash_loop<'a>(timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let over = |crash: &TimelineRow| {
        timeline.machine.iter().any(|entry| {
            entry.kind == TimelineKind::CrashLoopEnded
                && entry.number > crash.number
                && data_text(entry, "name") == data_text(crash, "name")
        })
    };
    let crash = timeline.machine.iter().rfind(|entry| entry.kind == TimelineKind::CrashLoop && !over(entry))?;
    let (name, exits) = (quote(data_text(crash, "name")), data_number(crash, "exits").unwrap_or_default());
    let window_s = data_number(crash, "window_s").unwrap_or_default();
    let how = match data_number(crash, "code") {
        Some(code) => {
            format!("exited {exits} times within {window_s} s, last with exit code {code} at {}", format_time(crash))
        }
        None => format!("could not be started {exits} times within {window_s} s, last at {}", format_time(crash)),
    };
    let sentence =
        format!("The machine's program {name} {how}; the agent keeps restarting it{}.", quoted_last_lines(crash));
    let single = timeline
        .last_of_kind(TimelineKind::ChildExited)
        .filter(|exit| data_text(exit, "name") == data_text(crash, "name"));
    Some(Finding::new(Verdict::GuestCrashLoop, sentence, single.into_iter().chain([crash])))
}

/// The machine is low on memory now.
pub(super) fn find_memory_low<'a>(timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let low = timeline.last_of_kind(TimelineKind::MemoryLow)?;
    if timeline.last_of_kind(TimelineKind::MemoryRecovered).is_some_and(|enough| enough.number > low.number) {
        return None;
    }
    let left = data_number(low, "available_mib").unwrap_or_default();
    let stall = low.data.get("some_avg10").and_then(serde_json::Value::as_f64);
    let stall = stall
        .map_or_else(String::new, |percent| format!(", and programs waited for memory {percent:.0} % of the time"));
    let sentence =
        format!("The machine has been low on memory since {}: {left} MiB were available{stall}.", format_time(low));
    Some(Finding::new(Verdict::GuestMemoryLow, sentence, [low]))
}
