//! A database of PostgreSQL as a whole: what it contains, its copy as a file, and its rows from a file.

use super::{
    application_name,
    connector::{Connector, Use, may_come_back},
    first_connection,
};
use crate::{
    Database, DatabaseFile, PostgresAddress, Restored, StoreError, TableContents,
    contents::{Table, Whole, quote, tables_of_file},
    copy_tables::copy_tables,
    dialect::{Dialect, Lock},
    error::query_error,
    keys::GET_KEY_FINGERPRINT,
    restored,
    schema::{self, SCHEMA_VERSION, schema_version},
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row, raw_sql};
use std::path::Path;

/// All reads see one moment.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A database of PostgreSQL with one connection.
pub struct PostgresDatabase {
    connection: AnyConnection,
    shown: String,
}

/// Shows the address, without its password.
impl std::fmt::Debug for PostgresDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresDatabase({})", self.shown)
    }
}

impl PostgresDatabase {
    /// Opens a database which servers may use.
    ///
    /// # Errors
    /// It cannot be used.
    pub async fn open(address: &PostgresAddress) -> Result<Self, StoreError> {
        Self::open_for(address, Use::Housekeeping).await
    }

    /// The fingerprint of the keys with which the database was used; `None`: it was not used yet, or is away for now.
    ///
    /// # Errors
    /// Servers cannot use it, and waiting does not help.
    pub async fn known_keys(address: &PostgresAddress) -> Result<Option<String>, StoreError> {
        match Self::open(address).await {
            Ok(mut database) => {
                let known = sqlx::query_scalar(GET_KEY_FINGERPRINT).fetch_optional(&mut database.connection).await;
                database.close().await?;
                // An error: a new database has no tables.
                Ok(known.ok().flatten())
            }
            Err(StoreError::Open { source, .. }) if may_come_back(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a database which no server uses, and keeps servers from starting with it until this is closed.
    ///
    /// # Errors
    /// A server uses it, which is named, or it cannot be used.
    pub async fn open_alone(address: &PostgresAddress) -> Result<Self, StoreError> {
        Self::open_for(address, Use::Alone).await
    }

    async fn open_for(address: &PostgresAddress, purpose: Use) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let failed = |source| StoreError::Open { database: address.to_string(), source };
        let connector = Connector::new(address, &application_name(false), purpose);
        let mut connection = first_connection(&connector, 0).await.map_err(failed)?;
        super::describe(&mut connection).await.map_err(failed)?;
        Ok(Self { connection, shown: address.to_string() })
    }

    /// What kind of database it is, and what is wrong with its durability: standbys are attached, and no commit waits for one.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn durability(&mut self) -> Result<(Database, Option<String>), StoreError> {
        let failed = query_error("describe itself");
        let database = super::describe(&mut self.connection).await.map_err(failed)?;
        let text = "SELECT (SELECT COUNT(*) FROM pg_stat_replication), current_setting('synchronous_standby_names')";
        let row = sqlx::query(text).fetch_one(&mut self.connection).await.map_err(failed)?;
        let (standbys, names): (i64, String) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let warning = (standbys > 0 && names.is_empty()).then(|| {
            format!(
                "{standbys} standbys are attached, and no commit waits for one (synchronous_standby_names is empty): a fail-over can lose \
                 what was answered last. With Patroni, set synchronous_mode"
            )
        });
        Ok((database, warning))
    }

    /// Writes its rows, as they are at one moment, to the new file `to` (mode 0600). Returns the copy.
    ///
    /// # Errors
    /// It has another version of the schema, the file exists or cannot be written, or the copy differs.
    pub async fn copy_to(&mut self, to: &Path) -> Result<DatabaseFile, StoreError> {
        let failed = query_error("read all of itself");
        self.connection.execute(BEGIN_READ).await.map_err(failed)?;
        let copied = self.copy_in_transaction(to).await;
        // A connection that is broken has no transaction any more.
        let _ = self.connection.execute("ROLLBACK").await;
        copied
    }

    async fn copy_in_transaction(&mut self, to: &Path) -> Result<DatabaseFile, StoreError> {
        self.require_schema().await?;
        let mut file = DatabaseFile::create(to).await?;
        let mut from = Whole { connection: &mut self.connection, dialect: Dialect::Postgres };
        file.fill_from(&mut from).await?;
        Ok(file)
    }

    async fn require_schema(&mut self) -> Result<(), StoreError> {
        match schema_version(&mut self.connection, Dialect::Postgres).await? {
            SCHEMA_VERSION => Ok(()),
            found if found > SCHEMA_VERSION => Err(StoreError::NewerSchema { found, known: SCHEMA_VERSION }),
            found => Err(StoreError::OlderSchema { found, known: SCHEMA_VERSION }),
        }
    }

    /// Takes all rows of a file of this program's schema, in one transaction, and records `restored`. Returns what it took. If this is
    /// interrupted, it has no rows.
    ///
    /// # Errors
    /// It has rows, it or the file cannot be used, or a table differs after it was copied.
    pub async fn take_rows_of(
        &mut self,
        file: &mut DatabaseFile,
        restored: Restored,
    ) -> Result<Vec<TableContents>, StoreError> {
        let tables = tables_of_file(file.connection()).await?;
        self.require_no_rows(&tables).await?;
        schema::migrate(&mut self.connection, Dialect::Postgres).await?;
        self.require_schema().await?;
        let failed = query_error("take the rows of a file");
        let mut transaction = self.connection.begin().await.map_err(failed)?;
        let copied = match fill(&mut transaction, file, &tables, &self.shown).await {
            Ok(copied) => copied,
            Err(error) => {
                // Dropped, it would keep its locks until the connection is used again.
                let _ = transaction.rollback().await;
                return Err(error);
            }
        };
        restored::record(&mut *transaction, restored).await?;
        transaction.commit().await.map_err(failed)?;
        if let Err(error) = self.connection.execute("ANALYZE").await {
            tracing::debug!(%error, "not analysed; autovacuum does it later");
        }
        Ok(copied)
    }

    /// Before its schema is migrated, so that a database with rows stays as it is.
    async fn require_no_rows(&mut self, tables: &[Table]) -> Result<(), StoreError> {
        for Table { name, .. } in tables.iter().filter(|table| table.name != "meta") {
            let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
                .bind(name.clone())
                .fetch_one(&mut self.connection)
                .await
                .map_err(query_error("list its tables"))?;
            if exists && has_rows(&mut self.connection, name).await? {
                return Err(StoreError::HasRows { database: self.shown.clone(), table: name.clone() });
            }
        }
        Ok(())
    }

    /// Closes the connection; servers can start with it again.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn close(self) -> Result<(), StoreError> {
        self.connection.close().await.map_err(query_error("close"))
    }
}

