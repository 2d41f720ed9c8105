//! A host takes a session that waits: one of several that try gets it.

use crate::{
    Holder, Store, StoreError, UnixMs, WriteKind,
    connection::Connection,
    dialect::WriteScope,
    error::query_error,
    row_macs::tables::SESSIONS,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::{ProviderId, SessionId};
use sqlx::{AssertSqlSafe, Row};

/// The sessions at the head of the line from which a host takes the first that it can run.
const CANDIDATES_MAX: u32 = 50;

/// A session that waits for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingSession {
    /// Its id.
    pub id: SessionId,
    /// Its provider.
    pub provider: ProviderId,
    /// The name of the external machine that it uses.
    pub external_machine: Option<String>,
    /// What a host needs to take it, as JSON; `None`: any host can.
    pub placement: Option<String>,
    /// Since when it waits.
    pub queued_at_ms: UnixMs,
    /// Whether it had a host, which is lost.
    pub had_host: bool,
}

impl Store {
    /// This host takes the session, if it waits, the host is neither fenced nor draining, and all hosts together hold fewer than
    /// `machines_by_caller_max` sessions of its caller. Returns whether it has.
    ///
    /// # Errors
    /// The session's row was changed outside of this program, or the database cannot be written.
    pub async fn take_session(
        &self,
        session: &SessionId,
        machines_by_caller_max: Option<u32>,
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "take a session";
        let Some(holder) = self.holder() else { return Ok(false) };
        let scope = scope_of(machines_by_caller_max, WriteScope::Session(session));
        let mut transaction = self.begin_write_in(scope, WriteKind::TakeSession, OPERATION).await?;
        if !self.take_in(&mut transaction, session, &holder, machines_by_caller_max).await? {
            transaction.finish_unchanged();
            return Ok(false);
        }
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(true)
    }

    /// This host takes the first waiting session that `fits` it: those that had a host come first, then by fair rank. `None`: there is
    /// none among the first [`CANDIDATES_MAX`], or the host is fenced or draining.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn pull_session(
        &self,
        machines_by_caller_max: Option<u32>,
        fits: impl Fn(&WaitingSession) -> bool + Send,
    ) -> Result<Option<SessionId>, StoreError> {
        const OPERATION: &str = "take a waiting session";
        let Some(holder) = self.holder() else { return Ok(None) };
        // Most often none waits; then nothing is written.
        if self.list_waiting_sessions(1).await?.is_empty() {
            return Ok(None);
        }
        let scope = scope_of(machines_by_caller_max, WriteScope::Shared);
        let mut transaction = self.begin_write_in(scope, WriteKind::TakeSession, OPERATION).await?;
        for waiting in waiting(&mut transaction, CANDIDATES_MAX).await? {
            // Another host takes it, or it ends.
            if !fits(&waiting) || !self.try_lock_session(&mut transaction, &waiting.id).await? {
                continue;
            }
            match self.take_in(&mut transaction, &waiting.id, &holder, machines_by_caller_max).await {
                Ok(true) => {
                    transaction.commit().await.map_err(query_error(OPERATION))?;
                    return Ok(Some(waiting.id));
                }
                // It was taken or has ended since it was listed, its caller has as many machines as it may have, or this host is fenced or
                // draining.
                Ok(false) => {}
                // The alarm ends it.
                Err(StoreError::TamperedRow { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        transaction.finish_unchanged();
        Ok(None)
    }

    /// The sessions that wait for a host, in their order, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be read or has a corrupt row.
    pub async fn list_waiting_sessions(&self, limit: u32) -> Result<Vec<WaitingSession>, StoreError> {
        let mut connection = self.read_pool().acquire().await.map_err(query_error("list the waiting sessions"))?;
        waiting(&mut connection, limit).await
    }

    /// Takes the lock of a session if it still waits and no other transaction has the lock.
    async fn try_lock_session(&self, connection: &mut Connection, session: &SessionId) -> Result<bool, StoreError> {
        let Some(text) = self.dialect().try_lock_waiting_session() else { return Ok(true) };
        let row = sqlx::query(text).bind(session.as_str()).fetch_optional(connection).await;
        let row = row.map_err(query_error("lock a session"))?;
        row.map_or(Ok(false), |row| row.try_get("locked")).map_err(query_error("lock a session"))
    }

    async fn take_in(
        &self,
        connection: &mut Connection,
        session: &SessionId,
        holder: &Holder,
        machines_by_caller_max: Option<u32>,
    ) -> Result<bool, StoreError> {
        if !self.row_macs().require_valid(&mut *connection, &SESSIONS, session.as_str().into()).await? {
            return Ok(false);
        }
        let done = sqlx::query(
            "UPDATE sessions SET host_id = $2, host_incarnation = $3, epoch = epoch + 1 \
             WHERE id = $1 AND host_id IS NULL AND state = 'active' AND queued_at_ms IS NOT NULL AND EXISTS (SELECT 1 FROM hosts \
             WHERE id = $2 AND incarnation = $3 AND fenced < incarnation AND draining = 0 AND left_at_ms IS NULL) \
             AND (CAST($4 AS BIGINT) IS NULL OR (SELECT COUNT(*) FROM sessions AS held WHERE held.state = 'active' \
             AND held.host_id IS NOT NULL AND held.caller_id = sessions.caller_id) < CAST($4 AS BIGINT))",
        )
        .bind(session.as_str())
        .bind(holder.host.as_str())
        .bind(to_sql_integer(holder.incarnation))
        .bind(machines_by_caller_max.map(i64::from))
        .execute(&mut *connection)
        .await
        .map_err(query_error("take a session"))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        self.row_macs().renew(connection, &SESSIONS, session.as_str().into()).await?;
        Ok(true)
    }
}

/// A limit of a caller counts sessions of all hosts: then no other transaction may take one.
fn scope_of(machines_by_caller_max: Option<u32>, without_limit: WriteScope<'_>) -> WriteScope<'_> {
    if machines_by_caller_max.is_some() { WriteScope::Database } else { without_limit }
}

async fn waiting(connection: &mut Connection, limit: u32) -> Result<Vec<WaitingSession>, StoreError> {
    let text = format!(
        "SELECT id, provider, external_machine, placement, queued_at_ms, fair_class FROM sessions WHERE state = 'active' AND host_id IS NULL \
         AND queued_at_ms IS NOT NULL ORDER BY fair_class, fair_rank, queued_at_ms, id LIMIT {limit}"
    );
    let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(connection).await;
    let rows = rows.map_err(query_error("list the waiting sessions"))?;
    let decode = |row| {
        let reader = RowReader::new(row, "sessions", "id");
        Ok(WaitingSession {
            id: reader.parsed("id")?,
            provider: reader.parsed("provider")?,
            external_machine: reader.text_or_null("external_machine")?,
            placement: reader.text_or_null("placement")?,
            queued_at_ms: reader.number("queued_at_ms")?,
            had_host: reader.number::<u8>("fair_class")? == 0,
        })
    };
    rows.iter().map(decode).collect()
}
