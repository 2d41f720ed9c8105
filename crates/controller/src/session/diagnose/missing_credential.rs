//! A tool that reported that it is signed in, and left no file where its credential is expected.

use super::{
    DiagnosisInput, Finding,
    sign_in_faults::last_rejected_candidate,
    timeline_view::{TimelineView, data_text, format_time, quote},
};
use anteroom_store::TimelineRow;
use anteroom_wire::{TimelineKind, diagnosis::Verdict};

/// The start of the agent's message when the tool reports that it is signed in, and none of the credential's files is there.
pub(in crate::session) const NOT_FOUND: &str = "no such file, although the tool reports that it is signed in";

/// The tool reported that it is signed in, and there is no file: it ended, or the agent has waited for one.
pub(super) fn find_missing<'a>(input: &DiagnosisInput<'_>, timeline: &TimelineView<'a>) -> Option<Finding<'a>> {
    let started = timeline.last_of_kind(TimelineKind::CliStarted).map_or(0, |started| started.number);
    let is_of_run = |entry: &&TimelineRow| entry.number > started;
    let done = timeline.last_of_kind(TimelineKind::ToolSignedIn).filter(is_of_run)?;
    let last = last_rejected_candidate(timeline).filter(is_of_run);
    let looked = last.filter(|last| data_text(last, "why").starts_with(NOT_FOUND));
    if last.is_some() && looked.is_none() {
        return None;
    }
    let exit = timeline.last_of_kind(TimelineKind::CliExited).filter(is_of_run);
    let place = looked.map_or_else(String::new, |entry| format!(" ({})", data_text(entry, "path")));
    let nearby = looked.and_then(|entry| data_text(entry, "why").split_once(": ")).map(|(_, files)| files);
    let nearby =
        nearby.map_or_else(String::new, |files| format!("; files that were written since its start: {}", quote(files)));
    let sentence = format!(
        "{} reported at {} that it is signed in, and no file appeared where the credential is expected{place}{nearby}; nothing was delivered.",
        input.tool,
        format_time(done)
    );
    (looked.is_some() || exit.is_some())
        .then(|| Finding::new(Verdict::CredentialNotFound, sentence, [done].into_iter().chain(looked).chain(exit)))
}
