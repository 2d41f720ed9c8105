//! Deletes everything about a user, and sessions that ended long ago: the only deletions of rows that the triggers permit.
//!
//! One transaction deletes all rows, so that an interrupted erasure has no effect and a repeated one finds nothing. The pages are
//! overwritten (`secure_delete`) and the write-ahead log is emptied.

use crate::{
    Store, StoreError, UnixMs, WriteKind,
    connection::Connection,
    error::query_error,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::{CallerId, MachineId, SessionId};
use sqlx::{Row, any::AnyRow};
use std::collections::BTreeSet;

const OPERATION: &str = "erase rows";

/// The user whose rows are erased.
#[derive(Debug, Clone, Copy)]
pub struct ErasedUser<'a> {
    /// The callers' id for the user.
    pub user_id: &'a str,
    /// Only what belongs to this caller; `None`: of all callers.
    pub owner: Option<&'a CallerId>,
}

/// A session of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSession {
    /// Its id.
    pub id: SessionId,
    /// Whether it has not ended.
    pub is_active: bool,
}

/// What an erasure has deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErasedRows {
    /// Sessions.
    pub sessions: Vec<SessionId>,
    /// Machines of these sessions, whose receipts may still exist.
    pub machines: BTreeSet<MachineId>,
    /// Timeline entries.
    pub timeline_entries: u64,
    /// Credentials.
    pub credentials: u64,
    /// Records of leases.
    pub leases: u64,
    /// Tickets and login tokens.
    pub tickets: u64,
    /// Callers that could see only one of these sessions.
    pub viewers: u64,
    /// Webhook messages.
    pub messages: u64,
}

impl Store {
    /// The sessions of a user: they must end before [`Store::erase_user`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_sessions_of_user(&self, user: ErasedUser<'_>) -> Result<Vec<UserSession>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, state FROM sessions WHERE (user_id = $1 AND ($2 IS NULL OR caller_id = $2)) \
             OR renewed_credential_id IN (SELECT id FROM credentials WHERE user_id = $1 AND ($2 IS NULL OR owner = $2))",
        )
        .bind(user.user_id)
        .bind(user.owner.map(CallerId::as_str))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("list the sessions of a user"))?;
        let decode = |row: &AnyRow| {
            let reader = RowReader::new(row, "sessions", "id");
            Ok(UserSession { id: reader.parsed("id")?, is_active: reader.text("state")? == "active" })
        };
        rows.iter().map(decode).collect()
    }

    /// Deletes all sessions and credentials of a user, with everything that belongs to them.
    ///
    /// # Errors
    /// When the database cannot be written; then nothing was deleted.
    pub async fn erase_user(&self, user: ErasedUser<'_>) -> Result<ErasedRows, StoreError> {
        let mut transaction = self.begin_write(WriteKind::Erase, OPERATION).await?;
        let select = |text| {
            sqlx::query(text).bind(user.user_id.to_owned()).bind(user.owner.map(|owner| owner.as_str().to_owned()))
        };
        let credentials = select(
            "SELECT id FROM credentials WHERE (user_id = $1 AND ($2 IS NULL OR owner = $2)) OR session_id IN \
             (SELECT id FROM sessions WHERE user_id = $1 AND ($2 IS NULL OR caller_id = $2))",
        );
        let credentials = ids(&credentials.fetch_all(&mut *transaction).await.map_err(query_error(OPERATION))?);
        let sessions =
            select("SELECT id FROM sessions WHERE user_id = $1 AND ($2 IS NULL OR caller_id = $2) ORDER BY id");
        let sessions = ids(&sessions.fetch_all(&mut *transaction).await.map_err(query_error(OPERATION))?);
        let erased = erase_rows(&mut transaction, sessions, credentials).await?;
        self.commit_erasing(transaction, OPERATION).await?;
        Ok(erased)
    }

    /// Deletes sessions that ended before `before_ms` and whose credential, if any, was deleted, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be written; then nothing was deleted.
    pub async fn erase_ended_sessions(&self, before_ms: UnixMs, limit: u32) -> Result<ErasedRows, StoreError> {
        const ENDED: &str = "SELECT id FROM sessions WHERE ended_at_ms < $1 AND NOT EXISTS (SELECT 1 FROM credentials \
            WHERE credentials.id IN (sessions.credential_id, sessions.used_credential_id, sessions.renewed_credential_id) \
            OR credentials.session_id = sessions.id) ORDER BY id LIMIT $2";
        // Credentials without bytes whose last session ended so long ago, and that no later session refers to.
        const DELETED: &str = "SELECT id FROM credentials WHERE deleted_at_ms < $1 AND NOT EXISTS (SELECT 1 FROM sessions WHERE \
            credentials.id IN (sessions.credential_id, sessions.used_credential_id, sessions.renewed_credential_id) \
            AND (sessions.ended_at_ms IS NULL OR sessions.ended_at_ms >= $1)) ORDER BY id LIMIT $2";
        let select = |text| sqlx::query(text).bind(to_sql_integer(before_ms)).bind(i64::from(limit));
        let found = async |text| {
            let rows = select(text).fetch_all(self.read_pool()).await;
            Ok::<_, StoreError>(ids(&rows.map_err(query_error(OPERATION))?))
        };
        if found(ENDED).await?.is_empty() && found(DELETED).await?.is_empty() {
            return Ok(ErasedRows::default());
        }
        let mut transaction = self.begin_write(WriteKind::Erase, OPERATION).await?;
        let credentials = select(DELETED).fetch_all(&mut *transaction).await.map_err(query_error(OPERATION))?;
        let sessions = select(ENDED).fetch_all(&mut *transaction).await.map_err(query_error(OPERATION))?;
        let erased = erase_rows(&mut transaction, ids(&sessions), ids(&credentials)).await?;
        self.commit_erasing(transaction, OPERATION).await?;
        Ok(erased)
    }
}

