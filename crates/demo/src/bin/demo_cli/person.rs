//! Questions to the user in the terminal.

use std::io::{self, Write};

/// Prints a question; the answer is typed behind it.
pub(crate) fn ask(question: &str) {
    let mut out = io::stdout();
    let _ = write!(out, "{question}").and_then(|()| out.flush());
}

/// A line that the user types, without blanks around it; `None`: the input ended.
///
/// # Errors
/// The input cannot be read.
pub(crate) fn read_line() -> io::Result<Option<String>> {
    let mut line = String::new();
    let bytes = io::stdin().read_line(&mut line)?;
    Ok((bytes > 0).then(|| line.trim().to_owned()))
}
