//! `anteroom backup FILE|DIR`, also of a server on another host, and `anteroom restore FILE`, which works on the files of this host.

use super::{client::ApiClient, one_line, print_error_line, print_line, progress::Wait, stop::Stops};
use anteroom_controller::{
    backup::{self, BackupRequest, IncomingBackup, Manifest, RestoreReport},
    config::Config,
    providers::Providers,
};
use anteroom_server::StateDir;
use clap::Args;
use http::Method;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, Args)]
pub(super) struct BackupArguments {
    /// The file to make; it must not exist. Or a directory: the file gets a name with the time.
    #[arg(value_name = "FILE|DIR")]
    to: PathBuf,
    /// Include the key file; only on the server's host. Such a backup opens every stored credential.
    #[arg(long)]
    pub(super) with_key: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArguments {
    /// The backup.
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// Compare the backup with the keys in this file: the one from which a service manager makes the server's credential.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// While the server runs, or not.
pub(super) async fn run_backup(
    config: &Config,
    client: &ApiClient,
    arguments: BackupArguments,
) -> anyhow::Result<ExitCode> {
    let wait = Wait::begin("Making a backup…");
    let making = async {
        if client.is_remote() && !arguments.with_key {
            return receive(client, &arguments.to).await;
        }
        let request = BackupRequest { to: &arguments.to, with_key: arguments.with_key };
        Ok(backup::create_backup(config, request).await?)
    };
    let made = unless_stopped(making).await?;
    drop(wait);
    let made = match made {
        Ok(made) => made,
        Err(code) => return Ok(code),
    };
    let (file, bytes, manifest) = made?;
    if arguments.json {
        print_line(serde_json::to_string_pretty(&json!({ "file": file, "bytes": bytes, "manifest": manifest }))?);
    } else {
        print_line(format_args!("Wrote {} ({} KiB): {}.", shown(&file), bytes.div_ceil(1024), counts(&manifest)));
        print_line(
            "It does not contain the configuration and the files that it names, logs, receipts, bundles and the image.",
        );
    }
    if manifest.has_key() {
        print_error_line("anteroom: warning: the backup contains the key file: it opens every stored credential.");
    } else if let Some(fingerprint) = manifest.key_fingerprint.as_ref().filter(|_| !arguments.json) {
        print_line(format_args!(
            "It does not contain the key file, without which it is of no use: keep the keys {fingerprint} elsewhere."
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The backup gets its name when it is complete and its digests were compared.
async fn receive(client: &ApiClient, to: &Path) -> anyhow::Result<(PathBuf, u64, Manifest)> {
    let mut incoming = IncomingBackup::begin(to)?;
    client.download(Method::POST, "/api/backup", |bytes| Ok(incoming.write(bytes)?)).await?;
    Ok(incoming.finish()?)
}

/// Only while no server uses the state directory.
pub(super) async fn run_restore(config: &Config, arguments: RestoreArguments) -> anyhow::Result<ExitCode> {
    let mut config = config.clone();
    config.vault.key_file = arguments.key_file.or(config.vault.key_file);
    let _state = StateDir::lock(&config.state_dir)?;
    let wait = Wait::begin("Restoring a backup…");
    let restored = unless_stopped(backup::restore_backup(&config, &arguments.from)).await?;
    drop(wait);
    let restored = match restored {
        Ok(restored) => restored,
        Err(code) => return Ok(code),
    };
    let RestoreReport { manifest, key_file, keys_missing } = restored?;
    let keys_missing: Vec<String> = keys_missing.iter().map(ToString::to_string).collect();
    let providers_missing = missing_providers(&config, &manifest);
    if arguments.json {
        let report = json!({
            "state_dir": config.state_dir, "key_file": key_file, "manifest": manifest,
            "keys_missing": keys_missing, "providers_missing": providers_missing,
        });
        print_line(serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    print_line(format_args!(
        "Restored into {}, as of {}: {}.",
        shown(&config.state_dir),
        manifest.made_at,
        counts(&manifest)
    ));
    if let Some(path) = key_file {
        print_line(format_args!("The key file is {}.", shown(&path)));
    }
    if !keys_missing.is_empty() {
        print_line(format_args!(
            "Missing: the keys {}. Credentials that only they wrap cannot be opened.",
            keys_missing.join(", ")
        ));
    }
    if !providers_missing.is_empty() {
        print_line(format_args!(
            "Missing: the descriptors of {}. Set providers or providers_dir before the server starts; without them, their active \
             sessions end.",
            providers_missing.join(", ")
        ));
    }
    print_line(EFFECTS);
    Ok(ExitCode::SUCCESS)
}

const EFFECTS: &str = "\
API tokens and signed-in browsers are those of the backup: revoke again what was revoked since. Login links, invitations and tickets \
were removed. Sessions that were active get a new machine, or end if they are overdue. What was leased or sent to the webhook since the \
backup may be handed out once more.";

/// The result of `work`, or the exit code of the signal that came first: then what it has written is removed.
pub(super) async fn unless_stopped<T>(work: impl Future<Output = T>) -> anyhow::Result<Result<T, ExitCode>> {
    let mut stops = Stops::new()?;
    tokio::select! {
        done = work => Ok(Ok(done)),
        code = stops.next() => Ok(Err(ExitCode::from(code))),
    }
}

pub(super) fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

pub(super) fn counts(manifest: &Manifest) -> String {
    format!(
        "{} credentials, {} sessions ({} active), schema version {}",
        manifest.credentials,
        manifest.rows_of("sessions"),
        manifest.active_sessions,
        manifest.schema_version
    )
}

/// Providers that this configuration does not have.
fn missing_providers(config: &Config, manifest: &Manifest) -> Vec<String> {
    let known = Providers::load(config).ok();
    let is_known = |name: &String| {
        let id = name.parse().ok();
        known.as_ref().is_some_and(|known| id.is_some_and(|id| known.get(&id).is_some()))
    };
    manifest.providers.iter().filter(|name| !is_known(name)).cloned().collect()
}
