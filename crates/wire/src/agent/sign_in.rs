//! The state of the sign-in: addresses, code, prompt, result, and the state of the credential.

use crate::GuestText;
use serde::{Deserialize, Serialize};

/// The state of the sign-in as observed by the agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SignInStatus {
    /// The tool's process.
    pub cli: CliState,
    /// The complete address for the user's own browser.
    pub url: Option<SignInUrl>,
    /// The address that the tool passed to `BROWSER`, for the browser in the machine; often the same.
    #[serde(default)]
    pub browser_url: Option<String>,
    /// The page in the machine's browser; `None`: it was not asked to open one, or the agent is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser_page: Option<BrowserPage>,
    /// The code to type there.
    pub device_code: Option<GuestText>,
    /// The prompt that is open now.
    #[serde(default)]
    pub prompt: Option<OpenPrompt>,
    /// The last result that the tool showed.
    #[serde(default)]
    pub outcome: Option<SignInOutcome>,
    /// The state of the credential capture.
    pub capture: CaptureState,
    /// The name of the sign-in method; `None`: the tool does not sign in (yet), or the agent is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<GuestText>,
}

impl SignInStatus {
    /// Whether there is something for the user to do: an address, a code or a prompt.
    pub fn is_in_progress(&self) -> bool {
        self.url.is_some() || self.browser_url.is_some() || self.device_code.is_some() || self.prompt.is_some()
    }
}

/// A page in the machine's browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrowserPage {
    /// The host of its address.
    pub host: GuestText,
    /// Whether it is shown.
    pub state: BrowserPageState,
}

/// The state of a page in the machine's browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrowserPageState {
    /// The browser was asked to open it, and shows nothing of it yet.
    Opening,
    /// The browser shows it, or its own error page for the address.
    Shown,
    /// The browser did not open it.
    NotOpened,
}

/// The tool's process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum CliState {
    /// Not started.
    #[default]
    Waiting,
    /// Running.
    Running,
    /// Exited.
    Exited {
        /// Exit code, or 128 + signal.
        code: i32,
    },
}

/// An address to open, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInUrl {
    /// The complete address.
    pub url: String,
    /// Where it was found.
    pub source: UrlSource,
}

/// A prompt of the tool that the user answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPrompt {
    /// The rule's name; `key_entry` for the secret on standard input.
    pub id: GuestText,
    /// What is asked for, for people.
    pub label: GuestText,
    /// The input must not be shown while it is typed.
    pub secret: bool,
    /// A description of the expected answer.
    pub expected_format: Option<GuestText>,
    /// Why the tool rejected the last answer, as it shows it; secrets are masked.
    pub rejection: Option<GuestText>,
}

/// The rule name of [`OpenPrompt`] for the secret on standard input.
pub const KEY_ENTRY_PROMPT_ID: &str = "key_entry";

/// The result of the sign-in as the tool shows it on its screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum SignInOutcome {
    /// Signed in. The sign-in is complete only when the credential was captured.
    Done,
    /// The sign-in failed.
    Failed {
        /// The reason that the tool shows; secrets are masked.
        why: GuestText,
    },
}

/// Where an address was found. A greater source gives the more complete address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlSource {
    /// Text on the terminal's screen, which may be cut off.
    Screen,
    /// A hyperlink (OSC 8) in the terminal.
    Hyperlink,
    /// The tool called `BROWSER` with it.
    BrowserCommand,
}

/// The state of the credential capture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum CaptureState {
    /// No candidate.
    #[default]
    Waiting,
    /// A file appeared that is not a complete credential (yet).
    CandidateRejected {
        /// Path below the home directory.
        path: GuestText,
        /// What is missing: JSON pointers, never values.
        why: GuestText,
    },
    /// Complete and stable; being delivered.
    Delivering {
        /// Attempts so far.
        attempts: u32,
        /// Why the last attempt failed.
        last_error: Option<GuestText>,
    },
    /// Complete and stable; it stays in the machine because the provider's policy is `keep_in_machine`.
    KeptInMachine {
        /// Path below the home directory.
        path: GuestText,
    },
    /// The controller acknowledged it.
    Delivered,
    /// The controller rejected it permanently.
    DeliveryRejected {
        /// The problem's code.
        code: GuestText,
    },
}