/// Copies all rows of a file into empty tables, in the caller's transaction.
async fn fill(
    connection: &mut AnyConnection,
    file: &mut DatabaseFile,
    tables: &[Table],
    shown: &str,
) -> Result<Vec<TableContents>, StoreError> {
    let failed = query_error("take the rows of a file");
    // No command writes at the same time.
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(Lock::Write.key());
    lock.execute(&mut *connection).await.map_err(failed)?;
    raw_sql(Dialect::Postgres.defer_references()).execute(&mut *connection).await.map_err(failed)?;
    for table in tables.iter().filter(|table| table.name != "meta") {
        if has_rows(connection, &table.name).await? {
            return Err(StoreError::HasRows { database: shown.to_owned(), table: table.name.clone() });
        }
    }
    sqlx::query("DELETE FROM meta").execute(&mut *connection).await.map_err(failed)?;
    let mut from = Whole { connection: file.connection(), dialect: Dialect::Sqlite };
    let mut to = Whole { connection, dialect: Dialect::Postgres };
    copy_tables(&mut from, &mut to, tables).await
}

async fn has_rows(connection: &mut AnyConnection, table: &str) -> Result<bool, StoreError> {
    let text = format!("SELECT 1 FROM {} LIMIT 1", quote(table));
    let row = sqlx::query(AssertSqlSafe(text)).fetch_optional(connection).await;
    Ok(row.map_err(query_error("look for rows"))?.is_some())
}
