//! The verdict on an active session.

use super::{
    DeviceCodeState, DiagnosisInput, Finding, Progress, SupervisorSnapshot, credential_use_faults,
    ended_verdict::exit_cause_text,
    external_faults, guest_faults, sign_in_faults,
    timeline_view::{TimelineView, data_text, format_elapsed, format_time, quote},
};
use anteroom_store::TimelineRow;
use anteroom_wire::{
    Problem, TimelineKind,
    agent::{CaptureState, Stage},
    diagnosis::Verdict,
};

/// The name of the machine's browser in the agent's reports.
const BROWSER: &str = "chromium";

/// The verdict on an active session.
pub(super) fn active_verdict<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Finding<'a> {
    let Some(supervisor) = &input.supervisor else {
        let sentence = "No supervisor of this server runs the session; it is resumed at the next reconciliation.";
        return Finding::new(Verdict::Resuming, sentence, timeline.all.last());
    };
    match supervisor.progress {
        Progress::Queued { position } => queued(input, timeline, position),
        Progress::Preparing { stage } => preparing(input, timeline, stage),
        Progress::Claiming { .. } => preparing(input, timeline, Stage::Cli),
        Progress::Lost => replaced(input, timeline, None),
        // The row was read after the supervisor's state, so this supervisor stops without having written an end.
        Progress::Closing => Finding::new(
            Verdict::Resuming,
            "The session's supervisor is stopping; the session is resumed at the next reconciliation.",
            timeline.all.last(),
        ),
        Progress::Open { .. } | Progress::Attached => open(input, timeline, supervisor),
    }
}

fn since_start(input: &DiagnosisInput<'_>) -> String {
    format_elapsed(input.row.created_at_ms, input.now_ms)
}

fn queued<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>, position: u32) -> Finding<'a> {
    if let Some(waiting) = credential_use_faults::waits_for_other_use(timeline) {
        let other = waiting.sentence.trim_end_matches('.');
        let sentence = format!("{other}, {} after the session's start.", since_start(input));
        return Finding::new(Verdict::CredentialInUse, sentence, [waiting]);
    }
    let again = if timeline.machine.is_empty() { "" } else { " for another machine" };
    let previous = timeline.latest_exit().map_or_else(String::new, |(exit, why)| {
        format!("; the previous machine ended at {} because {}", format_time(exit), exit_cause_text(&why))
    });
    let sentence = format!(
        "The session waits for capacity{again}: it is number {position} in the queue, {} after its start{previous}.",
        since_start(input)
    );
    let evidence = timeline
        .of_kind(TimelineKind::Accepted)
        .chain(timeline.of_kind(TimelineKind::MachineExited))
        .chain(timeline.of_kind(TimelineKind::MachineReplaced));
    Finding::new(Verdict::WaitingForCapacity, sentence, evidence)
}

fn preparing<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>, stage: Stage) -> Finding<'a> {
    let restart = timeline.last_of_kind(TimelineKind::RestartRequested);
    let ready =
        timeline.last_of_kind(TimelineKind::MachineReady).or(timeline.last_of_kind(TimelineKind::MachineAdopted));
    if restart.is_some() || input.row.generation > 1 && ready.is_none() {
        return replaced(input, timeline, Some(stage));
    }
    if let Some(ready) = ready {
        let lost = timeline.last_of_kind(TimelineKind::ChannelLost);
        let error = lost.map(|lost| data_text(lost, "error")).filter(|error| !error.is_empty());
        let error = error.map_or_else(String::new, |error| format!(" ({})", quote(error)));
        let sentence = format!(
            "The machine was ready at {}, and the connection to its agent broke {}{error}; it is being reopened (waiting for {stage:?}).",
            format_time(ready),
            lost.map_or_else(|| "afterwards".to_owned(), |lost| format!("at {}", format_time(lost))),
        );
        return Finding::new(
            Verdict::AgentUnreachable,
            sentence,
            [ready].into_iter().chain(lost).chain(timeline.last_of_kind(TimelineKind::ChannelReopened)),
        );
    }
    let sentence =
        format!("The machine is starting: it waits for {stage:?}, {} after the session's start.", since_start(input));
    Finding::new(Verdict::MachineStarting, sentence, timeline.last_of_kind(TimelineKind::MachineRequested))
}

