//! The chain: session → machine → channel → agent → display → tunnel → CLI → egress → credential, each as it was seen.

use super::{
    Input, Place,
    ended::cause,
    external,
    sign_in::{candidate, is_policy, refused_delivery},
    story::{Story, authority, intended, listed, number, quoted, text, when},
};
use crate::clock::rfc3339;
use anteroom_machine::GoneReason;
use anteroom_store::Outcome;
use anteroom_wire::{
    agent::{CliState, Stage},
    diagnosis::{ChainLink, Link, LinkState, Verdict},
};

pub(super) type Seen = (LinkState, String);

/// Every link, in order.
pub(super) fn chain(input: &Input<'_>, story: &Story<'_>, verdict: Verdict) -> Vec<ChainLink> {
    let links = [
        (Link::Session, session(input)),
        (Link::Machine, machine(input, story)),
        (Link::Channel, stage(input, story, Stage::Channel, Stage::Channel)),
        (Link::Agent, agent(input, story)),
        (Link::Display, stage(input, story, Stage::Display, Stage::Browser)),
        (Link::Tunnel, tunnel(input, story)),
        (Link::Cli, cli(input, story)),
        (Link::Egress, egress(story, verdict)),
        (Link::Credential, credential(input, story)),
    ];
    let told = links.into_iter().map(|(link, seen)| (link, external::link(input, story, link).unwrap_or(seen)));
    told.map(|(link, (state, seen))| ChainLink { link, state, seen }).collect()
}

fn seen(state: LinkState, words: impl Into<String>) -> Seen {
    (state, words.into())
}

fn session(input: &Input<'_>) -> Seen {
    let Some(end) = input.row.end() else {
        return seen(LinkState::Ok, format!("It lives since {}.", rfc3339(input.row.created_at_ms)));
    };
    let at = rfc3339(end.at_ms);
    match end.outcome {
        Outcome::Completed(_) => seen(LinkState::Ok, format!("It was completed at {at}.")),
        Outcome::Failed => seen(LinkState::Failed, format!("It failed at {at} ({}).", end.reason.problem.code())),
        Outcome::Cancelled => seen(LinkState::Failed, format!("It was cancelled at {at}.")),
        Outcome::Expired => seen(LinkState::Failed, format!("It expired at {at} ({}).", end.reason.problem.code())),
    }
}

fn machine(input: &Input<'_>, story: &Story<'_>) -> Seen {
    let place = input.now.as_ref().filter(|_| input.row.is_active()).map(|now| now.place);
    match place {
        Some(Place::Queued { position }) => {
            return seen(LinkState::Waiting, format!("It waits for room, number {position} in line."));
        }
        Some(Place::Lost) => return seen(LinkState::Waiting, "The former one is gone, another is asked for."),
        Some(Place::Preparing { stage: Stage::Process }) => {
            return seen(LinkState::Waiting, "Its process is starting.");
        }
        Some(Place::Preparing { .. } | Place::Claiming | Place::Open) => {
            return seen(LinkState::Ok, format!("Machine {} runs.", input.row.generation));
        }
        Some(Place::Closing) | None => {}
    }
    if let Some((entry, why)) = story.gone() {
        let state = if intended(&why) { LinkState::Ok } else { LinkState::Failed };
        return seen(state, format!("It ended at {} because {}.", when(entry), cause(&why)));
    }
    if let Some(entry) = story.last("machine_not_gone") {
        return seen(LinkState::Failed, entry.sentence.clone());
    }
    match &input.receipt {
        Some(why) => seen(LinkState::Failed, format!("Its receipt says that {}.", cause(why))),
        None if story.machine.is_empty() => seen(LinkState::NotReached, "None was asked for."),
        // Its owner stays until it is gone.
        None if input.now.is_some() && !input.row.is_active() => {
            seen(LinkState::Waiting, "It was told to end with its session and is not gone yet.")
        }
        None => seen(LinkState::Unknown, "It was asked for; its end is not on record."),
    }
}

