//! The verdict on an ended session.

use super::{
    DiagnosisInput, Finding, credential_use_faults, external_faults, sign_in_faults,
    timeline_view::{
        TimelineView, data_number, data_text, format_elapsed, format_list, format_time, quote, quoted_last_lines,
    },
};
use crate::unix_time::format_rfc3339;
use anteroom_machine::{ExitReason, StopReason};
use anteroom_store::{SessionEnd, SessionOutcome, TimelineRow};
use anteroom_wire::{EndReason, TimelineKind, diagnosis::Verdict};

/// The signal of an access to a mapped file that the file system cannot serve.
const SIGBUS: i32 = rustix::process::Signal::BUS.as_raw();

/// The verdict on an ended session.
pub(super) fn ended_verdict<'a>(
    input: &DiagnosisInput<'_>,
    timeline: &TimelineView<'a>,
    end: &SessionEnd,
) -> Finding<'a> {
    let mut finding = match &end.outcome {
        SessionOutcome::Completed(_) if let Some(using) = input.row.purpose.credential_use() => {
            credential_use_faults::completed_finding(input, timeline, using, end)
        }
        SessionOutcome::Completed(credential) => {
            let took = format_elapsed(input.row.created_at_ms, end.at_ms);
            let sentence = format!(
                "The credential {credential} was sealed, stored and read back at {}, {took} after the start.",
                format_rfc3339(end.at_ms)
            );
            Finding::new(Verdict::Completed, sentence, timeline.last_of_kind(TimelineKind::CandidateAccepted))
        }
        SessionOutcome::Cancelled => {
            let sentence =
                format!("The session was cancelled at {}{}", format_rfc3339(end.at_ms), consequences(timeline, end));
            Finding::new(Verdict::Cancelled, sentence, None)
        }
        SessionOutcome::Failed => failed(input, timeline, end),
        SessionOutcome::Expired => expired(input, timeline, end),
    };
    finding.evidence.extend(timeline.end_entry());
    finding.evidence.extend(affected_viewers(timeline, end));
    finding
}

fn failed<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>, end: &SessionEnd) -> Finding<'a> {
    let detail = end.reason.detail.as_deref().unwrap_or("");
    let at = format_rfc3339(end.at_ms);
    let consequences = consequences(timeline, end);
    let (verdict, cause) = match end.reason.kind {
        EndReason::MachineFailed
        | EndReason::MachineCompromised
        | EndReason::ReadyTimeout
        | EndReason::AgentMismatch => {
            return machine(input, timeline, end);
        }
        EndReason::NoCapacity => (Verdict::NoCapacity, "there was no capacity for another machine"),
        EndReason::NoImage => (Verdict::NoImage, "there is no machine image to start from"),
        EndReason::ProviderRemoved => (Verdict::ProviderRemoved, "its provider is no longer configured"),
        EndReason::SessionTampered => {
            (Verdict::InternalError, "what is stored about it was changed outside of this server")
        }
        EndReason::Internal => (Verdict::InternalError, "something failed inside the server"),
        EndReason::ControllerRestarted if timeline.is_credential_use() => {
            (Verdict::ServerRestarted, "the server restarted before the command was run")
        }
        EndReason::ControllerRestarted => (Verdict::ServerRestarted, "the machine ended while the server restarted"),
        EndReason::CredentialDeleted => (Verdict::CredentialDeleted, "the credential is no longer stored"),
        EndReason::CredentialInUse => (Verdict::CredentialInUse, "another use of the credential did not end in time"),
        EndReason::OtherAccount => (Verdict::OtherAccount, "its tool signed in another account than the credential's"),
        // This server never writes these as the reason of a failure.
        reason @ (EndReason::Completed
        | EndReason::UseCompleted
        | EndReason::Cancelled
        | EndReason::IdleExpired
        | EndReason::DeadlineExpired) => (Verdict::Unknown, reason.code()),
    };
    let details = if detail.is_empty() { String::new() } else { format!(" ({})", detail.trim_end_matches('.')) };
    let sentence = format!("The session failed at {at}: {cause}{details}{consequences}");
    Finding::new(verdict, sentence, timeline.last_of_kind(TimelineKind::MachineStartFailed))
}

