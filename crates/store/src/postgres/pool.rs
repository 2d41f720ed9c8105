//! Connections to PostgreSQL that come back after any failure of the database.
//!
//! Callers wait in one line for as many connections as there are, at most [`StoreSettings::busy_ms_max`](crate::StoreSettings). A task
//! of its own replaces a broken connection, not the caller that found it: a caller whose time is nearly over would take the new
//! connection down with it, and so would the next one.

use super::connector::Connector;
use futures_util::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use sqlx::{
    Any, AnyConnection, Connection as _, Either, Error, Execute, Executor,
    any::{AnyQueryResult, AnyRow},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time::timeout};

/// The longest wait for the answer to one statement, milliseconds; longer than the server's own limit for a statement.
pub const ANSWER_MS_MAX: u64 = 20_000;
/// A connection that was not used for so long is tried before it is used, milliseconds.
const TRY_AFTER_MS: u64 = 200;
/// The longest wait for the end of a transaction whose caller is away, milliseconds.
const CLEAN_UP_MS_MAX: u64 = 5_000;
/// Between two attempts to connect, milliseconds; doubled up to the second number.
const CONNECT_AGAIN_MS: (u64, u64) = (50, 1_000);

/// A statement of the driver with what it returns.
type Step = Result<Either<AnyQueryResult, AnyRow>, Error>;

/// Connections to one database. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: Connector,
    size: u32,
    wait_max: Duration,
    /// As many permits as there are idle connections.
    ready: Semaphore,
    idle: Mutex<Vec<(AnyConnection, Instant)>>,
    /// Connections that are open, idle or not.
    open: AtomicU32,
    is_connecting: AtomicBool,
    is_closed: AtomicBool,
    /// Why there is no connection.
    last_error: Mutex<Option<String>>,
    /// When the database answered last.
    answered: Mutex<Instant>,
}

impl Pool {
    /// A pool that begins with this connection and opens the others by itself.
    pub(crate) fn new(connector: Connector, size: u32, wait_max: Duration, first: AnyConnection) -> Self {
        let pool = Self(Arc::new(Shared {
            connector,
            size,
            wait_max,
            ready: Semaphore::new(0),
            idle: Mutex::default(),
            open: AtomicU32::new(1),
            is_connecting: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            last_error: Mutex::default(),
            answered: Mutex::new(Instant::now()),
        }));
        pool.0.give_back(first);
        fill(&pool.0);
        pool
    }

    /// A connection, as soon as one is free.
    pub(crate) async fn acquire(&self) -> Result<Lease, Error> {
        let give_up = Instant::now() + self.0.wait_max;
        loop {
            if self.0.is_closed.load(SeqCst) {
                return Err(Error::PoolClosed);
            }
            let left = give_up.saturating_duration_since(Instant::now());
            match timeout(left, self.0.ready.acquire()).await {
                Ok(Ok(permit)) => permit.forget(),
                Ok(Err(_)) => return Err(Error::PoolClosed),
                Err(_) => return Err(self.0.no_connection()),
            }
            // There is one for each permit.
            let Some((connection, since)) = self.0.idle.lock().pop() else { continue };
            let mut lease = Lease::new(connection, Arc::clone(&self.0));
            if since.elapsed() < Duration::from_millis(TRY_AFTER_MS) {
                return Ok(lease);
            }
            lease.state = LeaseState::Unfinished;
            let left = give_up.saturating_duration_since(Instant::now());
            match timeout(left, lease.connection().ping()).await {
                Ok(Ok(())) => {
                    lease.state = LeaseState::Usable;
                    lease.shared.record_answer();
                    return Ok(lease);
                }
                Ok(Err(_)) => lease.state = LeaseState::Broken,
                // It may only be slow: it is tried again by a task of its own.
                Err(_) => return Err(self.0.no_connection()),
            }
        }
    }

    /// Whether the last attempt to connect has failed.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.0.last_error.lock().is_some()
    }

    /// How long ago the database answered last.
    pub(crate) fn answered_ago(&self) -> Duration {
        self.0.answered.lock().elapsed()
    }

    /// Closes all idle connections; those in use are closed when they are given back.
    pub(crate) async fn close(&self) {
        self.0.is_closed.store(true, SeqCst);
        self.0.ready.close();
        let idle = std::mem::take(&mut *self.0.idle.lock());
        for (connection, _) in idle {
            let _ = timeout(Duration::from_millis(CLEAN_UP_MS_MAX), connection.close()).await;
        }
    }
}

