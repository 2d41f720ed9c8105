//! What can go wrong with the database, and whether trying again can help.

use anteroom_wire::SessionId;
use std::{io, path::PathBuf};

/// What an error means to the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Locked, busy, full, read-only or unreadable: nothing was changed; the same call may succeed later.
    Unavailable,
    /// The request contradicts what is stored (a hash or id that exists, a session or caller that does not).
    Conflict,
    /// What is stored, or its schema, is not what this program understands: a person has to look.
    Corrupt,
}

/// A call that failed; nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's path cannot be used.
    #[error("the database's path {path} cannot be used: {why}")]
    BadPath {
        /// Which.
        path: PathBuf,
        /// Why, with the remedy.
        why: &'static str,
    },
    /// The file could not be made, or its permissions not be set.
    #[error("the database file {path} cannot be made or made private")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database could not be opened.
    #[error("the database {path} cannot be opened")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// The schema could not be made or brought up to date.
    #[error("the database cannot be brought to schema version {version}")]
    Migrate {
        /// The version that was being reached.
        version: u32,
        /// Why.
        source: sqlx::Error,
    },
    /// The database was written by a newer program.
    #[error(
        "the database has schema version {found}, this program knows {known}: run the program that wrote it, or a newer one, or \
         restore the backup from before the upgrade"
    )]
    NewerSchema {
        /// In the database.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// One operation failed.
    #[error("the database could not {operation}")]
    Query {
        /// Which operation, as words: "read a session".
        operation: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// A row that this program could not have written.
    #[error("the database's table {table} has an impossible row {row}: {why}")]
    CorruptRow {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// What is wrong; no content.
        why: String,
    },
    /// There is no such session.
    #[error("there is no session {0}")]
    SessionNotFound(SessionId),
    /// What was asked is not what the session is for.
    #[error("the session {0} is not for this")]
    WrongPurpose(SessionId),
}

impl StoreError {
    /// What this error means to the one who asked.
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            Self::File { .. } => StoreErrorKind::Unavailable,
            Self::Open { source, .. } | Self::Migrate { source, .. } | Self::Query { source, .. } => kind_of(source),
            Self::SessionNotFound(_) | Self::WrongPurpose(_) => StoreErrorKind::Conflict,
            Self::BadPath { .. } | Self::NewerSchema { .. } | Self::CorruptRow { .. } => StoreErrorKind::Corrupt,
        }
    }
}

/// Wraps a database error with the operation that failed.
pub(crate) fn query_error(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |source| StoreError::Query { operation, source }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "sqlx::Error is non-exhaustive; what is not known to pass by is not"
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

/// Whether the error is another's lock, or there was no connection to be had in time.
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
    fn result_codes_of_both_databases_are_told_apart() {
        for passing in
            ["5", "261", "517", "6", "8", "1032", "10", "522", "13", "14", "40001", "53100", "55P03", "08006"]
        {
            assert_eq!(kind_of_code(passing), StoreErrorKind::Unavailable, "{passing}");
        }
        for clash in ["19", "1555", "2067", "787", "275", "23505"] {
            assert_eq!(kind_of_code(clash), StoreErrorKind::Conflict, "{clash}");
        }
        for broken in ["1", "11", "26", "42P01", ""] {
            assert_eq!(kind_of_code(broken), StoreErrorKind::Corrupt, "{broken}");
        }
    }
}
