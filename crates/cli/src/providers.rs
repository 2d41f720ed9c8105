//! `anteroom providers`: lists the supported tools, checks their descriptors and tests their rules on recorded screens.

mod check;
mod list;
mod outdated;
mod test_rules;

use super::{client::ApiClient, output::print_raw};
use anteroom_controller::config::Config;
use anteroom_wire::{ProviderId, agent::TERMINAL_COLS};
use clap::Subcommand;
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, Subcommand)]
pub(super) enum ProvidersCommand {
    /// List the tools: versions, sign-in methods, policy, and whether a session can be started.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check descriptors and list every fault. Exits with 1 if there is one.
    Check {
        /// Descriptor files, or ids of configured providers. Default: all configured providers.
        #[arg(value_name = "FILE|ID")]
        which: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a descriptor to begin with: a template for any command that signs in and writes a file, with comments.
    Example,
    /// Compare the releases in the image, in the descriptors and in the npm registry. Exits with 1 if one is outdated or unknown.
    Outdated {
        /// Ids of providers. Default: all whose descriptor names a package.
        #[arg(value_name = "PROVIDER")]
        which: Vec<ProviderId>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Test a descriptor's rules on recorded screens: those in `fixtures/ID/*.screen` next to it, or the given ones.
    Test(TestArguments),
}

#[derive(Debug, clap::Args)]
pub(super) struct TestArguments {
    /// A descriptor file, or the id of a configured provider.
    #[arg(value_name = "FILE|ID")]
    which: String,
    /// A screen as text, or a fixture (*.screen). Several files are consecutive screens of one run of the tool.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    screen: Vec<PathBuf>,
    /// Number of columns of the terminal that showed --screen; by default that of a machine's terminal.
    #[arg(long, value_name = "COLUMNS", default_value_t = TERMINAL_COLS, value_parser = clap::value_parser!(u16).range(20..=500))]
    width: u16,
    /// Use this sign-in method's rules for --screen and --credential; without either, test only runs recorded with this method.
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Check whether this file is accepted as the credential, and list missing keys.
    #[arg(long, value_name = "FILE")]
    credential: Option<PathBuf>,
}

/// Prints a descriptor to begin with. Needs no configuration.
pub(super) fn print_example() -> ExitCode {
    print_raw(include_str!("../../../providers/examples/any_command.toml"));
    ExitCode::SUCCESS
}

impl ProvidersCommand {
    /// Checks the files that the command names although the configuration cannot be read: it is not needed for them.
    pub(super) fn check_files(&self) -> anyhow::Result<()> {
        if let Self::Check { which, json } = self {
            let is_file = |which: &&String| check::as_descriptor_path(which).is_some();
            let files: Vec<String> = which.iter().filter(is_file).cloned().collect();
            if !files.is_empty() {
                check::run(&Config::default(), &files, *json)?;
            }
        }
        Ok(())
    }
}

pub(super) async fn run(config: &Config, client: &ApiClient, command: ProvidersCommand) -> anyhow::Result<ExitCode> {
    match command {
        ProvidersCommand::List { json } => list::run(config, client, json).await,
        ProvidersCommand::Example => Ok(print_example()),
        ProvidersCommand::Outdated { which, json } => outdated::run(config, &which, json).await,
        ProvidersCommand::Check { which, json } => check::run(config, &which, json),
        ProvidersCommand::Test(arguments) => test_rules::run(config, &arguments),
    }
}
