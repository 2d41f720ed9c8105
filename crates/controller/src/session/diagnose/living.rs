//! What a session that lives waits for, and what is wrong with it.

use super::{
    Finding, Input, Now, Place,
    ended::cause,
    external, guest, sign_in,
    story::{Story, elapsed, quoted, text, when},
    uses,
};
use anteroom_store::TimelineRow;
use anteroom_wire::{
    Problem,
    agent::{CaptureState, Stage},
    diagnosis::Verdict,
};

/// The verdict on a session that lives.
pub(super) fn verdict<'a>(input: &Input<'_>, story: &Story<'a>) -> Finding<'a> {
    let Some(now) = &input.now else {
        let sentence = "No task of this server runs the session at this moment; it is taken over at the next sweep.";
        return Finding::new(Verdict::Resuming, sentence, story.all.last());
    };
    match now.place {
        Place::Queued { position } => queued(input, story, position),
        Place::Preparing { stage } => preparing(input, story, stage),
        Place::Claiming => preparing(input, story, Stage::Cli),
        Place::Lost => replaced(input, story, None),
        // The row is read after the owner's knowledge, so an owner that lets go without an end written is lost.
        Place::Closing => Finding::new(
            Verdict::Resuming,
            "The session's machine is being let go; the session is taken over at the next sweep.",
            story.all.last(),
        ),
        Place::Open => open(input, story, now),
    }
}

fn since_start(input: &Input<'_>) -> String {
    elapsed(input.row.created_at_ms, input.now_ms)
}

fn queued<'a>(input: &Input<'_>, story: &Story<'a>, position: u32) -> Finding<'a> {
    let again = if story.machine.is_empty() { "" } else { " for another machine" };
    let former = story.last_gone().map_or_else(String::new, |(gone, why)| {
        format!("; the former one ended at {} because {}", when(gone), cause(&why))
    });
    let sentence = format!(
        "The session waits for room{again}: it is number {position} in line, {} after its start{former}.",
        since_start(input)
    );
    let proof = story.every("accepted").chain(story.every("machine_gone")).chain(story.every("machine_replaced"));
    Finding::new(Verdict::WaitingForCapacity, sentence, proof)
}

fn preparing<'a>(input: &Input<'_>, story: &Story<'a>, stage: Stage) -> Finding<'a> {
    let asked = story.last("restart_asked");
    let ready = story.last("machine_ready").or(story.last("machine_adopted"));
    if asked.is_some() || input.row.generation > 1 && ready.is_none() {
        return replaced(input, story, Some(stage));
    }
    if let Some(ready) = ready {
        let lost = story.last("channel_lost");
        let error = lost.map(|lost| text(lost, "error")).filter(|error| !error.is_empty());
        let error = error.map_or_else(String::new, |error| format!(" ({})", quoted(error)));
        let sentence = format!(
            "The machine was ready at {} and the way to its agent broke {}{error}; it is being opened again (waiting for {stage:?}).",
            when(ready),
            lost.map_or_else(|| "since".to_owned(), |lost| format!("at {}", when(lost))),
        );
        return Finding::new(
            Verdict::AgentUnreachable,
            sentence,
            [ready].into_iter().chain(lost).chain(story.last("channel_reopened")),
        );
    }
    let sentence =
        format!("The machine is starting: it waits for {stage:?}, {} after the session's start.", since_start(input));
    Finding::new(Verdict::MachineStarting, sentence, story.last("machine_requested"))
}

fn replaced<'a>(input: &Input<'_>, story: &Story<'a>, stage: Option<Stage>) -> Finding<'a> {
    let why = match (story.last("restart_asked"), story.last_gone()) {
        (Some(asked), _) => format!("Another machine was asked for at {}", when(asked)),
        (None, Some((gone, why))) => format!("The former machine ended at {} because {}", when(gone), cause(&why)),
        (None, None) => {
            let detail = input.row.reason().and_then(|reason| reason.detail.clone()).unwrap_or_default();
            format!("The former machine ended: {detail}")
        }
    };
    let next = match stage {
        Some(stage) => format!("machine {} is starting and waits for {stage:?}", input.row.generation),
        None => "another one is asked for".to_owned(),
    };
    let proof = story
        .every("machine_gone")
        .chain(story.every("machine_replaced"))
        .chain(story.last("restart_asked"))
        .chain(story.last("machine_requested"));
    Finding::new(Verdict::MachineBeingReplaced, format!("{why}; {next}."), proof)
}

fn open<'a>(input: &Input<'_>, story: &Story<'a>, now: &Now) -> Finding<'a> {
    let using = input.row.aim.uses();
    let fault = if using.is_some() { uses::fault(input, story) } else { sign_in::fault(input, story) };
    if let Some(fault) = fault {
        return fault;
    }
    if let Some(why) = &now.silent {
        let sentence = format!("The machine runs and its agent did not answer just now: {}.", quoted(why));
        return Finding::new(Verdict::AgentUnreachable, sentence, story.last("machine_ready"));
    }
    // What a command changes is delivered while it goes on: the agent says whether that is so now.
    let accepted = sign_in::candidate(story).filter(|last| last.kind == "candidate_accepted" && using.is_none());
    if accepted.is_some() || matches!(now.capture, CaptureState::Delivering { .. }) {
        let sentence = "A whole credential was found and is being delivered.";
        return Finding::new(Verdict::Delivering, sentence, accepted);
    }
    external::fault(input, story)
        .or_else(|| guest::memory_low(story))
        .or_else(|| desktop_away(story))
        .or_else(|| using.map(|using| uses::runs(story, using)))
        .or_else(|| external::person(input, story, now))
        .unwrap_or_else(|| person(input, story, now))
}

/// The last viewer got no picture because the desktop did not answer.
fn desktop_away<'a>(story: &Story<'a>) -> Option<Finding<'a>> {
    let kinds = ["viewer_joined", "viewer_left", "viewer_refused"];
    let of_desktop = |entry: &&TimelineRow| kinds.contains(&entry.kind.as_str()) && text(entry, "door") != "terminal";
    let last = story.machine.iter().rfind(of_desktop)?;
    let unreachable = [Problem::DesktopUnreachable, Problem::AgentUnreachable].map(Problem::code);
    if !unreachable.contains(&text(last, "reason")) {
        return None;
    }
    let detail = Some(text(last, "detail")).filter(|detail| !detail.is_empty());
    let detail = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
    let sentence =
        format!("The machine's desktop did not answer the last viewer, who was turned away at {}{detail}.", when(last));
    let failed = story.machine.iter().filter(|entry| entry.kind == "stage_failed");
    Some(Finding::new(Verdict::DesktopUnreachable, sentence, failed.chain([last])))
}

fn person<'a>(input: &Input<'_>, story: &Story<'a>, now: &Now) -> Finding<'a> {
    let viewers = match now.viewers {
        0 => "nobody looks at the desktop".to_owned(),
        1 => "one viewer looks at the desktop".to_owned(),
        count => format!("{count} viewers look at the desktop"),
    };
    let shown = story.last("sign_in_url").or(story.last("device_code"));
    let step = match shown {
        Some(entry) => format!("{} has shown how to sign in at {}", input.tool, when(entry)),
        None => format!("{} runs", input.tool),
    };
    let ready = story.last("machine_ready").or(story.last("machine_adopted"));
    let sentence = format!("The machine is ready, {step}, and {viewers}: it is the person's turn.");
    Finding::new(Verdict::WaitingForPerson, sentence, ready.into_iter().chain(story.last("cli_started")).chain(shown))
}
