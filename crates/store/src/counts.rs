//! How many sessions there are, for whoever watches the whole.

use crate::{Store, StoreError, sessions::State, store::query};
use std::collections::BTreeMap;

impl Store {
    /// How many sessions are `active`, `completed`, `failed`, `cancelled`, `expired`; a state that none is in is there with 0.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn session_counts(&self) -> Result<BTreeMap<&'static str, u64>, StoreError> {
        const DOING: &str = "count the sessions";
        let mut counts = BTreeMap::new();
        for state in State::ALL {
            let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE state = $1")
                .bind(state.as_str())
                .fetch_one(self.reader())
                .await
                .map_err(query(DOING))?;
            counts.insert(state.as_str(), u64::try_from(count).unwrap_or(0));
        }
        Ok(counts)
    }
}
