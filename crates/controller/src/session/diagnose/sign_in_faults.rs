//! Faults of a sign-in in a working machine.

use super::{
    DiagnosisInput, Finding, egress_faults, guest_faults, last_words,
    missing_credential::{NOT_FOUND, find_missing},
    timeline_view::{TimelineView, data_last_lines, data_number, data_text, format_time, quote, quoted_last_lines},
};
use anteroom_store::TimelineRow;
use anteroom_wire::{Problem, TimelineKind, agent::CaptureState, diagnosis::Verdict};

/// The start of the agent's message when the tool's status command does not confirm the credential.
pub(in crate::session) const STATUS_COMMAND: &str = "the tool's status command";
/// The start of the agent's message when the tool does not show that it can work with a complete credential.
pub(in crate::session) const NOT_USABLE: &str = "it is complete";

/// The first fault of the sign-in, if there is one.
pub(super) fn find_fault<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    find_delivery_rejected(input, timeline)
        .or_else(|| find_delivery_failing(input, timeline))
        .or_else(|| guest_faults::find_out_of_memory(timeline))
        .or_else(|| guest_faults::find_crash_loop(timeline))
        .or_else(|| not_started(input, timeline))
        .or_else(|| explained_failure(input, timeline))
        .or_else(|| cli_error(input, timeline))
        .or_else(|| invalid_file(input, timeline))
        .or_else(|| find_missing(input, timeline))
        .or_else(|| cli_ended(input, timeline))
        .or_else(|| egress_faults::find_certificate(input, timeline))
        .or_else(|| egress_faults::find_unreachable(input, timeline))
}

/// The entry about the last candidate: `candidate_rejected`, `candidate_accepted` or `delivery_retry`.
pub(super) fn last_rejected_candidate<'a>(timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    let kinds = [TimelineKind::CandidateRejected, TimelineKind::CandidateAccepted, TimelineKind::DeliveryRetry];
    timeline.machine.iter().rfind(|entry| kinds.contains(&entry.kind))
}

/// The server rejected a delivery; the agent does not retry it.
pub(super) fn find_delivery_rejected<'a>(
    input: &DiagnosisInput<'_>,
    timeline: &TimelineView<'a>,
) -> Option<Finding<'a>> {
    let entry = last_rejected_delivery(timeline);
    let code = match (input.supervisor.as_ref().map(|supervisor| &supervisor.capture), entry) {
        (Some(CaptureState::DeliveryRejected { code }), _) => code.as_str(),
        // The agent's state is not available after the machine's exit.
        (_, Some(entry)) => data_text(entry, "reason"),
        (_, None) => return None,
    };
    let of_file = [Problem::InvalidCredentialFormat, Problem::TooLarge, Problem::Malformed].map(Problem::code);
    let verdict = if of_file.contains(&code) { Verdict::CredentialInvalidFormat } else { Verdict::DeliveryFailing };
    let at = entry.map_or_else(String::new, |entry| format!(" at {}", format_time(entry)));
    let detail = entry.map(|entry| data_text(entry, "detail")).filter(|detail| !detail.is_empty());
    let detail = detail.map_or_else(String::new, |detail| format!(": {}", quote(detail)));
    let sentence = format!(
        "A credential was delivered{at} and rejected ({}{detail}); it is not retried and nothing is stored.",
        quote(code)
    );
    Some(Finding::new(
        verdict,
        sentence,
        timeline.last_of_kind(TimelineKind::CandidateAccepted).into_iter().chain(entry),
    ))
}

/// The entry of the last rejected delivery of this machine, unless a newer candidate was found. Deliveries with a wrong token
/// are ignored.
pub(super) fn last_rejected_delivery<'a>(timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    let last = timeline
        .machine
        .iter()
        .rfind(|entry| entry.kind == TimelineKind::DeliveryRejected && data_text(entry, "by") == "machine")?;
    last_rejected_candidate(timeline).is_none_or(|candidate| candidate.number < last.number).then_some(last)
}

