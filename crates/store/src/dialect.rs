//! What differs between SQLite and PostgreSQL in the text of statements. Everything else is one text for both.

use anteroom_wire::SessionId;
use std::borrow::Cow;

/// The SQL of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Postpones the check of references to the end of the transaction: sessions and credentials refer to each other.
    pub(crate) fn defer_references(self) -> &'static str {
        match self {
            Self::Sqlite => "PRAGMA defer_foreign_keys = ON",
            Self::Postgres => "SET CONSTRAINTS ALL DEFERRED",
        }
    }

    /// Begins the transaction of a migration: only one process migrates at a time.
    pub(crate) fn begin_migration(self) -> String {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE".to_owned(),
            Self::Postgres => format!(
                "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock({})",
                Lock::Migration.key()
            ),
        }
    }

    /// Whether there is a table `meta`: 1 or 0.
    pub(crate) fn count_tables_named_meta(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'meta'",
            Self::Postgres => {
                "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'meta'"
            }
        }
    }

    /// The database's clock, milliseconds since 1970.
    pub(crate) fn now_ms(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Self::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// A statement that takes the lock of the waiting session $1 for a transaction in [`WriteScope::Shared`], and returns whether it has got
    /// it without waiting; no row: the session waits no more. `None`: no other transaction writes.
    pub(crate) fn try_lock_waiting_session(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some(
                "SELECT pg_try_advisory_xact_lock(hashtextextended(id, 0)) AS locked FROM sessions WHERE id = $1 AND host_id IS NULL \
                 AND state = 'active'",
            ),
        }
    }

    /// The end of an expression that compares texts byte by byte, whatever the database.
    pub(crate) fn compare_bytes(self) -> &'static str {
        match self {
            Self::Sqlite => " COLLATE BINARY",
            Self::Postgres => " COLLATE \"C\"",
        }
    }

    /// The text of a migration. Texts are compared byte by byte in SQLite; in PostgreSQL that depends on the database unless columns say so.
    pub(crate) fn migration(self, text: &'static str) -> Cow<'static, str> {
        match self {
            Self::Sqlite => text.into(),
            Self::Postgres => text.replace(" TEXT", " TEXT COLLATE \"C\"").into(),
        }
    }
}

/// An advisory lock of PostgreSQL, which counts within one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Held by the writing connection of the server: a second server is rejected.
    Server,
    /// Held by every write transaction, shared by those that write within a session: as in SQLite, one at a time writes what another
    /// could read.
    Write,
    /// Held by the transaction of a migration.
    Migration,
}

impl Lock {
    /// `anteroo` and a number.
    pub(crate) fn key(self) -> i64 {
        let number = match self {
            Self::Server => 1,
            Self::Write => 2,
            Self::Migration => 3,
        };
        i64::from_be_bytes([b'a', b'n', b't', b'e', b'r', b'o', b'o', number])
    }
}

/// What a write transaction reads in order to write, and writes. SQLite has one writer, so nothing differs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteScope<'a> {
    /// Anything: no other transaction writes.
    Database,
    /// The rows of a session, and new rows that refer to it.
    Session(&'a SessionId),
    /// One row in one statement, or the rows of sessions whose locks it takes ([`Dialect::try_lock_waiting_session`]).
    Shared,
    /// The heartbeat in the row of this host, in one statement. In PostgreSQL it waits only for a write of the same row: not for the other writes of
    /// this host, and not for a fence of many sessions.
    Heartbeat,
}
