//! A copy of a database as it was before its schema was migrated: the way back to the program that wrote it.
//!
//! One copy is kept, as `anteroom.db.before-migration-N` with the number of the earlier schema. It has everything that is erased later,
//! so it is removed with the first erasure of a user, and after [`KEPT_S_MAX`].

use crate::{
    StoreError,
    dialect::Dialect,
    error::query_error,
    schema::{SCHEMA_VERSION, schema_version},
};
use sqlx::AnyConnection;
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

/// How long the copy is kept, seconds.
pub const KEPT_S_MAX: u64 = 7 * 24 * 3_600;

const INFIX: &str = ".before-migration-";
/// The end of the name of a copy that is not complete.
const PART: &str = ".part";

static NEXT_PART: AtomicU64 = AtomicU64::new(0);

/// Copies a database whose schema is about to be migrated, and removes the copy of an earlier migration.
///
/// # Errors
/// The copy cannot be written: then the schema must not be migrated.
pub(crate) async fn copy_before_migration(connection: &mut AnyConnection, path: &Path) -> Result<(), StoreError> {
    let found = schema_version(connection, Dialect::Sqlite).await?;
    if found == 0 || found >= SCHEMA_VERSION {
        return Ok(());
    }
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    remove_migration_copies(path, Duration::ZERO).map_err(failed)?;
    let to = with_suffix(path, &format!("{INFIX}{found}"));
    let part = with_suffix(&to, &format!(".{}-{}{PART}", process::id(), NEXT_PART.fetch_add(1, Relaxed)));
    let written = write_copy(connection, &part).await;
    if let Err(error) = written.and_then(|()| fs::rename(&part, &to).map_err(failed)) {
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    tracing::info!(outcome = "copied_before_migration", version = found, path = %to.display(), "database copied before its schema is migrated");
    Ok(())
}

async fn write_copy(connection: &mut AnyConnection, part: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { path: part.to_owned(), source };
    let file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part).map_err(failed)?;
    let name = part.to_str().ok_or_else(|| failed(ErrorKind::InvalidFilename.into()))?;
    sqlx::query("VACUUM INTO $1")
        .bind(name.to_owned())
        .execute(connection)
        .await
        .map_err(query_error("write a copy of itself before its schema is migrated"))?;
    file.sync_all().map_err(failed)
}

/// Removes the copies of this database that are at least so old. Returns how many.
///
/// # Errors
/// The directory cannot be read, or a copy cannot be removed.
pub fn remove_migration_copies(path: &Path, age_min: Duration) -> io::Result<usize> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(0) };
    let prefix = [name.as_encoded_bytes(), INFIX.as_bytes()].concat();
    let mut removed = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_copy = |name: &OsStr| {
            let name = name.as_encoded_bytes();
            // Another process may be writing it.
            name.starts_with(&prefix) && !name.ends_with(PART.as_bytes())
        };
        if !is_copy(&entry.file_name()) {
            continue;
        }
        let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
        if age >= age_min {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text: OsString = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}
