//! The database's clock.

use crate::{Store, StoreError, UnixMs, error::query_error};
use sqlx::AssertSqlSafe;

impl Store {
    /// The database's time, milliseconds since 1970: the same for all hosts that share it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn database_time_ms(&self) -> Result<UnixMs, StoreError> {
        let text = format!("SELECT {}", self.dialect().now_ms());
        let now_ms: i64 = sqlx::query_scalar(AssertSqlSafe(text))
            .fetch_one(self.read_pool())
            .await
            .map_err(query_error("read the database's time"))?;
        Ok(now_ms.unsigned_abs())
    }
}
