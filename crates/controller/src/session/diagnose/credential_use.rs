//! A session that uses a stored credential: nobody signs in, a command runs.

use super::{
    Finding, Input, guest, sign_in,
    timeline_view::{TimelineView, elapsed, last_words, number, when},
};
use crate::clock::rfc3339;
use anteroom_store::{CredentialUse, End};
use anteroom_wire::{agent::UsePurpose, diagnosis::Verdict};

/// What the command is, to begin a sentence with.
fn command(purpose: UsePurpose) -> &'static str {
    match purpose {
        UsePurpose::Exec => "the command with the stored credential",
        UsePurpose::Check => "the tool's status command with the stored credential",
        UsePurpose::Logout => "the tool's sign-out with the stored credential",
    }
}

/// The first fault of a use, if there is one. What the command itself makes of its work is its own matter.
pub(super) fn fault<'a>(input: &Input<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    sign_in::refused_for_good(input, timeline)
        .or_else(|| sign_in::delivery(input, timeline))
        .or_else(|| guest::out_of_memory(timeline))
        .or_else(|| guest::crash_loop(timeline))
}

/// All is well: it runs.
pub(super) fn runs<'a>(timeline: &TimelineView<'a>, using: &CredentialUse) -> Finding<'a> {
    let (what, id) = (command(using.purpose), &using.credential);
    let started = timeline.last("cli_started").filter(|_| using.purpose != UsePurpose::Check);
    let ready = timeline.last("machine_ready").or(timeline.last("machine_adopted"));
    let ended = timeline.last("cli_exited");
    let sentence = match (started, ended) {
        (_, Some(exit)) => format!(
            "The machine is ready, and {what} {id} ended at {} with exit code {}: its end is being written.",
            when(exit),
            number(exit, "code").unwrap_or_default()
        ),
        (Some(started), None) => format!("The machine is ready, and {what} {id} runs since {}.", when(started)),
        (None, None) => format!("The machine is ready, and {what} {id} is being run."),
    };
    Finding::new(Verdict::CommandRunning, sentence, ready.into_iter().chain(started).chain(ended))
}

/// It ran to its end.
pub(super) fn completed<'a>(input: &Input<'_>, timeline: &TimelineView<'a>, using: &CredentialUse, end: &End) -> Finding<'a> {
    let (what, id) = (command(using.purpose), &using.credential);
    let code = input.row.exit_code.unwrap_or_default();
    let took = elapsed(input.row.created_at_ms, end.at_ms);
    let exit = timeline.last("cli_exited").filter(|_| code != 0);
    let words = exit.map_or_else(String::new, last_words);
    let sentence = format!(
        "{} {id} ended with exit code {code} at {}, {took} after the start{words}.",
        begin(what),
        rfc3339(end.at_ms)
    );
    let evidence = [timeline.last("credential_unsealed"), exit, timeline.last("credential_checked"), timeline.last("use_completed")];
    Finding::new(Verdict::Completed, sentence, evidence.into_iter().flatten())
}

fn begin(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
