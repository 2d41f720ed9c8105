//! A support bundle: the recorded data of one session without secrets, as one `.tar.gz`.
//!
//! ```text
//!  manifest.json   list of files, what was truncated   session.json    the session as the API returns it, redacted
//!  diagnosis.json  verdict, evidence, causal chain     timeline.jsonl  every entry
//!  receipts/       exit cause of each machine          log.jsonl       log lines of the session and its machines
//!  health.json     health checks of the server         config.toml     settings, redacted
//!  versions.json   server, image, tools                host.json       kernel, memory, disk, KVM
//! ```
//!
//! Text that a program in a machine printed passes [`redact`] first. Bundles are stored below the state directory; [`retention`]
//! bounds their number, size and age.

mod archive;
pub mod redact;
mod system_info;

use crate::{
    config::Config,
    health,
    log::read::{self, LogFilter},
    retention::{self, BUNDLE_SUFFIX},
    session::server_context::ServerContext,
    session::{diagnose, host_facts::Audience, timeline, view},
    unix_time,
};
use anteroom_store::{SessionRow, StoreError, TimelineRow};
use anteroom_wire::{MachineId, SessionId, api::SessionView};
use archive::BundleArchive;
use redact::Redactor;
use serde_json::Value;
use std::{collections::BTreeSet, io, path::PathBuf, time::SystemTime};
use tokio::sync::Mutex;

/// Number of timeline entries that a bundle contains at most.
pub const ENTRIES_MAX: u32 = 10_000;

/// Size of one file in a bundle before compression, bytes; of a larger file, the end is included. Bundles are sent by mail or chat.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// Serializes the creation of bundles: each needs some megabytes of memory.
static CREATION_LOCK: Mutex<()> = Mutex::const_new(());

/// A support bundle.
#[derive(Debug)]
pub struct Bundle {
    /// Its file name.
    pub name: String,
    /// The `.tar.gz` archive.
    pub bytes: Vec<u8>,
}