pub(super) fn find_delivery_failing<'a>(
    input: &DiagnosisInput<'_>,
    timeline: &TimelineView<'a>,
) -> Option<Finding<'a>> {
    // While the database fails, entries are not stored either: use the supervisor's state too.
    let (attempts, error, since) =
        match (input.supervisor.as_ref().map(|supervisor| &supervisor.capture), last_rejected_candidate(timeline)) {
            (Some(CaptureState::Delivering { attempts, last_error: Some(error) }), last) => {
                (u64::from(*attempts), error.to_string(), last)
            }
            (_, Some(last)) if last.kind == TimelineKind::DeliveryRetry => {
                let attempts = data_number(last, "attempts").unwrap_or_default().unsigned_abs();
                (attempts, data_text(last, "error").to_owned(), Some(last))
            }
            _ => return None,
        };
    let since = since.map_or_else(String::new, |entry| format!(" (last recorded at {})", format_time(entry)));
    let sentence = format!(
        "A valid credential was found and could not be delivered in {attempts} attempts{since}: {}; nothing is stored yet and the machine keeps the credential.",
        quote(&error)
    );
    let evidence =
        [timeline.last_of_kind(TimelineKind::CandidateAccepted), timeline.last_of_kind(TimelineKind::DeliveryRetry)]
            .into_iter()
            .flatten();
    Some(Finding::new(Verdict::DeliveryFailing, sentence, evidence))
}

/// The entry that says that the tool's program could not be started, unless it was started later.
pub(super) fn find_unstarted<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    let entry = timeline.machine.iter().rfind(|entry| {
        let is_stage = entry.kind == TimelineKind::StageFailed && data_text(entry, "stage") == "cli";
        is_stage || last_words::is_program_missing(entry, input.cli)
    })?;
    let started = timeline.last_of_kind(TimelineKind::CliStarted);
    started.is_none_or(|started| started.number < entry.number).then_some(entry)
}

/// Why the program could not be started, in the guest's words.
pub(super) fn start_error(entry: &TimelineRow) -> String {
    let error = data_text(entry, "error");
    if error.is_empty() { data_last_lines(entry).join(" / ") } else { error.to_owned() }
}

fn not_started<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let entry = find_unstarted(input, timeline)?;
    let sentence = format!(
        "{} could not be started in the machine at {}: {}.",
        input.tool,
        format_time(entry),
        quote(&start_error(entry))
    );
    let more = timeline.last_of_kind(TimelineKind::ChildExited).filter(|more| more.number != entry.number);
    Some(Finding::new(Verdict::CliNotStarted, sentence, [entry].into_iter().chain(more)))
}

/// The tool's own words name the cause: they win over what other programs in the machine requested.
fn explained_failure<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let ended = timeline.last_of_kind(TimelineKind::CliExited).is_some_and(|exit| {
        timeline.last_of_kind(TimelineKind::CliStarted).is_none_or(|started| started.number < exit.number)
    });
    let exit = exit_without_credential(timeline);
    if ended && exit.is_none() {
        return None;
    }
    let failure = last_words::explain_failure(timeline, exit, &input.words)?;
    let (tool, at) = (input.tool, format_time(failure.entry));
    let what = match failure.code {
        Some(code) => format!("{tool} ended with exit code {code} at {at}"),
        None => format!("{tool} reported a failure at {at}"),
    };
    let words = match failure.code {
        Some(_) => quoted_last_lines(failure.entry),
        None => format!("; it said: {}", quote(data_text(failure.entry, "why"))),
    };
    let is_untrusted = matches!(failure.verdict, Verdict::UnknownAuthority | Verdict::CertificateNotValidNow);
    let issuer = if is_untrusted { egress_faults::certificate_clause(timeline) } else { String::new() };
    let sentence = format!("{what} because {}{issuer}; no credential was delivered{words}.", failure.because);
    let untrusted = if is_untrusted { egress_faults::untrusted_requests(timeline) } else { Vec::new() };
    let started = timeline.last_of_kind(TimelineKind::CliStarted);
    let evidence = started.into_iter().chain(untrusted).chain([failure.entry]);
    Some(Finding::new(failure.verdict, sentence, evidence))
}

