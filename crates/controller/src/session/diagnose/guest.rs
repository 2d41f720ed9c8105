//! What is wrong inside of a machine that runs: programs that crash again and again, memory that runs out.

use super::{
    Finding,
    timeline_view::{TimelineView, last_words, number, quoted, text, when},
};
use anteroom_store::TimelineRow;
use anteroom_wire::diagnosis::Verdict;

/// What the kernel ends a process with for want of memory, as an exit code: 128 and SIGKILL.
const KILLED: i64 = 137;
/// The agent learns of a kill once a second: it may write so much before or after the tool's end, milliseconds.
const NEAR_MS: u64 = 10_000;

/// The guest's kernel killed a program for want of memory, and nothing has got on since.
pub(super) fn out_of_memory<'a>(timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let kill = timeline.last("out_of_memory")?;
    let victim = Some(text(kill, "victim")).filter(|name| !name.is_empty());
    let victim = victim.map_or_else(|| "a program".to_owned(), quoted);
    let killed = format!("The machine ran out of memory at {}: its kernel killed {victim}", when(kill));
    let evidence = timeline.last("memory_low").into_iter().chain([kill]);
    let exit = timeline
        .last("cli_exited")
        .filter(|exit| number(exit, "code") == Some(KILLED) && exit.at_ms.abs_diff(kill.at_ms) <= NEAR_MS);
    let later = |kind| timeline.last(kind).is_some_and(|entry| entry.number > kill.number);
    if let Some(exit) = exit.filter(|_| !later("cli_started")) {
        let sentence = format!("{killed}; the tool ended with exit code {KILLED} at {}.", when(exit));
        return Some(Finding::new(Verdict::GuestOutOfMemory, sentence, evidence.chain([exit])));
    }
    let got_on = [
        "cli_started",
        "cli_exited",
        "sign_in_url",
        "device_code",
        "browser_opened",
        "candidate_accepted",
        "candidate_rejected",
    ];
    if got_on.into_iter().any(later) {
        return None;
    }
    Some(Finding::new(Verdict::GuestOutOfMemory, format!("{killed}."), evidence))
}

/// A program ends again and again.
pub(super) fn crash_loop<'a>(timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let over = |crash: &TimelineRow| {
        timeline.machine.iter().any(|entry| {
            entry.kind == "crash_loop_ended" && entry.number > crash.number && text(entry, "name") == text(crash, "name")
        })
    };
    let crash = timeline.machine.iter().rfind(|entry| entry.kind == "crash_loop" && !over(entry))?;
    let (name, exits) = (quoted(text(crash, "name")), number(crash, "exits").unwrap_or_default());
    let window_s = number(crash, "window_s").unwrap_or_default();
    let how = match number(crash, "code") {
        Some(code) => format!("ended {exits} times within {window_s} s, last with exit code {code} at {}", when(crash)),
        None => format!("could not be started {exits} times within {window_s} s, last at {}", when(crash)),
    };
    let sentence = format!("{name} of the machine {how}; it is still tried again{}.", last_words(crash));
    let single = timeline.last("child_exited").filter(|exit| text(exit, "name") == text(crash, "name"));
    Some(Finding::new(Verdict::GuestCrashLoop, sentence, single.into_iter().chain([crash])))
}

/// The machine is short of memory at this moment.
pub(super) fn memory_low<'a>(timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let low = timeline.last("memory_low")?;
    if timeline.last("memory_recovered").is_some_and(|enough| enough.number > low.number) {
        return None;
    }
    let left = number(low, "available_mib").unwrap_or_default();
    let stall = low.data.get("some_avg10").and_then(serde_json::Value::as_f64);
    let stall =
        stall.map_or_else(String::new, |percent| format!(", and programs waited for it {percent:.0} % of the time"));
    let sentence = format!("The machine is short of memory since {}: {left} MiB were left{stall}.", when(low));
    Some(Finding::new(Verdict::GuestMemoryLow, sentence, [low]))
}
