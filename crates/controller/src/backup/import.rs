//! Imports an export, or a backup, into the database of a configuration: of another kind, or on another host.

use super::{
    AUDIT_DIR, BackupError, DATABASE_NAME, Manifest,
    archive::read_archive,
    database::kind_of,
    manifest::digests,
    missing_keys,
    restore::{open_copy, place, place_audit_trail, write_error},
    work_dir::{WorkDir, sync_dir},
};
use crate::{
    config::Config,
    keys::{KeyRing, key_source},
    unix_time::now_unix_ms,
};
use anteroom_store::{
    Address, DatabaseFile, PostgresDatabase, Restored, RestoredFrom, SCHEMA_VERSION, Store, StoreSettings,
};
use anteroom_vault::KeyError;
use anteroom_wire::operator_reports::TableDigest;
use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// What was imported.
#[derive(Debug)]
pub struct ImportReport {
    /// The description of the export.
    pub manifest: Manifest,
    /// The kind of the database that has the rows now.
    pub database: &'static str,
    /// Its tables as they were compared with the export: after a migration, if the export has an older schema.
    pub tables: Vec<TableDigest>,
    /// Whether the audit trail of the export was put into the state directory, which had none.
    pub has_audit_trail: bool,
}

/// Imports an export into the database of this configuration, which has no rows. The caller holds the lock of the state directory.
///
/// # Errors
/// The database has rows or a server uses it, the export is incomplete or newer, or keys are missing or others. The database has no rows.
pub async fn import_database(config: &Config, from: &Path) -> Result<ImportReport, BackupError> {
    let target = config.database_address()?;
    require_no_file(config, &target)?;
    let state_dir = &config.state_dir;
    let work = WorkDir::create_in(state_dir).map_err(|source| write_error(state_dir, source))?;
    let work_audit = work.path(AUDIT_DIR);
    DirBuilder::new().mode(0o700).create(&work_audit).map_err(|source| write_error(&work_audit, source))?;
    let (work, manifest) = tokio::task::spawn_blocking({
        let from = from.to_owned();
        move || read_archive(&from, |name| work.path(name)).map(|manifest| (work, manifest))
    })
    .await??;
    manifest.require_known_schema()?;
    require_keys(config, &manifest)?;
    let copy = work.path(DATABASE_NAME);
    open_copy(&copy, from, &manifest).await?.close().await.map_err(BackupError::Database)?;
    if manifest.schema_version < SCHEMA_VERSION {
        let store = Store::open(&copy, StoreSettings::default()).await.map_err(BackupError::Database)?;
        store.close().await;
    }
    // The database last, as in a restore.
    let has_audit_trail = place_audit_trail(&work_audit, config)?;
    let tables = put_rows(&target, copy, &manifest).await?;
    sync_dir(state_dir).map_err(|source| write_error(state_dir, source))?;
    Ok(ImportReport { manifest, database: kind_of(&target), tables, has_audit_trail })
}

fn require_no_file(config: &Config, target: &Address) -> Result<(), BackupError> {
    let Address::File(path) = target else { return Ok(()) };
    let exists = |end: &str| path.with_file_name(format!("{DATABASE_NAME}{end}")).exists();
    if ["", "-wal", "-shm"].into_iter().any(exists) {
        return Err(BackupError::Used { dir: config.state_dir.clone(), what: "a database".to_owned() });
    }
    Ok(())
}

/// Requires all keys that the rows were used with: this host is to open what the former one did.
fn require_keys(config: &Config, manifest: &Manifest) -> Result<(), BackupError> {
    let Some(fingerprint) = &manifest.key_fingerprint else { return Ok(()) };
    let source = key_source(config);
    let path = source.path().to_owned();
    let ring = match KeyRing::open(source) {
        Err(KeyError::Missing { .. }) => {
            return Err(BackupError::KeyMissing { path, fingerprint: fingerprint.clone() });
        }
        opened => opened?,
    };
    ring.check_fingerprint(fingerprint)?;
    missing_keys(&ring, fingerprint).first().map_or(Ok(()), |key| Err(KeyError::UnknownKey(*key).into()))
}

async fn put_rows(target: &Address, copy: PathBuf, manifest: &Manifest) -> Result<Vec<TableDigest>, BackupError> {
    let failed = BackupError::Database;
    let restored =
        Restored { made_at_ms: manifest.made_at_ms, restored_at_ms: now_unix_ms(), from: RestoredFrom::Export };
    let mut file = DatabaseFile::open(&copy).await.map_err(failed)?;
    let tables = match target {
        Address::File(path) => {
            let tables = file.tables().await.map_err(failed)?;
            file.mark_restored(restored).await.map_err(failed)?;
            file.close().await.map_err(failed)?;
            place(&copy, path)?;
            tables
        }
        Address::Postgres(address) => {
            let mut database = PostgresDatabase::open_alone(address).await.map_err(failed)?;
            let taken = database.take_rows_of(&mut file, restored).await.map_err(failed)?;
            database.close().await.map_err(failed)?;
            file.close().await.map_err(failed)?;
            taken
        }
    };
    Ok(digests(tables))
}
