//! docs/cli.md, generated from the definition of the commands.

#[cfg(test)]
mod tests {
    use super::super::{EXIT_CODES, examples::examples_of};
    use crate::Arguments;
    use clap::{Arg, Command, CommandFactory};
    use std::fmt::Write;

    const HEAD: &str = "# The command line\n\n\
        Every command, its options and its exit codes. The commands themselves show the same with `--help`; `anteroom man DIR` writes it as man \
        pages, and `anteroom completions bash|zsh|fish` prints completions.\n\n\
        This file is generated from the commands in `crates/cli/src`; `ANTEROOM_WRITE_DOCS=1` rewrites it when its test runs.\n\n\
        Output is for people on a terminal: times are relative, tables fit its width, addresses are links. Elsewhere a row is one line and times \
        are RFC 3339; `--json` prints JSON (UTF-8, one value) with the names of the [API](../README.md#for-backends), and messages go to standard \
        error. An output that cannot be written ends each command with an error.\n\n";

    fn text_of(text: Option<&clap::builder::StyledStr>) -> String {
        text.map(ToString::to_string).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn option_row(text: &mut String, argument: &Arg) {
        let names: Vec<_> = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
        let takes_value = argument.get_action().takes_values();
        let value = if takes_value && !names.is_empty() { format!(" {}", names.join(" ")) } else { String::new() };
        let name = match (argument.get_long(), argument.get_short()) {
            (Some(long), Some(short)) => format!("-{short}, --{long}{value}"),
            (Some(long), None) => format!("--{long}{value}"),
            (None, _) => names.join(" "),
        };
        let variable = argument.get_env().map(|name| format!(" Variable: `{}`.", name.to_string_lossy()));
        let defaults: Vec<_> =
            argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        let has_default = takes_value && !defaults.is_empty();
        let default = if has_default { format!(" Default: `{}`.", defaults.join(" ")) } else { String::new() };
        let help = text_of(argument.get_help()).trim_end_matches('.').to_owned();
        let row = format!("| `{}` | {help}.{}{default} |", name, variable.unwrap_or_default());
        writeln!(text, "{}", row.replace("|>", "\\|>").replace("FILE|", "FILE\\|").replace("[FILE|", "[FILE\\|"))
            .unwrap();
    }

    fn options<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
        let shown: Vec<_> = arguments
            .filter(|argument| !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str()))
            .collect();
        if shown.is_empty() {
            return;
        }
        text.push_str("\n| argument | purpose |\n|---|---|\n");
        shown.into_iter().for_each(|argument| option_row(text, argument));
    }

    fn section(text: &mut String, command: &Command, path: &str) {
        let about = command.get_long_about().or(command.get_about());
        writeln!(text, "\n## {path}\n\n{}.", text_of(about).trim_end_matches('.')).unwrap();
        options(text, command.get_arguments().filter(|argument| !argument.is_global_set()));
        let examples = examples_of(path.trim_start_matches("anteroom "));
        if !examples.is_empty() {
            writeln!(text, "\n```text\n{}\n```", examples.join("\n")).unwrap();
        }
        for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
            section(text, subcommand, &format!("{path} {}", subcommand.get_name()));
        }
    }

    fn document() -> String {
        let command = Arguments::command();
        let mut text = HEAD.to_owned();
        text.push_str("## Exit codes\n\n| code | command | meaning |\n|---|---|---|\n");
        for row in EXIT_CODES {
            writeln!(text, "| {} | {} | {} |", row.code, row.commands, row.meaning).unwrap();
        }
        text.push_str("\n## Options of every command\n");
        options(&mut text, command.get_arguments());
        for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
            section(&mut text, subcommand, &format!("anteroom {}", subcommand.get_name()));
        }
        text
    }

    #[test]
    fn cli_document_matches_the_commands() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
        let wanted = document();
        if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == wanted, "docs/cli.md differs from the commands; ANTEROOM_WRITE_DOCS=1 writes it");
    }
}
