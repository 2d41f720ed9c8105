//! Opens connections to PostgreSQL: to the first server that answers and accepts writes.

use crate::{PostgresAddress, dialect::Lock};
use anteroom_wire::Secret;
use parking_lot::Mutex;
use sqlx::{AnyConnection, ConnectOptions, Connection, Error, Executor, Row, any::AnyConnectOptions};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The longest wait for a connection to one server, milliseconds.
pub const CONNECT_MS_MAX: u64 = 5_000;
/// The server's limit for one statement, milliseconds.
pub const STATEMENT_MS_MAX: u64 = 15_000;
/// How long a host of a cluster may leave a write transaction without a statement, milliseconds.
pub const IDLE_IN_TRANSACTION_MS_MAX: u64 = 2_000;
/// How long a connection waits for the lock that another server holds: one that was killed a moment ago still has it.
const SERVER_LOCK_MS_MAX: u64 = 3_000;
const SERVER_LOCK_AGAIN_MS: u64 = 100;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Statements that only read.
    Read,
    /// Writes.
    Write,
    /// Writes of the server: it holds a lock, so that another server can write nothing.
    WriteAsServer,
    /// Writes of a host of a cluster: it shares that lock with the other hosts.
    WriteAsHost,
    /// Housekeeping, without limits.
    Housekeeping,
    /// The same while no server uses the database: it holds the server's lock.
    Alone,
}

/// Opens connections for one use.
#[derive(Debug, Clone)]
pub(crate) struct Connector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shown: String,
    application: String,
    /// The name of each server, and its URL.
    servers: Vec<(String, Secret)>,
    purpose: Use,
    /// The server that answered last.
    last: Mutex<usize>,
}

/// The address without its password.
impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.shown)
    }
}

impl Connector {
    /// `application`: the name of this process, the same for all its connections.
    pub(crate) fn new(address: &PostgresAddress, application: &str, purpose: Use) -> Self {
        Self(Arc::new(Inner {
            shown: address.to_string(),
            application: application.to_owned(),
            servers: address.server_names().into_iter().zip(address.urls(application)).collect(),
            purpose,
            last: Mutex::new(0),
        }))
    }

    /// A connection to the first server that answers and accepts writes. The error says of each of several servers why it is not used.
    pub(crate) async fn connect(&self) -> Result<AnyConnection, Error> {
        let count = self.0.servers.len();
        let first = *self.0.last.lock();
        let mut errors = Vec::with_capacity(count);
        for number in (0..count).map(|number| (first + number) % count) {
            let Some((name, url)) = self.0.servers.get(number) else { continue };
            match timeout(Duration::from_millis(CONNECT_MS_MAX), self.connect_to(url)).await {
                Ok(Ok(connection)) => {
                    *self.0.last.lock() = number;
                    return Ok(connection);
                }
                Ok(Err(failed)) => errors.push((name, failed)),
                Err(_) => errors.push((name, no_server(&format!("no answer within {CONNECT_MS_MAX} ms")))),
            }
        }
        match errors.pop() {
            Some((_, error)) if errors.is_empty() => Err(error),
            Some(last) => {
                errors.push(last);
                Err(of_several(&errors))
            }
            None => Err(no_server("no server")),
        }
    }

