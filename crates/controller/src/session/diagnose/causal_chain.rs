//! The status of each component: session → machine → channel → agent → display → tunnel → CLI → egress → credential.

use super::{
    DiagnosisInput, Progress,
    egress_faults::is_denied_by_policy,
    ended_verdict::exit_cause_text,
    external_faults,
    observation::{Observation, new_observation},
    sign_in_faults::{find_unstarted, last_rejected_candidate, last_rejected_delivery, start_error},
    timeline_view::{
        TimelineView, data_number, data_text, format_list, format_time, host_and_port, is_intended, quote,
    },
};
use crate::unix_time::format_rfc3339;
use anteroom_machine::ExitReason;
use anteroom_store::SessionOutcome;
use anteroom_wire::{
    TimelineKind,
    agent::{CliState, Stage},
    diagnosis::{Component, ComponentState, ComponentStatus, Verdict},
};

/// The status of every component, in order.
pub(super) fn causal_chain(
    input: &DiagnosisInput<'_>,
    timeline: &TimelineView<'_>,
    verdict: Verdict,
) -> Vec<ComponentStatus> {
    let components = [
        (Component::Session, session(input)),
        (Component::Machine, machine(input, timeline)),
        (Component::Channel, stage(input, timeline, Stage::Channel, Stage::Channel)),
        (Component::Agent, agent(input, timeline)),
        (Component::Display, stage(input, timeline, Stage::Display, Stage::Browser)),
        (Component::Tunnel, tunnel(input, timeline)),
        (Component::Cli, cli(input, timeline)),
        (Component::Egress, egress(timeline, verdict)),
        (Component::Credential, credential(input, timeline)),
    ];
    let statuses = components.into_iter().map(|(component, status)| {
        let (state, detail) = external_faults::observe_component(input, timeline, component).unwrap_or(status);
        ComponentStatus { component, state, detail }
    });
    statuses.collect()
}

fn session(input: &DiagnosisInput<'_>) -> Observation {
    let Some(end) = input.row.end() else {
        return new_observation(
            ComponentState::Ok,
            format!("It has been active since {}.", format_rfc3339(input.row.created_at_ms)),
        );
    };
    let at = format_rfc3339(end.at_ms);
    match end.outcome {
        SessionOutcome::Completed(_) => new_observation(ComponentState::Ok, format!("It was completed at {at}.")),
        SessionOutcome::Failed => {
            new_observation(ComponentState::Failed, format!("It failed at {at} ({}).", end.reason.kind.code()))
        }
        SessionOutcome::Cancelled => new_observation(ComponentState::Failed, format!("It was cancelled at {at}.")),
        SessionOutcome::Expired => {
            new_observation(ComponentState::Failed, format!("It expired at {at} ({}).", end.reason.kind.code()))
        }
    }
}

fn machine(input: &DiagnosisInput<'_>, timeline: &TimelineView<'_>) -> Observation {
    let progress = input.supervisor.as_ref().filter(|_| input.row.is_active()).map(|supervisor| supervisor.progress);
    match progress {
        Some(Progress::Queued { position }) => {
            return new_observation(
                ComponentState::Waiting,
                format!("It waits for capacity: number {position} in the queue."),
            );
        }
        Some(Progress::Lost) => {
            return new_observation(
                ComponentState::Waiting,
                "The previous machine exited; another one is being requested.",
            );
        }
        Some(Progress::Preparing { stage: Stage::Process }) => {
            return new_observation(ComponentState::Waiting, "Its process is starting.");
        }
        Some(Progress::Preparing { .. } | Progress::Claiming { .. } | Progress::Open { .. } | Progress::Attached) => {
            return new_observation(ComponentState::Ok, format!("Machine {} is running.", input.row.generation));
        }
        Some(Progress::Closing) | None => {}
    }
    if let Some((entry, why)) = timeline.last_machine_exit() {
        let state = if is_intended(&why) { ComponentState::Ok } else { ComponentState::Failed };
        return new_observation(
            state,
            format!("It ended at {} because {}.", format_time(entry), exit_cause_text(&why)),
        );
    }
    if let Some(entry) = timeline.last_of_kind(TimelineKind::MachineNotRemoved) {
        return new_observation(ComponentState::Failed, entry.sentence.clone());
    }
    match &input.receipt {
        Some(why) => {
            new_observation(ComponentState::Failed, format!("Its receipt records that {}.", exit_cause_text(why)))
        }
        None if timeline.machine.is_empty() => new_observation(ComponentState::NotReached, "No machine was requested."),
        // The supervisor of an ended session runs until the machine is removed.
        None if input.supervisor.is_some() && !input.row.is_active() => {
            new_observation(ComponentState::Waiting, "It is being stopped with its session.")
        }
        None => new_observation(ComponentState::Unknown, "It was requested; its end is not recorded."),
    }
}

