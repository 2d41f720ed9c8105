//! The database as PostgreSQL: opening, write transactions, and housekeeping after an erasure.
//!
//! One connection writes and several read, as in SQLite. A write transaction holds an advisory lock, so that also a command of this host
//! that writes waits for its turn: every statement sees what it would see in SQLite, and none needs a lock of rows. Writes within
//! different sessions share that lock, and each holds the lock of its session.

pub(crate) mod connector;
pub(crate) mod pool;
pub(crate) mod whole;

/// What docs/limits.md lists.
pub mod limits {
    pub use super::{
        connector::{CONNECT_MS_MAX, IDLE_IN_TRANSACTION_MS_MAX, STATEMENT_MS_MAX},
        pool::ANSWER_MS_MAX,
    };
}

use crate::{
    PostgresAddress, StoreError, StoreSettings,
    connection::{Connection, Readers},
    database::{Database, DatabaseKind},
    dialect::{Dialect, Lock, WriteScope},
    error::query_error,
    postgres::{
        connector::{Connector, Use, may_come_back, name_server},
        pool::Pool,
    },
    readable_from::READABLE_FROM,
    schema::{self, SCHEMA_VERSION, schema_version},
};
use sqlx::{AnyConnection, Connection as _, Error};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// Between two attempts to connect at the start, milliseconds.
const CONNECT_AGAIN_MS: u64 = 500;
/// The oldest version that is supported: `server_version_num`.
const VERSION_MIN: i64 = 150_000;

/// The writing side of a database of PostgreSQL.
#[derive(Debug)]
pub(crate) struct Postgres {
    writer: Pool,
    /// For heartbeats; `None`: this is no host of a cluster.
    heartbeats: Option<Pool>,
    lock_ms_max: u64,
    housekeeping: Connector,
    is_vacuuming: Arc<AtomicBool>,
}

impl Postgres {
    /// Connects, migrates the schema and opens the connections.
    pub(crate) async fn open(
        address: &PostgresAddress,
        settings: StoreSettings,
    ) -> Result<(Self, Readers, Database), StoreError> {
        let application = application_name(settings.is_server);
        let connector = |purpose| Connector::new(address, &application, purpose);
        let failed = |source| StoreError::Open { database: address.to_string(), source };
        let housekeeping = connector(Use::Housekeeping);
        let mut first = first_connection(&housekeeping, settings.connect_ms_max).await.map_err(failed)?;
        let version = describe(&mut first).await.map_err(failed)?;
        let migrated = match require_no_server_of_older_schema(&mut first).await {
            Ok(()) => schema::migrate(&mut first, Dialect::Postgres).await,
            Err(error) => Err(error),
        };
        let closed = first.close().await.map_err(failed);
        migrated.and(closed)?;
        let wait_max = Duration::from_millis(settings.busy_ms_max);
        let writing = connector(match (settings.is_server, settings.is_host_of_cluster) {
            (true, true) => Use::WriteAsHost,
            (true, false) => Use::WriteAsServer,
            (false, _) => Use::Write,
        });
        let first = writing.connect().await.map_err(failed)?;
        let heartbeats = match settings.is_host_of_cluster {
            true => Some(Pool::new(writing.clone(), 1, wait_max, writing.connect().await.map_err(failed)?)),
            false => None,
        };
        let writer = Pool::new(writing, 1, wait_max, first);
        let reading = connector(Use::Read);
        let first = reading.connect().await.map_err(failed)?;
        let reader = Pool::new(reading, settings.readers_max.max(1), wait_max, first);
        let lock_ms_max = settings.busy_ms_max.max(1);
        let postgres = Self { writer, heartbeats, lock_ms_max, housekeeping, is_vacuuming: Arc::default() };
        Ok((postgres, Readers::Postgres(reader), version))
    }

    /// Begins a write transaction, as soon as no other is open that could change the same rows.
    pub(crate) async fn begin(&self, scope: WriteScope<'_>) -> Result<Connection, Error> {
        let begin = begin_text(scope, self.lock_ms_max);
        let writer = match scope {
            WriteScope::Heartbeat => self.heartbeats.as_ref().unwrap_or(&self.writer),
            WriteScope::Database | WriteScope::Session(_) | WriteScope::Shared => &self.writer,
        };
        let mut lease = writer.acquire().await?;
        match lease.begin(&begin).await {
            // The connection had ended; nothing was done on it.
            Err(_) if lease.is_broken() => {
                drop(lease);
                lease = writer.acquire().await?;
                lease.begin(&begin).await?;
            }
            other => other?,
        }
        Ok(Connection::Postgres(lease))
    }

