//! Restores a backup into a new state directory. Everything is checked before the database gets its name, which is the last step.

use super::{
    AUDIT_DIR, BackupError, DATABASE_NAME, KEY_NAME, Manifest,
    archive::read_archive,
    manifest::digests,
    missing_keys, require_file,
    work_dir::{WorkDir, sync_dir},
};
use crate::{
    config::Config,
    keys::{KeyRing, key_source},
    unix_time::now_unix_ms,
};
use anteroom_store::{DatabaseFile, Restored, RestoredFrom};
use anteroom_vault::{KeyError, KeyId, KeySource};
use std::{
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// What was restored.
#[derive(Debug)]
pub struct RestoreReport {
    /// The description of the backup.
    pub manifest: Manifest,
    /// The key file that was restored, too.
    pub key_file: Option<PathBuf>,
    /// Keys that the database was used with and that this host does not have.
    pub keys_missing: Vec<KeyId>,
}

/// Restores a backup into the state directory of this configuration. The caller holds the lock of the directory.
///
/// # Errors
/// The directory was used, the backup is incomplete or newer, or its keys are missing or others. Nothing was restored.
pub async fn restore_backup(config: &Config, from: &Path) -> Result<RestoreReport, BackupError> {
    require_file(config)?;
    let (state_dir, audit_dir) = (&config.state_dir, config.audit_dir());
    require_new(state_dir, &audit_dir)?;
    let work =
        WorkDir::create_in(state_dir).map_err(|source| BackupError::Write { path: state_dir.clone(), source })?;
    let work_audit = work.path(AUDIT_DIR);
    DirBuilder::new().mode(0o700).create(&work_audit).map_err(|source| write_error(&work_audit, source))?;
    let (work, manifest) = tokio::task::spawn_blocking({
        let from = from.to_owned();
        move || read_archive(&from, |name| work.path(name)).map(|manifest| (work, manifest))
    })
    .await??;
    manifest.require_known_schema()?;
    let (new_key, keys_missing) = check_keys(config, &manifest, &work.path(KEY_NAME))?;
    check_database(&work.path(DATABASE_NAME), from, &manifest).await?;
    install(&work, &work_audit, config, new_key.as_deref())?;
    Ok(RestoreReport { manifest, key_file: new_key, keys_missing })
}

pub(super) fn write_error(path: &Path, source: std::io::Error) -> BackupError {
    BackupError::Write { path: path.to_owned(), source }
}

fn require_new(state_dir: &Path, audit_dir: &Path) -> Result<(), BackupError> {
    let used = |what: &str| Err(BackupError::Used { dir: state_dir.to_owned(), what: what.to_owned() });
    if ["", "-wal", "-shm"].iter().any(|end| state_dir.join(format!("{DATABASE_NAME}{end}")).exists()) {
        return used("a database");
    }
    if has_entries(&state_dir.join("run")) {
        return used("machines");
    }
    if has_entries(audit_dir) {
        return used("an audit trail");
    }
    Ok(())
}

/// Compares the keys of this host, or those in the backup, with the database. Returns the path for the backup's key file if this host has
/// none, and the keys that are missing.
fn check_keys(
    config: &Config,
    manifest: &Manifest,
    packed: &Path,
) -> Result<(Option<PathBuf>, Vec<KeyId>), BackupError> {
    let Some(fingerprint) = &manifest.key_fingerprint else { return Ok((None, Vec::new())) };
    let source = key_source(config);
    let path = source.path().to_owned();
    match KeyRing::open(source) {
        Ok(ring) => {
            ring.check_fingerprint(fingerprint)?;
            Ok((None, missing_keys(&ring, fingerprint)))
        }
        Err(KeyError::Missing { .. }) if manifest.has_key() => {
            match KeyRing::open(KeySource::file(packed)) {
                Ok(ring) => ring.check_fingerprint(fingerprint)?,
                // The token is asked when the server starts.
                Err(KeyError::TokenNotConfigured { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            Ok((Some(path), Vec::new()))
        }
        Err(KeyError::Missing { .. }) => Err(BackupError::KeyMissing { path, fingerprint: fingerprint.clone() }),
        Err(error) => Err(error.into()),
    }
}

async fn check_database(copy: &Path, from: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let mut database = open_copy(copy, from, manifest).await?;
    let restored =
        Restored { made_at_ms: manifest.made_at_ms, restored_at_ms: now_unix_ms(), from: RestoredFrom::Backup };
    database.mark_restored(restored).await.map_err(BackupError::Database)?;
    database.close().await.map_err(BackupError::Database)
}

/// Opens the database of an archive, and compares its tables with the description.
pub(super) async fn open_copy(copy: &Path, from: &Path, manifest: &Manifest) -> Result<DatabaseFile, BackupError> {
    let damaged = |why: String| BackupError::Damaged { path: from.to_owned(), why };
    let mut database =
        DatabaseFile::open(copy).await.map_err(|error| damaged(format!("its database cannot be opened: {error}")))?;
    let tables = database.tables().await.map_err(|error| damaged(format!("its database cannot be read: {error}")))?;
    let tables = digests(tables);
    if tables != manifest.tables {
        return Err(damaged("the rows of its database differ from their digests".to_owned()));
    }
    let found = database.check().await.map_err(BackupError::Database)?;
    if let Some(fault) = found.first() {
        tracing::warn!(
            outcome = "database_damaged",
            fault,
            faults = found.len(),
            "the database was damaged when the backup was made"
        );
    }
    Ok(database)
}

/// Gives the files their places, the database last.
fn install(work: &WorkDir, work_audit: &Path, config: &Config, key: Option<&Path>) -> Result<(), BackupError> {
    place_audit_trail(work_audit, config)?;
    if let Some(key) = key {
        place(&work.path(KEY_NAME), key)?;
    }
    place(&work.path(DATABASE_NAME), &config.state_dir.join(DATABASE_NAME))?;
    sync_dir(&config.state_dir).map_err(|source| write_error(&config.state_dir, source))
}

/// Puts the audit trail of an archive into its directory, unless there is one. Returns whether it did.
pub(super) fn place_audit_trail(work_audit: &Path, config: &Config) -> Result<bool, BackupError> {
    let audit_dir = config.audit_dir();
    let entries = fs::read_dir(work_audit).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = entries.map_err(|source| BackupError::Read { path: work_audit.to_owned(), source })?;
    if entries.is_empty() || has_entries(&audit_dir) {
        return Ok(false);
    }
    let created = DirBuilder::new().recursive(true).mode(0o700).create(&audit_dir);
    created.map_err(|source| write_error(&audit_dir, source))?;
    for entry in entries {
        place(&entry.path(), &audit_dir.join(entry.file_name()))?;
    }
    Ok(true)
}

fn has_entries(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

/// Renames a file, or copies it to another file system, durably. It does not replace another: the caller has looked.
pub(super) fn place(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = |source| write_error(to, source);
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            fs::copy(from, to).and_then(|_| fs::File::open(to)?.sync_all()).map_err(failed)
        }
        other => other.map_err(failed),
    }
}