/// A component whose start begins with the stage `first` and ends with the stage `last`.
fn stage(input: &DiagnosisInput<'_>, timeline: &TimelineView<'_>, first: Stage, last: Stage) -> Observation {
    if timeline.machine.is_empty() {
        return new_observation(ComponentState::NotReached, "There was no machine.");
    }
    if let Some((entry, ExitReason::ReadyTimeout { stage, last_error, attempts, .. })) = timeline.last_machine_exit() {
        return match () {
            () if stage > last => new_observation(ComponentState::Ok, "It was ready."),
            () if stage < first => {
                new_observation(ComponentState::NotReached, format!("The machine did not get past {stage:?}."))
            }
            () => {
                let error = last_error.map_or_else(String::new, |error| format!(": {}", quote(&error)));
                new_observation(
                    ComponentState::Failed,
                    format!("It timed out at {} after {attempts} attempts{error}.", format_time(entry)),
                )
            }
        };
    }
    let progress = input.supervisor.as_ref().filter(|_| input.row.is_active()).map(|supervisor| supervisor.progress);
    if let Some(Progress::Preparing { stage }) = progress {
        return match () {
            () if stage > last => new_observation(ComponentState::Ok, "It is ready."),
            () if stage < first => {
                new_observation(ComponentState::NotReached, format!("The machine waits for {stage:?}."))
            }
            () => new_observation(ComponentState::Waiting, format!("The machine waits for {stage:?}.")),
        };
    }
    if matches!(progress, Some(Progress::Queued { .. } | Progress::Lost)) {
        return new_observation(ComponentState::NotReached, "There is no machine at the moment.");
    }
    let ready = timeline
        .last_of_kind(TimelineKind::MachineReady)
        .or(timeline.last_of_kind(TimelineKind::MachineAdopted))
        .or(timeline.last_of_kind(TimelineKind::ClaimFailed));
    match ready {
        Some(entry) => {
            let failed = timeline.machine.iter().rfind(|entry| {
                entry.kind == TimelineKind::StageFailed
                    && serde_json::from_value::<Stage>(entry.data["stage"].clone())
                        .is_ok_and(|stage| (first..=last).contains(&stage))
            });
            let failure =
                failed.map_or_else(String::new, |entry| format!("; it failed temporarily at {}", format_time(entry)));
            new_observation(ComponentState::Ok, format!("It was ready at {}{failure}.", format_time(entry)))
        }
        None if progress == Some(Progress::Claiming { channels: () }) => {
            new_observation(ComponentState::Ok, "It is ready.")
        }
        None if input.row.is_active() => new_observation(ComponentState::Unknown, "It has not reported yet."),
        None => new_observation(ComponentState::NotReached, "The machine ended before it was ready."),
    }
}