fn replaced<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>, stage: Option<Stage>) -> Finding<'a> {
    let why = match (timeline.last_of_kind(TimelineKind::RestartRequested), timeline.latest_exit()) {
        (Some(restart), _) => format!("A restart was requested at {}", format_time(restart)),
        (None, Some((exit, why))) => {
            format!("The previous machine ended at {} because {}", format_time(exit), exit_cause_text(&why))
        }
        (None, None) => {
            let detail = input.row.reason().and_then(|reason| reason.detail.clone()).unwrap_or_default();
            format!("The previous machine ended: {detail}")
        }
    };
    let next = match stage {
        Some(stage) => format!("machine {} is starting and waits for {stage:?}", input.row.generation),
        None => "another machine is being requested".to_owned(),
    };
    let evidence = timeline
        .of_kind(TimelineKind::MachineExited)
        .chain(timeline.of_kind(TimelineKind::MachineReplaced))
        .chain(timeline.last_of_kind(TimelineKind::RestartRequested))
        .chain(timeline.last_of_kind(TimelineKind::MachineRequested));
    Finding::new(Verdict::MachineBeingReplaced, format!("{why}; {next}."), evidence)
}

fn open<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>, supervisor: &SupervisorSnapshot) -> Finding<'a> {
    let using = input.row.purpose.credential_use();
    let fault = if using.is_some() {
        credential_use_faults::find_fault(input, timeline)
    } else {
        sign_in_faults::find_fault(input, timeline)
    };
    if let Some(fault) = fault {
        return fault;
    }
    if let Some(why) = &supervisor.agent_error {
        let sentence = format!("The machine runs, but its agent did not answer: {}.", quote(why));
        return Finding::new(Verdict::AgentUnreachable, sentence, timeline.last_of_kind(TimelineKind::MachineReady));
    }
    // A command can change its credential and run on: only the agent's state shows whether the change is being delivered.
    let accepted = sign_in_faults::last_rejected_candidate(timeline)
        .filter(|last| last.kind == TimelineKind::CandidateAccepted && using.is_none());
    if accepted.is_some() || matches!(supervisor.capture, CaptureState::Delivering { .. }) {
        let sentence = "A valid credential was found and is being delivered.";
        return Finding::new(Verdict::Delivering, sentence, accepted);
    }
    external_faults::find_fault(input, timeline)
        .or_else(|| guest_faults::find_memory_low(timeline))
        .or_else(|| desktop_unreachable(timeline))
        .or_else(|| proxy_without_upgrade(timeline))
        .or_else(|| proxy_fault(timeline))
        .or_else(|| using.map(|using| credential_use_faults::running_finding(timeline, using)))
        .or_else(|| external_faults::waiting_for_user_finding(input, timeline, supervisor))
        .unwrap_or_else(|| waiting_for_user(input, timeline, supervisor))
}

/// The last viewer was disconnected because the desktop did not answer.
fn desktop_unreachable<'a>(timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let kinds = [TimelineKind::ViewerJoined, TimelineKind::ViewerDisconnected, TimelineKind::ViewerRejected];
    let is_desktop_viewer =
        |entry: &&TimelineRow| kinds.contains(&entry.kind) && data_text(entry, "socket") != "terminal";
    let last = timeline.machine.iter().rfind(is_desktop_viewer)?;
    let unreachable = [Problem::DesktopUnreachable, Problem::AgentUnreachable].map(Problem::code);
    if !unreachable.contains(&data_text(last, "reason")) {
        return None;
    }
    let detail = Some(data_text(last, "detail")).filter(|detail| !detail.is_empty());
    let detail = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
    let sentence = format!(
        "The machine's desktop did not answer; the last viewer was disconnected at {}{detail}.",
        format_time(last)
    );
    let failed = timeline.machine.iter().filter(|entry| entry.kind == TimelineKind::StageFailed);
    Some(Finding::new(Verdict::DesktopUnreachable, sentence, failed.chain([last])))
}

/// The last viewer's WebSocket lost its `Upgrade` on the way.
fn proxy_without_upgrade<'a>(timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let kinds = [TimelineKind::ViewerJoined, TimelineKind::ViewerDisconnected, TimelineKind::ViewerRejected];
    let last = timeline.machine.iter().rfind(|entry| kinds.contains(&entry.kind))?;
    if data_text(last, "reason") != Problem::ProxyWithoutUpgrade.code() {
        return None;
    }
    let sentence = format!(
        "The request of a viewer for a WebSocket arrived without `Upgrade` at {}: a reverse proxy in front of this server does not \
         pass WebSockets on, so no desktop and no terminal can be shown.",
        format_time(last)
    );
    Some(Finding::new(Verdict::ProxyWithoutUpgrade, sentence, [last]))
}

