//! A database file as a whole: a consistent copy of one that a server uses, its check, and what it contains.
//!
//! A [`DatabaseFile`] has one connection and neither migrates nor checks MACs, so that it works with databases of every schema version.

mod contents;

pub use contents::TableContents;

use crate::{StoreError, UnixMs, error::query_error, restored::RESTORED_KEY, sqlite::url_of};
use serde_json::json;
use sqlx::{
    AnyConnection, AssertSqlSafe, ConnectOptions, Connection, Row,
    any::{AnyConnectOptions, AnyRow},
};
use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// How long a copy waits for the lock of a database, milliseconds.
const BUSY_MS_MAX: u64 = 10_000;

/// A database file with one connection.
pub struct DatabaseFile {
    connection: AnyConnection,
    path: PathBuf,
}

/// Shows the path.
impl std::fmt::Debug for DatabaseFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DatabaseFile({})", self.path.display())
    }
}

/// What a backup's description names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSummary {
    /// The version of the schema.
    pub schema_version: u32,
    /// The fingerprint of the keys with which it was used; `None`: no server has used it.
    pub key_fingerprint: Option<String>,
    /// Credentials that are stored.
    pub credentials: u64,
    /// Sessions that have not ended.
    pub active_sessions: u64,
    /// The providers of both.
    pub providers: Vec<String>,
}

impl DatabaseFile {
    /// Opens an existing file.
    ///
    /// # Errors
    /// It does not exist or is not a database.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let failed = |source| StoreError::Open { database: path.display().to_string(), source };
        let options = url_of(path)?.parse::<AnyConnectOptions>().map_err(failed)?.disable_statement_logging();
        let mut connection = AnyConnection::connect_with(&options).await.map_err(failed)?;
        let settings = format!(
            "PRAGMA busy_timeout = {BUSY_MS_MAX}; PRAGMA secure_delete = ON; SELECT * FROM sqlite_master LIMIT 1"
        );
        sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await.map_err(failed)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Writes a copy of this database to the new file `to` (mode 0600), as it is at one moment, while others read and write it. It has no
    /// free pages, so nothing that was erased. Returns the copy.
    ///
    /// # Errors
    /// The file exists or cannot be written, or the database cannot be read. An incomplete file may be left.
    pub async fn copy_to(&mut self, to: &Path) -> Result<Self, StoreError> {
        const OPERATION: &str = "write a copy of itself";
        let file = |source| StoreError::File { path: to.to_owned(), source };
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(file)?;
        let name = to.to_str().ok_or_else(|| StoreError::BadPath { path: to.to_owned(), why: "it is not UTF-8" })?;
        sqlx::query("VACUUM INTO $1")
            .bind(name.to_owned())
            .execute(&mut self.connection)
            .await
            .map_err(query_error(OPERATION))?;
        created.sync_all().map_err(file)?;
        Self::open(to).await
    }

    /// What is wrong with the file: damaged pages and indices, and rows that refer to rows that do not exist. At most 100 findings.
    ///
    /// # Errors
    /// It cannot be read at all.
    pub async fn check(&mut self) -> Result<Vec<String>, StoreError> {
        let rows = self.fetch("PRAGMA integrity_check(100)", "check itself").await?;
        let mut found: Vec<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
        found.retain(|line| line != "ok");
        for row in self.fetch("PRAGMA foreign_key_check", "check references between rows").await?.iter().take(100) {
            let name = |column: usize| row.try_get::<String, _>(column).unwrap_or_default();
            found.push(format!("a row of {} refers to a row of {} that does not exist", name(0), name(2)));
        }
        found.truncate(100);
        Ok(found)
    }

    /// References that the schema does not enforce, to rows that do not exist.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn orphans(&mut self) -> Result<Vec<String>, StoreError> {
        const MISSING: &str = "SELECT 'the session ' || id || ' refers to a credential that does not exist' FROM sessions \
            WHERE state = 'completed' AND purpose = 'sign_in' AND credential_id NOT IN (SELECT id FROM credentials) \
            UNION ALL SELECT 'a timeline refers to the session ' || session_id || ', which does not exist' FROM timeline \
            WHERE number = 1 AND session_id NOT IN (SELECT id FROM sessions) LIMIT 100";
        let rows = self.fetch(MISSING, "check references between rows").await?;
        Ok(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())
    }

    /// What it contains, in short.
    ///
    /// # Errors
    /// It cannot be read, or is not a database of this program.
    pub async fn summary(&mut self) -> Result<DatabaseSummary, StoreError> {
        let version = self.meta("schema_version").await?;
        let schema_version = version.and_then(|text| text.parse().ok()).ok_or_else(|| StoreError::BadPath {
            path: self.path.clone(),
            why: "it is not a database of Anteroom: it names no version of its schema",
        })?;
        const USED: &str = "SELECT provider FROM credentials WHERE deleted_at_ms IS NULL UNION \
            SELECT provider FROM sessions WHERE state = 'active' ORDER BY 1";
        let providers = self.fetch(USED, "list the providers that are used").await?;
        Ok(DatabaseSummary {
            schema_version,
            key_fingerprint: self.meta("key_fingerprint").await?,
            credentials: self.count("SELECT COUNT(*) FROM credentials WHERE deleted_at_ms IS NULL").await?,
            active_sessions: self.count("SELECT COUNT(*) FROM sessions WHERE state = 'active'").await?,
            providers: providers.iter().filter_map(|row| row.try_get(0).ok()).collect(),
        })
    }

    /// Prepares a copy for its first use after a restore: tickets and login links are deleted, and it records which copy it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn mark_restored(&mut self, made_at_ms: UnixMs, restored_at_ms: UnixMs) -> Result<(), StoreError> {
        let failed = query_error("record that it was restored");
        let record = json!({ "made_at_ms": made_at_ms, "restored_at_ms": restored_at_ms, "is_new": true }).to_string();
        let mut transaction = self.connection.begin().await.map_err(failed)?;
        for text in ["DELETE FROM tickets", "DELETE FROM login_tokens"] {
            sqlx::query(text).execute(&mut *transaction).await.map_err(failed)?;
        }
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(RESTORED_KEY)
        .bind(record)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// Closes the connection, which merges the write-ahead log if no other connection is open.
    ///
    /// # Errors
    /// The log cannot be merged.
    pub async fn close(self) -> Result<(), StoreError> {
        self.connection.close().await.map_err(query_error("close"))
    }

    async fn meta(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
            .bind(key.to_owned())
            .fetch_optional(&mut self.connection)
            .await
            .map_err(query_error("read what it records of itself"))
    }

    async fn count(&mut self, text: &'static str) -> Result<u64, StoreError> {
        let count: i64 =
            sqlx::query_scalar(text).fetch_one(&mut self.connection).await.map_err(query_error("count rows"))?;
        Ok(count.unsigned_abs())
    }

    async fn fetch(&mut self, text: &'static str, operation: &'static str) -> Result<Vec<AnyRow>, StoreError> {
        sqlx::query(text).fetch_all(&mut self.connection).await.map_err(query_error(operation))
    }
}
