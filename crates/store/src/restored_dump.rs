//! Whether a database of PostgreSQL was restored from a dump: it records where it is, and a dump that was restored is elsewhere.

use crate::{
    Restored, RestoredFrom, Store, StoreError, UnixMs, WriteKind, dialect::Dialect, error::query_error, restored,
};

/// The key in `meta` of where the database is.
pub(crate) const PLACE_KEY: &str = "database_place";
/// The number that a cluster of databases got when it was made, and that of the database within it. A standby has the same.
const PLACE: &str = "SELECT system_identifier::text || '/' || (SELECT oid::bigint::text FROM pg_database \
    WHERE datname = current_database()) FROM pg_control_system()";

impl Store {
    /// Records a restore if this database was restored from a dump since the last call, or made by copying another one; by which program
    /// cannot be known. To be called at the start of a server. Does nothing with SQLite.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn note_restored_dump(&self, now_ms: UnixMs) -> Result<(), StoreError> {
        const OPERATION: &str = "find out whether it was restored";
        let failed = query_error(OPERATION);
        if self.dialect() == Dialect::Sqlite {
            return Ok(());
        }
        let mut transaction = self.begin_write(WriteKind::Restored, OPERATION).await?;
        let place: String = sqlx::query_scalar(PLACE).fetch_one(&mut *transaction).await.map_err(failed)?;
        let known: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
            .bind(PLACE_KEY)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
        if known.as_ref() == Some(&place) {
            transaction.finish_unchanged();
            return Ok(());
        }
        if known.is_some() {
            let last: Option<i64> = sqlx::query_scalar("SELECT MAX(at_ms) FROM timeline")
                .fetch_one(&mut *transaction)
                .await
                .map_err(failed)?;
            let made_at_ms = last.map_or(now_ms, i64::unsigned_abs);
            let restored = Restored { made_at_ms, restored_at_ms: now_ms, from: RestoredFrom::Dump };
            restored::record(&mut *transaction, restored).await?;
        }
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(PLACE_KEY)
        .bind(place)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }
}
