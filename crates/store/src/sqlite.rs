//! The database as a file of SQLite: opening, write transactions, and emptying the write-ahead log.
//!
//! A write-ahead log and `synchronous = FULL` (committed data survives a loss of power), one writing connection whose transactions begin
//! with `BEGIN IMMEDIATE`, and several reading connections.

use crate::{
    StoreError, StoreErrorKind, StoreSettings,
    address::encoded,
    before_migration::copy_before_migration,
    connection::{Connection, Readers},
    database::{Database, DatabaseKind},
    dialect::Dialect,
    error, schema,
};
use sqlx::{
    AnyConnection, AnyPool, ConnectOptions, Connection as _, Row,
    any::{AnyConnectOptions, AnyPoolOptions},
};
use std::{
    fs::{OpenOptions, Permissions},
    io::ErrorKind,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Acquires the write lock immediately, so that a transaction that has read does not fail later because of a lock.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// The delay between two attempts to empty the log, and the number of attempts while a reader holds it.
const EMPTY_AGAIN: Duration = Duration::from_millis(50);
const EMPTY_TRIES: u32 = 20;

/// The delay between two attempts to prepare a database that another process is preparing.
const PREPARE_AGAIN: Duration = Duration::from_millis(20);

/// The writing side of a file of SQLite. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Sqlite(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: AnyPool,
    busy_ms_max: u64,
    /// Set when the present connection must be replaced by a new one before its next use.
    is_broken: Arc<AtomicBool>,
    /// Whether the log may still contain erased bytes.
    log_needs_emptying: AtomicBool,
}

impl Sqlite {
    /// Opens the file, creates it (mode 0600) if it does not exist, and migrates its schema.
    pub(crate) async fn open(path: &Path, settings: StoreSettings) -> Result<(Self, Readers, Database), StoreError> {
        let url = url_of(path)?;
        make_private(path)?;
        let failed = |source| StoreError::Open { database: path.display().to_string(), source };
        let options = url.parse::<AnyConnectOptions>().map_err(failed)?.disable_statement_logging();
        let busy = format!("PRAGMA busy_timeout = {};", settings.busy_ms_max);
        // `secure_delete`: the pages of a deleted credential are overwritten, not only freed.
        let writing = format!(
            "{busy} PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;"
        );
        // A pool retries until its timeout and then reports no cause, so the first connection is made without a pool.
        let mut first = AnyConnection::connect_with(&options).await.map_err(failed)?;
        prepare(&mut first, &writing, Duration::from_millis(settings.busy_ms_max)).await.map_err(failed)?;
        let migrated = match copy_before_migration(&mut first, path).await {
            Ok(()) => schema::migrate(&mut first, Dialect::Sqlite).await,
            Err(error) => Err(error),
        };
        let version = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut first).await.map_err(failed);
        // Also after a failure, so that the next process to open the database does not find this connection's files.
        let closed = first.close().await.map_err(failed);
        migrated.and(closed)?;
        let database =
            Database { kind: DatabaseKind::Sqlite, version: version?, durability: "synchronous = FULL".to_owned() };
        let reading = format!("{busy} PRAGMA query_only = ON;");
        let is_broken = Arc::new(AtomicBool::new(false));
        let writer = pool(1, settings, writing, Arc::clone(&is_broken));
        let writer = writer.connect_with(options.clone()).await.map_err(failed)?;
        let reader = pool(settings.readers_max.max(1), settings, reading, Arc::default());
        let reader = reader.connect_with(options).await.map_err(failed)?;
        // An earlier process may have ended between erasing bytes and emptying the log.
        let log_needs_emptying = AtomicBool::new(true);
        let inner = Inner { writer, busy_ms_max: settings.busy_ms_max, is_broken, log_needs_emptying };
        Ok((Self(Arc::new(inner)), Readers::Sqlite(reader), database))
    }

    /// Begins a write transaction.
    pub(crate) async fn begin(&self) -> Result<Connection, sqlx::Error> {
        self.0.writer.begin_with(BEGIN).await.map(Connection::SqliteTransaction)
    }

    /// What to set when the writing connection must not be used again.
    pub(crate) fn is_broken(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.is_broken)
    }

    pub(crate) async fn close(&self) {
        self.empty_log().await;
        self.0.writer.close().await;
    }

    /// Bytes are about to be erased, which remain in the log.
    pub(crate) fn mark_log(&self) {
        self.0.log_needs_emptying.store(true, Relaxed);
    }

    /// Empties the log if it may contain erased bytes.
    pub(crate) async fn empty_log_if_needed(&self) {
        if self.0.log_needs_emptying.load(Relaxed) {
            self.empty_log().await;
        }
    }

    /// Empties the log, best effort: the next checkpoint without a reader empties it too.
    pub(crate) async fn empty_log(&self) {
        // Before emptying, so that bytes that are erased from here on are not assumed to be removed.
        self.0.log_needs_emptying.store(false, Relaxed);
        let sqlite = self.clone();
        // On a separate task: a cancelled caller must not leave the writer behind without its busy timeout.
        let emptied = tokio::spawn(async move {
            for _ in 0..EMPTY_TRIES {
                match sqlite.try_to_empty_log().await {
                    Ok(true) => return true,
                    Ok(false) => tokio::time::sleep(EMPTY_AGAIN).await,
                    Err(error) => {
                        tracing::debug!(error = %error, "the write-ahead log was not emptied");
                        return false;
                    }
                }
            }
            tracing::debug!("the write-ahead log was not emptied: a reader holds it");
            false
        });
        if !emptied.await.unwrap_or(false) {
            self.0.log_needs_emptying.store(true, Relaxed);
        }
    }

    /// Tries to empty the log; returns whether it is empty. Does not wait: SQLite would hold the write lock while it waits for
    /// readers of the log, and block every writer.
    async fn try_to_empty_log(&self) -> Result<bool, sqlx::Error> {
        let mut writer = self.0.writer.acquire().await?;
        sqlx::query("PRAGMA busy_timeout = 0").execute(&mut *writer).await?;
        // The first column is 1 if a reader blocked it (<https://sqlite.org/pragma.html#pragma_wal_checkpoint>).
        let blocked = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *writer).await;
        let busy_timeout = format!("PRAGMA busy_timeout = {}", self.0.busy_ms_max);
        if let Err(error) = sqlx::query(sqlx::AssertSqlSafe(busy_timeout)).execute(&mut *writer).await {
            // Without its busy timeout the connection must not be used again.
            let _ = writer.close().await;
            return Err(error);
        }
        Ok(blocked?.try_get::<i64, _>(0)? == 0)
    }
}

