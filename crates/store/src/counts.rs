//! Counts of sessions and credentials, for metrics.

use crate::{
    HealthKind, Store, StoreError, UnixMs, error::query_error, row_reader::to_sql_integer, sessions::SessionStateKind,
};
use std::collections::BTreeMap;

impl Store {
    /// The number of sessions in each state; a state without sessions is included with 0.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_sessions_by_status(&self) -> Result<BTreeMap<&'static str, u64>, StoreError> {
        const OPERATION: &str = "count the sessions";
        let mut counts = BTreeMap::new();
        for state in SessionStateKind::ALL {
            let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE state = $1")
                .bind(state.as_str())
                .fetch_one(self.read_pool())
                .await
                .map_err(query_error(OPERATION))?;
            counts.insert(state.as_str(), u64::try_from(count).unwrap_or(0));
        }
        Ok(counts)
    }

    /// The number of stored credentials by health at `now_ms`, from the stored health and the time of expiry; a health without
    /// credentials is included with 0.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_credentials_by_health(&self, now_ms: UnixMs) -> Result<BTreeMap<HealthKind, u64>, StoreError> {
        const OPERATION: &str = "count the credentials";
        let mut counts = BTreeMap::new();
        for health in HealthKind::ALL {
            let count: i64 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM credentials WHERE deleted_at_ms IS NULL \
                 AND CASE WHEN expires_at_ms <= $2 THEN 'needs_auth' ELSE health END = $1",
            )
            .bind(health.as_str())
            .bind(to_sql_integer(now_ms))
            .fetch_one(self.read_pool())
            .await
            .map_err(query_error(OPERATION))?;
            counts.insert(*health, u64::try_from(count).unwrap_or(0));
        }
        Ok(counts)
    }
}
