//! What is derived from the definition of the commands: examples in `--help`, completions of shells, man pages, docs/cli.md.

mod document;
mod examples;

use super::output::print_raw;
use anyhow::Context;
use clap::Command;
use clap_complete::Shell;
use std::{path::Path, process::ExitCode};

/// The commands with their examples and the exit codes in their help.
pub(super) fn with_help(command: Command) -> Command {
    let rows = EXIT_CODES.iter().map(|ExitCodeRow { code, commands, meaning }| match *commands {
        "all" => format!("  {code}: {meaning}"),
        commands => format!("  {code} ({}): {meaning}", commands.replace('`', "")),
    });
    let codes = rows.collect::<Vec<_>>().join("\n");
    examples::with_examples(command).after_long_help(format!("Exit codes:\n{codes}"))
}

/// Prints the completions of a shell.
pub(super) fn print_completions(shell: Shell, mut command: Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "anteroom", &mut script);
    print_raw(&String::from_utf8(script)?);
    Ok(ExitCode::SUCCESS)
}

/// Writes a man page for each command into a directory, which is made if it does not exist.
pub(super) fn write_man_pages(dir: &Path, command: Command) -> anyhow::Result<ExitCode> {
    let not_written = || format!("man pages cannot be written to {}", dir.display());
    std::fs::create_dir_all(dir).with_context(not_written)?;
    clap_mangen::generate_to(command, dir).with_context(not_written)?;
    Ok(ExitCode::SUCCESS)
}

/// An exit code of commands and its meaning.
pub(super) struct ExitCodeRow {
    pub(super) code: &'static str,
    pub(super) commands: &'static str,
    pub(super) meaning: &'static str,
}

/// All exit codes.
pub(super) const EXIT_CODES: &[ExitCodeRow] = &[
    row("0", "all", "It is done."),
    row("1", "all", "It failed, or what was checked is not in order; standard error has the reason."),
    row("2", "all but `exec`", "The arguments are wrong."),
    row("2", "`credentials check`", "The check could not be made."),
    row("3", "`status`, `doctor`", "No server runs there; `doctor`: and nothing else is missing."),
    row("125", "`exec`", "No machine could run the command, or the arguments are wrong."),
    row("other", "`exec`", "That of the command."),
    row(
        "129, 130, 143",
        "all",
        "Ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM. A session that the command started is cancelled.",
    ),
    row(
        "141",
        "all",
        "The reader of standard output closed the pipe. A session that the command started is cancelled.",
    ),
];

const fn row(code: &'static str, commands: &'static str, meaning: &'static str) -> ExitCodeRow {
    ExitCodeRow { code, commands, meaning }
}
