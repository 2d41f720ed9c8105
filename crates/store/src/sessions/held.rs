//! The active sessions of this host, and those that no host holds.

use super::{NewSession, SessionRow};
use crate::{
    Store, StoreError, UnixMs,
    connection::Connection,
    error::query_error,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::{CallerId, SessionId};

/// How many sessions wait for a host of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingCounts {
    /// Of all callers.
    pub all: u64,
    /// Of one caller.
    pub of_caller: u64,
    /// Of one user of that caller; 0 without a user.
    pub of_user: u64,
}

/// Whether hosts of the cluster hold as many sessions of the new one's owner as they may.
pub(super) async fn has_too_many(connection: &mut Connection, new: &NewSession) -> Result<bool, StoreError> {
    let Some(machines_max) = new.machines_by_caller_max.filter(|_| new.external.is_none()) else { return Ok(false) };
    let text =
        "SELECT COUNT(*) AS held FROM sessions WHERE caller_id = $1 AND state = 'active' AND host_id IS NOT NULL";
    let row = sqlx::query(text).bind(new.owner.as_str()).fetch_one(connection).await;
    let held: u64 =
        RowReader::new(&row.map_err(query_error("create a session"))?, "sessions", "held").number("held")?;
    Ok(held >= u64::from(machines_max))
}

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

    /// The number of sessions that wait for a host, of those of this caller, and of those of this user of the caller.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_waiting_sessions(
        &self,
        caller: &CallerId,
        user_id: Option<&str>,
    ) -> Result<WaitingCounts, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS waiting, COUNT(CASE WHEN caller_id = $1 THEN 1 END) AS of_caller, \
             COUNT(CASE WHEN caller_id = $1 AND user_id = $2 THEN 1 END) AS of_user FROM sessions \
             WHERE state = 'active' AND host_id IS NULL AND queued_at_ms IS NOT NULL",
        )
        .bind(caller.as_str())
        .bind(user_id)
        .fetch_one(self.read_pool())
        .await
        .map_err(query_error("count the waiting sessions"))?;
        let reader = RowReader::new(&row, "sessions", "waiting");
        Ok(WaitingCounts {
            all: reader.number("waiting")?,
            of_caller: reader.number("of_caller")?,
            of_user: reader.number("of_user")?,
        })
    }

    /// The place of a session in the line of those that wait for a host; 1 is next.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn find_place_in_line(&self, session: &SessionId) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) + 1 AS place FROM sessions WHERE state = 'active' AND host_id IS NULL AND queued_at_ms IS NOT NULL \
             AND (fair_class, fair_rank, queued_at_ms, id) < (SELECT fair_class, fair_rank, queued_at_ms, id FROM sessions WHERE id = $1)",
        )
        .bind(session.as_str())
        .fetch_one(self.read_pool())
        .await
        .map_err(query_error("find the place of a waiting session"))?;
        RowReader::new(&row, "sessions", "place").number("place")
    }

    /// Sessions that wait for a host since `since_ms` or longer, or had one and are past their deadline, the oldest first. The wait for the
    /// first machine does not count as duration of a session.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_overdue_waiting_sessions(
        &self,
        now_ms: UnixMs,
        since_ms: UnixMs,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let rows = sqlx::query(select!(
            "WHERE state = 'active' AND host_id IS NULL AND (queued_at_ms <= $2 OR (deadline_ms <= $1 AND fair_class = 0)) \
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
