//! `anteroom config check | example | show`.

use super::{client::ApiClient, one_line, output::print_raw, print_error_line, print_line};
use anteroom_controller::{
    config::{Config, ConfigSources, ShownSetting},
    config_files::read_with_files,
};
use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the configuration as the server would: file, variables and flags together, and the files that it names.
    ///
    /// Prints everything that is wrong, and exits with 1 then. A server on another host checks its own.
    Check {
        /// Check this file instead of --config. Uses no server.
        file: Option<PathBuf>,
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

/// What `GET /api/config` returns.
#[derive(Debug, Deserialize)]
struct ConfigReport {
    settings: Vec<UsedSetting>,
    errors: Vec<String>,
}

/// A setting of the server.
#[derive(Debug, Deserialize)]
struct UsedSetting {
    name: String,
    #[serde(flatten)]
    shown: ShownSetting,
}

/// `server`: the server on another host that is asked instead of this host's files.
pub(super) async fn run(
    mut sources: ConfigSources,
    server: Option<&ApiClient>,
    command: &ConfigCommand,
) -> anyhow::Result<ExitCode> {
    match (command, server) {
        (ConfigCommand::Check { json, .. }, Some(server)) => {
            let ConfigReport { errors, .. } = server.get("/api/config").await?;
            let listed: String = errors.iter().map(|error| format!("\n  - {}", one_line(error))).collect();
            Ok(report(&errors, &format!("the server's configuration is invalid:{listed}"), *json))
        }
        (ConfigCommand::Check { file, json }, None) => {
            sources.file = file.clone().or(sources.file);
            Ok(match read_with_files(&sources) {
                Ok(_) => report(&[], "", *json),
                Err(error) => report(&error.errors, &error.to_string(), *json),
            })
        }
        (ConfigCommand::Example, _) => {
            print_raw(&Config::example_file());
            Ok(ExitCode::SUCCESS)
        }
        (ConfigCommand::Show { json }, Some(server)) => {
            let ConfigReport { settings, .. } = server.get("/api/config").await?;
            show(&settings.into_iter().map(|setting| (setting.name, setting.shown)).collect(), *json)
        }
        (ConfigCommand::Show { json }, None) => show(&sources.show()?, *json),
    }
}

fn report(errors: &[String], message: &str, json: bool) -> ExitCode {
    match errors {
        _ if json => print_line(json!({ "valid": errors.is_empty(), "errors": errors })),
        [] => print_line("The configuration is valid."),
        _ => print_error_line(format_args!("anteroom: {message}")),
    }
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(settings: &BTreeMap<String, ShownSetting>, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        print_line(serde_json::to_string_pretty(settings)?);
        return Ok(ExitCode::SUCCESS);
    }
    for (name, setting) in settings {
        match &setting.value {
            Some(value) => print_line(format_args!("{name} = {value}  # {}", setting.source)),
            None => print_line(format_args!("# {name} is not set")),
        }
    }
    Ok(ExitCode::SUCCESS)
}