fn ids(rows: &[AnyRow]) -> Vec<String> {
    rows.iter().filter_map(|row| row.try_get("id").ok()).collect()
}

/// Deletes these rows, the sessions that refer to these credentials, and everything that belongs to them.
async fn erase_rows(
    connection: &mut Connection,
    mut sessions: Vec<String>,
    credentials: Vec<String>,
) -> Result<ErasedRows, StoreError> {
    let failed = query_error(OPERATION);
    let mut erased = ErasedRows::default();
    for credential in &credentials {
        let text = "SELECT id FROM sessions WHERE credential_id = $1 OR used_credential_id = $1 OR renewed_credential_id = $1 \
             OR id = (SELECT session_id FROM credentials WHERE id = $1)";
        let referring = sqlx::query(text).bind(credential.as_str()).fetch_all(&mut *connection).await;
        sessions.extend(ids(&referring.map_err(failed)?));
    }
    sessions.sort();
    sessions.dedup();
    // Sessions and credentials refer to each other.
    run(connection, connection.dialect().defer_references(), None).await?;
    run(connection, "INSERT INTO meta (key, value) VALUES ('erasing', '1')", None).await?;
    for session in &sessions {
        erased.machines.extend(list_machines(connection, session).await?);
        erased.timeline_entries += run(connection, "DELETE FROM timeline WHERE session_id = $1", Some(session)).await?;
        run(connection, "DELETE FROM timeline_heads WHERE session_id = $1", Some(session)).await?;
        erased.messages += run(connection, "DELETE FROM outbox WHERE session_id = $1", Some(session)).await?;
        erased.tickets += run(connection, "DELETE FROM tickets WHERE session_id = $1", Some(session)).await?;
        erased.tickets += run(connection, "DELETE FROM login_tokens WHERE session_id = $1", Some(session)).await?;
    }
    for credential in &credentials {
        erased.messages += run(connection, "DELETE FROM outbox WHERE credential_id = $1", Some(credential)).await?;
        run(connection, "DELETE FROM credential_turns WHERE credential_id = $1", Some(credential)).await?;
        erased.leases += run(connection, "DELETE FROM leases WHERE credential_id = $1", Some(credential)).await?;
        erased.credentials += run(connection, "DELETE FROM credentials WHERE id = $1", Some(credential)).await?;
    }
    for session in &sessions {
        run(connection, "DELETE FROM sessions WHERE id = $1", Some(session)).await?;
        erased.viewers += run(connection, "DELETE FROM callers WHERE session_id = $1", Some(session)).await?;
    }
    run(connection, "DELETE FROM meta WHERE key = 'erasing'", None).await?;
    erased.sessions = sessions.iter().filter_map(|id| id.parse().ok()).collect();
    Ok(erased)
}

/// Runs a statement with at most one id; returns the number of rows.
async fn run(connection: &mut Connection, text: &'static str, id: Option<&String>) -> Result<u64, StoreError> {
    let query = id.into_iter().fold(sqlx::query(text), |query, id| query.bind(id.clone()));
    Ok(query.execute(connection).await.map_err(query_error(OPERATION))?.rows_affected())
}

/// The machines that a session had, by its row and its timeline.
async fn list_machines(connection: &mut Connection, session: &str) -> Result<BTreeSet<MachineId>, StoreError> {
    let text = "SELECT COALESCE(machine_id, '') AS words FROM sessions WHERE id = $1 \
         UNION ALL SELECT data AS words FROM timeline WHERE session_id = $1";
    let rows = sqlx::query(text).bind(session.to_owned()).fetch_all(connection).await;
    let mut machines = BTreeSet::new();
    for row in rows.map_err(query_error(OPERATION))? {
        let words: String = row.try_get("words").map_err(query_error(OPERATION))?;
        let words = words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        machines.extend(words.filter(|word| word.starts_with("mac_")).filter_map(|word| word.parse().ok()));
    }
    Ok(machines)
}
