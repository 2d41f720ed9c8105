//! A support bundle: all that is known of one session, without a secret in it, as one `.tar.gz`.
//!
//! ```text
//!  manifest.json   what is in it, and what was cut     session.json    as its owner sees it, reduced
//!  diagnosis.json  verdict, proof, chain               timeline.jsonl  every entry
//!  receipts/       how each machine ended              log.jsonl       the log's lines of session and machines
//!  health.json     what the server depends on          config.toml     settings, reduced
//!  versions.json   server, image, tools                host.json       what this host is
//! ```
//!
//! What a program in a machine said in its own words passes [`reduce`] first. Bundles are kept below the state directory,
//! bounded in number, size and age ([`shelf`]).

mod facts;
mod pack;
pub mod reduce;
pub mod shelf;

use crate::{
    app::App,
    clock,
    config::Config,
    health,
    log::read::{self, Wanted},
    session::{diagnose, view},
};
use anteroom_store::{SessionRow, StoreError, TimelineRow};
use anteroom_wire::{MachineId, SessionId, api::SessionView};
use pack::Pack;
use reduce::Reducer;
use serde_json::Value;
use std::{collections::BTreeSet, io, path::PathBuf, time::SystemTime};
use tokio::sync::Mutex;

/// Entries of a timeline that are read.
const ENTRIES_MAX: u32 = 10_000;
/// What a bundle's file name ends with.
pub const ENDING: &str = ".tar.gz";

/// Bundles are made one after the other: each takes some megabytes of memory.
static MAKING: Mutex<()> = Mutex::const_new(());

