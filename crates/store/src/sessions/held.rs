//! The active sessions of this host, and those that no host holds.

use super::SessionRow;
use crate::{
    Store, StoreError, UnixMs,
    error::query_error,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::CallerId;

impl Store {
    /// The active sessions that this host holds, the oldest first; without a cluster, all.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_held_sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        let Some(holder) = self.holder() else { return self.list_active_sessions().await };
        let rows =
            sqlx::query(select!("WHERE state = 'active' AND host_id = $1 AND host_incarnation = $2 ORDER BY id"))
                .bind(holder.host.as_str())
                .bind(to_sql_integer(holder.incarnation))
                .fetch_all(self.read_pool())
                .await
                .map_err(query_error("list the sessions of a host"))?;
        self.decode_valid(&rows)
    }

    /// The number of sessions that wait for a host, and of those of this caller.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_waiting_sessions(&self, caller: &CallerId) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS waiting, COUNT(CASE WHEN caller_id = $1 THEN 1 END) AS of_caller FROM sessions \
             WHERE state = 'active' AND host_id IS NULL AND queued_at_ms IS NOT NULL",
        )
        .bind(caller.as_str())
        .fetch_one(self.read_pool())
        .await
        .map_err(query_error("count the waiting sessions"))?;
        let reader = RowReader::new(&row, "sessions", "waiting");
        Ok((reader.number("waiting")?, reader.number("of_caller")?))
    }

    /// Sessions that wait for a host since `since_ms` or longer, or whose deadline has passed, the oldest first.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_overdue_waiting_sessions(
        &self,
        now_ms: UnixMs,
        since_ms: UnixMs,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let rows = sqlx::query(select!(
            "WHERE state = 'active' AND host_id IS NULL AND (queued_at_ms <= $2 OR deadline_ms <= $1) \
             AND queued_at_ms IS NOT NULL ORDER BY id"
        ))
        .bind(to_sql_integer(now_ms))
        .bind(to_sql_integer(since_ms))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("list the waiting sessions past their deadline"))?;
        self.decode_valid(&rows)
    }
}
