//! Errors of the store, and whether a retry can help.

use crate::RowFault;
use anteroom_vault::KeyId;
use anteroom_wire::{CallerId, CredentialId, HostId, SessionId};
use std::{io, path::PathBuf};

/// What an error means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Locked, busy, full, read-only or unreadable: nothing was changed; the same call may succeed later.
    Unavailable,
    /// The request contradicts the stored data (a hash or id that exists, a session or caller that does not).
    Conflict,
    /// The stored data or its schema is not valid for this program: an operator must act.
    Corrupt,
}

/// A failed call; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's path cannot be used.
    #[error("the database's path {path} cannot be used: {why}")]
    BadPath {
        /// The path.
        path: PathBuf,
        /// The reason, with the remedy.
        why: &'static str,
    },
    /// The file could not be created, or its permissions could not be set.
    #[error("the database file {path} cannot be created, or its permissions cannot be set")]
    File {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The database could not be opened.
    #[error("the database {database} cannot be opened")]
    Open {
        /// Its path or its address, without a password.
        database: String,
        /// The cause.
        source: sqlx::Error,
    },
    /// The schema could not be created or migrated.
    #[error("the database cannot be migrated to schema version {version}")]
    Migrate {
        /// The version of the failed migration.
        version: u32,
        /// The cause.
        source: sqlx::Error,
    },
    /// The database was written by a newer program.
    #[error(
        "the database has schema version {found}, but this program supports only {known}: run the program that wrote it, or a newer \
         one, or put back the database from before the upgrade (a backup, or of a file `anteroom.db.before-migration-{known}` in the state directory)"
    )]
    NewerSchema {
        /// The version of the database.
        found: u32,
        /// The newest version that this program supports.
        known: u32,
    },
    /// The database was written by an older program, and is not migrated for this purpose.
    #[error(
        "the database has schema version {found}, and this program needs version {known} for that: start `anteroom serve` of this version \
         once, which migrates it"
    )]
    OlderSchema {
        /// The version of the database.
        found: u32,
        /// The version of this program.
        known: u32,
    },
    /// A server runs whose program cannot use the schema of this one.
    #[error(
        "the database has schema version {found}, and the server {server} uses it, whose program cannot go on with version {known}: stop \
         all servers of the older version first (docs/cluster.md)"
    )]
    ServerOfOlderSchema {
        /// The version of the database.
        found: u32,
        /// The version of this program.
        known: u32,
        /// The name of one such server.
        server: String,
    },
    /// The rows of a table could not be read or copied.
    #[error("the database could not {operation} the table {table}")]
    Table {
        /// The table.
        table: String,
        /// The operation as a verb.
        operation: &'static str,
        /// The cause.
        source: sqlx::Error,
    },
    /// A table differs from its original after it was copied. Nothing was changed.
    #[error("the table {table} differs from its original after it was copied; nothing was changed")]
    CopyDiffers {
        /// The table.
        table: String,
    },
    /// A database that must be new has rows.
    #[error("the database {database} has rows already, in the table {table}: a new one is needed")]
    HasRows {
        /// Its address, without a password.
        database: String,
        /// The first table with rows.
        table: String,
    },
    /// An operation failed.
    #[error("the database could not {operation}")]
    Query {
        /// The operation as a verb phrase: "read a session".
        operation: &'static str,
        /// The cause.
        source: sqlx::Error,
    },
    /// A row that this program cannot have written.
    #[error("table {table} has a corrupt row {row}: {why}")]
    CorruptRow {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// What is wrong, without the row's content.
        why: String,
    },
    /// A row that was changed outside of this program.
    #[error("table {table}, row {row}: {why}")]
    TamperedRow {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// What is wrong.
        why: RowFault,
    },
    /// There is no such session.
    #[error("there is no session {0}")]
    SessionNotFound(SessionId),
    /// The session has another purpose than the operation requires.
    #[error("session {0} has a different purpose")]
    WrongPurpose(SessionId),
    /// The record was sealed with a key that was retired since: it must be sealed again.
    #[error("the record was sealed with key {0}, which was retired since; seal it again")]
    KeyRetired(KeyId),
    /// This host does not hold the session: it was fenced, or another host holds the session. The write was counted as refused.
    #[error("this host does not hold session {0}")]
    NotHolder(SessionId),
    /// This host was fenced, or removed from the cluster.
    #[error("host {0} was fenced or removed from the cluster")]
    HostFenced(HostId),
    /// Another host of the cluster has this name.
    #[error("the host {0} has this name")]
    HostNameInUse(HostId),
    /// The caller is revoked, has expired or does not exist.
    #[error("the caller {0} is revoked or has expired")]
    CallerInvalid(CallerId),
    /// Another valid API token of the same role has this name.
    #[error("the token {0} has this name")]
    NameInUse(CallerId),
    /// The name of another valid API token, of any role, looks like this one.
    #[error("the name of the token {0} looks like this one")]
    NameLooksAlike(CallerId),
    /// The record was sealed for a revision that another delivery has taken: it must be sealed again.
    #[error("credential {0} has another revision than the one for which the new record was sealed; seal it again")]
    RevisionChanged(CredentialId),
}

