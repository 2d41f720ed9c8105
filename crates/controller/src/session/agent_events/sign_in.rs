//! Timeline entries about prompts, pasted text and credential uses. Keys that a rule pressed are named; text that a user typed or
//! pasted never is.

use super::{super::use_credential::CHECK_INCONCLUSIVE, TimelineEntry};
use anteroom_wire::agent::{Event, PasteResult, SignInOutcome};
use serde_json::{Value, json};

/// The entry for an event; `None` for an event that another module records.
pub(super) fn timeline_entry(tool: &str, event: Event) -> Option<TimelineEntry> {
    Some(match event {
        Event::PromptOpened { id, ask } => (
            "prompt_opened",
            match &ask {
                Some(ask) => format!("{tool} prompts for: {}.", ask.label),
                None => format!("{tool} shows the prompt {id}, which a rule answers."),
            },
            json!({ "prompt": id, "rejected": ask.and_then(|ask| ask.rejected) }),
        ),
        Event::PromptClosed { id } => {
            ("prompt_closed", format!("{tool} closed the prompt {id}."), json!({ "prompt": id }))
        }
        Event::KeysPressed { id, keys } => {
            ("keys_pressed", format!("A rule answered the prompt {id}."), json!({ "prompt": id, "keys": keys }))
        }
        Event::Pasted(pasted) => {
            let sentence = match &pasted {
                PasteResult::Callback { status } => {
                    format!("The URL from the user's browser was passed to {tool}, which answered {status}.")
                }
                PasteResult::Prompt { id } => format!("The pasted text was typed at the prompt {id}."),
                PasteResult::Terminal => "The pasted text was typed into the terminal.".to_owned(),
                PasteResult::Stdin => format!("{tool} was started with the pasted key."),
            };
            ("pasted", sentence, json!(pasted))
        }
        Event::PasteRejected { code } => {
            ("paste_rejected", format!("The pasted text was not passed to {tool}."), json!({ "code": code }))
        }
        Event::SignInOutcome(SignInOutcome::Done) => {
            ("tool_signed_in", format!("{tool} reports that it is signed in."), Value::Null)
        }
        Event::SignInOutcome(SignInOutcome::Failed { why }) => {
            ("tool_failed", format!("{tool} reports that the sign-in failed: {why}"), json!({ "why": why }))
        }
        Event::MethodSwitched { method } => (
            "method_switched",
            format!("{tool} is being restarted with another sign-in method."),
            json!({ "method": method }),
        ),
        Event::CredentialKeptInMachine { path } => (
            "credential_kept_in_machine",
            format!("{tool} is signed in; its credential stays in the machine: {path}."),
            json!({ "path": path }),
        ),
        Event::CredentialChecked { signed_in, detail, conclusive } => checked(tool, signed_in, &detail, conclusive),
        Event::UseCompleted { code, changed } => (
            "use_completed",
            format!("The command exited with code {code}."),
            json!({ "code": code, "changed": changed }),
        ),
        Event::Stage(_)
        | Event::CliStarted
        | Event::CliExited { .. }
        | Event::SignInUrl(_)
        | Event::DeviceCode { .. }
        | Event::BrowserOpened { .. }
        | Event::BrowserNotOpened { .. }
        | Event::CandidateRejected { .. }
        | Event::CandidateAccepted { .. }
        | Event::DeliveryRetry { .. }
        | Event::ChildExited { .. }
        | Event::CrashLoop { .. }
        | Event::CrashLoopEnded { .. }
        | Event::MemoryPressure { .. }
        | Event::OutOfMemory { .. } => return None,
    })
}

fn checked(tool: &str, signed_in: bool, detail: &str, conclusive: bool) -> TimelineEntry {
    if !conclusive {
        let sentence = format!("The check of the credential with {tool} was inconclusive: {detail}.");
        return (CHECK_INCONCLUSIVE, sentence, json!({ "detail": detail }));
    }
    let sentence = if signed_in {
        format!("{tool} confirmed the credential.")
    } else {
        format!("{tool} rejected the credential: {detail}")
    };
    ("credential_checked", sentence, json!({ "signed_in": signed_in, "detail": detail }))
}