/// The session failed because its machine ended.
fn machine<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>, end: &SessionEnd) -> Finding<'a> {
    let consequences = consequences(timeline, end);
    let mut evidence: Vec<&TimelineRow> = timeline.of_kind(TimelineKind::MachineExited).collect();
    let (at, why) = match (timeline.last_machine_exit(), &input.receipt) {
        (Some((entry, why)), _) => (format_time(entry), Some(why)),
        (None, receipt) => (format_rfc3339(end.at_ms), receipt.clone()),
    };
    if let (Some(claim), Some(ExitReason::Stopped { reason: StopReason::Failed })) =
        (timeline.last_of_kind(TimelineKind::ClaimFailed), &why)
    {
        evidence.push(claim);
        let failure = claim.sentence.trim_end_matches('.');
        return Finding::new(
            Verdict::ClaimFailed,
            format!("{failure}, at {}; the machine was stopped{consequences}", format_time(claim)),
            evidence,
        );
    }
    let Some(why) = why else {
        let detail = end.reason.detail.as_deref().unwrap_or("its cause is not recorded");
        return Finding::new(
            Verdict::MachineEndUnknown,
            format!("The machine ended at {at}: {detail}{consequences}"),
            evidence,
        );
    };
    let verdict = exit_verdict(&why);
    let opening = match &why {
        ExitReason::NeverStarted { .. } | ExitReason::ReadyTimeout { .. } | ExitReason::Mismatch { .. } => {
            format!("The machine failed to start at {at} because {}", exit_cause_text(&why))
        }
        ExitReason::Stopped { .. }
        | ExitReason::Exited { .. }
        | ExitReason::Killed { .. }
        | ExitReason::OutOfMemory
        | ExitReason::Deadline
        | ExitReason::RenewDeadline
        | ExitReason::GuestPowerOff
        | ExitReason::GuestPanic
        | ExitReason::VmmError { .. }
        | ExitReason::ForbiddenSystemCall { .. }
        | ExitReason::Hung { .. }
        | ExitReason::ChannelViolation { .. }
        | ExitReason::KeeperLost => format!("The machine ended at {at} because {}", exit_cause_text(&why)),
    };
    Finding::new(verdict, format!("{opening}{consequences}"), evidence)
}

pub(super) fn exit_verdict(why: &ExitReason) -> Verdict {
    match why {
        ExitReason::Stopped { .. } => Verdict::MachineStopped,
        ExitReason::Exited { .. } => Verdict::MachineExited,
        ExitReason::Killed { signal: SIGBUS } => Verdict::MachineFileUnreadable,
        ExitReason::Killed { .. } => Verdict::MachineKilled,
        ExitReason::OutOfMemory => Verdict::OutOfMemory,
        ExitReason::Deadline => Verdict::MachineDeadline,
        ExitReason::RenewDeadline => Verdict::RenewDeadline,
        ExitReason::GuestPowerOff => Verdict::GuestPowerOff,
        ExitReason::GuestPanic => Verdict::GuestPanic,
        ExitReason::VmmError { .. } => Verdict::VmmError,
        ExitReason::ForbiddenSystemCall { .. } => Verdict::ForbiddenSystemCall,
        ExitReason::Hung { .. } => Verdict::MachineUnresponsive,
        ExitReason::ChannelViolation { .. } => Verdict::ChannelViolation,
        ExitReason::KeeperLost => Verdict::KeeperLost,
        ExitReason::ReadyTimeout { .. } => Verdict::ReadyTimeout,
        ExitReason::Mismatch { .. } => Verdict::ImageMismatch,
        ExitReason::NeverStarted { .. } => Verdict::MachineStartFailed,
    }
}

/// Why a machine ended, as a clause after "because".
pub(super) fn exit_cause_text(why: &ExitReason) -> String {
    match why {
        ExitReason::Stopped { reason } => format!("it was stopped ({})", reason.name()),
        ExitReason::Exited { code } => format!("its process ended with exit code {code}"),
        ExitReason::Killed { signal: SIGBUS } => {
            format!(
                "its process was killed by signal {SIGBUS} (SIGBUS): a file that it maps could not be read, or the disk was full"
            )
        }
        ExitReason::Killed { signal } => {
            format!("its process was killed by signal {signal}, which this server did not send")
        }
        ExitReason::OutOfMemory => "the host's kernel killed its process because memory ran out".to_owned(),
        ExitReason::Deadline => "it reached its hard deadline".to_owned(),
        ExitReason::RenewDeadline => {
            "its host had lost contact with the cluster, so its keeper ended it before another host takes its session over"
                .to_owned()
        }
        ExitReason::GuestPowerOff => "the guest powered off".to_owned(),
        ExitReason::GuestPanic => "the guest's kernel panicked".to_owned(),
        ExitReason::VmmError { status } => {
            format!("QEMU stopped it with the status {}", quote(status))
        }
        ExitReason::ForbiddenSystemCall { system_call } => format!(
            "its process made the system call {}, which no VMM makes: a program may have broken out of the guest; its keeper killed it, and the session was not given another machine",
            quote(system_call)
        ),
        ExitReason::Hung { unanswered_ms } => {
            format!("it sent nothing for {unanswered_ms} ms, so this server stopped it")
        }
        ExitReason::ChannelViolation { channel, violation } => format!(
            "it violated the protocol of its channel {} repeatedly, so this server stopped it: {}",
            quote(channel),
            quote(violation)
        ),
        ExitReason::KeeperLost => "its keeper process was killed, and the machine with it".to_owned(),
        ExitReason::ReadyTimeout { stage, last_error, attempts, elapsed_ms } => {
            let error = last_error.as_ref().map_or_else(String::new, |error| format!(", last error: {}", quote(error)));
            format!("it was not ready after {elapsed_ms} ms: it waited for {stage:?}, {attempts} attempts{error}")
        }
        ExitReason::Mismatch { expected, found } => {
            format!("it runs {}, but {} was expected", quote(found), quote(expected))
        }
        ExitReason::NeverStarted { error } => format!("it could not be started: {}", quote(error)),
    }
}

