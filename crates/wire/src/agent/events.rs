//! The events that the agent sends to the controller.

use super::{OpenPrompt, PasteResult, SignInOutcome, SignInUrl, StageReport};
use crate::{GuestLines, GuestText, provider::Key};
use serde::{Deserialize, Serialize};

/// A batch of [`Event`]s, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventBatch {
    /// The events. The agent sends each one until it was acknowledged; the receiver drops numbers it has already received.
    pub events: Vec<NumberedEvent>,
}

/// An event with its sequence number and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberedEvent {
    /// 1, 2, 3 … since the claim.
    pub number: u64,
    /// Guest time, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: AgentEvent,
}

fn default_true() -> bool {
    true
}

/// What happened in the machine. All texts come from the guest and are untrusted: see [`GuestText`].
///
/// The groups are not visible in JSON: `kind` names the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "an event with a known `kind` and its fields")]
pub enum AgentEvent {
    /// About the machine's boot stages, programs and memory.
    Machine(MachineEvent),
    /// About the tool's process.
    Tool(ToolEvent),
    /// About the sign-in.
    SignIn(SignInEvent),
    /// About the capture and delivery of the credential.
    Capture(CaptureEvent),
    /// About the use of a stored credential.
    CredentialUse(CredentialUseEvent),
}

/// Events of the machine: its boot stages, programs and memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum MachineEvent {
    /// The state of a boot stage changed.
    Stage(StageReport),
    /// A supervised program exited.
    ChildExited {
        /// The program's name.
        name: GuestText,
        /// Exit code, or 128 + signal; `None`: could not be started at all.
        code: Option<i32>,
        /// Restarts so far.
        restarts: u32,
        /// The last lines of its output.
        last_lines: GuestLines,
    },
    /// A supervised program exits repeatedly. It is still restarted, with growing delays. Sent at most once per window.
    CrashLoop {
        /// The program's name.
        name: GuestText,
        /// How often it exited within the window.
        exits: u32,
        /// The window, seconds.
        window_s: u64,
        /// The last exit code, or 128 + signal; `None`: it could not be started.
        code: Option<i32>,
        /// The last lines of its output.
        last_lines: GuestLines,
    },
    /// A program that was in a crash loop keeps running now.
    CrashLoopEnded {
        /// The program's name.
        name: GuestText,
    },
    /// The machine became low on memory, or recovered.
    MemoryPressure {
        /// Whether it is low on memory.
        low: bool,
        /// The memory available to programs (`MemAvailable`), MiB.
        available_mib: u64,
        /// The share of the last ten seconds in which some program waited for memory, percent (the kernel's pressure stall
        /// information); `None`: the kernel does not report it.
        some_avg10: Option<f64>,
    },
    /// The guest's kernel killed programs because memory ran out.
    OutOfMemory {
        /// The name of the last killed program; `None`: the kernel's log does not name it.
        victim: Option<GuestText>,
        /// How many were killed since the last such event.
        kills: u64,
    },
}

impl From<MachineEvent> for AgentEvent {
    fn from(event: MachineEvent) -> Self {
        Self::Machine(event)
    }
}

/// Events of the process of the provider's tool, or of the command of a credential use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ToolEvent {
    /// The tool started.
    #[serde(rename = "cli_started")]
    Started,
    /// The tool exited.
    #[serde(rename = "cli_exited")]
    Exited {
        /// Exit code, or 128 + signal.
        code: i32,
        /// The last lines of its screen, for people; queries of addresses and anything that looks like a token are masked.
        last_lines: GuestLines,
    },
}

impl From<ToolEvent> for AgentEvent {
    fn from(event: ToolEvent) -> Self {
        Self::Tool(event)
    }
}

/// Events of the sign-in: what the tool shows and asks, and what was passed to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum SignInEvent {
    /// The tool shows or opens an address to sign in at.
    #[serde(rename = "sign_in_url")]
    Url(SignInUrl),
    /// The tool shows a device code.
    DeviceCode {
        /// The code.
        code: GuestText,
    },
    /// A prompt that matches a rule appeared.
    PromptOpened {
        /// What the user is asked; `None`: the rule answers automatically.
        ask: Option<OpenPrompt>,
        /// The rule's name.
        id: GuestText,
    },
    /// A prompt to the user is no longer on the screen.
    PromptClosed {
        /// The rule's name.
        id: GuestText,
    },
    /// A rule pressed keys.
    KeysPressed {
        /// The rule's name.
        id: GuestText,
        /// The keys, in order.
        keys: Vec<Key>,
    },
    /// Pasted text was passed to the tool.
    PasteAccepted(PasteResult),
    /// Pasted text was rejected and not passed to the tool.
    PasteRejected {
        /// The problem's code.
        code: GuestText,
    },
    /// The tool shows how its sign-in ended.
    #[serde(rename = "sign_in_outcome")]
    Outcome(SignInOutcome),
    /// The tool was stopped to be started with another sign-in method.
    MethodSwitched {
        /// The method's name.
        method: GuestText,
    },
    /// The machine's browser is asked to open an address.
    BrowserOpening {
        /// Host of the address.
        host: GuestText,
    },
    /// The machine's browser shows a page of this host, or its own error page for the address. Sent for each page that replaces another.
    BrowserOpened {
        /// Host of the page.
        host: GuestText,
    },
    /// The machine's browser did not open an address, although this was retried for as long as the browser may take to start.
    BrowserNotOpened {
        /// Host of the address.
        host: GuestText,
        /// Why.
        why: GuestText,
    },
}

