//! The options that name this server (`--config`, `--state-dir`, `--cache-dir`, `--server`, `--profile`, `--cacert`), in every `anteroom`
//! command that the output advises: without them the advice would be about another server.

use clap::CommandFactory;
use std::{
    borrow::Cow,
    ffi::OsString,
    sync::{LazyLock, OnceLock},
};

const OPTIONS: [&str; 6] = ["--config", "--state-dir", "--cache-dir", "--server", "--profile", "--cacert"];

static GIVEN: OnceLock<String> = OnceLock::new();
static COMMANDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    super::Arguments::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
});

/// Remembers the options in the arguments of this process.
pub(crate) fn remember(arguments: impl IntoIterator<Item = OsString>) {
    // Set once, by `main`.
    let _ = GIVEN.set(given_in(arguments));
}

/// The options as words of a shell, each with a space before it.
fn given_in(arguments: impl IntoIterator<Item = OsString>) -> String {
    let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    let mut given = String::new();
    while let Some(argument) = arguments.next().filter(|argument| argument != "--") {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        if OPTIONS.contains(&name)
            && let Some(value) = value.or_else(|| arguments.next())
        {
            given.push_str(&format!(" {name} {}", quoted(&value)));
        }
    }
    given
}

/// The text as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The text with the options in each command of this program that it names.
pub(crate) fn add_to(text: &str) -> Cow<'_, str> {
    match GIVEN.get().filter(|given| !given.is_empty()) {
        // Values of JSON are for programs.
        Some(given) if !text.starts_with(['{', '[']) => Cow::Owned(add(given, text)),
        Some(_) | None => Cow::Borrowed(text),
    }
}

fn add(given: &str, text: &str) -> String {
    const NAME: &str = "anteroom ";
    let mut parts = text.split(NAME);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(NAME.trim_end());
        let is_word = |c: char| c.is_ascii_lowercase() || c == '-';
        let word = &part[..part.find(|c| !is_word(c)).unwrap_or(part.len())];
        // A path or another word that ends like the name of this program is none.
        let begins = out[..out.len() - NAME.trim_end().len()].ends_with(['`', ' ', '\n']);
        if begins && COMMANDS.iter().any(|command| command == word) {
            out.push_str(given);
        }
        out.push(' ');
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(arguments: &[&str]) -> String {
        given_in(arguments.iter().map(OsString::from))
    }

    #[test]
    fn options_are_taken_as_they_were_given_and_only_before_the_command_of_exec() {
        assert_eq!(given(&["status"]), "");
        assert_eq!(given(&["login", "--config", "a.toml", "codex"]), " --config a.toml");
        assert_eq!(given(&["--state-dir=/s d", "--config=it's"]), r" --state-dir '/s d' --config 'it'\''s'");
        assert_eq!(given(&["exec", "--credential", "c", "--", "tool", "--config", "x"]), "");
    }

    #[test]
    fn each_command_of_this_program_gets_the_options_and_nothing_else_does() {
        let add = |text: &str| add(" --config a.toml", text);
        for (text, expected) in [
            (
                "not signed in. See: anteroom sessions ses_1",
                "not signed in. See: anteroom --config a.toml sessions ses_1",
            ),
            (
                "Run `anteroom image build`, then `anteroom doctor`.",
                "Run `anteroom --config a.toml image build`, then `anteroom --config a.toml doctor`.",
            ),
            ("start it with: anteroom serve", "start it with: anteroom --config a.toml serve"),
        ] {
            assert_eq!(add(text), expected);
        }
        for text in ["anteroom is a program", "/usr/bin/anteroom serve", "an anteroom 0.1.0", "no-anteroom login"] {
            assert_eq!(add(text), text);
        }
    }
}
