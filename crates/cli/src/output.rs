//! Everything that the command line prints. Text of servers, machines, files and logs passes through here, so that none of it moves
//! the cursor, sets a title, hides or reorders a line. The only exception is deliberate: `exec` attaches the user's own tool to the
//! terminal, and a terminal program needs its escape sequences.
//!
//! The first failure to print is kept: the command ends with it, whatever else it did.

use super::{own_options, table::wrap, terminal};
use anteroom_wire::guest_text::clean_lines;
use serde_json::Value;
use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Exit code for a pipe whose reader has closed it, as of a program that ends by SIGPIPE.
pub(crate) const CLOSED_PIPE: u8 = 141;

static FAILURE: OnceLock<OutputFailure> = OnceLock::new();

/// Why standard output could not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputFailure {
    /// The reader of the pipe needs no more.
    Closed,
    /// Such as a full disk.
    Failed(String),
}

impl OutputFailure {
    /// The exit code of the command.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Closed => CLOSED_PIPE,
            Self::Failed(_) => 1,
        }
    }
}

/// The first failure to write standard output.
pub(crate) fn failure() -> Option<&'static OutputFailure> {
    FAILURE.get()
}

/// Keeps the failure of a write to standard output. Returns whether the write succeeded.
pub(crate) fn record(written: io::Result<()>) -> bool {
    match written {
        Ok(()) => true,
        Err(error) => {
            let is_closed = error.kind() == ErrorKind::BrokenPipe;
            let failure = if is_closed { OutputFailure::Closed } else { OutputFailure::Failed(error.to_string()) };
            let _ = FAILURE.set(failure);
            false
        }
    }
}

static IS_DATA_ONLY: AtomicBool = AtomicBool::new(false);

/// Prints messages to standard error from now on: standard output carries only JSON.
pub(crate) fn keep_for_data() {
    IS_DATA_ONLY.store(true, Relaxed);
}

/// Prints JSON to standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) -> serde_json::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    record(writeln!(io::stdout(), "{}", clean_lines(&text)));
    Ok(())
}

/// Prints a text and a line break to standard output. A failure ends the command (see [`failure`]).
pub(crate) fn print_line(text: impl Display) {
    is_printed(text);
}

/// As [`print_line`]; returns whether it was written.
pub(crate) fn is_printed(text: impl Display) -> bool {
    if IS_DATA_ONLY.load(Relaxed) {
        print_error_line(text);
        return true;
    }
    let text = text.to_string();
    let text = own_options::add_to(&text);
    let clean = clean_lines(&text);
    // A terminal would break long lines within words. In JSON a line break would change the value.
    let is_json = clean.starts_with(['{', '[']);
    let shown = match terminal::width().filter(|_| !is_json) {
        Some(width) => wrap(&clean, width).join("\n").into(),
        None => clean,
    };
    record(writeln!(io::stdout(), "{shown}"))
}

/// Prints an address that a click opens, where the terminal supports it.
pub(crate) fn print_link(before: &str, url: &str) {
    if IS_DATA_ONLY.load(Relaxed) {
        return print_error_line(format_args!("{before}{url}"));
    }
    record(writeln!(io::stdout(), "{}{}", clean_lines(before), terminal::link(url)));
}

/// Prints lines of block characters, as white on black on a terminal.
pub(crate) fn print_blocks(lines: &[String], is_terminal: bool) {
    let (on, off) = if is_terminal { ("\u{1b}[38;5;231;48;5;16m", "\u{1b}[0m") } else { ("", "") };
    for line in lines {
        if IS_DATA_ONLY.load(Relaxed) {
            let _ = writeln!(io::stderr(), "{line}");
        } else {
            record(writeln!(io::stdout(), "{on}{line}{off}"));
        }
    }
}

/// Writes a text of this program to standard output as it is, at once.
pub(crate) fn print_raw(text: &str) {
    let mut out = io::stdout();
    record(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Prints a text without a line break to standard output, before the user's answer.
pub(crate) fn print_prompt(text: &str) {
    let mut out = io::stdout();
    record(write!(out, "{}", clean_lines(text)).and_then(|()| out.flush()));
}

/// Prints a text and a line break to standard error.
pub(crate) fn print_error_line(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", clean_lines(&own_options::add_to(&text.to_string())));
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
