//! Why a sign-in in a machine that works comes to nothing.

use super::{
    Finding, Input, guest,
    timeline_view::{TimelineView, authority, last_words, lines, listed, number, quoted, text, when},
};
use anteroom_store::TimelineRow;
use anteroom_wire::{Problem, agent::CaptureState, diagnosis::Verdict};

/// How long before a tool's end a refused name may be its cause, milliseconds.
pub(super) const BLAME_MS: u64 = 30_000;
/// The gate and the agent write their entries apart: a refusal may be written this much after the end that it caused,
/// milliseconds.
const LATE_MS: u64 = 2_000;
/// What an agent says when the tool's own status command does not agree begins so.
const STATUS_COMMAND: &str = "the tool's status command";

/// The first fault of the sign-in, if there is one.
pub(super) fn fault<'a>(input: &Input<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    refused_for_good(input, timeline)
        .or_else(|| delivery(input, timeline))
        .or_else(|| guest::out_of_memory(timeline))
        .or_else(|| guest::crash_loop(timeline))
        .or_else(|| not_started(input, timeline))
        .or_else(|| cli_error(input, timeline))
        .or_else(|| file(timeline))
        .or_else(|| cli_ended(input, timeline))
        .or_else(|| no_way_out(input, timeline))
}

/// The entry about the last candidate: `candidate_rejected`, `candidate_accepted` or `delivery_retry`.
pub(super) fn candidate<'a>(timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    let kinds = ["candidate_rejected", "candidate_accepted", "delivery_retry"];
    timeline.machine.iter().rfind(|entry| kinds.contains(&entry.kind.as_str()))
}

/// The server itself refused what was delivered; the agent does not send it again.
pub(super) fn refused_for_good<'a>(input: &Input<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let entry = refused_delivery(timeline);
    let code = match (input.supervisor.as_ref().map(|supervisor| &supervisor.capture), entry) {
        (Some(CaptureState::DeliveryRejected { code }), _) => code.as_str(),
        // The agent, which would say so itself, may be gone with its machine.
        (_, Some(entry)) => text(entry, "reason"),
        (_, None) => return None,
    };
    let of_file = [Problem::InvalidCredentialFormat, Problem::TooLarge, Problem::Malformed].map(Problem::code);
    let verdict = if of_file.contains(&code) { Verdict::CredentialInvalidFormat } else { Verdict::DeliveryFailing };
    let at = entry.map_or_else(String::new, |entry| format!(" at {}", when(entry)));
    let detail = entry.map(|entry| text(entry, "detail")).filter(|detail| !detail.is_empty());
    let detail = detail.map_or_else(String::new, |detail| format!(": {}", quoted(detail)));
    let sentence =
        format!("A credential was delivered{at} and refused for good ({}{detail}); nothing is stored.", quoted(code));
    Some(Finding::new(verdict, sentence, timeline.last("candidate_accepted").into_iter().chain(entry)))
}

/// The last delivery of this machine that was refused for good, unless a newer candidate was found since. What strangers
/// deliver is not this machine's.
pub(super) fn refused_delivery<'a>(timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    let last =
        timeline.machine.iter().rfind(|entry| entry.kind == "delivery_rejected" && text(entry, "by") == "machine")?;
    candidate(timeline).is_none_or(|candidate| candidate.number < last.number).then_some(last)
}

pub(super) fn delivery<'a>(input: &Input<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    // A database in trouble takes no entries either: the owner's knowledge counts as much.
    let (attempts, error, since) = match (input.supervisor.as_ref().map(|supervisor| &supervisor.capture), candidate(timeline)) {
        (Some(CaptureState::Delivering { attempts, last_error: Some(error) }), last) => {
            (u64::from(*attempts), error.clone(), last)
        }
        (_, Some(last)) if last.kind == "delivery_retry" => {
            let attempts = number(last, "attempts").unwrap_or_default().unsigned_abs();
            (attempts, text(last, "error").to_owned(), Some(last))
        }
        _ => return None,
    };
    let since = since.map_or_else(String::new, |entry| format!(" (last on record at {})", when(entry)));
    let sentence = format!(
        "A whole credential was found and could not be handed over in {attempts} tries{since}: {}; nothing is stored yet and the machine keeps it.",
        quoted(&error)
    );
    let evidence = [timeline.last("candidate_accepted"), timeline.last("delivery_retry")].into_iter().flatten();
    Some(Finding::new(Verdict::DeliveryFailing, sentence, evidence))
}

fn not_started<'a>(input: &Input<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    // A program that could not be started has no exit code; with none ever started it is the tool.
    let stage = timeline.machine.iter().rfind(|entry| entry.kind == "stage_failed" && text(entry, "stage") == "cli")?;
    if timeline.last("cli_started").is_some_and(|started| started.number > stage.number) {
        return None;
    }
    let sentence = format!(
        "{} could not be started in the machine at {}: {}.",
        input.tool,
        when(stage),
        quoted(text(stage, "error"))
    );
    Some(Finding::new(Verdict::CliNotStarted, sentence, [stage].into_iter().chain(timeline.last("child_exited"))))
}

