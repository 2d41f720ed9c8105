//! The controller's requests to a claimed machine.

use crate::{GuestScreenLine, GuestText, Secret, provider::Provider};
use serde::{Deserialize, Serialize};

/// `POST /open-url`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct OpenUrl {
    /// `http://` or `https://`, up to 8 KiB, no control characters.
    pub url: String,
}

/// `POST /paste`. Never shown or logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paste {
    /// The text as copied by the user, up to 16 KiB; surrounding blanks are ignored, control characters are rejected.
    pub text: Secret,
}

/// How pasted text was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "interpreted_as")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum PasteResult {
    /// It is the callback address from the user's browser: it was requested inside the machine, where the tool waits for it.
    Callback {
        /// The HTTP status with which the tool answered.
        status: u16,
    },
    /// It was typed at the tool's prompt, with Enter.
    Prompt {
        /// The rule's name.
        #[cfg_attr(feature = "utoipa", schema(value_type = String))]
        id: GuestText,
    },
    /// It was typed into the terminal, with Enter: the provider has no rule for the tool's prompts.
    Terminal,
    /// The tool was started with it on standard input.
    Stdin,
}

/// `POST /method`: the descriptor for the new method ([`Provider::with_method`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeMethod {
    /// The same provider.
    pub provider: Provider,
}

/// `POST /input`: text, then keys, typed into the tool's terminal. Never shown or logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeText {
    /// The text, up to 16 KiB, no control characters.
    pub text: Secret,
    /// Press Enter afterwards.
    pub press_enter: bool,
}

/// `POST /terminal/{id}/size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns, 2 to 500.
    pub cols: u16,
    /// Rows, 2 to 300.
    pub rows: u16,
}

/// `GET /screen`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen {
    /// The visible lines; a line that wrapped is one line.
    pub lines: Vec<GuestScreenLine>,
}
