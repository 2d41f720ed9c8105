//! What is known of the sign-in: addresses, code, question, outcome, and how far the credential is.

use serde::{Deserialize, Serialize};

/// The state of the sign-in, as far as the agent can see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SignIn {
    /// The tool's process.
    pub cli: CliState,
    /// The address for the person's own browser, whole.
    pub url: Option<SignInUrl>,
    /// The address that the tool handed to `BROWSER`, for the browser in the machine; often the same.
    #[serde(default)]
    pub browser_url: Option<String>,
    /// The code to type there.
    pub device_code: Option<String>,
    /// What the tool asks the person now.
    #[serde(default)]
    pub prompt: Option<OpenPrompt>,
    /// The tool's own last word on its sign-in.
    #[serde(default)]
    pub outcome: Option<SignInOutcome>,
    /// How far the credential is.
    pub capture: CaptureState,
    /// The name of the method by which the tool signs in; `None`: it does not sign in (yet), or the agent is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

impl SignIn {
    /// Whether there is something for the person to do: an address, a code, a question.
    pub fn is_under_way(&self) -> bool {
        self.url.is_some() || self.browser_url.is_some() || self.device_code.is_some() || self.prompt.is_some()
    }
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
    /// Ended.
    Exited {
        /// Exit code, or 128 + signal.
        code: i32,
    },
}

/// An address to open and who told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInUrl {
    /// The whole address.
    pub url: String,
    /// Where it was found.
    pub source: UrlSource,
}

/// A question of the tool's that the person answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPrompt {
    /// The rule's name; `key_entry` for the secret on standard input.
    pub id: String,
    /// What is asked for, for people.
    pub label: String,
    /// Not to be shown while it is typed.
    pub secret: bool,
    /// What a good answer looks like.
    pub hint: Option<String>,
    /// Why the tool did not take the last answer, in its own words, masked.
    pub rejected: Option<String>,
}

/// The rule name of [`OpenPrompt`] for the secret on standard input.
pub const KEY_ENTRY: &str = "key_entry";

/// What the tool says of its sign-in on its screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum SignInOutcome {
    /// Signed in. What counts is the credential.
    Done,
    /// It did not work.
    Failed {
        /// The tool's own words, masked.
        why: String,
    },
}

/// Where an address was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlSource {
    /// The tool called `BROWSER` with it.
    BrowserCommand,
    /// It was a hyperlink (OSC 8) on the terminal.
    Hyperlink,
    /// It stood on the terminal's screen.
    Screen,
}

/// How far the credential is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum CaptureState {
    /// No candidate.
    #[default]
    Waiting,
    /// A file appeared that is not a whole credential (yet).
    CandidateRejected {
        /// Path below the home directory.
        path: String,
        /// What is missing: JSON pointers, never values.
        why: String,
    },
    /// Whole and stable; being delivered.
    Delivering {
        /// Tries so far.
        attempts: u32,
        /// Why the last one failed.
        last_error: Option<String>,
    },
    /// Whole and stable; it stays in the machine, since the provider's policy is `keep_in_machine`.
    KeptInMachine {
        /// Path below the home directory.
        path: String,
    },
    /// The controller answered.
    Delivered,
    /// The controller refused it for good.
    DeliveryRejected {
        /// The problem's code.
        code: String,
    },
}