/// The tool's end, when it is later than its last start and no credential was accepted.
fn exited<'a>(timeline: &TimelineView<'a>) -> Option<(&'a TimelineRow, i64)> {
    let exit = timeline.last("cli_exited")?;
    if timeline.last("cli_started").is_some_and(|started| started.number > exit.number)
        || candidate(timeline).is_some_and(|last| last.kind == "candidate_accepted")
    {
        return None;
    }
    Some((exit, number(exit, "code").unwrap_or_default()))
}

fn cli_error<'a>(input: &Input<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let (exit, code) = exited(timeline)?;
    if code == 0 {
        return None;
    }
    let words = last_words(exit);
    let ended = format!("{} ended with exit code {code} at {}", input.tool, when(exit));
    if let Some(refusals) = blamed(timeline, exit) {
        let names: Vec<String> = refusals.iter().map(|entry| authority(entry)).collect();
        let policy = refusals.iter().any(|entry| is_policy(entry));
        let (verdict, because) = if policy {
            (Verdict::EgressDenied, "which this provider's egress list does not grant")
        } else {
            (Verdict::EgressUnreachable, "which is granted but could not be reached from this host")
        };
        let at = refusals.first().map(|entry| when(entry)).unwrap_or_default();
        let sentence = format!(
            "The machine asked for {} at {at}, {because}; then {ended}; no credential was delivered{words}.",
            listed(&names)
        );
        return Some(Finding::new(verdict, sentence, refusals.into_iter().chain([exit])));
    }
    let sentence = format!("{ended}; no credential was delivered{words}.");
    Some(Finding::new(Verdict::CliFailed, sentence, timeline.last("cli_started").into_iter().chain([exit])))
}

/// Refusals that explain the tool's end: those its last lines name, else those just before it; policy before
/// reachability, since only one cause is given.
fn blamed<'a>(timeline: &TimelineView<'a>, exit: &TimelineRow) -> Option<Vec<&'a TimelineRow>> {
    let in_time = |entry: &&TimelineRow| entry.at_ms <= exit.at_ms + LATE_MS;
    let before: Vec<_> = timeline.every("egress_denied").filter(in_time).collect();
    let said = lines(exit).join("\n");
    let named = |entry: &&TimelineRow| !text(entry, "host").is_empty() && said.contains(text(entry, "host"));
    let near = |entry: &&TimelineRow| entry.at_ms + BLAME_MS >= exit.at_ms;
    let by_name: Vec<_> = before.iter().copied().filter(named).collect();
    let mut found = if by_name.is_empty() { before.into_iter().filter(near).collect() } else { by_name };
    if found.iter().any(|entry| is_policy(entry)) {
        found.retain(|entry| is_policy(entry));
    }
    (!found.is_empty()).then_some(found)
}

/// Whether the gate's list or rules said no, rather than the network.
pub(super) fn is_policy(entry: &TimelineRow) -> bool {
    let unreachable = [Problem::EgressUnreachable, Problem::EgressTimeout].map(Problem::code);
    !unreachable.contains(&text(entry, "reason"))
}

fn file<'a>(timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let last = candidate(timeline).filter(|last| last.kind == "candidate_rejected")?;
    let (path, why) = (text(last, "path"), text(last, "why"));
    if why.starts_with(STATUS_COMMAND) {
        let sentence =
            format!("A whole credential file appeared at {} ({path}), but {why}; nothing was delivered.", when(last));
        return Some(Finding::new(Verdict::CredentialNotConfirmed, sentence, [last]));
    }
    let sentence = format!(
        "A file appeared at {} ({path}) that is not a whole credential of this provider: {}; nothing was delivered.",
        when(last),
        quoted(why)
    );
    Some(Finding::new(Verdict::CredentialInvalidFormat, sentence, [last].into_iter().chain(timeline.last("cli_exited"))))
}

fn cli_ended<'a>(input: &Input<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let (exit, _) = exited(timeline)?;
    let sentence =
        format!("{} ended without an error at {} and left no credential{}.", input.tool, when(exit), last_words(exit));
    Some(Finding::new(Verdict::CliExitedWithoutCredential, sentence, timeline.last("cli_started").into_iter().chain([exit])))
}

/// Names that are granted were asked for, none could be reached, and the tool has shown nothing to sign in with.
fn no_way_out<'a>(input: &Input<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let reached = timeline.every("egress_allowed").next().is_some();
    let shown = timeline.last("sign_in_url").or(timeline.last("device_code")).is_some()
        || input.supervisor.as_ref().is_some_and(|supervisor| supervisor.signing_in);
    let away: Vec<_> = timeline.every("egress_denied").filter(|entry| !is_policy(entry)).collect();
    if reached || shown || away.is_empty() {
        return None;
    }
    let names: Vec<String> = away.iter().map(|entry| authority(entry)).collect();
    let sentence = format!(
        "Of the names that are granted, none that was asked for could be reached from this host ({}); {} waits.",
        listed(&names),
        input.tool
    );
    Some(Finding::new(Verdict::EgressUnreachable, sentence, away))
}