fn agent(input: &DiagnosisInput<'_>, timeline: &TimelineView<'_>) -> Observation {
    if let Some((entry, why @ ExitReason::Mismatch { .. })) = timeline.last_machine_exit() {
        return new_observation(
            ComponentState::Failed,
            format!("It was rejected at {}: {}.", format_time(entry), exit_cause_text(&why)),
        );
    }
    if let Some(why) = input.supervisor.as_ref().and_then(|supervisor| supervisor.agent_error.as_ref()) {
        return new_observation(ComponentState::Failed, format!("It did not answer: {}.", quote(why)));
    }
    match (timeline.last_of_kind(TimelineKind::ClaimFailed), timeline.last_of_kind(TimelineKind::MachineReady)) {
        (Some(entry), None) => new_observation(ComponentState::Failed, entry.sentence.clone()),
        _ => stage(input, timeline, Stage::Hello, Stage::Hello),
    }
}

fn tunnel(input: &DiagnosisInput<'_>, timeline: &TimelineView<'_>) -> Observation {
    let viewers = input.supervisor.as_ref().map_or(0, |supervisor| supervisor.desktop_viewers);
    if viewers > 0 && input.row.is_active() {
        return new_observation(ComponentState::Ok, format!("{viewers} viewer(s) are connected."));
    }
    let kinds = [TimelineKind::ViewerJoined, TimelineKind::ViewerDisconnected, TimelineKind::ViewerRejected];
    let Some(last) = timeline.all.iter().rfind(|entry| kinds.contains(&entry.kind)) else {
        return new_observation(ComponentState::NotReached, "No viewer has connected to the desktop.");
    };
    let (at, reason) = (format_time(last), data_text(last, "reason"));
    match (last.kind, reason) {
        (TimelineKind::ViewerRejected, reason) => {
            new_observation(ComponentState::Failed, format!("A viewer was rejected at {at} ({reason})."))
        }
        (TimelineKind::ViewerJoined, _) => new_observation(ComponentState::Ok, format!("A viewer connected at {at}.")),
        (_, "" | "completed" | "cancelled" | "machine_replaced" | "cluster_contact_lost" | "shutting_down") => {
            let bytes = data_number(last, "bytes_down").unwrap_or_default();
            new_observation(
                ComponentState::Ok,
                format!("The last viewer disconnected at {at} after receiving {bytes} bytes."),
            )
        }
        (_, reason) => {
            new_observation(ComponentState::Failed, format!("The last viewer was disconnected at {at} ({reason})."))
        }
    }
}

fn cli(input: &DiagnosisInput<'_>, timeline: &TimelineView<'_>) -> Observation {
    let progress = input.supervisor.as_ref().filter(|_| input.row.is_active()).map(|supervisor| supervisor.progress);
    if !timeline.machine.is_empty() && matches!(progress, Some(Progress::Queued { .. } | Progress::Lost)) {
        return new_observation(ComponentState::NotReached, "There is no machine at the moment.");
    }
    let started = timeline.last_of_kind(TimelineKind::CliStarted);
    let exit = timeline
        .last_of_kind(TimelineKind::CliExited)
        .filter(|exit| started.is_none_or(|started| started.number < exit.number));
    if let Some(exit) = exit {
        let code = data_number(exit, "code").unwrap_or_default();
        let delivered = last_rejected_candidate(timeline)
            .is_some_and(|last| last.kind != TimelineKind::CandidateRejected)
            || input.row.credential().is_some();
        // The exit code of a command that uses a credential is not a fault.
        let ok = timeline.is_credential_use() || code == 0 && delivered;
        let state = if ok { ComponentState::Ok } else { ComponentState::Failed };
        return new_observation(state, format!("It ended with exit code {code} at {}.", format_time(exit)));
    }
    let running = input.supervisor.as_ref().is_some_and(|supervisor| supervisor.cli == CliState::Running);
    match started {
        Some(entry) => new_observation(ComponentState::Ok, format!("It was started at {}.", format_time(entry))),
        None if running => new_observation(ComponentState::Ok, "It is running."),
        None => match find_unstarted(input, timeline) {
            Some(failed) => new_observation(
                ComponentState::Failed,
                format!("It could not be started: {}.", quote(&start_error(failed))),
            ),
            None if input.row.is_active() && timeline.last_of_kind(TimelineKind::MachineReady).is_some() => {
                new_observation(ComponentState::Waiting, "It is being started.")
            }
            None => new_observation(ComponentState::NotReached, "It was not started."),
        },
    }
}

