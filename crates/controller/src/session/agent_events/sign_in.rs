//! What the agent tells of prompts, of what the person brought, and of a credential that is used: words for the timeline. Keys that a
//! rule pressed are named; what a person typed or pasted never is.

use super::{super::use_credential::NOT_CONCLUSIVE, Words};
use anteroom_wire::agent::{Event, PasteResult, SignInOutcome};
use serde_json::{Value, json};

/// Kind, sentence and data of an entry; `None` for an event that is told elsewhere.
pub(super) fn words(tool: &str, event: Event) -> Option<Words> {
    Some(match event {
        Event::PromptOpened { id, ask } => (
            "prompt_opened",
            match &ask {
                Some(ask) => format!("{tool} asks for this: {}.", ask.label),
                None => format!("{tool} asks {id}, which a rule answers."),
            },
            json!({ "prompt": id, "rejected": ask.and_then(|ask| ask.rejected) }),
        ),
        Event::PromptClosed { id } => {
            ("prompt_closed", format!("{tool} no longer asks {id}."), json!({ "prompt": id }))
        }
        Event::KeysPressed { id, keys } => {
            ("keys_pressed", format!("A rule answered {id}."), json!({ "prompt": id, "keys": keys }))
        }
        Event::Pasted(pasted) => {
            let sentence = match &pasted {
                PasteResult::Callback { status } => {
                    format!("The address from the person's browser was given to {tool}, which answered {status}.")
                }
                PasteResult::Prompt { id } => format!("What the person brought was typed at {id}."),
                PasteResult::Terminal => "What the person brought was typed into the terminal.".to_owned(),
                PasteResult::Stdin => format!("{tool} was started with the person's key."),
            };
            ("pasted", sentence, json!(pasted))
        }
        Event::PasteRejected { code } => {
            ("paste_rejected", format!("What the person brought was not given to {tool}."), json!({ "code": code }))
        }
        Event::SignInOutcome(SignInOutcome::Done) => {
            ("tool_signed_in", format!("{tool} says that it is signed in."), Value::Null)
        }
        Event::SignInOutcome(SignInOutcome::Failed { why }) => {
            ("tool_failed", format!("{tool} says that the sign-in failed: {why}"), json!({ "why": why }))
        }
        Event::MethodSwitched { method } => (
            "method_switched",
            format!("{tool} is being started anew, to sign in another way."),
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
            format!("The command ended with exit code {code}."),
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

fn checked(tool: &str, signed_in: bool, detail: &str, conclusive: bool) -> Words {
    if !conclusive {
        let sentence = format!("{tool} could not be asked about the credential, of which this says nothing: {detail}.");
        return (NOT_CONCLUSIVE, sentence, json!({ "detail": detail }));
    }
    let sentence = if signed_in {
        format!("{tool} says that the credential is good.")
    } else {
        format!("{tool} does not agree that the credential is good: {detail}")
    };
    ("credential_checked", sentence, json!({ "signed_in": signed_in, "detail": detail }))
}
