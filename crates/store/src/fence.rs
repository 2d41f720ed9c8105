//! Takes the sessions of a dead host away. The host's later writes to them are refused; each waits for another host, before newcomers.

use crate::{
    Holder, NewTimelineEntry, Store, StoreError, UnixMs, WriteKind,
    connection::Connection,
    error::query_error,
    row_macs::tables::{HOSTS, SESSIONS},
    row_reader::{RowReader, to_sql_integer},
    timeline,
};
use anteroom_wire::{HostId, SessionId, TimelineKind};
use serde_json::json;
use sqlx::AssertSqlSafe;

/// A host that is to be fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence<'a> {
    /// The host.
    pub host: &'a HostId,
    /// The incarnation that was silent.
    pub incarnation: u64,
    /// How long it must have been silent in the database, milliseconds, by the database's clock; 0: an operator knows that it is dead.
    pub silent_ms: u64,
    /// By whom: the name of a host, or an operator.
    pub by: &'a str,
    /// The current time.
    pub at_ms: UnixMs,
}

impl Store {
    /// Fences a host: the sessions that it holds wait for another host, each with a timeline entry. Returns them; `None`: the host is not
    /// silent, is in another incarnation, or was fenced already.
    ///
    /// # Errors
    /// The database cannot be written; then nothing was changed.
    pub async fn fence_host(&self, fence: &Fence<'_>) -> Result<Option<Vec<SessionId>>, StoreError> {
        self.fence(fence, None).await
    }

    /// As [`fence_host`](Self::fence_host), but only if the host has written no heartbeat here and has not joined since `heartbeats` were
    /// counted. The age of the last one is not enough: this server may have been paused since it looked, and the host may have begun again
    /// and have written its heartbeats elsewhere.
    ///
    /// # Errors
    /// The database cannot be written; then nothing was changed.
    pub async fn fence_silent_host(
        &self,
        fence: &Fence<'_>,
        heartbeats: u64,
    ) -> Result<Option<Vec<SessionId>>, StoreError> {
        self.fence(fence, Some(heartbeats)).await
    }

    async fn fence(&self, fence: &Fence<'_>, heartbeats: Option<u64>) -> Result<Option<Vec<SessionId>>, StoreError> {
        const OPERATION: &str = "fence a host";
        let mut transaction = self.begin_write(WriteKind::FenceHost, OPERATION).await?;
        let is_there = self.row_macs().require_valid(&mut transaction, &HOSTS, fence.host.as_str().into()).await?;
        let text = format!(
            "UPDATE hosts SET fenced = incarnation, fenced_at_ms = $4, fenced_by = $5 WHERE id = $1 AND incarnation = $2 \
             AND fenced < incarnation AND COALESCE(heartbeat_at_ms, 0) <= {} - $3 AND heartbeats = COALESCE($6, heartbeats)",
            self.dialect().now_ms()
        );
        let done = sqlx::query(AssertSqlSafe(text))
            .bind(fence.host.as_str().to_owned())
            .bind(to_sql_integer(fence.incarnation))
            .bind(to_sql_integer(fence.silent_ms))
            .bind(to_sql_integer(fence.at_ms))
            .bind(fence.by.to_owned())
            .bind(heartbeats.map(to_sql_integer))
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        if !is_there || done.rows_affected() == 0 {
            transaction.finish_unchanged();
            return Ok(None);
        }
        self.row_macs().renew(&mut transaction, &HOSTS, fence.host.as_str().into()).await?;
        let of = (fence.host, fence.incarnation);
        let released = release_sessions(self, &mut transaction, of, fence.at_ms, "its host does not answer").await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(Some(released))
    }
}

/// Makes the sessions that the host holds in this or an earlier incarnation wait for a host.
pub(crate) async fn release_sessions(
    store: &Store,
    connection: &mut Connection,
    (host, incarnation): (&HostId, u64),
    at_ms: UnixMs,
    why: &str,
) -> Result<Vec<SessionId>, StoreError> {
    const OPERATION: &str = "take the sessions of a host away";
    let rows = sqlx::query(
        "SELECT sessions.id, hosts.name FROM sessions JOIN hosts ON hosts.id = sessions.host_id \
         WHERE host_id = $1 AND host_incarnation <= $2 AND state = 'active' ORDER BY sessions.id",
    )
    .bind(host.as_str())
    .bind(to_sql_integer(incarnation))
    .fetch_all(&mut *connection)
    .await
    .map_err(query_error(OPERATION))?;
    let mut released = Vec::new();
    for row in &rows {
        let reader = RowReader::new(row, "sessions", "id");
        let (id, name): (SessionId, String) = (reader.parsed("id")?, reader.text("name")?);
        // A row that was changed outside of this program keeps its invalid MAC; the alarm ends its session.
        let is_valid = store.row_macs().is_valid(&mut *connection, &SESSIONS, id.as_str().into()).await?;
        sqlx::query(
            "UPDATE sessions SET host_id = NULL, host_incarnation = NULL, epoch = epoch + 1, queued_at_ms = $2, \
             fair_class = 0, fair_rank = COALESCE(fair_rank, 0) WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(to_sql_integer(at_ms))
        .execute(&mut *connection)
        .await
        .map_err(query_error(OPERATION))?;
        if is_valid {
            store.row_macs().renew(&mut *connection, &SESSIONS, id.as_str().into()).await?;
        }
        let sentence = format!("The host {name} lost the session: {why}. It waits for another host.");
        let entry = NewTimelineEntry::new(at_ms, TimelineKind::HostLost, sentence)
            .with_data(json!({ "host": host, "name": name, "incarnation": incarnation }));
        timeline::append_entry_in(connection, &id, entry, store, u64::MAX).await?;
        released.push(id);
    }
    Ok(released)
}

/// Gives the host the sessions that a server without a cluster has left active.
pub(crate) async fn take_sessions_without_host(
    store: &Store,
    connection: &mut Connection,
    holder: &Holder,
) -> Result<(), StoreError> {
    const OPERATION: &str = "take the sessions without a host";
    let text =
        "SELECT id FROM sessions WHERE state = 'active' AND host_id IS NULL AND queued_at_ms IS NULL ORDER BY id";
    let rows = sqlx::query(text).fetch_all(&mut *connection).await.map_err(query_error(OPERATION))?;
    for row in &rows {
        let id: SessionId = RowReader::new(row, "sessions", "id").parsed("id")?;
        if !store.row_macs().is_valid(&mut *connection, &SESSIONS, id.as_str().into()).await? {
            continue;
        }
        sqlx::query("UPDATE sessions SET host_id = $2, host_incarnation = $3, epoch = epoch + 1 WHERE id = $1")
            .bind(id.as_str())
            .bind(holder.host.as_str())
            .bind(to_sql_integer(holder.incarnation))
            .execute(&mut *connection)
            .await
            .map_err(query_error(OPERATION))?;
        store.row_macs().renew(&mut *connection, &SESSIONS, id.as_str().into()).await?;
    }
    Ok(())
}