/// What the page noticed last of a reverse proxy on its way.
fn proxy_fault<'a>(timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let last = timeline.last_of_kind(TimelineKind::ProxyFault)?;
    let is_lost_link = data_text(last, "reason") == Problem::LinkWithoutFragment.code();
    // The person has come in nevertheless.
    if is_lost_link
        && timeline.last_of_kind(TimelineKind::ViewerJoined).is_some_and(|joined| joined.number > last.number)
    {
        return None;
    }
    let sentence = format!("{} It was noticed at {}.", last.sentence, format_time(last));
    Some(Finding::new(Verdict::ProxyFault, sentence, [last]))
}

fn waiting_for_user<'a>(
    input: &DiagnosisInput<'_>,
    timeline: &TimelineView<'a>,
    supervisor: &SupervisorSnapshot,
) -> Finding<'a> {
    let viewers = match supervisor.desktop_viewers {
        0 => "no page shows its desktop".to_owned(),
        1 => "one viewer is connected".to_owned(),
        count => format!("{count} viewers are connected"),
    };
    let shown = timeline.last_of_kind(TimelineKind::SignInUrl).or(timeline.last_of_kind(TimelineKind::DeviceCode));
    let step = match shown {
        Some(entry) => format!("{} showed sign-in instructions at {}", input.tool, format_time(entry)),
        None => format!("{} runs", input.tool),
    };
    let ready =
        timeline.last_of_kind(TimelineKind::MachineReady).or(timeline.last_of_kind(TimelineKind::MachineAdopted));
    match supervisor.code {
        DeviceCodeState::Expired => return code_expired(input, timeline),
        DeviceCodeState::Unrecognized => return code_unrecognized(input, timeline),
        DeviceCodeState::Usual => {}
    }
    let closed = browser_closed(timeline);
    let browser = closed.map_or_else(String::new, |entry| {
        format!(", the machine's browser was closed at {} with the page in it", format_time(entry))
    });
    let sentence = format!("The machine is ready, {step}{browser}, and {viewers}: the session waits for the user.");
    Finding::new(
        Verdict::WaitingForUser,
        sentence,
        ready.into_iter().chain(timeline.last_of_kind(TimelineKind::CliStarted)).chain(shown).chain(closed),
    )
}

/// The code that the tool shows was not used in time, and the tool runs on.
fn code_expired<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Finding<'a> {
    let shown = timeline.last_of_kind(TimelineKind::DeviceCode);
    let at = shown.map_or_else(String::new, |entry| format!(" at {}", format_time(entry)));
    let sentence = format!("The code that {} showed{at} is no longer valid, and the tool has not ended.", input.tool);
    Finding::new(Verdict::CodeExpired, sentence, shown)
}

/// The tool has shown its address, and no text that the method's rule for codes matches.
fn code_unrecognized<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Finding<'a> {
    let shown = timeline.last_of_kind(TimelineKind::SignInUrl);
    let at = shown.map_or_else(String::new, |entry| format!(" at {}", format_time(entry)));
    let sentence = format!(
        "{} showed its address{at}, and nothing on its screen matches the method's `sign_in.code`: the session waits for the user, who sees the code in the terminal only.",
        input.tool
    );
    Finding::new(Verdict::WaitingForUser, sentence, shown)
        .with_remedy("Compare the method's `sign_in.code` with what the tool shows in its terminal.")
}

/// The end of the machine's browser, if a page was open in it and none was opened since.
fn browser_closed<'a>(timeline: &TimelineView<'a>) -> Option<&'a TimelineRow> {
    let is_closed =
        |entry: &TimelineRow| entry.kind == TimelineKind::ChildExited && data_text(entry, "name") == BROWSER;
    let last = timeline.machine.iter().rfind(|entry| entry.kind == TimelineKind::BrowserOpened || is_closed(entry))?;
    let had_page = timeline.last_of_kind(TimelineKind::BrowserOpened).is_some();
    (is_closed(last) && had_page).then_some(last)
}