impl Shared {
    fn give_back(&self, connection: AnyConnection) {
        if self.is_closed.load(SeqCst) {
            return;
        }
        self.idle.lock().push((connection, Instant::now()));
        self.ready.add_permits(1);
    }

    fn record_answer(&self) {
        *self.answered.lock() = Instant::now();
    }

    fn no_connection(&self) -> Error {
        match &*self.last_error.lock() {
            Some(cause) => Error::Io(io::Error::new(io::ErrorKind::NotConnected, cause.clone())),
            None => Error::PoolTimedOut,
        }
    }
}

/// Opens connections until there are enough, on a task of its own; does nothing if one is doing that.
fn fill(shared: &Arc<Shared>) {
    if shared.is_connecting.swap(true, SeqCst) {
        return;
    }
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        let mut again_ms = CONNECT_AGAIN_MS.0;
        while let Some(shared) = weak.upgrade() {
            let is_full = shared.open.load(SeqCst) >= shared.size;
            if is_full || shared.is_closed.load(SeqCst) {
                shared.is_connecting.store(false, SeqCst);
                // A connection may have broken since.
                if shared.is_closed.load(SeqCst) || shared.open.load(SeqCst) >= shared.size {
                    return;
                }
                fill(&shared);
                return;
            }
            match shared.connector.connect().await {
                Ok(connection) => {
                    if shared.last_error.lock().take().is_some() {
                        tracing::info!(outcome = "database_connected", "connected to the database again");
                    }
                    shared.open.fetch_add(1, SeqCst);
                    shared.give_back(connection);
                    again_ms = CONNECT_AGAIN_MS.0;
                }
                Err(error) => {
                    let text = format!("{} does not answer: {error}", shared.connector);
                    if shared.last_error.lock().replace(text.clone()).is_none() {
                        tracing::warn!(outcome = "database_unavailable", error = text, "no connection to the database");
                    }
                    drop(shared);
                    tokio::time::sleep(Duration::from_millis(again_ms)).await;
                    again_ms = (again_ms * 2).min(CONNECT_AGAIN_MS.1);
                }
            }
        }
    });
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseState {
    /// Nothing is in progress.
    Usable,
    /// A transaction is open.
    InTransaction,
    /// A statement of the transaction failed: it cannot be committed.
    Failed,
    /// A statement is in progress.
    Unfinished,
    /// It cannot be used again.
    Broken,
}

/// A connection that is in use. It goes back to the pool when it is dropped; an open transaction is rolled back before.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Option<AnyConnection>,
    shared: Arc<Shared>,
    state: LeaseState,
    /// Whether a transaction was begun and not committed.
    in_transaction: bool,
}

impl Lease {
    fn new(connection: AnyConnection, shared: Arc<Shared>) -> Self {
        Self { connection: Some(connection), shared, state: LeaseState::Usable, in_transaction: false }
    }