/// The reason why a bundle could not be created.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The database cannot be read.
    #[error("the session cannot be read")]
    Store(#[from] StoreError),
    /// The archive could not be written.
    #[error("the bundle could not be packed")]
    Archive(#[source] io::Error),
}

/// The input of a bundle before redaction.
struct Input {
    row: SessionRow,
    view: SessionView,
    timeline: Vec<TimelineRow>,
    diagnosis: Value,
    health: Value,
    versions: Value,
}

/// Creates a support bundle of a session and stores a copy if the disk has space. `None`: the session does not exist.
///
/// # Errors
/// The database cannot be read, or the archive cannot be written.
pub async fn create_bundle(server_context: &ServerContext, id: &SessionId) -> Result<Option<Bundle>, BundleError> {
    let _guard = CREATION_LOCK.lock().await;
    let Some(row) = server_context.store.get_session(id).await? else { return Ok(None) };
    let diagnosis = diagnose::diagnose(server_context, id).await?;
    let input = Input {
        view: view::to_session_view(server_context, &row).await?,
        timeline: server_context.store.list_timeline(id, 0, ENTRIES_MAX).await?,
        diagnosis: serde_json::to_value(diagnosis).unwrap_or_default(),
        health: serde_json::to_value(health::health_report(server_context).await).unwrap_or_default(),
        versions: system_info::collect_versions(server_context),
        row,
    };
    let (config, machines) = (server_context.config(), server_context.machines.clone());
    let name = format!("{id}-{}{BUNDLE_SUFFIX}", unix_time::now_unix_ms());
    let file_name = name.clone();
    let archived = tokio::task::spawn_blocking(move || {
        let receipt =
            |machine: &MachineId| machines.read_receipt(machine).map(|receipt| serde_json::to_value(receipt).ok());
        let bytes = write_archive(&config, input, receipt)?;
        // A bundle is often requested because the disk is full, so a failed copy is not an error.
        if let Err(error) = store_copy(&config, &file_name, &bytes) {
            tracing::warn!(outcome = "bundle_not_stored", name = file_name, %error, "support bundle returned without a stored copy");
        }
        io::Result::Ok(bytes)
    });
    let bytes = archived.await.map_err(io::Error::other).flatten().map_err(BundleError::Archive)?;
    tracing::info!(outcome = "bundled", session = %id, name, bytes = bytes.len(), "support bundle created");
    Ok(Some(Bundle { name, bytes }))
}

fn write_archive(
    config: &Config,
    input: Input,
    receipt: impl Fn(&MachineId) -> io::Result<Option<Value>>,
) -> io::Result<Vec<u8>> {
    let Input { row, view, timeline, diagnosis, health, versions } = input;
    let machines = machines_of(&row, &timeline);
    let redactor = redactor(config, &view, &versions)?;
    let mut archive = BundleArchive::new(row.id.as_str(), FILE_BYTES_MAX);
    let timeline = timeline
        .into_iter()
        .map(|row| serde_json::to_value(timeline::to_timeline_entry(row, Audience::Operators)).unwrap_or_default());
    archive.add_json("diagnosis.json", redacted(&redactor, diagnosis))?;
    archive.add_json("session.json", redacted(&redactor, serde_json::to_value(view).unwrap_or_default()))?;
    archive.add_lines("timeline.jsonl", timeline.map(|entry| redacted(&redactor, entry).to_string()))?;
    for machine in &machines {
        let content = match receipt(machine) {
            Ok(Some(Value::Null) | None) => continue,
            Ok(Some(receipt)) => redacted(&redactor, receipt),
            Err(error) => serde_json::json!({ "machine": machine, "unreadable": error.to_string() }),
        };
        archive.add_json(&format!("receipts/{machine}.json"), content)?;
    }
    let mut filter = LogFilter { session: Some(row.id.clone()), machines, least_level: None };
    let mut lines = archive.new_tail_buffer();
    read::for_each_log_line(&config.log_file(), &mut filter, |line| {
        let value = serde_json::from_str(line).unwrap_or_default();
        lines.push(&redacted(&redactor, value).to_string());
        true
    })?;
    archive.add_tail_buffer("log.jsonl", lines)?;
    archive.add_json("health.json", redacted(&redactor, health))?;
    archive.add_text("config.toml", &redactor.redact_text(&system_info::format_settings(config)))?;
    archive.add_json("versions.json", versions)?;
    archive.add_json("host.json", system_info::collect_host_info(config))?;
    archive.finish()
}

fn redacted(redactor: &Redactor, mut value: Value) -> Value {
    redactor.redact_json(&mut value);
    value
}

/// All machines of the session, past and present.
fn machines_of(row: &SessionRow, timeline: &[TimelineRow]) -> BTreeSet<MachineId> {
    let named = timeline.iter().filter_map(|entry| entry.data.get("machine")?.as_str()?.parse().ok());
    named.chain(row.machine.clone()).collect()
}

fn redactor(config: &Config, view: &SessionView, versions: &Value) -> io::Result<Redactor> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let directories =
        [(config.state_dir.as_path(), "STATE"), (config.cache_dir.as_path(), "CACHE"), (home.as_path(), "HOME")];
    let mut secrets: Vec<String> = view.sign_in.device_code.iter().cloned().collect();
    for url in view.sign_in.url.iter().chain(&view.return_url) {
        secrets.extend(parameter_values(url));
    }
    secrets.extend(view.user_id.clone());
    let hash = versions.get("image").and_then(Value::as_str).map(str::to_owned);
    Redactor::new(secrets, &directories, hash).map_err(io::Error::other)
}

/// The parameter values in the query and fragment of a URL, still percent-encoded.
fn parameter_values(url: &str) -> Vec<String> {
    let rest = url.split_once(['?', '#']).map_or("", |(_, rest)| rest);
    let values = rest.split(['&', '#']).filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    // Short values are words such as `code` and `true`, not secrets.
    values.filter(|value| value.len() >= 8).map(str::to_owned).collect()
}

/// Stores the bundle below the state directory (temporary file, then rename) and removes old bundles over the limits.
fn store_copy(config: &Config, name: &str, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let dir = config.bundles_dir();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let temporary = dir.join(format!(".{name}"));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| io::Write::write_all(&mut file, bytes))
        .and_then(|()| std::fs::rename(&temporary, dir.join(name)));
    if written.is_err() {
        // On a full disk a part of the temporary file may exist.
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    let files = retention::list_files(&dir, BUNDLE_SUFFIX)?;
    for (file, reason) in retention::find_over_limit(files, retention::bundle_limits(config), SystemTime::now()) {
        tracing::info!(outcome = "bundle_removed", path = %file.path.display(), %reason, "old support bundle removed");
        retention::remove_file(&file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn url_parameter_values_are_secrets_and_parameter_names_are_not() {
        let url = "https://id.example/a?client=abc&state=s3cr3t-enough&scope=offline#login_token=also-secret";
        assert_eq!(super::parameter_values(url), ["s3cr3t-enough", "also-secret"]);
        assert!(super::parameter_values("https://id.example/a").is_empty());
    }
}