    async fn connect_to(&self, url: &Secret) -> Result<AnyConnection, Error> {
        let options = url.expose().parse::<AnyConnectOptions>()?.disable_statement_logging();
        let mut connection = AnyConnection::connect_with(&options).await.map_err(with_remedy)?;
        let is_standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await?;
        if is_standby {
            return Err(no_server("it is a standby and accepts no writes"));
        }
        let is_read_only: bool = sqlx::query_scalar("SELECT current_setting('default_transaction_read_only') = 'on'")
            .fetch_one(&mut connection)
            .await?;
        if is_read_only {
            return Err(no_server("it accepts no writes: default_transaction_read_only is on"));
        }
        let limits = match self.0.purpose {
            Use::Housekeeping | Use::Alone => String::new(),
            Use::Read => format!("SET statement_timeout = {STATEMENT_MS_MAX}; SET default_transaction_read_only = on;"),
            Use::Write | Use::WriteAsServer => format!("SET statement_timeout = {STATEMENT_MS_MAX};"),
            // A host that is frozen within a transaction must not keep the other hosts from writing.
            Use::WriteAsHost => format!(
                "SET statement_timeout = {STATEMENT_MS_MAX}; SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS_MAX};"
            ),
        };
        // What a commit promises does not depend on the configuration of the database.
        let settings = format!(
            "SET client_min_messages = warning; {limits} \
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';"
        );
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(settings))).await?;
        match self.0.purpose {
            Use::WriteAsServer | Use::Alone => {
                self.take_server_lock(&mut connection, "SELECT pg_try_advisory_lock($1)").await?
            }
            Use::WriteAsHost => {
                self.take_server_lock(&mut connection, "SELECT pg_try_advisory_lock_shared($1)").await?
            }
            Use::Read | Use::Write | Use::Housekeeping => {}
        }
        Ok(connection)
    }

    /// Takes the lock of the server. The connection holds it until it ends.
    async fn take_server_lock(&self, connection: &mut AnyConnection, text: &'static str) -> Result<(), Error> {
        let mut waited_ms = 0;
        loop {
            let taken: bool = sqlx::query_scalar(text).bind(Lock::Server.key()).fetch_one(&mut *connection).await?;
            if taken {
                return Ok(());
            }
            if let Some(holder) = self.end_own_or_name_other(connection).await?
                && waited_ms >= SERVER_LOCK_MS_MAX
            {
                return Err(Error::Configuration(
                    format!("another server uses this database: {holder}; stop it first, or give this one a database of its own")
                        .into(),
                ));
            }
            tokio::time::sleep(Duration::from_millis(SERVER_LOCK_AGAIN_MS)).await;
            waited_ms += SERVER_LOCK_AGAIN_MS;
        }
    }

    /// Ends a former connection of this process that holds the lock, which the database has not noticed to be closed. Returns the name of
    /// another process that holds it.
    async fn end_own_or_name_other(&self, connection: &mut AnyConnection) -> Result<Option<String>, Error> {
        let key = Lock::Server.key();
        let row = sqlx::query(
            "SELECT activity.application_name AS name, COALESCE(host(activity.client_addr), 'a Unix socket') AS address, \
             CASE WHEN activity.application_name = $3 THEN pg_terminate_backend(activity.pid) ELSE FALSE END AS ended \
             FROM pg_locks JOIN pg_stat_activity activity ON activity.pid = pg_locks.pid \
             WHERE pg_locks.locktype = 'advisory' AND pg_locks.granted AND pg_locks.classid::bigint = $1 \
             AND pg_locks.objid::bigint = $2 AND activity.datname = current_database()",
        )
        .bind(key >> 32)
        .bind(key & 0xffff_ffff)
        .bind(self.0.application.as_str())
        .fetch_optional(connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (name, address): (String, String) = (row.try_get("name")?, row.try_get("address")?);
        Ok((!row.try_get::<bool, _>("ended")?).then(|| format!("{name:?}, connected from {address}")))
    }
}

/// The name of a server that uses the database: it holds the lock of servers.
pub(crate) async fn name_server(connection: &mut AnyConnection) -> Result<Option<String>, Error> {
    let key = Lock::Server.key();
    let name: Option<String> = sqlx::query_scalar(
        "SELECT activity.application_name FROM pg_locks JOIN pg_stat_activity activity ON activity.pid = pg_locks.pid \
         WHERE pg_locks.locktype = 'advisory' AND pg_locks.granted AND pg_locks.classid::bigint = $1 \
         AND pg_locks.objid::bigint = $2 AND activity.datname = current_database()",
    )
    .bind(key >> 32)
    .bind(key & 0xffff_ffff)
    .fetch_optional(connection)
    .await?;
    Ok(name.map(|name| format!("{name:?}")))
}

/// A PostgreSQL that was just installed has no certificate, and connections to other hosts need one.
fn with_remedy(error: Error) -> Error {
    if let Error::Tls(why) = &error
        && why.to_string().contains("does not support TLS")
    {
        let remedy = "give it a certificate (`ssl = on`), or add `?sslmode=prefer` to database.url where no other can read the network to it";
        return Error::Tls(format!("{why}: {remedy}").into());
    }
    error
}

fn no_server(text: &str) -> Error {
    Error::Io(io::Error::new(io::ErrorKind::NotConnected, text.to_owned()))
}

/// What was wrong with each server. It may help to connect again later if that is so for all of them.
fn of_several(errors: &[(&String, Error)]) -> Error {
    let texts: Vec<String> = errors.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    let text = texts.join("; ");
    if errors.iter().all(|(_, error)| may_come_back(error)) {
        no_server(&text)
    } else {
        Error::Configuration(text.into())
    }
}

/// Whether it may help to connect again later: the database is away, starts or has no free connection.
pub(crate) fn may_come_back(error: &Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let is_for_now = |code: &str| ["08", "53", "57"].iter().any(|class| code.starts_with(class));
    matches!(error, Error::Io(_)) || code.is_some_and(|code| is_for_now(&code))
}
