//! `anteroom config check | example | show`.

use super::{output::print_raw, print_error_line, print_line};
use anteroom_controller::{
    config::{Config, ConfigErrors, ConfigSources},
    config_files::read_with_files,
};
use clap::Subcommand;
use serde_json::json;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the configuration as the server would: file, variables and flags together, and the files that it names.
    ///
    /// Prints everything that is wrong, and exits with 1 then.
    Check {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print an example of the configuration file: every setting with its meaning, default and range.
    Example,
    /// Print every setting with its value and where that comes from. Secrets are only named by their files.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(sources: &ConfigSources, command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check { json } => Ok(check(sources, *json)),
        ConfigCommand::Example => {
            print_raw(&Config::example_file());
            Ok(ExitCode::SUCCESS)
        }
        ConfigCommand::Show { json } => show(sources, *json),
    }
}

fn check(sources: &ConfigSources, json: bool) -> ExitCode {
    let checked = read_with_files(sources);
    let errors = match &checked {
        Ok(_) => &[][..],
        Err(ConfigErrors { errors, .. }) => errors,
    };
    match &checked {
        _ if json => print_line(json!({ "valid": checked.is_ok(), "errors": errors })),
        Ok(_) => print_line("The configuration is valid."),
        Err(errors) => print_error_line(format_args!("anteroom: {errors}")),
    }
    if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(sources: &ConfigSources, json: bool) -> anyhow::Result<ExitCode> {
    let settings = sources.show()?;
    if json {
        print_line(serde_json::to_string_pretty(&settings)?);
        return Ok(ExitCode::SUCCESS);
    }
    for (name, setting) in &settings {
        match &setting.value {
            Some(value) => print_line(format_args!("{name} = {value}  # {}", setting.source)),
            None => print_line(format_args!("# {name} is not set")),
        }
    }
    Ok(ExitCode::SUCCESS)
}
