//! `anteroom keys list | rotate | retire`: asks the running server, or works on the state directory when no server uses it.

use super::{
    client::{ApiClient, ClientError},
    print_line,
    progress::Wait,
    table::Table,
    when::when,
};
use anteroom_controller::{
    config::Config,
    keys::{self, KeyId, KeyRotation},
};
use anteroom_server::StateDir;
use anteroom_store::{Store, StoreSettings};
use anteroom_vault::KeyRing;
use anteroom_wire::operator_reports::KeyReport;
use clap::{Args, Subcommand};
use http::Method;
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// Time between two requests for the progress of a rotation.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List the keys, and how many stored credentials each wraps.
    List(KeysArguments),
    /// Add a key that seals new credentials, and rewrap the stored ones with it.
    Rotate(KeysArguments),
    /// Remove a key that no stored credential needs, and wipe it.
    Retire {
        /// The key's number, as printed by `anteroom keys list`.
        id: u32,
        #[command(flatten)]
        arguments: KeysArguments,
    },
    /// Accept the rows of the database as they are, on the server's host, with the server stopped: after a backup of an earlier version was
    /// restored, or rows were changed on purpose.
    AcceptRows(KeysArguments),
}

#[derive(Debug, Args)]
pub(super) struct KeysArguments {
    /// Change this key file instead: the one from which a service manager makes the server's credential. Does not ask the server.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl KeysCommand {
    /// Why it works only on the server's host, if it does: what completes "it ".
    pub(super) fn host_need(&self) -> Option<&'static str> {
        match self {
            Self::List(arguments) | Self::Rotate(arguments) | Self::Retire { arguments, .. } => {
                arguments.key_file.as_ref().map(|_| "changes a key file of the server's host")
            }
            // A server cannot vouch for rows that it refuses, and mostly does not start with them.
            Self::AcceptRows(_) => Some("accepts the database as it is, which only a look at that file can justify"),
        }
    }
}

pub(super) async fn run(config: &Config, client: &ApiClient, command: KeysCommand) -> anyhow::Result<ExitCode> {
    let (method, path, arguments) = match &command {
        KeysCommand::List(arguments) => (Method::GET, "/api/keys".to_owned(), arguments),
        KeysCommand::Rotate(arguments) => (Method::POST, "/api/keys/rotate".to_owned(), arguments),
        KeysCommand::Retire { id, arguments } => (Method::POST, format!("/api/keys/{id}/retire"), arguments),
        KeysCommand::AcceptRows(arguments) => return accept_rows(config, arguments).await,
    };
    let answer = match &arguments.key_file {
        Some(_) => None,
        None => match client.call::<(), KeyReport>(method, &path, None).await {
            Ok(report) => Some(report),
            Err(ClientError::NoServer { .. }) => None,
            Err(error) => return Err(error.into()),
        },
    };
    let report = match (answer, &command) {
        (Some(report), KeysCommand::Rotate(_)) => wait_rewrapped(client, report).await?,
        (Some(report), KeysCommand::List(_) | KeysCommand::Retire { .. } | KeysCommand::AcceptRows(_)) => report,
        (None, command) => run_without_server(config, command, arguments).await?,
    };
    print_report(&report, arguments.json)?;
    Ok(if report.records_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows the progress until no record is left that can be rewrapped.
async fn wait_rewrapped(client: &ApiClient, mut report: KeyReport) -> anyhow::Result<KeyReport> {
    let wait = Wait::begin("Rewrapping stored credentials…");
    while report.records_to_rewrap > report.records_failed {
        wait.show(&format!("Rewrapping stored credentials: {} left", report.records_to_rewrap));
        tokio::time::sleep(PROGRESS_INTERVAL).await;
        report = client.get("/api/keys").await?;
    }
    Ok(report)
}

/// Opens the state directory as a server would, which fails while a server runs.
async fn run_without_server(
    config: &Config,
    command: &KeysCommand,
    arguments: &KeysArguments,
) -> anyhow::Result<KeyReport> {
    let _state = StateDir::lock_existing(&config.state_dir)?;
    let config = with_key_file(config, arguments);
    let store = Store::open(&config.database_address()?, StoreSettings::default()).await?;
    let result = change_keys(&config, &store, command).await;
    store.close().await;
    result
}

fn with_key_file(config: &Config, arguments: &KeysArguments) -> Config {
    let mut config = config.clone();
    config.vault.key_file = arguments.key_file.clone().or(config.vault.key_file);
    config
}

/// Only while no server uses the state directory.
async fn accept_rows(config: &Config, arguments: &KeysArguments) -> anyhow::Result<ExitCode> {
    let _state = StateDir::lock_existing(&config.state_dir)?;
    let ring = KeyRing::open(keys::key_source(&with_key_file(config, arguments)))?;
    let store = Store::open(&config.database_address()?, StoreSettings::default()).await?;
    let known = store.get_key_fingerprint().await?;
    known.as_deref().map_or(Ok(()), |known| ring.check_fingerprint(known))?;
    let rows = keys::accept_rows(&store, &ring).await;
    store.close().await;
    print_line(format_args!("{} rows are accepted as they are.", rows?));
    Ok(ExitCode::SUCCESS)
}

async fn change_keys(config: &Config, store: &Store, command: &KeysCommand) -> anyhow::Result<KeyReport> {
    let ring = keys::open_key_ring(config, store).await?;
    let rotation = KeyRotation::new(store.clone(), ring);
    match command {
        KeysCommand::List(_) | KeysCommand::AcceptRows(_) => {}
        KeysCommand::Rotate(_) => {
            rotation.rotate().await?;
            rotation.rewrap_records().await?;
        }
        KeysCommand::Retire { id, .. } => {
            rotation.retire(KeyId(*id)).await?;
        }
    }
    Ok(rotation.report().await?)
}

fn print_report(report: &KeyReport, json: bool) -> anyhow::Result<()> {
    if json {
        print_line(serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    print_line(format_args!("Keys in {}", super::one_line(&report.source)));
    let mut table = Table::new(["key", "created", "use", "credentials"]);
    for key in &report.keys {
        let role = if key.is_primary { "primary" } else { "unwraps only" };
        table.add_row([key.id.to_string(), when(&key.created_at), role.to_owned(), key.records.to_string()]);
    }
    print_line(table);
    if report.records_failed > 0 {
        print_line(format_args!("{} credentials could not be rewrapped; the log names each.", report.records_failed));
    }
    Ok(())
}
