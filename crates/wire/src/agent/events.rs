//! What the agent tells by itself.

use super::{OpenPrompt, SignInOutcome, PasteResult, SignInUrl, StageReport};
use crate::provider::Key;
use serde::{Deserialize, Serialize};

/// A batch of [`Event`]s, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Events {
    /// The events. The agent sends each until it was answered; the receiver drops a number it has seen.
    pub events: Vec<NumberedEvent>,
}

/// An event with its place in the machine's order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberedEvent {
    /// 1, 2, 3 … since the claim.
    pub number: u64,
    /// Guest time, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

fn default_true() -> bool {
    true
}

/// What happened in the machine. Texts are the guest's: bounded (4 KiB each) and never trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Event {
    /// A stage changed.
    Stage(StageReport),
    /// The tool started.
    CliStarted,
    /// The tool ended.
    CliExited {
        /// Exit code, or 128 + signal.
        code: i32,
        /// Last lines of its screen, for people; a URL's query and anything that looks like a token is masked.
        last_lines: Vec<String>,
    },
    /// The tool wants an address opened.
    SignInUrl(SignInUrl),
    /// The tool shows a device code.
    DeviceCode {
        /// The code.
        code: String,
    },
    /// The tool asks something that a rule knows.
    PromptOpened {
        /// What the person is asked; `None`: the rule answers by itself.
        ask: Option<OpenPrompt>,
        /// The rule's name.
        id: String,
    },
    /// A question of the person's is no longer on the screen.
    PromptClosed {
        /// The rule's name.
        id: String,
    },
    /// A rule pressed keys.
    KeysPressed {
        /// The rule's name.
        id: String,
        /// The keys, in order.
        keys: Vec<Key>,
    },
    /// Something that the person brought was given to the tool.
    Pasted(PasteResult),
    /// Something that the person brought was not given to the tool.
    PasteRejected {
        /// The problem's code.
        code: String,
    },
    /// The tool says on its screen how its sign-in ended.
    SignInOutcome(SignInOutcome),
    /// The tool was ended, to be started by another method.
    MethodSwitched {
        /// The method's name.
        method: String,
    },
    /// A whole credential was found and stays in the machine: the provider's policy is `keep_in_machine`.
    CredentialKeptInMachine {
        /// Path below the home directory.
        path: String,
    },
    /// The tool's status command was asked about the credential that was laid down ([`UsePurpose::Check`](super::UsePurpose::Check)).
    CredentialChecked {
        /// Whether it says that it is signed in.
        signed_in: bool,
        /// Why not, or what it said: masked, for people.
        detail: String,
        /// `false`: the command could not be started, or was ended before it had said anything of its own accord. Then nothing is known
        /// of the credential. Agents that do not say it have asked.
        #[serde(default = "default_true")]
        conclusive: bool,
    },
    /// The command of [`UseCredential`](super::UseCredential) has ended, and a credential that it changed was delivered and answered.
    UseCompleted {
        /// Exit code, or 128 + signal.
        code: i32,
        /// Whether it had changed the credential.
        changed: bool,
    },
    /// The machine's browser was asked to open an address.
    BrowserOpened {
        /// Host of the address.
        host: String,
    },
    /// The machine's browser did not open an address that it was asked to open, although that was tried again for as long as it may
    /// take to start.
    BrowserNotOpened {
        /// Host of the address.
        host: String,
        /// Why.
        why: String,
    },
    /// A candidate credential was looked at and does not count.
    CandidateRejected {
        /// Path below the home directory.
        path: String,
        /// JSON pointers or a short cause; never values.
        why: String,
    },
    /// A whole credential was found and its delivery begins.
    CandidateAccepted {
        /// Path below the home directory.
        path: String,
        /// Size in bytes.
        bytes: u64,
    },
    /// A delivery failed and will be tried again.
    DeliveryRetry {
        /// Tries so far.
        attempts: u32,
        /// Why the last one failed.
        error: String,
    },
    /// A supervised program ended.
    ChildExited {
        /// Which.
        name: String,
        /// Exit code, or 128 + signal; `None`: could not be started at all.
        code: Option<i32>,
        /// Restarts so far.
        restarts: u32,
        /// Last lines of its output.
        last_lines: Vec<String>,
    },
    /// A supervised program ends again and again. It is still started again, after growing waits. Told once a window at most.
    CrashLoop {
        /// Which.
        name: String,
        /// How often it ended within the window.
        exits: u32,
        /// The window, seconds.
        window_s: u64,
        /// How it ended last: exit code, or 128 + signal; `None`: could not be started at all.
        code: Option<i32>,
        /// Last lines of its output.
        last_lines: Vec<String>,
    },
    /// A program that had ended again and again stays up by now.
    CrashLoopEnded {
        /// Which.
        name: String,
    },
    /// The machine came to be short of memory, or is so no longer.
    MemoryPressure {
        /// Whether it is short of memory.
        low: bool,
        /// What programs can still have (`MemAvailable`), MiB.
        available_mib: u64,
        /// How much of the last ten seconds some program waited for memory, percent (the kernel's pressure stall information);
        /// `None`: the kernel does not say.
        some_avg10: Option<f64>,
    },
    /// The guest's kernel killed programs for want of memory.
    OutOfMemory {
        /// The name of the last one; `None`: the kernel's log did not say.
        victim: Option<String>,
        /// How many were killed since this was told last.
        kills: u64,
    },
}
