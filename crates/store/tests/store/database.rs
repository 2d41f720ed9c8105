//! The tests' databases: files of SQLite. `store_on_postgres/database.rs` has the same functions.

use anteroom_store::Address;
use sqlx::{AnyConnection, Connection, Executor, Row};
use std::path::Path;

/// Whether the database is a file, which can be searched for bytes.
pub(crate) const IS_FILE: bool = true;
/// Begins a write transaction, which no other can be open with.
pub(crate) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";
/// Lets every new entry of a timeline fail, and again succeed.
pub(crate) const REJECT_ENTRIES: &str =
    "CREATE TRIGGER no_entries BEFORE INSERT ON timeline BEGIN SELECT RAISE(ABORT, 'no'); END";
pub(crate) const ACCEPT_ENTRIES: &str = "DROP TRIGGER no_entries";
/// One byte of zeros.
pub(crate) const ZERO_BYTE: &str = "x'00'";

/// A database without tables.
pub(crate) async fn empty_database(directory: &Path) -> Address {
    Address::File(directory.join("anteroom.db"))
}

/// A new database.
pub(crate) async fn new_database(directory: &Path) -> Address {
    empty_database(directory).await
}

/// A connection for direct SQL.
pub(crate) async fn connect(address: &Address) -> AnyConnection {
    AnyConnection::connect(&format!("sqlite://{address}")).await.unwrap()
}

/// Removes constraints and triggers, as the owner of the database can.
pub(crate) async fn remove_rules(sql: &mut AnyConnection) {
    sql.execute("PRAGMA ignore_check_constraints = ON").await.unwrap();
    sql.execute("PRAGMA foreign_keys = OFF").await.unwrap();
    let triggers = sql.fetch_all("SELECT name FROM sqlite_master WHERE type = 'trigger'").await.unwrap();
    for trigger in triggers {
        let drop = format!("DROP TRIGGER {}", trigger.get::<String, _>("name"));
        sql.execute(sqlx::AssertSqlSafe(drop)).await.unwrap();
    }
}
