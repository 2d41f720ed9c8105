//! Backups: a copy of the database and the audit trail of a server, which may run, as one file; and its restore. An export has the same
//! form. It is made while no server runs, and imported into a database of another kind or on another host.
//!
//! ```text
//!  manifest.json   versions, counts and digests of everything below
//!  anteroom.db     the rows at one moment as a file of SQLite, also those of PostgreSQL; the records in it are sealed
//!  audit/          the audit trail, up to its last complete record
//!  vault.key       only if asked for: with it, the file opens every stored credential
//! ```
//!
//! Not in it: the configuration and the files that it names, logs, receipts, support bundles, the image and machines.

mod archive;
mod check;
mod create;
mod database;
mod error;
mod import;
mod manifest;
mod receive;
mod restore;
mod send;
mod work_dir;

pub use check::check_database;
pub use create::{BackupRequest, create_backup, export_database};
pub use error::BackupError;
pub use import::{ImportReport, import_database};
pub use manifest::{FORMAT, FileDigest, Manifest};
pub use receive::IncomingBackup;
pub use restore::{RestoreReport, restore_backup};
pub use send::{OpenBackup, open_new_backup};

use crate::config::Config;
use anteroom_vault::{KeyId, KeyRing};

/// The database in a state directory and in a backup.
pub const DATABASE_NAME: &str = "anteroom.db";
/// The key file in a backup.
const KEY_NAME: &str = "vault.key";
const MANIFEST_NAME: &str = "manifest.json";
/// The directory of the audit trail in a backup.
const AUDIT_DIR: &str = "audit";

/// The keys that a fingerprint names and the ring does not have: records that they wrap cannot be opened.
fn missing_keys(ring: &KeyRing, fingerprint: &str) -> Vec<KeyId> {
    let known = ring.key_ids();
    let named = fingerprint.split(',').filter_map(|entry| entry.split(':').next()?.parse().ok().map(KeyId));
    named.filter(|key| !known.contains(key)).collect()
}

/// Requires that the data is in a file of this host.
fn require_file(config: &Config) -> Result<(), BackupError> {
    if config.database.url.is_some() { Err(BackupError::Postgres) } else { Ok(()) }
}
