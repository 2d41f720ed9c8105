//! What kind of database it is, for people.

use std::fmt;

/// The kind of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    /// A file of SQLite.
    Sqlite,
    /// A database of PostgreSQL.
    PostgreSql,
}

/// What kind of database it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its kind.
    pub kind: DatabaseKind,
    /// Its version.
    pub version: String,
    /// The settings on which it depends whether committed data survives.
    pub durability: String,
}

/// `PostgreSQL 15.20 (synchronous_commit = on, no synchronous standby)`.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DatabaseKind::Sqlite => "SQLite",
            DatabaseKind::PostgreSql => "PostgreSQL",
        };
        write!(f, "{kind} {} ({})", self.version, self.durability)
    }
}
