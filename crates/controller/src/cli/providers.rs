//! `anteroom providers`: what tools there are, whether their descriptors are sound, and what their rules find on recorded screens.

mod check;
mod list;
mod trial;

use crate::config::Config;
use clap::Subcommand;
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, Subcommand)]
pub(super) enum ProvidersCommand {
    /// List the tools: versions, ways of signing in, policy, and whether a session can be started.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say everything that is wrong with descriptors: those of the configuration, or the given ones. Ends with 1 when something is.
    Check {
        /// A descriptor's file, or the id of a configured one.
        #[arg(value_name = "FILE|ID")]
        which: Vec<String>,
    },
    /// Try a descriptor's rules on recorded screens: those beside it (fixtures/ID/*.screen), or the given ones.
    Test(TestArguments),
}

#[derive(Debug, clap::Args)]
pub(super) struct TestArguments {
    /// A descriptor's file, or the id of a configured one.
    #[arg(value_name = "FILE|ID")]
    which: String,
    /// A screen as text, or a fixture (*.screen); several are one after the other in one run of the tool.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    screen: Vec<PathBuf>,
    /// Columns of the terminal that showed --screen.
    #[arg(long, value_name = "COLUMNS", default_value_t = 120, value_parser = clap::value_parser!(u16).range(20..=500))]
    width: u16,
    /// Try --screen and --credential by this method's rules; without either, only the runs that were recorded by it.
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Say whether this file counts as the credential, and which keys it misses.
    #[arg(long, value_name = "FILE")]
    credential: Option<PathBuf>,
}

pub(super) async fn run(config: &Config, command: ProvidersCommand) -> anyhow::Result<ExitCode> {
    match command {
        ProvidersCommand::List { json } => list::run(config, json).await,
        ProvidersCommand::Check { which } => check::run(config, &which),
        ProvidersCommand::Test(arguments) => trial::run(config, &arguments),
    }
}
