//! Names that callers choose: of tokens, users and helpers. They are shown to others.

use crate::api_error::ApiError;
use anteroom_wire::{Problem, guest_text::clean_line};

/// Requires that a name is one line that is shown as it is.
///
/// # Errors
/// It is blank, has more than `chars_max` characters, or one that is invisible or changes how its neighbours are shown.
pub fn require_shown(what: &str, name: &str, chars_max: usize) -> Result<(), ApiError> {
    let is_valid = !name.trim().is_empty() && name.chars().count() <= chars_max && clean_line(name, usize::MAX) == name;
    if is_valid {
        return Ok(());
    }
    let detail =
        format!("{what} must have 1 to {chars_max} characters, not only blanks, and no control or invisible ones");
    Err(ApiError::new(Problem::Malformed, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_that_are_shown_as_they_are() {
        for name in ["a", "Ann Lee", "Zoë", "李雷", "user@example.com", "de/7f-3_x+1"] {
            assert!(require_shown("name", name, 20).is_ok(), "{name}");
        }
        let long = "x".repeat(21);
        for name in ["", "  ", "a\nb", "a\u{1b}[2J", "a\u{202e}b", "a\u{200b}", "a\u{a0}b", "\u{2028}", &long] {
            assert!(require_shown("name", name, 20).is_err(), "{name:?}");
        }
    }
}