    /// The driver's connection.
    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        #[expect(clippy::expect_used, reason = "only drop takes it")]
        self.connection.as_mut().expect("the connection is there until it is dropped")
    }

    /// Begins a transaction with this text.
    pub(crate) async fn begin(&mut self, text: &str) -> Result<(), Error> {
        self.state = LeaseState::InTransaction;
        self.in_transaction = true;
        self.run(text).await
    }

    /// Whether the connection has ended.
    pub(crate) fn is_broken(&self) -> bool {
        self.state == LeaseState::Broken
    }

    /// Commits the transaction.
    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        // PostgreSQL answers COMMIT without an error and rolls back.
        if self.state == LeaseState::Failed {
            return Err(Error::Io(io::Error::other("a statement of the transaction failed")));
        }
        self.run("COMMIT").await?;
        self.state = LeaseState::Usable;
        self.in_transaction = false;
        Ok(())
    }

    async fn run(&mut self, text: &str) -> Result<(), Error> {
        let steps = self.fetch_all_steps(sqlx::raw_sql(sqlx::AssertSqlSafe(text))).await;
        steps.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    /// Runs a statement to its end.
    pub(crate) async fn fetch_all_steps<'q, E: 'q + Execute<'q, Any>>(&mut self, query: E) -> Vec<Step> {
        let before = std::mem::replace(&mut self.state, LeaseState::Unfinished);
        let steps = self.connection().fetch_many(query).collect::<Vec<_>>();
        match timeout(Duration::from_millis(ANSWER_MS_MAX), steps).await {
            Ok(steps) => {
                let error = steps.iter().find_map(|step| step.as_ref().err());
                self.state = state_after(before, error);
                self.record_answer();
                steps
            }
            Err(_) => vec![Err(self.no_answer())],
        }
    }

    pub(crate) fn fetch_many<'e, 'q: 'e, E: 'q + Execute<'q, Any>>(&'e mut self, query: E) -> BoxStream<'e, Step> {
        futures_util::stream::once(self.fetch_all_steps(query)).flat_map(futures_util::stream::iter).boxed()
    }

    pub(crate) async fn fetch_optional<'q, E: 'q + Execute<'q, Any>>(
        &mut self,
        query: E,
    ) -> Result<Option<AnyRow>, Error> {
        let before = std::mem::replace(&mut self.state, LeaseState::Unfinished);
        let row = self.connection().fetch_optional(query);
        match timeout(Duration::from_millis(ANSWER_MS_MAX), row).await {
            Ok(row) => {
                self.state = state_after(before, row.as_ref().err());
                self.record_answer();
                row
            }
            Err(_) => Err(self.no_answer()),
        }
    }

    /// An error of a statement is an answer, the end of the connection is none.
    fn record_answer(&self) {
        if self.state != LeaseState::Broken {
            self.shared.record_answer();
        }
    }

    fn no_answer(&mut self) -> Error {
        self.state = LeaseState::Broken;
        let text = format!("no answer from the database within {ANSWER_MS_MAX} ms");
        Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
    }
}

/// The state of a connection after a statement.
fn state_after(before: LeaseState, error: Option<&Error>) -> LeaseState {
    match (error, before) {
        (None, before) => before,
        (Some(Error::Database(cause)), _) if is_end_of_connection(cause.code().as_deref()) => LeaseState::Broken,
        (Some(Error::Database(_)), LeaseState::InTransaction | LeaseState::Failed) => LeaseState::Failed,
        // The driver could not read a value, or found no row.
        (Some(Error::Database(_) | Error::ColumnDecode { .. } | Error::Decode(_) | Error::RowNotFound), before) => {
            before
        }
        (Some(_), _) => LeaseState::Broken,
    }
}

/// Connection errors, and the server that ends or the session that it ends.
fn is_end_of_connection(code: Option<&str>) -> bool {
    code.is_none_or(|code| code.starts_with("08") || matches!(code, "57P01" | "57P02" | "57P03" | "57P05" | "25P03"))
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let (shared, in_transaction) = (Arc::clone(&self.shared), self.in_transaction);
        let runtime = tokio::runtime::Handle::try_current();
        match (self.state, runtime) {
            (LeaseState::Usable, _) => shared.give_back(connection),
            (LeaseState::InTransaction | LeaseState::Failed | LeaseState::Unfinished, Ok(runtime)) => {
                runtime.spawn(async move {
                    let end = async {
                        match in_transaction {
                            true => connection.execute("ROLLBACK").await.map(drop),
                            false => connection.ping().await,
                        }
                    };
                    match timeout(Duration::from_millis(CLEAN_UP_MS_MAX), end).await {
                        Ok(Ok(())) => shared.give_back(connection),
                        Ok(Err(_)) | Err(_) => discard(&shared, connection),
                    }
                });
            }
            (_, runtime) => {
                shared.open.fetch_sub(1, SeqCst);
                drop(connection);
                if runtime.is_ok() {
                    fill(&shared);
                }
            }
        }
    }
}

fn discard(shared: &Arc<Shared>, connection: AnyConnection) {
    shared.open.fetch_sub(1, SeqCst);
    drop(connection);
    fill(shared);
}