fn expired<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>, end: &SessionEnd) -> Finding<'a> {
    let (verdict, cause) = if end.reason.kind == EndReason::IdleExpired {
        (Verdict::IdleExpired, "it was idle for too long")
    } else {
        (Verdict::DeadlineExpired, "it reached its maximum duration")
    };
    let at = format_rfc3339(end.at_ms);
    if timeline.machine.is_empty()
        && let Some(waiting) = credential_use_faults::waits_for_other_use(timeline)
    {
        let other = waiting.sentence.trim_end_matches('.');
        let sentence = format!("{other}. The session ended at {at} because {cause}{}", consequences(timeline, end));
        return Finding::new(Verdict::CredentialInUse, sentence, [waiting]);
    }
    if timeline.machine.is_empty() {
        let waited = format_elapsed(input.row.created_at_ms, end.at_ms);
        let sentence = format!(
            "No capacity for a machine became available in {waited}; the session ended at {at} because {cause}{}",
            consequences(timeline, end)
        );
        return Finding::new(Verdict::NoCapacity, sentence, timeline.of_kind(TimelineKind::Accepted));
    }
    let of_sign_in = if timeline.is_credential_use() {
        credential_use_faults::find_fault(input, timeline)
    } else {
        sign_in_faults::find_fault(input, timeline)
    };
    if let Some(mut fault) = of_sign_in.or_else(|| external_faults::find_fault(input, timeline)) {
        let sentence = fault.sentence.trim_end_matches('.');
        fault.sentence =
            format!("{sentence}. The session ended at {at} because {cause}{}", consequences(timeline, end));
        return fault;
    }
    let detail =
        end.reason.detail.as_deref().map_or_else(String::new, |detail| format!(" ({})", detail.trim_end_matches('.')));
    let sentence = format!("The session ended at {at} because {cause}{detail}{}", consequences(timeline, end));
    Finding::new(
        verdict,
        sentence,
        timeline
            .last_of_kind(TimelineKind::ViewerDisconnected)
            .into_iter()
            .chain(timeline.last_of_kind(TimelineKind::MachineReady)),
    )
}

/// Entries of viewers that were disconnected, or whose WebSocket or ticket was rejected, because the session had ended.
fn affected_viewers<'a>(timeline: &TimelineView<'a>, end: &SessionEnd) -> Vec<&'a TimelineRow> {
    let code = end.reason.kind.code();
    let of = |kind| timeline.of_kind(kind).filter(move |entry| data_text(entry, "reason") == code);
    of(TimelineKind::ViewerDisconnected)
        .chain(of(TimelineKind::ViewerRejected))
        .chain(of(TimelineKind::TicketRejected))
        .collect()
}

/// The consequences for viewers and for the credential, as the end of a sentence.
fn consequences(timeline: &TimelineView<'_>, end: &SessionEnd) -> String {
    let mut sentence = String::new();
    let affected_viewers = affected_viewers(timeline, end);
    for (kind, one, many) in [
        (
            TimelineKind::ViewerDisconnected,
            "a connected viewer was disconnected",
            "connected viewers were disconnected",
        ),
        (TimelineKind::ViewerRejected, "the viewer's WebSocket was rejected", "viewers' WebSockets were rejected"),
        (TimelineKind::TicketRejected, "the viewer's ticket was rejected", "viewers' tickets were rejected"),
    ] {
        let entries: Vec<_> = affected_viewers.iter().filter(|entry| entry.kind == kind).collect();
        let times: Vec<String> = entries.iter().map(|entry| format_time(entry)).collect();
        // An entry can count several rejections.
        let subject = match entries.iter().map(|entry| data_number(entry, "count").unwrap_or(1)).sum::<i64>() {
            0 => continue,
            1 => one.to_owned(),
            count => format!("{count} {many}"),
        };
        sentence.push_str(&format!("; {subject} at {} for that reason", format_list(&times)));
    }
    sentence.push_str(if timeline.is_credential_use() {
        "; the command did not finish"
    } else {
        "; no credential was delivered"
    });
    if let Some(exit) =
        timeline.last_of_kind(TimelineKind::CliExited).filter(|_| end.outcome == SessionOutcome::Cancelled)
    {
        let code = data_number(exit, "code").unwrap_or_default();
        let what = if timeline.is_credential_use() { "the command" } else { "the tool" };
        sentence.push_str(&format!(
            "; before that {what} had ended with exit code {code} at {}{}",
            format_time(exit),
            quoted_last_lines(exit)
        ));
    }
    sentence.push('.');
    sentence
}
