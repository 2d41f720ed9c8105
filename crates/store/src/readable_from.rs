//! Whether a program can use a database whose schema is newer than its own: the way back from an upgrade without a backup.

use crate::{StoreError, error::query_error, schema::SCHEMA_VERSION};
use sqlx::AnyConnection;

/// The oldest schema version whose program can use a database of [`SCHEMA_VERSION`]. A migration that only adds (a table, an index, a
/// column that may be NULL and that no MAC covers) leaves it as it is; any other sets it to its own version.
pub const READABLE_FROM: u32 = 18;

const KEY: &str = "schema_readable_from";

/// Requires that this program can use a database of the newer version `found`.
///
/// # Errors
/// It cannot; or the database cannot be read.
pub(crate) async fn require_readable(connection: &mut AnyConnection, found: u32) -> Result<(), StoreError> {
    let text: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
        .bind(KEY)
        .fetch_optional(connection)
        .await
        .map_err(query_error("read which programs can use it"))?;
    match text.and_then(|text| text.parse::<u32>().ok()) {
        Some(from) if from <= SCHEMA_VERSION => {
            tracing::warn!(
                outcome = "newer_schema",
                found,
                known = SCHEMA_VERSION,
                "the database has a newer schema, which this program can use"
            );
            Ok(())
        }
        Some(_) | None => Err(StoreError::NewerSchema { found, known: SCHEMA_VERSION }),
    }
}

/// Records which programs can use the database from now on, in the transaction of the migration.
pub(crate) async fn write_readable_from(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(KEY)
        .bind(READABLE_FROM.to_string())
        .execute(connection)
        .await
        .map(drop)
}