/// A part of the start that begins with `first` and is up after `last`.
fn stage(input: &Input<'_>, story: &Story<'_>, first: Stage, last: Stage) -> Seen {
    if story.machine.is_empty() {
        return seen(LinkState::NotReached, "There was no machine.");
    }
    if let Some((entry, GoneReason::ReadyTimeout { stage, last_error, attempts, .. })) = story.gone() {
        return match () {
            () if stage > last => seen(LinkState::Ok, "It was up."),
            () if stage < first => seen(LinkState::NotReached, format!("The machine stayed at {stage:?}.")),
            () => {
                let error = last_error.map_or_else(String::new, |error| format!(": {}", quoted(&error)));
                seen(LinkState::Failed, format!("It was given up at {} after {attempts} attempts{error}.", when(entry)))
            }
        };
    }
    let place = input.now.as_ref().filter(|_| input.row.is_active()).map(|now| now.place);
    if let Some(Place::Preparing { stage }) = place {
        return match () {
            () if stage > last => seen(LinkState::Ok, "It is up."),
            () if stage < first => seen(LinkState::NotReached, format!("The machine waits for {stage:?}.")),
            () => seen(LinkState::Waiting, format!("The machine waits for {stage:?}.")),
        };
    }
    if matches!(place, Some(Place::Queued { .. } | Place::Lost)) {
        return seen(LinkState::NotReached, "There is no machine at the moment.");
    }
    let ready = story.last("machine_ready").or(story.last("machine_adopted")).or(story.last("claim_failed"));
    match ready {
        Some(entry) => {
            let failed = story.machine.iter().rfind(|entry| {
                entry.kind == "stage_failed"
                    && serde_json::from_value::<Stage>(entry.data["stage"].clone())
                        .is_ok_and(|stage| (first..=last).contains(&stage))
            });
            let trouble = failed.map_or_else(String::new, |entry| format!("; it failed for a time at {}", when(entry)));
            seen(LinkState::Ok, format!("It was up at {}{trouble}.", when(entry)))
        }
        None if place == Some(Place::Claiming) => seen(LinkState::Ok, "It is up."),
        None if input.row.is_active() => seen(LinkState::Unknown, "Nothing was heard of it yet."),
        None => seen(LinkState::NotReached, "The machine ended before it was ready."),
    }
}

fn agent(input: &Input<'_>, story: &Story<'_>) -> Seen {
    if let Some((entry, why @ GoneReason::Mismatch { .. })) = story.gone() {
        return seen(LinkState::Failed, format!("It was refused at {}: {}.", when(entry), cause(&why)));
    }
    if let Some(why) = input.now.as_ref().and_then(|now| now.silent.as_ref()) {
        return seen(LinkState::Failed, format!("It did not answer just now: {}.", quoted(why)));
    }
    match (story.last("claim_failed"), story.last("machine_ready")) {
        (Some(entry), None) => seen(LinkState::Failed, entry.sentence.clone()),
        _ => stage(input, story, Stage::Hello, Stage::Hello),
    }
}

fn tunnel(input: &Input<'_>, story: &Story<'_>) -> Seen {
    let viewers = input.now.as_ref().map_or(0, |now| now.viewers);
    if viewers > 0 && input.row.is_active() {
        return seen(LinkState::Ok, format!("{viewers} viewer(s) are connected."));
    }
    let kinds = ["viewer_joined", "viewer_left", "viewer_refused"];
    let Some(last) = story.all.iter().rfind(|entry| kinds.contains(&entry.kind.as_str())) else {
        return seen(LinkState::NotReached, "Nobody came to look at the desktop.");
    };
    let (at, reason) = (when(last), text(last, "reason"));
    match (last.kind.as_str(), reason) {
        ("viewer_refused", reason) => seen(LinkState::Failed, format!("A viewer was refused at {at} ({reason}).")),
        ("viewer_joined", _) => seen(LinkState::Ok, format!("A viewer came at {at}.")),
        (_, "" | "completed" | "cancelled" | "restarted" | "shutting_down") => {
            let bytes = number(last, "bytes_down").unwrap_or_default();
            seen(LinkState::Ok, format!("The last viewer left at {at}, after {bytes} bytes of pictures."))
        }
        (_, reason) => seen(LinkState::Failed, format!("The last viewer was disconnected at {at} ({reason}).")),
    }
}

