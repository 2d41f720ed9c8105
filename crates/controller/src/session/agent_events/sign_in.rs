//! Timeline entries about the sign-in: addresses, prompts, pasted text. Keys that a rule pressed are named; text that a user typed
//! or pasted never is.

use crate::session::timeline::entry;
use anteroom_store::NewTimelineEntry;
use anteroom_wire::{
    TimelineKind,
    agent::{PasteResult, SignInEvent, SignInOutcome},
};
use serde_json::json;

pub(super) fn timeline_entry(tool: &str, event: SignInEvent) -> NewTimelineEntry {
    match event {
        SignInEvent::Url(url) => {
            let host = host_of(&url.url);
            entry(TimelineKind::SignInUrl, format!("{tool} requests that {host} is opened."))
                .data(json!({ "host": host, "source": url.source }))
        }
        SignInEvent::DeviceCode { .. } => entry(TimelineKind::DeviceCode, format!("{tool} shows a device code.")),
        SignInEvent::BrowserOpened { host } => {
            entry(TimelineKind::BrowserOpened, format!("The machine's browser opened {host}."))
                .data(json!({ "host": host }))
        }
        SignInEvent::BrowserNotOpened { host, why } => {
            entry(TimelineKind::BrowserNotOpened, format!("The machine's browser did not open {host}: {why}."))
                .data(json!({ "host": host, "why": why }))
        }
        SignInEvent::PromptOpened { id, ask } => {
            let sentence = match &ask {
                Some(ask) => format!("{tool} prompts for: {}.", ask.label),
                None => format!("{tool} shows the prompt {id}, which a rule answers."),
            };
            let rejected = ask.and_then(|ask| ask.rejected);
            entry(TimelineKind::PromptOpened, sentence).data(json!({ "prompt": id, "rejected": rejected }))
        }
        SignInEvent::PromptClosed { id } => {
            entry(TimelineKind::PromptClosed, format!("{tool} closed the prompt {id}.")).data(json!({ "prompt": id }))
        }
        SignInEvent::KeysPressed { id, keys } => {
            entry(TimelineKind::KeysPressed, format!("A rule answered the prompt {id}."))
                .data(json!({ "prompt": id, "keys": keys }))
        }
        SignInEvent::Pasted(pasted) => entry(TimelineKind::Pasted, pasted_sentence(tool, &pasted)).data(json!(pasted)),
        SignInEvent::PasteRejected { code } => {
            entry(TimelineKind::PasteRejected, format!("The pasted text was not passed to {tool}."))
                .data(json!({ "code": code }))
        }
        SignInEvent::Outcome(SignInOutcome::Done) => {
            entry(TimelineKind::ToolSignedIn, format!("{tool} reports that it is signed in."))
        }
        SignInEvent::Outcome(SignInOutcome::Failed { why }) => {
            entry(TimelineKind::ToolFailed, format!("{tool} reports that the sign-in failed: {why}"))
                .data(json!({ "why": why }))
        }
        SignInEvent::MethodSwitched { method } => {
            let sentence = format!("{tool} is being restarted with another sign-in method.");
            entry(TimelineKind::MethodSwitched, sentence).data(json!({ "method": method }))
        }
    }
}

fn pasted_sentence(tool: &str, pasted: &PasteResult) -> String {
    match pasted {
        PasteResult::Callback { status } => {
            format!("The URL from the user's browser was passed to {tool}, which answered {status}.")
        }
        PasteResult::Prompt { id } => format!("The pasted text was typed at the prompt {id}."),
        PasteResult::Terminal => "The pasted text was typed into the terminal.".to_owned(),
        PasteResult::Stdin => format!("{tool} was started with the pasted key."),
    }
}

/// The host of a URL, for the timeline: the rest may contain secrets of the user.
fn host_of(url: &str) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or("");
    authority.rsplit('@').next().unwrap_or("").chars().take(253).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_contains_only_the_host_of_a_url() {
        assert_eq!(host_of("https://auth.example.com/authorize?state=s3cret#x"), "auth.example.com");
        assert_eq!(host_of("https://user:pass@auth.example.com:444/a"), "auth.example.com:444");
        assert_eq!(host_of("nonsense"), "nonsense");
    }
}
