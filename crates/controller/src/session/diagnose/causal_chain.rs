//! The chain: session → machine → channel → agent → display → tunnel → CLI → egress → credential, each as it was seen.

use super::{
    Input, MachineProgress,
    ended_verdict::cause,
    external,
    observation::{Observation, observation},
    sign_in::{candidate, is_policy, refused_delivery},
    timeline_view::{TimelineView, authority, intended, listed, number, quoted, text, when},
};
use crate::clock::rfc3339;
use anteroom_machine::ExitReason;
use anteroom_store::Outcome;
use anteroom_wire::{
    agent::{CliState, Stage},
    diagnosis::{ComponentStatus, Component, ComponentState, Verdict},
};

/// Every link, in order.
pub(super) fn causal_chain(input: &Input<'_>, timeline: &TimelineView<'_>, verdict: Verdict) -> Vec<ComponentStatus> {
    let links = [
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
    let told = links.into_iter().map(|(link, seen)| (link, external::link(input, timeline, link).unwrap_or(seen)));
    told.map(|(component, (state, detail))| ComponentStatus { component, state, detail }).collect()
}

fn session(input: &Input<'_>) -> Observation {
    let Some(end) = input.row.end() else {
        return observation(ComponentState::Ok, format!("It lives since {}.", rfc3339(input.row.created_at_ms)));
    };
    let at = rfc3339(end.at_ms);
    match end.outcome {
        SessionOutcome::Completed(_) => observation(ComponentState::Ok, format!("It was completed at {at}.")),
        SessionOutcome::Failed => observation(ComponentState::Failed, format!("It failed at {at} ({}).", end.reason.problem.code())),
        SessionOutcome::Cancelled => observation(ComponentState::Failed, format!("It was cancelled at {at}.")),
        SessionOutcome::Expired => observation(ComponentState::Failed, format!("It expired at {at} ({}).", end.reason.problem.code())),
    }
}

fn machine(input: &Input<'_>, timeline: &TimelineView<'_>) -> Observation {
    let progress = input.supervisor.as_ref().filter(|_| input.row.is_active()).map(|supervisor| supervisor.progress);
    match progress {
        Some(MachineProgress::Queued { position }) => {
            return observation(ComponentState::Waiting, format!("It waits for room, number {position} in line."));
        }
        Some(MachineProgress::Lost) => return observation(ComponentState::Waiting, "The former one is gone, another is asked for."),
        Some(MachineProgress::Preparing { stage: Stage::Process }) => {
            return observation(ComponentState::Waiting, "Its process is starting.");
        }
        Some(MachineProgress::Preparing { .. } | MachineProgress::Claiming | MachineProgress::Open) => {
            return observation(ComponentState::Ok, format!("Machine {} runs.", input.row.generation));
        }
        Some(MachineProgress::Closing) | None => {}
    }
    if let Some((entry, why)) = timeline.gone() {
        let state = if intended(&why) { ComponentState::Ok } else { ComponentState::Failed };
        return observation(state, format!("It ended at {} because {}.", when(entry), cause(&why)));
    }
    if let Some(entry) = timeline.last("machine_not_removed") {
        return observation(ComponentState::Failed, entry.sentence.clone());
    }
    match &input.receipt {
        Some(why) => observation(ComponentState::Failed, format!("Its receipt says that {}.", cause(why))),
        None if timeline.machine.is_empty() => observation(ComponentState::NotReached, "None was asked for."),
        // Its owner stays until it is gone.
        None if input.supervisor.is_some() && !input.row.is_active() => {
            observation(ComponentState::Waiting, "It was told to end with its session and is not gone yet.")
        }
        None => observation(ComponentState::Unknown, "It was asked for; its end is not on record."),
    }
}

/// A part of the start that begins with `first` and is up after `last`.
fn stage(input: &Input<'_>, timeline: &TimelineView<'_>, first: Stage, last: Stage) -> Observation {
    if timeline.machine.is_empty() {
        return observation(ComponentState::NotReached, "There was no machine.");
    }
    if let Some((entry, ExitReason::ReadyTimeout { stage, last_error, attempts, .. })) = timeline.gone() {
        return match () {
            () if stage > last => observation(ComponentState::Ok, "It was up."),
            () if stage < first => observation(ComponentState::NotReached, format!("The machine stayed at {stage:?}.")),
            () => {
                let error = last_error.map_or_else(String::new, |error| format!(": {}", quoted(&error)));
                observation(ComponentState::Failed, format!("It was given up at {} after {attempts} attempts{error}.", when(entry)))
            }
        };
    }
    let progress = input.supervisor.as_ref().filter(|_| input.row.is_active()).map(|supervisor| supervisor.progress);
    if let Some(MachineProgress::Preparing { stage }) = progress {
        return match () {
            () if stage > last => observation(ComponentState::Ok, "It is up."),
            () if stage < first => observation(ComponentState::NotReached, format!("The machine waits for {stage:?}.")),
            () => observation(ComponentState::Waiting, format!("The machine waits for {stage:?}.")),
        };
    }
    if matches!(progress, Some(MachineProgress::Queued { .. } | MachineProgress::Lost)) {
        return observation(ComponentState::NotReached, "There is no machine at the moment.");
    }
    let ready = timeline.last("machine_ready").or(timeline.last("machine_adopted")).or(timeline.last("claim_failed"));
    match ready {
        Some(entry) => {
            let failed = timeline.machine.iter().rfind(|entry| {
                entry.kind == "stage_failed"
                    && serde_json::from_value::<Stage>(entry.data["stage"].clone())
                        .is_ok_and(|stage| (first..=last).contains(&stage))
            });
            let trouble = failed.map_or_else(String::new, |entry| format!("; it failed for a time at {}", when(entry)));
            observation(ComponentState::Ok, format!("It was up at {}{trouble}.", when(entry)))
        }
        None if progress == Some(MachineProgress::Claiming) => observation(ComponentState::Ok, "It is up."),
        None if input.row.is_active() => observation(ComponentState::Unknown, "Nothing was heard of it yet."),
        None => observation(ComponentState::NotReached, "The machine ended before it was ready."),
    }
}

fn agent(input: &Input<'_>, timeline: &TimelineView<'_>) -> Observation {
    if let Some((entry, why @ ExitReason::Mismatch { .. })) = timeline.gone() {
        return observation(ComponentState::Failed, format!("It was refused at {}: {}.", when(entry), cause(&why)));
    }
    if let Some(why) = input.supervisor.as_ref().and_then(|supervisor| supervisor.agent_error.as_ref()) {
        return observation(ComponentState::Failed, format!("It did not answer just now: {}.", quoted(why)));
    }
    match (timeline.last("claim_failed"), timeline.last("machine_ready")) {
        (Some(entry), None) => observation(ComponentState::Failed, entry.sentence.clone()),
        _ => stage(input, timeline, Stage::Hello, Stage::Hello),
    }
}

fn tunnel(input: &Input<'_>, timeline: &TimelineView<'_>) -> Observation {
    let viewers = input.supervisor.as_ref().map_or(0, |supervisor| supervisor.viewers);
    if viewers > 0 && input.row.is_active() {
        return observation(ComponentState::Ok, format!("{viewers} viewer(s) are connected."));
    }
    let kinds = ["viewer_joined", "viewer_left", "viewer_rejected"];
    let Some(last) = timeline.all.iter().rfind(|entry| kinds.contains(&entry.kind.as_str())) else {
        return observation(ComponentState::NotReached, "Nobody came to look at the desktop.");
    };
    let (at, reason) = (when(last), text(last, "reason"));
    match (last.kind.as_str(), reason) {
        ("viewer_rejected", reason) => observation(ComponentState::Failed, format!("A viewer was refused at {at} ({reason}).")),
        ("viewer_joined", _) => observation(ComponentState::Ok, format!("A viewer came at {at}.")),
        (_, "" | "completed" | "cancelled" | "machine_replaced" | "shutting_down") => {
            let bytes = number(last, "bytes_down").unwrap_or_default();
            observation(ComponentState::Ok, format!("The last viewer left at {at}, after {bytes} bytes of pictures."))
        }
        (_, reason) => observation(ComponentState::Failed, format!("The last viewer was disconnected at {at} ({reason}).")),
    }
}

fn cli(input: &Input<'_>, timeline: &TimelineView<'_>) -> Observation {
    let progress = input.supervisor.as_ref().filter(|_| input.row.is_active()).map(|supervisor| supervisor.progress);
    if !timeline.machine.is_empty() && matches!(progress, Some(MachineProgress::Queued { .. } | MachineProgress::Lost)) {
        return observation(ComponentState::NotReached, "There is no machine at the moment.");
    }
    let started = timeline.last("cli_started");
    let exit = timeline.last("cli_exited").filter(|exit| started.is_none_or(|started| started.number < exit.number));
    if let Some(exit) = exit {
        let code = number(exit, "code").unwrap_or_default();
        let delivered =
            candidate(timeline).is_some_and(|last| last.kind != "candidate_rejected") || input.row.credential().is_some();
        // What a command makes of its work is its own matter.
        let good = timeline.is_use() || code == 0 && delivered;
        let state = if good { ComponentState::Ok } else { ComponentState::Failed };
        return observation(state, format!("It ended with exit code {code} at {}.", when(exit)));
    }
    let running = input.supervisor.as_ref().is_some_and(|supervisor| supervisor.cli == CliState::Running);
    match started {
        Some(entry) => observation(ComponentState::Ok, format!("It was started at {}.", when(entry))),
        None if running => observation(ComponentState::Ok, "It runs."),
        None => match timeline.machine.iter().rfind(|entry| entry.kind == "stage_failed" && text(entry, "stage") == "cli")
        {
            Some(failed) => {
                observation(ComponentState::Failed, format!("It could not be started: {}.", quoted(text(failed, "error"))))
            }
            None if input.row.is_active() && timeline.last("machine_ready").is_some() => {
                observation(ComponentState::Waiting, "It is being started.")
            }
            None => observation(ComponentState::NotReached, "It was not started."),
        },
    }
}

fn egress(timeline: &TimelineView<'_>, verdict: Verdict) -> Observation {
    let names = |entries: Vec<_>| entries.into_iter().map(authority).collect::<Vec<String>>();
    let granted = names(timeline.every("egress_allowed").collect());
    let (policy, away): (Vec<_>, Vec<_>) = timeline.every("egress_denied").partition(|entry| is_policy(entry));
    let (policy, away) = (names(policy), names(away));
    let mut words = Vec::new();
    for (what, names) in [("Reached", &granted), ("Refused", &policy), ("Not reachable", &away)] {
        if !names.is_empty() {
            words.push(format!("{what}: {}.", listed(names)));
        }
    }
    if words.is_empty() {
        return observation(ComponentState::NotReached, "Nothing was asked for.");
    }
    let to_blame = matches!(verdict, Verdict::EgressDenied | Verdict::EgressUnreachable);
    let nothing_reached = granted.is_empty() && !away.is_empty();
    observation(if to_blame || nothing_reached { ComponentState::Failed } else { ComponentState::Ok }, words.join(" "))
}

/// The stored credential of a use.
fn opened(timeline: &TimelineView<'_>) -> Observation {
    match timeline.last("credential_unsealed") {
        Some(opened) => observation(ComponentState::Ok, format!("It was opened for the machine at {}.", when(opened))),
        None => observation(ComponentState::NotReached, "It is sealed; no machine was claimed for it."),
    }
}

fn credential(input: &Input<'_>, timeline: &TimelineView<'_>) -> Observation {
    if let Some(id) = input.row.credential() {
        return observation(ComponentState::Ok, format!("{id} is stored."));
    }
    let active = input.row.is_active();
    if let Some(entry) = refused_delivery(timeline) {
        let (reason, detail) = (text(entry, "reason"), text(entry, "detail"));
        let words = if detail.is_empty() { reason.to_owned() } else { format!("{reason}: {}", quoted(detail)) };
        return observation(ComponentState::Failed, format!("Its delivery was refused for good at {} ({words}).", when(entry)));
    }
    match candidate(timeline) {
        Some(last) if last.kind == "candidate_rejected" => observation(
            ComponentState::Failed,
            format!("{} is not whole at {}: {}.", text(last, "path"), when(last), quoted(text(last, "why"))),
        ),
        Some(last) if last.kind == "delivery_retry" => {
            observation(ComponentState::Failed, format!("Its delivery failed at {}: {}.", when(last), quoted(text(last, "error"))))
        }
        None if timeline.is_use() => opened(timeline),
        Some(last) if last.kind == "candidate_accepted" && timeline.is_use() => opened(timeline),
        Some(last) if active => {
            observation(ComponentState::Waiting, format!("It was found at {} and is being delivered.", when(last)))
        }
        Some(last) => observation(ComponentState::Failed, format!("It was found at {} and was not delivered.", when(last))),
        None if timeline.is_use() => match timeline.last("credential_unsealed") {
            Some(opened) => observation(ComponentState::Ok, format!("It was opened for the machine at {}.", when(opened))),
            None => observation(ComponentState::NotReached, "It is sealed; no machine was claimed for it."),
        },
        None if active => observation(ComponentState::Waiting, "No file has appeared."),
        None => observation(ComponentState::NotReached, "No file appeared; nothing was delivered."),
    }
}
