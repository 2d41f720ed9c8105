//! A database file as a whole: a consistent copy of one that a server uses, its check, and what it contains.
//!
//! A [`DatabaseFile`] has one connection and neither migrates nor checks MACs, so that it works with databases of every schema version.

use crate::{
    Restored, StoreError, TableContents,
    contents::{Whole, tables_of_file},
    copy_tables::copy_tables,
    dialect::Dialect,
    error::query_error,
    restored, schema,
    sqlite::url_of,
};
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

    /// The number and the digest of the rows of each table, in the order of names.
    ///
    /// # Errors
    /// A table cannot be read, or has a value that this program cannot have written.
    pub async fn tables(&mut self) -> Result<Vec<TableContents>, StoreError> {
        let tables = tables_of_file(&mut self.connection).await?;
        let mut whole = Whole { connection: &mut self.connection, dialect: Dialect::Sqlite };
        let mut found = Vec::with_capacity(tables.len());
        for table in &tables {
            found.push(whole.contents(table).await?);
        }
        Ok(found)
    }

    /// Prepares a copy for its first use after a restore: tickets and login links are deleted, and it records which copy it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn mark_restored(&mut self, restored: Restored) -> Result<(), StoreError> {
        let failed = query_error("record that it was restored");
        let mut transaction = self.connection.begin().await.map_err(failed)?;
        restored::record(&mut *transaction, restored).await?;
        transaction.commit().await.map_err(failed)
    }

    /// Creates a file (mode 0600) with the tables of this program's schema.
    pub(crate) async fn create(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::File { path: path.to_owned(), source };
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let mut file = Self::open(path).await?;
        schema::migrate(&mut file.connection, Dialect::Sqlite).await?;
        Ok(file)
    }

    /// Takes all rows of another database into the empty tables of this file, as they are: also rows that break rules, which a check finds
    /// then. The other side is in a transaction of the caller.
    pub(crate) async fn fill_from(&mut self, from: &mut Whole<'_>) -> Result<(), StoreError> {
        let failed = query_error("take the rows of another database");
        let tables = tables_of_file(&mut self.connection).await?;
        let begin = "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; PRAGMA synchronous = OFF; BEGIN; DELETE FROM meta";
        sqlx::raw_sql(begin).execute(&mut self.connection).await.map_err(failed)?;
        let mut to = Whole { connection: &mut self.connection, dialect: Dialect::Sqlite };
        copy_tables(from, &mut to, &tables).await?;
        let end = "COMMIT; PRAGMA ignore_check_constraints = OFF; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL";
        sqlx::raw_sql(end).execute(&mut self.connection).await.map_err(failed)?;
        let synced = OpenOptions::new().write(true).open(&self.path).and_then(|file| file.sync_all());
        synced.map_err(|source| StoreError::File { path: self.path.clone(), source })
    }

    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.connection
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