impl From<SignInEvent> for AgentEvent {
    fn from(event: SignInEvent) -> Self {
        Self::SignIn(event)
    }
}

/// Events of the capture and delivery of the credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum CaptureEvent {
    /// A complete credential was found and stays in the machine: the provider's policy is `keep_in_machine`.
    #[serde(rename = "credential_kept_in_machine")]
    KeptInMachine {
        /// Path below the home directory.
        path: GuestText,
    },
    /// A candidate file is not a complete credential.
    CandidateRejected {
        /// Path below the home directory.
        path: GuestText,
        /// The reason: missing JSON pointers or a short cause; never values.
        why: GuestText,
    },
    /// A complete credential was found and its delivery starts.
    CandidateAccepted {
        /// Path below the home directory.
        path: GuestText,
        /// Size in bytes.
        bytes: u64,
    },
    /// A delivery failed and will be retried.
    DeliveryRetry {
        /// Attempts so far.
        attempts: u32,
        /// Why the last attempt failed.
        error: GuestText,
    },
}

impl From<CaptureEvent> for AgentEvent {
    fn from(event: CaptureEvent) -> Self {
        Self::Capture(event)
    }
}

/// Events of the use of a stored credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum CredentialUseEvent {
    /// The tool's status command has checked the installed credential ([`UsePurpose::Check`](super::UsePurpose::Check)).
    #[serde(rename = "credential_checked")]
    Checked {
        /// Whether it reports that it is signed in.
        signed_in: bool,
        /// Its last output line or the cause of a failure, for people; secrets are masked.
        detail: GuestText,
        /// `false`: the command could not be started or was stopped before it finished, so `signed_in` means nothing. Absent: `true`.
        #[serde(default = "default_true")]
        conclusive: bool,
    },
    /// The command of [`UseCredential`](super::UseCredential) has exited, and a credential that it changed was delivered and acknowledged.
    #[serde(rename = "use_completed")]
    Completed {
        /// Exit code, or 128 + signal.
        code: i32,
        /// Whether it changed the credential.
        changed: bool,
    },
}

impl From<CredentialUseEvent> for AgentEvent {
    fn from(event: CredentialUseEvent) -> Self {
        Self::CredentialUse(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_flat_in_json_and_its_kind_selects_the_group() {
        let cases: [(AgentEvent, serde_json::Value); 6] = [
            (
                MachineEvent::CrashLoopEnded { name: "tmux".into() }.into(),
                json!({ "kind": "crash_loop_ended", "name": "tmux" }),
            ),
            (ToolEvent::Started.into(), json!({ "kind": "cli_started" })),
            (
                SignInEvent::Outcome(SignInOutcome::Failed { why: "no".into() }).into(),
                json!({ "kind": "sign_in_outcome", "outcome": "failed", "why": "no" }),
            ),
            (
                SignInEvent::PasteAccepted(PasteResult::Callback { status: 200 }).into(),
                json!({ "kind": "paste_accepted", "interpreted_as": "callback", "status": 200 }),
            ),
            (
                CaptureEvent::KeptInMachine { path: "a".into() }.into(),
                json!({ "kind": "credential_kept_in_machine", "path": "a" }),
            ),
            (
                CredentialUseEvent::Checked { signed_in: true, detail: GuestText::default(), conclusive: true }.into(),
                json!({ "kind": "credential_checked", "signed_in": true, "detail": "", "conclusive": true }),
            ),
        ];
        for (number, (event, flat)) in (1..).zip(cases) {
            let numbered = NumberedEvent { number, at_unix_ms: 5, event };
            let mut expected = flat;
            expected["number"] = number.into();
            expected["at_unix_ms"] = 5.into();
            assert_eq!(serde_json::to_value(&numbered).unwrap(), expected);
            assert_eq!(serde_json::from_value::<NumberedEvent>(expected).unwrap(), numbered);
        }
        let unknown = json!({ "number": 1, "at_unix_ms": 5, "kind": "machine_teleported" });
        let error = serde_json::from_value::<NumberedEvent>(unknown).unwrap_err();
        assert!(error.to_string().contains("known `kind`"), "{error}");
    }
}
