//! The database of a configuration as a whole, whatever its kind.

use super::BackupError;
use crate::config::Config;
use anteroom_store::{Address, DatabaseFile, PostgresDatabase};
use std::path::Path;

/// Who else may use the database while it is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Servers go on.
    Shared,
    /// No server: of a file, the caller holds the lock of the state directory.
    Alone,
}

/// The kind of the database, for a description.
pub(super) fn kind_of(address: &Address) -> &'static str {
    match address {
        Address::File(_) => "SQLite",
        Address::Postgres(_) => "PostgreSQL",
    }
}

/// Copies all rows as they are at one moment to the new file `to`, whatever the kind of the database.
pub(super) async fn copy_database(config: &Config, to: &Path, sharing: Sharing) -> Result<DatabaseFile, BackupError> {
    let failed = BackupError::Database;
    match config.database_address()? {
        Address::File(path) => {
            if !path.is_file() {
                return Err(BackupError::NoDatabase { path });
            }
            let mut source = DatabaseFile::open(&path).await.map_err(failed)?;
            let copied = source.copy_to(to).await.map_err(failed);
            source.close().await.map_err(failed)?;
            copied
        }
        Address::Postgres(address) => {
            let source = match sharing {
                Sharing::Shared => PostgresDatabase::open(&address).await,
                Sharing::Alone => PostgresDatabase::open_alone(&address).await,
            };
            let mut source = source.map_err(failed)?;
            let copied = source.copy_to(to).await.map_err(failed);
            source.close().await.map_err(failed)?;
            copied
        }
    }
}