/// A bundle that was made.
#[derive(Debug)]
pub struct Bundle {
    /// Its file name.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The database cannot be read.
    #[error("the session cannot be read")]
    Store(#[from] StoreError),
    /// It could not be packed.
    #[error("the bundle could not be {doing}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// All that goes into a bundle, not reduced yet.
struct Material {
    row: SessionRow,
    view: SessionView,
    timeline: Vec<TimelineRow>,
    diagnosis: Value,
    health: Value,
    versions: Value,
}

/// Makes a bundle of a session, and keeps a copy where the disk takes one; `None`: there is no such session.
///
/// # Errors
/// The database cannot be read, or the bundle not be packed.
pub async fn make(app: &App, id: &SessionId) -> Result<Option<Bundle>, BundleError> {
    let _one_at_a_time = MAKING.lock().await;
    let Some(row) = app.store.session(id).await? else { return Ok(None) };
    let diagnosis = diagnose::look(app, id).await?;
    let material = Material {
        view: view::view(app, &row).await?,
        timeline: app.store.timeline(id, 0, ENTRIES_MAX).await?,
        diagnosis: serde_json::to_value(diagnosis).unwrap_or_default(),
        health: serde_json::to_value(health::look(app).await).unwrap_or_default(),
        versions: facts::versions(app),
        row,
    };
    let (config, machines) = (app.config.clone(), app.machines.clone());
    let name = format!("{id}-{}{ENDING}", clock::now());
    let kept_as = name.clone();
    let packed = tokio::task::spawn_blocking(move || {
        let receipt = |machine: &MachineId| machines.receipt(machine).map(|receipt| serde_json::to_value(receipt).ok());
        let bytes = pack_all(&config, material, receipt).map_err(failed("packed"))?;
        // A full disk is what many a bundle is made for: then there is no copy of it here.
        if let Err(error) = keep(&config, &kept_as, &bytes) {
            tracing::warn!(outcome = "bundle_not_kept", name = kept_as, %error, "a support bundle is given and no copy of it is kept");
        }
        Ok::<_, BundleError>(bytes)
    });
    let bytes = packed.await.map_err(|error| failed("packed")(io::Error::other(error)))??;
    tracing::info!(outcome = "bundled", session = %id, name, bytes = bytes.len(), "a support bundle was made");
    Ok(Some(Bundle { name, bytes }))
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> BundleError {
    move |source| BundleError::File { doing, source }
}

fn pack_all(
    config: &Config,
    material: Material,
    receipt: impl Fn(&MachineId) -> io::Result<Option<Value>>,
) -> io::Result<Vec<u8>> {
    let Material { row, view, timeline, diagnosis, health, versions } = material;
    let machines = machines_of(&row, &timeline);
    let reducer = reducer(config, &view, &versions)?;
    let mut pack = Pack::new(row.id.as_str(), config.keep.bundle_part_bytes_max);
    let timeline = timeline.into_iter().map(|row| serde_json::to_value(view::timeline_entry(row)).unwrap_or_default());
    pack.json("diagnosis.json", reduced(&reducer, diagnosis))?;
    pack.json("session.json", reduced(&reducer, serde_json::to_value(view).unwrap_or_default()))?;
    pack.lines("timeline.jsonl", timeline.map(|entry| reduced(&reducer, entry).to_string()))?;
    for machine in &machines {
        let content = match receipt(machine) {
            Ok(Some(Value::Null) | None) => continue,
            Ok(Some(receipt)) => reduced(&reducer, receipt),
            Err(error) => serde_json::json!({ "machine": machine, "unreadable": error.to_string() }),
        };
        pack.json(&format!("receipts/{machine}.json"), content)?;
    }
    let mut wanted = Wanted { session: Some(row.id.clone()), machines, level: None };
    let mut lines = pack.begin_lines();
    read::each(&config.log_file(), &mut wanted, |line| {
        let value = serde_json::from_str(line).unwrap_or_default();
        lines.push(&reduced(&reducer, value).to_string());
        true
    })?;
    pack.end_lines("log.jsonl", lines)?;
    pack.json("health.json", reduced(&reducer, health))?;
    pack.text("config.toml", &reducer.text(&facts::settings(config)))?;
    pack.json("versions.json", versions)?;
    pack.json("host.json", facts::host(config))?;
    pack.finish()
}

fn reduced(reducer: &Reducer, mut value: Value) -> Value {
    reducer.value(&mut value);
    value
}

/// The machines that the session ever had.
fn machines_of(row: &SessionRow, timeline: &[TimelineRow]) -> BTreeSet<MachineId> {
    let named = timeline.iter().filter_map(|entry| entry.data.get("machine")?.as_str()?.parse().ok());
    named.chain(row.machine.clone()).collect()
}

fn reducer(config: &Config, view: &SessionView, versions: &Value) -> io::Result<Reducer> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let places =
        [(config.state_dir.as_path(), "STATE"), (config.cache_dir.as_path(), "CACHE"), (home.as_path(), "HOME")];
    let mut secrets: Vec<String> = view.sign_in.device_code.iter().cloned().collect();
    for url in view.sign_in.url.iter().chain(&view.return_url) {
        secrets.extend(values_in(url));
    }
    secrets.extend(view.user_id.clone());
    let hash = versions.get("image").and_then(Value::as_str).map(str::to_owned);
    Reducer::new(secrets, &places, hash).map_err(io::Error::other)
}

/// What stands behind the `=` in an address's query and fragment, as it is written there.
fn values_in(url: &str) -> Vec<String> {
    let rest = url.split_once(['?', '#']).map_or("", |(_, rest)| rest);
    let values = rest.split(['&', '#']).filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    // Short values are words such as `code` and `true`.
    values.filter(|value| value.len() >= 8).map(str::to_owned).collect()
}

/// Writes it beside its place, renames it there, and makes room by the limits.
fn keep(config: &Config, name: &str, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let dir = config.bundles_dir();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let beside = dir.join(format!(".{name}"));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| io::Write::write_all(&mut file, bytes))
        .and_then(|()| std::fs::rename(&beside, dir.join(name)));
    if written.is_err() {
        // On a full disk half of it may lie there.
        let _ = std::fs::remove_file(&beside);
    }
    written?;
    for (item, why) in shelf::excess(shelf::items(&dir, ENDING)?, limits(config), SystemTime::now()) {
        tracing::info!(outcome = "bundle_removed", path = %item.path.display(), %why, "an old support bundle was removed");
        shelf::remove(&item)?;
    }
    Ok(())
}

/// How much may lie in the directory of bundles.
pub fn limits(config: &Config) -> shelf::Limits {
    let keep = &config.keep;
    shelf::Limits { files_max: keep.bundles_max, bytes_max: keep.bundles_bytes_max, s_max: keep.bundles_s_max }
}

/// How much may lie in the directory of receipts; each is bounded by `machines.console_bytes_max`.
pub fn receipt_limits(config: &Config) -> shelf::Limits {
    let keep = &config.keep;
    shelf::Limits { files_max: keep.receipts_max, bytes_max: u64::MAX, s_max: keep.receipts_s_max }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_values_of_an_address_are_secrets_and_its_names_are_not() {
        let url = "https://id.example/a?client=abc&state=s3cr3t-enough&scope=offline#pass=also-secret";
        assert_eq!(super::values_in(url), ["s3cr3t-enough", "also-secret"]);
        assert!(super::values_in("https://id.example/a").is_empty());
    }
}
