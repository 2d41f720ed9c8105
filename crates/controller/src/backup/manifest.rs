//! The description of a backup, which is its first file.

use super::BackupError;
use anteroom_store::{SCHEMA_VERSION, TableContents};
use anteroom_wire::operator_reports::TableDigest;
use serde::{Deserialize, Serialize};

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The description of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the archive.
    pub format: u32,
    /// When the copy of the database was made, RFC 3339.
    pub made_at: String,
    /// The same, milliseconds since 1970.
    pub made_at_ms: u64,
    /// The version of the program that made it.
    pub version: String,
    /// The version of the database's schema.
    pub schema_version: u32,
    /// The kind of the database, `SQLite` or `PostgreSQL`; absent: SQLite. The copy is a file of SQLite in both cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The fingerprint of the keys that its records need; absent: no server has used the database.
    pub key_fingerprint: Option<String>,
    /// Credentials that are stored.
    pub credentials: u64,
    /// Sessions that had not ended.
    pub active_sessions: u64,
    /// The providers of both.
    pub providers: Vec<String>,
    /// The tables of the database.
    pub tables: Vec<TableDigest>,
    /// The other files of the archive.
    pub files: Vec<FileDigest>,
}

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Its name in the archive.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest, hexadecimal.
    pub sha256: String,
}

/// The tables of a database, for a report.
pub(super) fn digests(tables: Vec<TableContents>) -> Vec<TableDigest> {
    let digest = |TableContents { name, rows, sha256 }| TableDigest { name, rows, sha256 };
    tables.into_iter().map(digest).collect()
}

impl Manifest {
    /// Requires that this program knows the schema of the database, or can migrate it.
    pub(super) fn require_known_schema(&self) -> Result<(), BackupError> {
        if self.schema_version > SCHEMA_VERSION {
            let (found, version) = (self.schema_version, self.version.clone());
            return Err(BackupError::NewerSchema { found, known: SCHEMA_VERSION, version });
        }
        Ok(())
    }

    /// Whether the archive has the key file.
    pub fn has_key(&self) -> bool {
        self.files.iter().any(|file| file.name == super::KEY_NAME)
    }

    /// The rows of a table; 0 if there is none of this name.
    pub fn rows_of(&self, table: &str) -> u64 {
        self.tables.iter().find(|other| other.name == table).map_or(0, |table| table.rows)
    }
}
