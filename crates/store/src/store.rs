//! Opening, closing and checking the database.
//!
//! SQLite with a write-ahead log and `synchronous = FULL` (committed data survives a loss of power), one writing connection whose
//! transactions begin with `BEGIN IMMEDIATE`, and several reading connections. A write transaction awaits nothing but the database.

use crate::{
    ObservedWrite, StoreError, StoreErrorKind, UnixMs, WriteKind, WriteObserver,
    error::{self, query_error},
    row_macs::RowMacs,
    row_reader::to_sql_integer,
    schema,
    write_transaction::WriteTransaction,
};
use sqlx::{
    AnyConnection, AnyPool, ConnectOptions, Connection, Row,
    any::{AnyConnectOptions, AnyPoolOptions},
};
use std::{
    fmt::Write as _,
    fs::{OpenOptions, Permissions},
    io::ErrorKind,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
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

/// Limits for the use of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSettings {
    /// How long a call waits for a free connection, and again for the database's lock, milliseconds. Then it fails as
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub busy_ms_max: u64,
    /// The number of reading connections.
    pub readers_max: u32,
    /// The most entries of one session's timeline; [`Store::append_event`] adds no more, transitions always add theirs.
    pub timeline_entries_max: u64,
    /// The most bytes of an entry's sentence; a longer one is truncated.
    pub sentence_bytes_max: usize,
    /// The most bytes of an entry's data as JSON; larger data is replaced by its size.
    pub event_data_bytes_max: usize,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            busy_ms_max: 2_000,
            readers_max: 4,
            timeline_entries_max: 5_000,
            sentence_bytes_max: 1024,
            event_data_bytes_max: 16 * 1024,
        }
    }
}

/// The database. Cloning is cheap and shares the connections; they close with the last clone or with [`Store::close`].
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    writer: AnyPool,
    reader: AnyPool,
    settings: StoreSettings,
    path: PathBuf,
    observer: Option<Arc<dyn WriteObserver>>,
    is_broken: Arc<AtomicBool>,
    /// Whether the log may still contain erased bytes.
    log_needs_emptying: AtomicBool,
    row_macs: RowMacs,
}

/// Shows the path of the database.
impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.0.path.display())
    }
}

/// The number of rows that [`Store::purge_expired`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PurgeCounts {
    /// Login tokens that were used or had expired.
    pub login_tokens: u64,
    /// Tickets that were used or had expired.
    pub tickets: u64,
    /// Callers that were revoked or had expired and that are not referenced.
    pub callers: u64,
}

impl Store {
    /// Opens the SQLite database at `path`, creates it (mode 0600) if it does not exist, and migrates its schema.
    ///
    /// # Errors
    /// When the file cannot be used, or its schema is newer than this program.
    pub async fn open(path: &Path, settings: StoreSettings) -> Result<Self, StoreError> {
        Self::open_with(path, settings, None).await
    }

