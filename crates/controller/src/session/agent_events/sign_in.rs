//! Timeline entries about the sign-in: addresses, prompts, pasted text. Keys that a rule pressed are named; text that a user typed
//! or pasted never is.

use crate::session::{sign_in_address::SignInAddress, timeline::new_entry};
use anteroom_store::NewTimelineEntry;
use anteroom_wire::{
    GuestText, TimelineKind,
    agent::{KEY_ENTRY_PROMPT_ID, OpenPrompt, PasteResult, SignInEvent, SignInOutcome, SignInUrl},
    provider::Provider,
};
use serde_json::json;

pub(super) fn to_timeline_entry(provider: &Provider, event: SignInEvent) -> NewTimelineEntry {
    let tool = &provider.name;
    match event {
        SignInEvent::Url(url) => url_entry(provider, &url),
        SignInEvent::DeviceCode { .. } => new_entry(TimelineKind::DeviceCode, format!("{tool} shows a device code.")),
        SignInEvent::BrowserOpening { host } => {
            new_entry(TimelineKind::BrowserOpening, format!("The machine's browser is opening {host}."))
                .with_data(json!({ "host": host }))
        }
        SignInEvent::BrowserOpened { host } => {
            new_entry(TimelineKind::BrowserOpened, format!("The machine's browser shows a page of {host}."))
                .with_data(json!({ "host": host }))
        }
        SignInEvent::BrowserNotOpened { host, why } => {
            new_entry(TimelineKind::BrowserNotOpened, format!("The machine's browser did not open {host}: {why}."))
                .with_data(json!({ "host": host, "why": why }))
        }
        SignInEvent::PromptOpened { id, ask } => prompt_opened_entry(provider, &id, ask),
        SignInEvent::PromptClosed { id } => {
            new_entry(TimelineKind::PromptClosed, format!("{tool} closed the prompt {id}."))
                .with_data(json!({ "prompt": id }))
        }
        SignInEvent::KeysPressed { id, keys } => {
            new_entry(TimelineKind::KeysPressed, format!("A rule answered the prompt {id}."))
                .with_data(json!({ "prompt": id, "keys": keys }))
        }
        SignInEvent::PasteAccepted(pasted) => {
            new_entry(TimelineKind::Pasted, pasted_sentence(tool, &pasted)).with_data(json!(pasted))
        }
        SignInEvent::PasteRejected { code } => {
            new_entry(TimelineKind::PasteRejected, format!("The pasted text was not passed to {tool}."))
                .with_data(json!({ "code": code }))
        }
        SignInEvent::Outcome(SignInOutcome::Done) => {
            new_entry(TimelineKind::ToolSignedIn, format!("{tool} reports that it is signed in."))
        }
        SignInEvent::Outcome(SignInOutcome::Failed { why }) => {
            new_entry(TimelineKind::ToolFailed, format!("{tool} reports that the sign-in failed: {why}"))
                .with_data(json!({ "why": why }))
        }
        SignInEvent::MethodSwitched { method } => {
            let sentence = format!("{tool} is being restarted with another sign-in method.");
            new_entry(TimelineKind::MethodSwitched, sentence).with_data(json!({ "method": method }))
        }
    }
}

fn prompt_opened_entry(provider: &Provider, id: &GuestText, ask: Option<OpenPrompt>) -> NewTimelineEntry {
    let tool = &provider.name;
    let sentence = match &ask {
        Some(ask) => format!("{tool} prompts for: {}.", prompt_label(provider, &ask.id)),
        None => format!("{tool} shows the prompt {id}, which a rule answers."),
    };
    let rejected = ask.and_then(|ask| ask.rejection);
    new_entry(TimelineKind::PromptOpened, sentence).with_data(json!({ "prompt": id, "rejected": rejected }))
}

fn pasted_sentence(tool: &str, pasted: &PasteResult) -> String {
    match pasted {
        PasteResult::Callback { status } => {
            format!("The URL from the user's browser was passed to {tool}, which answered {status}.")
        }
        PasteResult::Prompt { id } => format!("The pasted text was typed at the prompt {id}."),
        PasteResult::Terminal => "The pasted text was typed into the terminal.".to_owned(),
        PasteResult::Stdin => format!("{tool} was started with the pasted key."),
        PasteResult::Setting { id } => format!("The pasted text was taken as the setting {id}."),
    }
}

fn url_entry(provider: &Provider, url: &SignInUrl) -> NewTimelineEntry {
    let tool = &provider.name;
    match SignInAddress::check(provider, &url.url) {
        Some(SignInAddress::Unexpected(origin)) => {
            let sentence = format!("The machine wants to open {origin}, which is not a page of {tool}.");
            new_entry(TimelineKind::UnexpectedUrl, sentence).with_data(json!({ "host": origin, "source": url.source }))
        }
        Some(SignInAddress::Named(_)) | None => {
            let host = host_of(&url.url);
            new_entry(TimelineKind::SignInUrl, format!("{tool} requests that {host} is opened."))
                .with_data(json!({ "host": host, "source": url.source }))
        }
    }
}

/// What the provider's descriptor calls the prompt.
fn prompt_label<'a>(provider: &'a Provider, id: &'a GuestText) -> &'a str {
    let entry = provider.key_entry.as_ref().filter(|_| *id == KEY_ENTRY_PROMPT_ID).map(|entry| entry.label.as_str());
    let question = || provider.questions().find(|(known, _)| *id == *known).map(|(_, ask)| ask.label.as_str());
    entry.or_else(question).unwrap_or(id)
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
