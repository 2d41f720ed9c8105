//! The diagnosis of sessions that run a command with a stored credential, without a sign-in.

use super::{
    DiagnosisInput, Finding, egress_faults, guest_faults, sign_in_faults,
    timeline_view::{TimelineView, data_number, format_elapsed, format_time, quoted_last_lines},
};
use crate::unix_time::format_rfc3339;
use anteroom_store::{CredentialUse, SessionEnd, TimelineRow};
use anteroom_wire::{TimelineKind, agent::UsePurpose, diagnosis::Verdict};

/// The command, as the subject of a sentence.
fn command_subject(purpose: UsePurpose) -> &'static str {
    match purpose {
        UsePurpose::Exec => "the command with the stored credential",
        UsePurpose::Check => "the tool's status command with the stored credential",
        UsePurpose::Logout => "the tool's sign-out with the stored credential",
    }
}

/// The entry that the session waits for another use of the credential, if it still does.
pub(super) fn waits_for_other_use<'a>(timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    let is_about_turn = |entry: &&TimelineRow| {
        matches!(entry.kind, TimelineKind::CredentialUseWaiting | TimelineKind::CredentialUseTurn)
    };
    timeline.all.iter().rfind(is_about_turn).filter(|entry| entry.kind == TimelineKind::CredentialUseWaiting)
}

/// The first fault of a credential use, if there is one. The exit code of the command is not a fault.
pub(super) fn find_fault<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    sign_in_faults::find_delivery_rejected(input, timeline)
        .or_else(|| sign_in_faults::find_delivery_failing(input, timeline))
        .or_else(|| guest_faults::find_out_of_memory(timeline))
        .or_else(|| guest_faults::find_crash_loop(timeline))
}

/// No fault is known: the command runs.
pub(super) fn running_finding<'a>(timeline: &TimelineView<'a>, using: &CredentialUse) -> Finding<'a> {
    let (command, id) = (command_subject(using.purpose), &using.credential);
    let started = timeline.last_of_kind(TimelineKind::CliStarted).filter(|_| using.purpose != UsePurpose::Check);
    let ready =
        timeline.last_of_kind(TimelineKind::MachineReady).or(timeline.last_of_kind(TimelineKind::MachineAdopted));
    let ended = timeline.last_of_kind(TimelineKind::CliExited);
    let sentence = match (started, ended) {
        (_, Some(exit)) => format!(
            "The machine is ready, and {command} {id} ended at {} with exit code {}: its result is being stored.",
            format_time(exit),
            data_number(exit, "code").unwrap_or_default()
        ),
        (Some(started), None) => {
            let certificate = egress_faults::certificate_clause(timeline);
            format!(
                "The machine is ready, and {command} {id} has been running since {}{certificate}.",
                format_time(started)
            )
        }
        (None, None) => format!("The machine is ready, and {command} {id} is being run."),
    };
    let untrusted = egress_faults::untrusted_requests(timeline);
    Finding::new(Verdict::CommandRunning, sentence, ready.into_iter().chain(started).chain(ended).chain(untrusted))
}

/// The command finished.
pub(super) fn completed_finding<'a>(
    input: &DiagnosisInput<'_>,
    timeline: &TimelineView<'a>,
    using: &CredentialUse,
    end: &SessionEnd,
) -> Finding<'a> {
    let (command, id) = (command_subject(using.purpose), &using.credential);
    let code = input.row.exit_code.unwrap_or_default();
    let took = format_elapsed(input.row.created_at_ms, end.at_ms);
    let exit = timeline.last_of_kind(TimelineKind::CliExited).filter(|_| code != 0);
    let last_lines = exit.map_or_else(String::new, quoted_last_lines);
    let certificate = exit.map_or_else(String::new, |_| egress_faults::certificate_clause(timeline));
    let sentence = format!(
        "{} {id} ended with exit code {code} at {}, {took} after the start{certificate}{last_lines}.",
        capitalized(command),
        format_rfc3339(end.at_ms)
    );
    let evidence = [
        timeline.last_of_kind(TimelineKind::CredentialUnsealed),
        exit,
        timeline.last_of_kind(TimelineKind::CredentialChecked),
        timeline.last_of_kind(TimelineKind::UseCompleted),
    ];
    let untrusted = exit.map_or_else(Vec::new, |_| egress_faults::untrusted_requests(timeline));
    Finding::new(Verdict::Completed, sentence, evidence.into_iter().flatten().chain(untrusted))
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
