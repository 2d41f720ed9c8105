//! Opening, closing and checking the database. A write transaction awaits nothing but the database.

use crate::{
    Address, Database, ObservedWrite, StoreError, UnixMs, WriteKind, WriteObserver,
    connection::{Connection, Readers},
    dialect::{Dialect, WriteScope},
    error::query_error,
    holder::Holding,
    postgres::Postgres,
    row_macs::RowMacs,
    row_reader::to_sql_integer,
    settings::StoreSettings,
    sqlite::Sqlite,
    write_transaction::WriteTransaction,
};
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// The database. Cloning is cheap and shares the connections; they close with the last clone or with [`Store::close`].
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    engine: Engine,
    reader: Readers,
    settings: StoreSettings,
    address: Address,
    database: Database,
    observer: Option<Arc<dyn WriteObserver>>,
    row_macs: RowMacs,
    holding: Holding,
}

/// The writing side of a database.
enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// Shows the address of the database, without its password.
impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.0.address)
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
    /// Opens the database and migrates its schema. A file is created (mode 0600) if it does not exist; a database of PostgreSQL must exist.
    ///
    /// # Errors
    /// When it cannot be used, or its schema is newer than this program.
    pub async fn open(address: impl Into<Address>, settings: StoreSettings) -> Result<Self, StoreError> {
        Self::open_with(address.into(), settings, None).await
    }

    /// As [`Store::open`]; `observer` is called for every write except the migrations.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_observed(
        address: impl Into<Address>,
        settings: StoreSettings,
        observer: Arc<dyn WriteObserver>,
    ) -> Result<Self, StoreError> {
        Self::open_with(address.into(), settings, Some(observer)).await
    }

    async fn open_with(
        address: Address,
        settings: StoreSettings,
        observer: Option<Arc<dyn WriteObserver>>,
    ) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let (engine, reader, database) = match &address {
            Address::File(path) => {
                let (sqlite, reader, database) = Sqlite::open(path, settings).await?;
                (Engine::Sqlite(sqlite), reader, database)
            }
            Address::Postgres(address) => {
                let (postgres, reader, database) = Postgres::open(address, settings).await?;
                (Engine::Postgres(postgres), reader, database)
            }
        };
        let (row_macs, holding) = Default::default();
        let store = Self(Arc::new(Inner { engine, reader, settings, address, database, observer, row_macs, holding }));
        // SQLite opens a read-only file without an error (`BEGIN IMMEDIATE` succeeds too): only a write shows the problem.
        if let Err(error) = store.check_writable().await {
            // While a connection of this process is open read-only, SQLite opens no other one for writing.
            store.close().await;
            return Err(error);
        }
        Ok(store)
    }

    /// Where the database is.
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// What kind of database it is.
    pub fn database(&self) -> &Database {
        &self.0.database
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

    /// Whether the connection to PostgreSQL is lost and could not be opened again.
    pub fn is_disconnected(&self) -> bool {
        matches!(&self.0.engine, Engine::Postgres(postgres) if postgres.is_disconnected())
    }

    /// How long ago a database of PostgreSQL answered last, to any statement; `None`: the database is a file.
    pub fn answered_ago(&self) -> Option<Duration> {
        match &self.0.engine {
            Engine::Sqlite(_) => None,
            Engine::Postgres(postgres) => {
                self.0.reader.answered_ago().map(|reader| reader.min(postgres.answered_ago()))
            }
        }
    }

    /// Closes all connections; SQLite merges its write-ahead log into the file. Later calls fail as unavailable.
    pub async fn close(&self) {
        // Readers first: the log can be emptied only when no connection reads from it. Otherwise it is merged at the next start.
        self.0.reader.close().await;
        match &self.0.engine {
            Engine::Sqlite(sqlite) => sqlite.close().await,
            Engine::Postgres(postgres) => postgres.close().await,
        }
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
        if let Engine::Sqlite(sqlite) = &self.0.engine {
            sqlite.empty_log_if_needed().await;
        }
        Ok(PurgeCounts { login_tokens, tickets, callers })
    }

    /// Begins a write transaction. It holds the only writing connection: await nothing but the database until it ends.
    pub(crate) async fn begin_write(
        &self,
        write: impl Into<ObservedWrite>,
        operation: &'static str,
    ) -> Result<WriteTransaction, StoreError> {
        self.begin_write_in(WriteScope::Database, write, operation).await
    }

    /// As [`begin_write`](Self::begin_write), and changes nothing outside of the scope: hosts that write elsewhere do not wait for it.
    pub(crate) async fn begin_write_in(
        &self,
        scope: WriteScope<'_>,
        write: impl Into<ObservedWrite>,
        operation: &'static str,
    ) -> Result<WriteTransaction, StoreError> {
        let Inner { engine, observer, .. } = &*self.0;
        let (observer, write) = (observer.as_ref(), write.into());
        match engine {
            Engine::Sqlite(sqlite) => {
                WriteTransaction::begin(sqlite.begin(), sqlite.is_broken(), observer, write, operation).await
            }
            // A connection of PostgreSQL notices by itself that it is broken.
            Engine::Postgres(postgres) => {
                WriteTransaction::begin(postgres.begin(scope), Arc::<AtomicBool>::default(), observer, write, operation)
                    .await
            }
        }
    }

    pub(crate) fn read_pool(&self) -> &Readers {
        &self.0.reader
    }

    pub(crate) fn row_macs(&self) -> &RowMacs {
        &self.0.row_macs
    }

    pub(crate) fn holding(&self) -> &Holding {
        &self.0.holding
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match &self.0.engine {
            Engine::Sqlite(_) => Dialect::Sqlite,
            Engine::Postgres(_) => Dialect::Postgres,
        }
    }

    pub(crate) fn settings(&self) -> &StoreSettings {
        &self.0.settings
    }

    /// Commits a transaction that erases bytes. SQLite empties the log, in which the old bytes would otherwise remain until it is
    /// overwritten; if a reader holds the log, or the caller is cancelled, the next [`Store::purge_expired`] empties it. PostgreSQL frees
    /// the space of the old rows, which later rows overwrite.
    pub(crate) async fn commit_erasing(
        &self,
        transaction: WriteTransaction,
        operation: &'static str,
    ) -> Result<(), StoreError> {
        if let Engine::Sqlite(sqlite) = &self.0.engine {
            sqlite.mark_log();
        }
        transaction.commit().await.map_err(query_error(operation))?;
        match &self.0.engine {
            Engine::Sqlite(sqlite) => sqlite.empty_log().await,
            Engine::Postgres(postgres) => postgres.free_erased_space(),
        }
        Ok(())
    }
}

async fn remove(connection: &mut Connection, text: &'static str, now_ms: UnixMs) -> Result<u64, StoreError> {
    let done = sqlx::query(text).bind(to_sql_integer(now_ms)).execute(connection).await;
    Ok(done.map_err(query_error("remove used and expired rows"))?.rows_affected())
}