/// Runs the pragmas, and retries while another process holds the database: SQLite's busy timeout does not cover the switch to the
/// write-ahead log (<https://sqlite.org/pragma.html#pragma_journal_mode>), which only the first start makes.
async fn prepare(connection: &mut AnyConnection, pragmas: &str, wait_max: Duration) -> Result<(), sqlx::Error> {
    let give_up = Instant::now() + wait_max;
    loop {
        match sqlx::raw_sql(sqlx::AssertSqlSafe(pragmas)).execute(&mut *connection).await {
            Err(error) if error::kind_of(&error) == StoreErrorKind::Unavailable && Instant::now() < give_up => {
                tokio::time::sleep(PREPARE_AGAIN).await;
            }
            other => return other.map(drop),
        }
    }
}

/// `is_broken`: set when the present connection must be replaced by a new one before its next use.
fn pool(connections_max: u32, settings: StoreSettings, pragmas: String, is_broken: Arc<AtomicBool>) -> AnyPoolOptions {
    let pragmas: Arc<str> = pragmas.into();
    AnyPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_millis(settings.busy_ms_max))
        .idle_timeout(None)
        .max_lifetime(None)
        // On a full disk or an I/O error SQLite rolls back by itself, but sqlx still counts an open transaction and rejects every
        // further one on that connection. Such a connection is closed and replaced.
        // A connection that was opened while the file was read-only can never write, even after the file becomes writable.
        .before_acquire(move |connection, _| {
            let usable = !is_broken.swap(false, Relaxed) && !connection.is_in_transaction();
            Box::pin(async move { Ok(usable) })
        })
        .after_connect(move |connection, _| {
            let pragmas = Arc::clone(&pragmas);
            Box::pin(async move {
                // Constant text and a number: no external input.
                sqlx::raw_sql(sqlx::AssertSqlSafe(pragmas)).execute(connection).await.map(drop)
            })
        })
}

/// The SQLite URL of a path: special characters are percent-encoded.
pub(crate) fn url_of(path: &Path) -> Result<String, StoreError> {
    let bad = |why| StoreError::BadPath { path: path.to_owned(), why };
    let absolute = std::path::absolute(path).map_err(|_| bad("it is empty, or there is no current directory"))?;
    let text = absolute.to_str().ok_or_else(|| bad("it is not UTF-8; choose another"))?;
    Ok(format!("sqlite://{}", encoded(text)))
}

/// Creates the file with mode 0600, or removes all permissions of group and others from an existing one. SQLite creates its log and
/// index with the same mode; existing ones with another mode are changed too.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let mode = mode_of(path).map_err(failed)?;
    let private = mode & 0o700;
    if mode != private {
        tracing::warn!(path = %path.display(), mode = format!("{mode:04o}"), "the permissions of the database were restricted to its owner");
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match mode_of(Path::new(&file)) {
            Ok(mode) if mode == private => {}
            Ok(_) => std::fs::set_permissions(&file, Permissions::from_mode(private)).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn mode_of(path: &Path) -> std::io::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use sqlx::Executor;

    #[tokio::test]
    async fn the_writer_flushes_every_commit_and_readers_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let store = Store::open(&path, StoreSettings::default()).await.unwrap();
        let (sqlite, _, database) = Sqlite::open(&path, StoreSettings::default()).await.unwrap();
        assert!(database.to_string().starts_with("SQLite 3."), "{database}");
        let writer = &sqlite.0.writer;
        for (pragma, expected) in [("PRAGMA synchronous", 2), ("PRAGMA foreign_keys", 1), ("PRAGMA secure_delete", 1)] {
            let found: i64 = sqlx::query_scalar(pragma).fetch_one(writer).await.unwrap();
            assert_eq!(found, expected, "{pragma}");
        }
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(writer).await.unwrap();
        assert_eq!(mode, "wal");
        assert!(store.read_pool().execute("DELETE FROM meta").await.is_err());
    }
}