fn cli(input: &Input<'_>, story: &Story<'_>) -> Seen {
    let place = input.now.as_ref().filter(|_| input.row.is_active()).map(|now| now.place);
    if !story.machine.is_empty() && matches!(place, Some(Place::Queued { .. } | Place::Lost)) {
        return seen(LinkState::NotReached, "There is no machine at the moment.");
    }
    let started = story.last("cli_started");
    let exit = story.last("cli_exited").filter(|exit| started.is_none_or(|started| started.number < exit.number));
    if let Some(exit) = exit {
        let code = number(exit, "code").unwrap_or_default();
        let delivered =
            candidate(story).is_some_and(|last| last.kind != "candidate_rejected") || input.row.credential().is_some();
        // What a command makes of its work is its own matter.
        let good = story.is_use() || code == 0 && delivered;
        let state = if good { LinkState::Ok } else { LinkState::Failed };
        return seen(state, format!("It ended with exit code {code} at {}.", when(exit)));
    }
    let running = input.now.as_ref().is_some_and(|now| now.cli == CliState::Running);
    match started {
        Some(entry) => seen(LinkState::Ok, format!("It was started at {}.", when(entry))),
        None if running => seen(LinkState::Ok, "It runs."),
        None => match story.machine.iter().rfind(|entry| entry.kind == "stage_failed" && text(entry, "stage") == "cli")
        {
            Some(failed) => {
                seen(LinkState::Failed, format!("It could not be started: {}.", quoted(text(failed, "error"))))
            }
            None if input.row.is_active() && story.last("machine_ready").is_some() => {
                seen(LinkState::Waiting, "It is being started.")
            }
            None => seen(LinkState::NotReached, "It was not started."),
        },
    }
}

fn egress(story: &Story<'_>, verdict: Verdict) -> Seen {
    let names = |entries: Vec<_>| entries.into_iter().map(authority).collect::<Vec<String>>();
    let granted = names(story.every("egress_granted").collect());
    let (policy, away): (Vec<_>, Vec<_>) = story.every("egress_refused").partition(|entry| is_policy(entry));
    let (policy, away) = (names(policy), names(away));
    let mut words = Vec::new();
    for (what, names) in [("Reached", &granted), ("Refused", &policy), ("Not reachable", &away)] {
        if !names.is_empty() {
            words.push(format!("{what}: {}.", listed(names)));
        }
    }
    if words.is_empty() {
        return seen(LinkState::NotReached, "Nothing was asked for.");
    }
    let to_blame = matches!(verdict, Verdict::EgressRefused | Verdict::EgressUnreachable);
    let nothing_reached = granted.is_empty() && !away.is_empty();
    seen(if to_blame || nothing_reached { LinkState::Failed } else { LinkState::Ok }, words.join(" "))
}

/// The stored credential of a use.
fn opened(story: &Story<'_>) -> Seen {
    match story.last("credential_opened") {
        Some(opened) => seen(LinkState::Ok, format!("It was opened for the machine at {}.", when(opened))),
        None => seen(LinkState::NotReached, "It is sealed; no machine was claimed for it."),
    }
}

fn credential(input: &Input<'_>, story: &Story<'_>) -> Seen {
    if let Some(id) = input.row.credential() {
        return seen(LinkState::Ok, format!("{id} is stored."));
    }
    let active = input.row.is_active();
    if let Some(entry) = refused_delivery(story) {
        let (reason, detail) = (text(entry, "reason"), text(entry, "detail"));
        let words = if detail.is_empty() { reason.to_owned() } else { format!("{reason}: {}", quoted(detail)) };
        return seen(LinkState::Failed, format!("Its delivery was refused for good at {} ({words}).", when(entry)));
    }
    match candidate(story) {
        Some(last) if last.kind == "candidate_rejected" => seen(
            LinkState::Failed,
            format!("{} is not whole at {}: {}.", text(last, "path"), when(last), quoted(text(last, "why"))),
        ),
        Some(last) if last.kind == "delivery_retry" => {
            seen(LinkState::Failed, format!("Its delivery failed at {}: {}.", when(last), quoted(text(last, "error"))))
        }
        None if story.is_use() => opened(story),
        Some(last) if last.kind == "candidate_accepted" && story.is_use() => opened(story),
        Some(last) if active => {
            seen(LinkState::Waiting, format!("It was found at {} and is being delivered.", when(last)))
        }
        Some(last) => seen(LinkState::Failed, format!("It was found at {} and was not delivered.", when(last))),
        None if story.is_use() => match story.last("credential_opened") {
            Some(opened) => seen(LinkState::Ok, format!("It was opened for the machine at {}.", when(opened))),
            None => seen(LinkState::NotReached, "It is sealed; no machine was claimed for it."),
        },
        None if active => seen(LinkState::Waiting, "No file has appeared."),
        None => seen(LinkState::NotReached, "No file appeared; nothing was delivered."),
    }
}
