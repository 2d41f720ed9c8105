//! How many sessions there are, for whoever watches the whole.

use crate::{Health, Store, StoreError, UnixMs, row::stored, sessions::State, error::query_error};
use std::collections::BTreeMap;

impl Store {
    /// How many sessions are `active`, `completed`, `failed`, `cancelled`, `expired`; a state that none is in is there with 0.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn session_counts(&self) -> Result<BTreeMap<&'static str, u64>, StoreError> {
        const OPERATION: &str = "count the sessions";
        let mut counts = BTreeMap::new();
        for state in State::ALL {
            let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE state = $1")
                .bind(state.as_str())
                .fetch_one(self.reader())
                .await
                .map_err(query_error(OPERATION))?;
            counts.insert(state.as_str(), u64::try_from(count).unwrap_or(0));
        }
        Ok(counts)
    }

    /// How many stored credentials are of which health at `now_ms`, from what was concluded last and the end that they say themselves;
    /// a health that none has is there with 0.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn credential_counts(&self, now_ms: UnixMs) -> Result<BTreeMap<Health, u64>, StoreError> {
        const OPERATION: &str = "count the credentials";
        let mut counts = BTreeMap::new();
        for health in Health::ALL {
            let count: i64 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM credentials WHERE deleted_at_ms IS NULL \
                 AND CASE WHEN expires_at_ms <= $2 THEN 'needs_auth' ELSE health END = $1",
            )
            .bind(health.as_str())
            .bind(stored(now_ms))
            .fetch_one(self.reader())
            .await
            .map_err(query_error(OPERATION))?;
            counts.insert(*health, u64::try_from(count).unwrap_or(0));
        }
        Ok(counts)
    }
}