fn egress(timeline: &TimelineView<'_>, verdict: Verdict) -> Observation {
    let hosts = |entries: Vec<_>| entries.into_iter().map(host_and_port).collect::<Vec<String>>();
    let allowed = hosts(timeline.of_kind(TimelineKind::EgressAllowed).collect());
    let (denied, unreachable): (Vec<_>, Vec<_>) =
        timeline.of_kind(TimelineKind::EgressDenied).partition(|entry| is_denied_by_policy(entry));
    let (denied, unreachable) = (hosts(denied), hosts(unreachable));
    let mut sentences = Vec::new();
    for (result, names) in [("Reached", &allowed), ("Denied", &denied), ("Unreachable", &unreachable)] {
        if !names.is_empty() {
            sentences.push(format!("{result}: {}.", format_list(names)));
        }
    }
    if sentences.is_empty() {
        return new_observation(ComponentState::NotReached, "No connection was requested.");
    }
    let is_cause = matches!(verdict, Verdict::EgressDenied | Verdict::EgressUnreachable | Verdict::EgressProxy);
    let nothing_reached = allowed.is_empty() && !unreachable.is_empty();
    new_observation(
        if is_cause || nothing_reached { ComponentState::Failed } else { ComponentState::Ok },
        sentences.join(" "),
    )
}

/// The stored credential of a credential use.
fn unsealed(timeline: &TimelineView<'_>) -> Observation {
    match timeline.last_of_kind(TimelineKind::CredentialUnsealed) {
        Some(entry) => {
            new_observation(ComponentState::Ok, format!("It was unsealed for the machine at {}.", format_time(entry)))
        }
        None => new_observation(ComponentState::NotReached, "It is sealed; no machine was claimed for it."),
    }
}

fn credential(input: &DiagnosisInput<'_>, timeline: &TimelineView<'_>) -> Observation {
    if let Some(id) = input.row.credential() {
        return new_observation(ComponentState::Ok, format!("{id} is stored."));
    }
    let active = input.row.is_active();
    if let Some(entry) = last_rejected_delivery(timeline) {
        let (reason, detail) = (data_text(entry, "reason"), data_text(entry, "detail"));
        let cause = if detail.is_empty() { reason.to_owned() } else { format!("{reason}: {}", quote(detail)) };
        return new_observation(
            ComponentState::Failed,
            format!("Its delivery was rejected at {} and is not retried ({cause}).", format_time(entry)),
        );
    }
    match last_rejected_candidate(timeline) {
        Some(last) if last.kind == TimelineKind::CandidateRejected => new_observation(
            ComponentState::Failed,
            format!(
                "{} was not a valid credential at {}: {}.",
                data_text(last, "path"),
                format_time(last),
                quote(data_text(last, "why"))
            ),
        ),
        Some(last) if last.kind == TimelineKind::DeliveryRetry => new_observation(
            ComponentState::Failed,
            format!("Its delivery failed at {}: {}.", format_time(last), quote(data_text(last, "error"))),
        ),
        None if timeline.is_credential_use() => unsealed(timeline),
        Some(last) if last.kind == TimelineKind::CandidateAccepted && timeline.is_credential_use() => {
            unsealed(timeline)
        }
        Some(last) if active => new_observation(
            ComponentState::Waiting,
            format!("It was found at {} and is being delivered.", format_time(last)),
        ),
        Some(last) => new_observation(
            ComponentState::Failed,
            format!("It was found at {} and was not delivered.", format_time(last)),
        ),

        None if active => new_observation(ComponentState::Waiting, "No file has appeared."),
        None => new_observation(ComponentState::NotReached, "No file appeared; nothing was delivered."),
    }
}