/// The tool's exit and its code, if it is after the last start and no credential was accepted.
fn exit_without_credential<'a>(timeline: &TimelineView<'a>) -> Option<(&'a TimelineRow, i64)> {
    let exit = timeline.last_of_kind(TimelineKind::CliExited)?;
    if timeline.last_of_kind(TimelineKind::CliStarted).is_some_and(|started| started.number > exit.number)
        || last_rejected_candidate(timeline).is_some_and(|last| last.kind == TimelineKind::CandidateAccepted)
    {
        return None;
    }
    Some((exit, data_number(exit, "code").unwrap_or_default()))
}

fn cli_error<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let (exit, code) = exit_without_credential(timeline)?;
    if code == 0 {
        return None;
    }
    let last_lines_clause = quoted_last_lines(exit);
    let ended = format!("{} ended with exit code {code} at {}", input.tool, format_time(exit));
    if let Some(found) = egress_faults::find_cause_of_exit(input, timeline, exit, &ended) {
        return Some(found);
    }
    let sentence = format!("{ended}; no credential was delivered{last_lines_clause}.");
    Some(Finding::new(
        Verdict::CliFailed,
        sentence,
        timeline.last_of_kind(TimelineKind::CliStarted).into_iter().chain([exit]),
    ))
}

/// What to do when the tool shows no result that a rule matches.
const COMPARE_DONE: &str = "Finish the sign-in; if it is finished, compare the provider's `sign_in.done` with what the tool shows at its end: with `usable_when_done` nothing is delivered before it matches.";

fn invalid_file<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let last = last_rejected_candidate(timeline).filter(|last| last.kind == TimelineKind::CandidateRejected)?;
    let (path, why) = (data_text(last, "path"), data_text(last, "why"));
    if why.starts_with(NOT_USABLE) {
        let refused = timeline.last_of_kind(TimelineKind::ToolFailed);
        let reason = refused.map_or("", |refused| data_text(refused, "why"));
        let but = if reason.is_empty() {
            "the tool has not shown that it is signed in".to_owned()
        } else {
            format!("the tool does not work with the account: {}", quote(reason))
        };
        let sentence = format!(
            "A valid credential file appeared at {} ({path}), but {but}; nothing was delivered.",
            format_time(last)
        );
        let found = Finding::new(Verdict::CredentialNotConfirmed, sentence, [last].into_iter().chain(refused));
        // A tool that reported nothing may have succeeded in words that no rule matches.
        return Some(if reason.is_empty() { found.with_remedy(COMPARE_DONE) } else { found });
    }
    if why.starts_with(NOT_FOUND) {
        return find_missing(input, timeline);
    }
    if why.starts_with(STATUS_COMMAND) {
        let sentence = format!(
            "A valid credential file appeared at {} ({path}), but {why}; nothing was delivered.",
            format_time(last)
        );
        return Some(Finding::new(Verdict::CredentialNotConfirmed, sentence, [last]));
    }
    let sentence = format!(
        "A file appeared at {} ({path}) that is not a valid credential of this provider: {}; nothing was delivered.",
        format_time(last),
        quote(why)
    );
    Some(Finding::new(
        Verdict::CredentialInvalidFormat,
        sentence,
        [last].into_iter().chain(timeline.last_of_kind(TimelineKind::CliExited)),
    ))
}

fn cli_ended<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let (exit, _) = exit_without_credential(timeline)?;
    let sentence = format!(
        "{} ended without an error at {} and wrote no credential{}.",
        input.tool,
        format_time(exit),
        quoted_last_lines(exit)
    );
    Some(Finding::new(
        Verdict::CliExitedWithoutCredential,
        sentence,
        timeline.last_of_kind(TimelineKind::CliStarted).into_iter().chain([exit]),
    ))
}
