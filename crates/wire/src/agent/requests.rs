//! The controller's requests to a claimed machine.

use crate::{GuestScreenLine, GuestText, Secret, provider::Provider};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};
use std::fmt;

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
    /// The text as copied by the user, up to 16 KiB; of control characters only line breaks and tabs are accepted.
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
    /// It is the value of a setting of the provider; the tool is started again with it. Only the server interprets text so.
    Setting {
        /// The setting's id.
        #[cfg_attr(feature = "utoipa", schema(value_type = String))]
        id: GuestText,
    },
}

impl PasteResult {
    /// Whether the tool has an answer of which it says nothing yet: to its prompt, a callback that it accepted, or its key. What was
    /// typed into the terminal may be anything.
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Prompt { .. } | Self::Stdin => true,
            Self::Callback { status } => *status < 400,
            Self::Terminal | Self::Setting { .. } => false,
        }
    }
}

/// `POST /method`: the descriptor for the new method ([`Provider::with_method`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeMethod {
    /// The same provider.
    pub provider: Provider,
    /// Whether a tool that signs in by this method already starts again, for a new code. Earlier agents do not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
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
    /// The visible lines, up to [`SCREEN_LINES_MAX`]; a line that wrapped is one line.
    #[serde(deserialize_with = "deserialize_screen_lines")]
    pub lines: Vec<GuestScreenLine>,
}

/// The most lines of a [`Screen`]: those that are visible and the scrollback.
pub const SCREEN_LINES_MAX: usize = 3_000;

/// Reads lines one by one, since a short text of empty lines takes ten times as much memory.
fn deserialize_screen_lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<GuestScreenLine>, D::Error> {
    struct Lines;
    impl<'de> Visitor<'de> for Lines {
        type Value = Vec<GuestScreenLine>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {SCREEN_LINES_MAX} lines")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut lines = Vec::new();
            while let Some(line) = seq.next_element()? {
                if lines.len() == SCREEN_LINES_MAX {
                    return Err(A::Error::invalid_length(SCREEN_LINES_MAX + 1, &self));
                }
                lines.push(line);
            }
            Ok(lines)
        }
    }
    deserializer.deserialize_seq(Lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_with_more_lines_than_a_terminal_has_is_an_error() {
        let screen = |lines: usize| serde_json::json!({ "lines": vec![""; lines] });
        let parsed = serde_json::from_value::<Screen>(screen(SCREEN_LINES_MAX)).unwrap();
        assert_eq!(parsed.lines.len(), SCREEN_LINES_MAX);
        let error = serde_json::from_value::<Screen>(screen(SCREEN_LINES_MAX + 1)).unwrap_err();
        assert!(error.to_string().contains("at most 3000 lines"), "{error}");
    }
}
