//! Everything that the command line prints. Text of servers, machines, files and logs passes through here, so that none of it moves
//! the cursor, sets a title, hides or reorders a line. The only exception is deliberate: `exec` attaches the user's own tool to the
//! terminal, and a terminal program needs its escape sequences.

use crate::own_options;
use anteroom_wire::guest_text::clean_lines;
use serde_json::Value;
use std::{fmt::Display, io::Write};

/// Prints a text and a line break to standard output. A closed pipe is no error: its reader needs no more.
pub(crate) fn print_line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{}", clean_lines(&own_options::add_to(&text.to_string())));
}

/// Prints a text without a line break to standard output, before the user's answer.
pub(crate) fn print_prompt(text: &str) {
    let mut out = std::io::stdout();
    let _ = write!(out, "{}", clean_lines(text));
    let _ = out.flush();
}

/// Prints a text and a line break to standard error.
pub(crate) fn print_error_line(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{}", clean_lines(&own_options::add_to(&text.to_string())));
}

/// Makes one line of a text of any length.
pub(crate) fn one_line(text: &str) -> String {
    anteroom_wire::guest_text::clean_line(text, usize::MAX)
}

/// Makes one line of every text in a JSON value, so that a text of the server cannot forge a line of the output.
pub(crate) fn clean_json(value: &mut Value) {
    match value {
        Value::String(text) => *text = one_line(text),
        Value::Array(values) => values.iter_mut().for_each(clean_json),
        Value::Object(fields) => fields.values_mut().for_each(clean_json),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_of_the_server_becomes_one_clean_line() {
        let mut value = json!({ "a": ["x\u{1b}[2J\r\nFORGED: line", 1], "b": { "c": "\u{9b}\u{202e}" } });
        clean_json(&mut value);
        assert_eq!(value, json!({ "a": ["x�[2J  FORGED: line", 1], "b": { "c": "�" } }));
    }
}