    /// As [`Store::open`]; `observer` is called for every write except the migrations.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_observed(
        path: &Path,
        settings: StoreSettings,
        observer: Arc<dyn WriteObserver>,
    ) -> Result<Self, StoreError> {
        Self::open_with(path, settings, Some(observer)).await
    }

    async fn open_with(
        path: &Path,
        settings: StoreSettings,
        observer: Option<Arc<dyn WriteObserver>>,
    ) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let url = url_of(path)?;
        make_private(path)?;
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let options = url.parse::<AnyConnectOptions>().map_err(failed)?.disable_statement_logging();
        let busy = format!("PRAGMA busy_timeout = {};", settings.busy_ms_max);
        // `secure_delete`: the pages of a deleted credential are overwritten, not only freed.
        let writing = format!(
            "{busy} PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;"
        );
        // A pool retries until its timeout and then reports no cause, so the first connection is made without a pool.
        let mut first = AnyConnection::connect_with(&options).await.map_err(failed)?;
        prepare(&mut first, &writing, Duration::from_millis(settings.busy_ms_max)).await.map_err(failed)?;
        let migrated = schema::migrate(&mut first, BEGIN).await;
        // Also after a failure, so that the next process to open the database does not find this connection's files.
        let closed = first.close().await.map_err(failed);
        migrated.and(closed)?;
        let reading = format!("{busy} PRAGMA query_only = ON;");
        let is_broken = Arc::new(AtomicBool::new(false));
        let writer = pool(1, settings, writing, Arc::clone(&is_broken));
        let writer = writer.connect_with(options.clone()).await.map_err(failed)?;
        let reader = pool(settings.readers_max.max(1), settings, reading, Arc::default());
        let reader = reader.connect_with(options).await.map_err(failed)?;
        let store = Self(Arc::new(Inner {
            writer,
            reader,
            settings,
            path: path.to_owned(),
            observer,
            is_broken,
            // An earlier process may have ended between erasing bytes and emptying the log.
            log_needs_emptying: AtomicBool::new(true),
            row_macs: RowMacs::default(),
        }));
        // SQLite opens a read-only file without an error (`BEGIN IMMEDIATE` succeeds too): only a write shows the problem.
        if let Err(error) = store.check_writable().await {
            // While a connection of this process is open read-only, SQLite opens no other one for writing.
            store.close().await;
            return Err(error);
        }
        Ok(store)
    }

    /// The path of the database.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Checks that the database can be written: writes one row, flushes it to the disk and reads it with another connection.
    ///
    /// # Errors
    /// The cause: locked, read-only, disk full …
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        let failed = |source| StoreError::Query { operation: "write and read a row for its health", source };
        let mut transaction = self.begin_write(WriteKind::Health, "write and read a row for its health").await?;
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ('health_checks', '1') ON CONFLICT (key) \
             DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT)",
        )
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        sqlx::query("SELECT value FROM meta WHERE key = 'health_checks'")
            .fetch_one(self.read_pool())
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// Merges the write-ahead log into the database and closes all connections. Later calls fail as unavailable.
    pub async fn close(&self) {
        // Readers first: the log can be emptied only when no connection reads from it. Otherwise it is merged at the next start.
        self.0.reader.close().await;
        self.empty_log().await;
        self.0.writer.close().await;
    }

    /// Removes login tokens, tickets and callers that can never be used again, and empties the log if it may contain erased bytes.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn purge_expired(&self, now_ms: UnixMs) -> Result<PurgeCounts, StoreError> {
        const OPERATION: &str = "remove used and expired rows";
        let mut transaction = self.begin_write(WriteKind::Purge, OPERATION).await?;
        let login_tokens = remove(
            &mut transaction,
            "DELETE FROM login_tokens WHERE used_at_ms IS NOT NULL OR expires_at_ms <= $1",
            now_ms,
        );
        let login_tokens = login_tokens.await?;
        let tickets =
            remove(&mut transaction, "DELETE FROM tickets WHERE used_at_ms IS NOT NULL OR expires_at_ms <= $1", now_ms);
        let tickets = tickets.await?;
        let callers = remove(
            &mut transaction,
            "DELETE FROM callers WHERE (revoked_at_ms IS NOT NULL OR expires_at_ms <= $1) \
             AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.caller_id = callers.id) \
             AND NOT EXISTS (SELECT 1 FROM credentials WHERE credentials.owner = callers.id) \
             AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.caller_id = callers.id) \
             AND NOT EXISTS (SELECT 1 FROM tickets WHERE tickets.caller_id = callers.id) \
             AND NOT EXISTS (SELECT 1 FROM login_tokens WHERE login_tokens.caller_id = callers.id) \
             AND NOT EXISTS (SELECT 1 FROM callers AS other WHERE other.id <> callers.id \
             AND (other.parent_id = callers.id OR other.account_id = callers.id))",
            now_ms,
        )
        .await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        if self.0.log_needs_emptying.load(Relaxed) {
            self.empty_log().await;
        }
        Ok(PurgeCounts { login_tokens, tickets, callers })
    }

    /// Begins a write transaction. It holds the only writing connection: await nothing but the database until it ends.
    pub(crate) async fn begin_write(
        &self,
        write: impl Into<ObservedWrite>,
        operation: &'static str,
    ) -> Result<WriteTransaction, StoreError> {
        let Inner { writer, observer, is_broken, .. } = &*self.0;
        WriteTransaction::begin(writer, BEGIN, is_broken, observer.as_ref(), write.into(), operation).await
    }

    pub(crate) fn read_pool(&self) -> &AnyPool {
        &self.0.reader
    }

    pub(crate) fn row_macs(&self) -> &RowMacs {
        &self.0.row_macs
    }

    pub(crate) fn settings(&self) -> &StoreSettings {
        &self.0.settings
    }

    /// Commits a transaction that erases bytes, and empties the log, in which the old bytes would otherwise remain until it is
    /// overwritten. If a reader holds the log, or the caller is cancelled, the next [`Store::purge_expired`] empties it.
    pub(crate) async fn commit_erasing(
        &self,
        transaction: WriteTransaction,
        operation: &'static str,
    ) -> Result<(), StoreError> {
        self.0.log_needs_emptying.store(true, Relaxed);
        transaction.commit().await.map_err(query_error(operation))?;
        self.empty_log().await;
        Ok(())
    }

    /// Empties the log, best effort: the next checkpoint without a reader empties it too.
    async fn empty_log(&self) {
        // Before emptying, so that bytes that are erased from here on are not assumed to be removed.
        self.0.log_needs_emptying.store(false, Relaxed);
        let store = self.clone();
        // On a separate task: a cancelled caller must not leave the writer behind without its busy timeout.
        let emptied = tokio::spawn(async move {
            for _ in 0..EMPTY_TRIES {
                match store.try_to_empty_log().await {
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
        let busy_timeout = format!("PRAGMA busy_timeout = {}", self.0.settings.busy_ms_max);
        if let Err(error) = sqlx::query(sqlx::AssertSqlSafe(busy_timeout)).execute(&mut *writer).await {
            // Without its busy timeout the connection must not be used again.
            let _ = writer.close().await;
            return Err(error);
        }
        Ok(blocked?.try_get::<i64, _>(0)? == 0)
    }
}

async fn remove(connection: &mut AnyConnection, text: &'static str, now_ms: UnixMs) -> Result<u64, StoreError> {
    let done = sqlx::query(text).bind(to_sql_integer(now_ms)).execute(connection).await;
    Ok(done.map_err(query_error("remove used and expired rows"))?.rows_affected())
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
fn url_of(path: &Path) -> Result<String, StoreError> {
    let bad = |why| StoreError::BadPath { path: path.to_owned(), why };
    let absolute = std::path::absolute(path).map_err(|_| bad("it is empty, or there is no current directory"))?;
    let text = absolute.to_str().ok_or_else(|| bad("it is not UTF-8; choose another"))?;
    let mut url = String::from("sqlite://");
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    Ok(url)
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
    use sqlx::Executor;

    #[tokio::test]
    async fn the_writer_flushes_every_commit_and_readers_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a.db"), StoreSettings::default()).await.unwrap();
        for (pragma, expected) in [("PRAGMA synchronous", 2), ("PRAGMA foreign_keys", 1), ("PRAGMA secure_delete", 1)] {
            let found: i64 = sqlx::query_scalar(pragma).fetch_one(&store.0.writer).await.unwrap();
            assert_eq!(found, expected, "{pragma}");
        }
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.0.writer).await.unwrap();
        assert_eq!(mode, "wal");
        assert!(store.read_pool().execute("DELETE FROM meta").await.is_err());
    }
}
