//! A backup for a client on another host. It never has the key file.

use super::{
    BackupError, BackupRequest, Manifest,
    create::{PART_NAME, create_backup},
    work_dir::WorkDir,
};
use crate::config::Config;
use std::fs::File;

/// A complete backup without a name: its space is free again when it is closed.
#[derive(Debug)]
pub struct OpenBackup {
    /// The archive, at its beginning.
    pub file: File,
    /// Its size.
    pub bytes: u64,
    /// Its description.
    pub manifest: Manifest,
}

/// Makes a backup without the key file in the state directory, and opens it.
///
/// # Errors
/// As [`create_backup`].
pub async fn open_new_backup(config: &Config) -> Result<OpenBackup, BackupError> {
    let dir = &config.state_dir;
    let work = WorkDir::create_in(dir).map_err(|source| BackupError::Write { path: dir.clone(), source })?;
    let path = work.path(PART_NAME);
    let (path, bytes, manifest) = create_backup(config, BackupRequest { to: &path, with_key: false }).await?;
    let file = File::open(&path).map_err(|source| BackupError::Read { path, source })?;
    Ok(OpenBackup { file, bytes, manifest })
}