impl StoreError {
    /// What this error means for the caller.
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            Self::File { .. } | Self::KeyRetired(_) | Self::RevisionChanged(_) => StoreErrorKind::Unavailable,
            Self::Open { source, .. }
            | Self::Migrate { source, .. }
            | Self::Query { source, .. }
            | Self::Table { source, .. } => kind_of(source),
            Self::SessionNotFound(_)
            | Self::WrongPurpose(_)
            | Self::CallerInvalid(_)
            | Self::NameInUse(_)
            | Self::NotHolder(_)
            | Self::HasRows { .. }
            | Self::HostFenced(_)
            | Self::HostNameInUse(_)
            | Self::NameLooksAlike(_) => StoreErrorKind::Conflict,
            Self::BadPath { .. }
            | Self::NewerSchema { .. }
            | Self::OlderSchema { .. }
            | Self::ServerOfOlderSchema { .. }
            | Self::CopyDiffers { .. }
            | Self::CorruptRow { .. }
            | Self::TamperedRow { .. } => StoreErrorKind::Corrupt,
        }
    }
}

/// Wraps a database error with the operation that failed.
pub(crate) fn query_error(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |source| StoreError::Query { operation, source }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "sqlx::Error is non-exhaustive; an unknown error is not treated as temporary"
)]
pub(crate) fn kind_of(error: &sqlx::Error) -> StoreErrorKind {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => StoreErrorKind::Unavailable,
        sqlx::Error::Database(cause) => cause.code().map_or(StoreErrorKind::Corrupt, |code| kind_of_code(&code)),
        _ => StoreErrorKind::Corrupt,
    }
}

/// Whether the error is a lock held by another connection, or a timeout while waiting for a connection.
pub(crate) fn is_lock(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|cause| cause.code()?.parse::<u32>().ok());
    // BUSY, LOCKED
    matches!(error, sqlx::Error::PoolTimedOut) || code.is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

/// SQLite's result codes are decimal numbers of at most four digits (<https://sqlite.org/rescode.html>, extended codes carry the
/// primary one in their low byte); PostgreSQL's SQLSTATEs are five characters, the first two a class
/// (PostgreSQL documentation, appendix A).
fn kind_of_code(code: &str) -> StoreErrorKind {
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => match number & 0xff {
            // PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL
            3 | 5 | 6 | 7 | 8 | 9 | 10 | 13 | 14 | 15 => StoreErrorKind::Unavailable,
            // CONSTRAINT
            19 => StoreErrorKind::Conflict,
            _ => StoreErrorKind::Corrupt,
        },
        Ok(_) | Err(_) => match code.get(..2) {
            // connection, rollback, resources, operator intervention, lock not available, system
            Some("08" | "25" | "40" | "53" | "55" | "57" | "58") => StoreErrorKind::Unavailable,
            // integrity constraint
            Some("23") => StoreErrorKind::Conflict,
            Some(_) | None => StoreErrorKind::Corrupt,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_codes_of_both_databases_are_classified() {
        for unavailable in
            ["5", "261", "517", "6", "8", "1032", "10", "522", "13", "14", "40001", "53100", "55P03", "08006"]
        {
            assert_eq!(kind_of_code(unavailable), StoreErrorKind::Unavailable, "{unavailable}");
        }
        for conflict in ["19", "1555", "2067", "787", "275", "23505"] {
            assert_eq!(kind_of_code(conflict), StoreErrorKind::Conflict, "{conflict}");
        }
        for corrupt in ["1", "11", "26", "42P01", ""] {
            assert_eq!(kind_of_code(corrupt), StoreErrorKind::Corrupt, "{corrupt}");
        }
    }
}
