//! Why a backup was not made or not restored.

use crate::config::DatabasePasswordError;
use anteroom_store::StoreError;
use anteroom_vault::KeyError;
use std::{io, path::PathBuf};

/// Why a backup was not made or not restored, with the remedy. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to back up.
    #[error(
        "there is no database {path}: start `anteroom serve` once, or name the server's directory with --state-dir or --config"
    )]
    NoDatabase {
        /// The path.
        path: PathBuf,
    },
    /// The password of the database cannot be read.
    #[error(transparent)]
    Password(#[from] DatabasePasswordError),
    /// The data is in PostgreSQL.
    #[error(
        "the data is in PostgreSQL (database.url): `anteroom db import` puts a backup into it, pg_restore a dump (docs/postgresql.md)"
    )]
    Postgres,
    /// The output exists.
    #[error("{path} exists already; choose another name, or name a directory")]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written")]
    Write {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The keys cannot be used, or are others.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key file is needed and missing.
    #[error(
        "the key file {path} is missing, and the backup has none: put the file with the keys {fingerprint} there first, from its own \
         backup, or name it with --key-file"
    )]
    KeyMissing {
        /// Where it is expected.
        path: PathBuf,
        /// The fingerprint of the keys of the backup.
        fingerprint: String,
    },
    /// The database cannot be read or copied.
    #[error("the database cannot be copied")]
    Database(#[source] StoreError),
    /// The file is no backup, or not as it was written.
    #[error("{path} is not a complete backup: {why}. Nothing was restored")]
    Damaged {
        /// The path of the backup.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A newer program wrote the backup.
    #[error(
        "the backup has the format {found}, and this program reads formats up to {known}: restore it with a newer Anteroom"
    )]
    NewerFormat {
        /// The format of the backup.
        found: u32,
        /// The newest format that this program reads.
        known: u32,
    },
    /// The database in it is newer than this program.
    #[error(
        "the database in the backup has schema version {found}, and this program supports versions up to {known}: restore it with \
         Anteroom {version} or newer"
    )]
    NewerSchema {
        /// The version of the database.
        found: u32,
        /// The newest version that this program supports.
        known: u32,
        /// The version of the program that made the backup.
        version: String,
    },
    /// The state directory is not new.
    #[error(
        "the state directory {dir} already has {what}: a restore needs a new one. Move it away, or name another with --state-dir"
    )]
    Used {
        /// The directory.
        dir: PathBuf,
        /// What is in it.
        what: String,
    },
    /// The task was cancelled.
    #[error("the task was cancelled")]
    Cancelled(#[from] tokio::task::JoinError),
}