    /// Whether the writing connection is lost and could not be opened again.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.writer.is_disconnected()
    }

    /// How long ago the database answered last on the writing connection.
    pub(crate) fn answered_ago(&self) -> Duration {
        self.writer.answered_ago()
    }

    pub(crate) async fn close(&self) {
        self.writer.close().await;
        if let Some(heartbeats) = &self.heartbeats {
            heartbeats.close().await;
        }
    }

    /// Frees the space of erased rows, so that new rows overwrite it; on a task of its own, once at a time.
    pub(crate) fn free_erased_space(&self) {
        if self.is_vacuuming.swap(true, SeqCst) {
            return;
        }
        let (connector, is_vacuuming) = (self.housekeeping.clone(), Arc::clone(&self.is_vacuuming));
        tokio::spawn(async move {
            let result = vacuum(&connector).await;
            is_vacuuming.store(false, SeqCst);
            if let Err(error) = result {
                tracing::debug!(error = %error, "the space of erased rows was not freed; autovacuum does it later");
            }
        });
    }
}

/// Begins a transaction and takes its locks.
fn begin_text(scope: WriteScope<'_>, lock_ms_max: u64) -> String {
    let write = Lock::Write.key();
    match scope {
        WriteScope::Database => {
            format!("BEGIN; SET LOCAL lock_timeout = {lock_ms_max}; SELECT pg_advisory_xact_lock({write})")
        }
        WriteScope::Heartbeat => format!("BEGIN; SET LOCAL lock_timeout = {lock_ms_max}"),
        WriteScope::Shared => {
            format!("BEGIN; SET LOCAL lock_timeout = {lock_ms_max}; SELECT pg_advisory_xact_lock_shared({write})")
        }
        // An id has lower-case letters, digits and `_`.
        WriteScope::Session(id) => format!(
            "BEGIN; SET LOCAL lock_timeout = {lock_ms_max}; SELECT pg_advisory_xact_lock_shared({write}); \
             SELECT pg_advisory_xact_lock(hashtextextended('{id}', 0))"
        ),
    }
}

async fn vacuum(connector: &Connector) -> Result<(), Error> {
    let mut connection = connector.connect().await?;
    sqlx::raw_sql("VACUUM credentials, sessions, timeline").execute(&mut connection).await?;
    connection.close().await
}

/// A name for the connections of this process, by which `pg_stat_activity` and another server know it.
fn application_name(is_server: bool) -> String {
    let kind = if is_server { "anteroom server" } else { "anteroom" };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(20).collect();
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{kind} {host} {} {:x}", std::process::id(), began.as_millis())
}

/// Connects, and again for a while if the database is away.
async fn first_connection(connector: &Connector, connect_ms_max: u64) -> Result<AnyConnection, Error> {
    let give_up = Instant::now() + Duration::from_millis(connect_ms_max);
    let mut is_first = true;
    loop {
        match connector.connect().await {
            Err(error) if may_come_back(&error) && Instant::now() < give_up => {
                if std::mem::take(&mut is_first) {
                    tracing::warn!(outcome = "database_unavailable", database = %connector, %error, "waiting for the database");
                }
                tokio::time::sleep(Duration::from_millis(CONNECT_AGAIN_MS)).await;
            }
            other => return other,
        }
    }
}

/// Requires that no server uses the database whose program could not go on after the migration.
async fn require_no_server_of_older_schema(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let found = schema_version(connection, Dialect::Postgres).await?;
    if found == 0 || found >= READABLE_FROM {
        return Ok(());
    }
    let server = name_server(connection).await.map_err(query_error("find servers that use it"))?;
    server.map_or(Ok(()), |server| Err(StoreError::ServerOfOlderSchema { found, known: SCHEMA_VERSION, server }))
}

/// Version and durability; an error if it cannot be used.
async fn describe(connection: &mut AnyConnection) -> Result<Database, Error> {
    let mut setting = async |name: &'static str| {
        let text: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(&mut *connection).await?;
        Ok::<_, Error>(text)
    };
    let version = setting("server_version").await?;
    let encoding = setting("server_encoding").await?;
    if encoding != "UTF8" {
        return Err(Error::Configuration(format!("its encoding is {encoding}: create it with ENCODING 'UTF8'").into()));
    }
    if setting("server_version_num").await?.parse::<i64>().is_ok_and(|number| number < VERSION_MIN) {
        return Err(Error::Configuration(format!("it is PostgreSQL {version}: 15 or newer is needed").into()));
    }
    // A text such as "15.20 (Debian 15.20-0+deb12u1)".
    let version = version.split(' ').next().unwrap_or_default().to_owned();
    let synchronous_commit = setting("synchronous_commit").await?;
    let synchronous_commit = (synchronous_commit, setting("synchronous_standby_names").await?);
    Ok(Database { kind: DatabaseKind::PostgreSql, version, durability: durability(synchronous_commit) })
}

fn durability((synchronous_commit, standbys): (String, String)) -> String {
    if standbys.is_empty() {
        return format!("synchronous_commit = {synchronous_commit}, no synchronous standby");
    }
    format!("synchronous_commit = {synchronous_commit}, synchronous standby {standbys}")
}
