//! Callers of the API, found by the hash of their token.

use crate::{
    Sha256Hex, Store, StoreError, UnixMs, WriteKind,
    error::query_error,
    row_reader::{RowReader, to_sql_integer},
    text_enum::text_enum,
};
use anteroom_wire::{CallerId, SessionId};
use sqlx::any::AnyRow;

text_enum! {
    /// The role in the database.
    pub(crate) enum RoleKind {
        /// Sees and may do everything.
        Operator = "operator",
        /// Starts sessions and owns their credentials.
        Backend = "backend",
        /// Sees one session.
        Viewer = "viewer",
    }
}

/// What a caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Sees and may do everything.
    Operator,
    /// Starts sessions and owns their credentials.
    Backend,
    /// Sees and uses this session, and nothing else.
    Viewer(SessionId),
}

impl Role {
    /// The text in the database: `operator`, `backend` or `viewer`.
    pub fn as_str(&self) -> &'static str {
        self.kind().as_str()
    }

    fn kind(&self) -> RoleKind {
        match self {
            Self::Operator => RoleKind::Operator,
            Self::Backend => RoleKind::Backend,
            Self::Viewer(_) => RoleKind::Viewer,
        }
    }

    fn session(&self) -> Option<&SessionId> {
        match self {
            Self::Operator | Self::Backend => None,
            Self::Viewer(session) => Some(session),
        }
    }
}

/// A caller to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCaller {
    /// Its id.
    pub id: CallerId,
    /// What it may do.
    pub role: Role,
    /// A name, for people.
    pub name: String,
    /// The hash of its token; unique.
    pub token: Sha256Hex,
    /// The current time.
    pub created_at_ms: UnixMs,
    /// When it expires; `None`: it is valid until it is revoked.
    pub expires_at_ms: Option<UnixMs>,
}

/// A caller as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerRow {
    /// Its id.
    pub id: CallerId,
    /// What it may do.
    pub role: Role,
    /// A name, for people.
    pub name: String,
    /// When it was created.
    pub created_at_ms: UnixMs,
    /// When it expires.
    pub expires_at_ms: Option<UnixMs>,
    /// When it was revoked, if it was.
    pub revoked_at_ms: Option<UnixMs>,
}

/// `SELECT` with every column except the hash.
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, role, name, session_id, created_at_ms, expires_at_ms, revoked_at_ms FROM callers ", $rest)
    };
}

impl Store {
    /// Creates a caller.
    ///
    /// # Errors
    /// When its id or token exists (conflict), or the database cannot be written.
    pub async fn create_caller(&self, new: &NewCaller) -> Result<CallerRow, StoreError> {
        const OPERATION: &str = "create a caller";
        let mut transaction = self.begin_write(WriteKind::CreateCaller, OPERATION).await?;
        sqlx::query(
            "INSERT INTO callers (id, role, name, token_hash, session_id, created_at_ms, expires_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.id.as_str())
        .bind(new.role.as_str())
        .bind(new.name.as_str())
        .bind(new.token.as_str())
        .bind(new.role.session().map(SessionId::as_str))
        .bind(to_sql_integer(new.created_at_ms))
        .bind(new.expires_at_ms.map(to_sql_integer))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(CallerRow {
            id: new.id.clone(),
            role: new.role.clone(),
            name: new.name.clone(),
            created_at_ms: new.created_at_ms,
            expires_at_ms: new.expires_at_ms,
            revoked_at_ms: None,
        })
    }

    /// The caller with this token, if there is one that is neither revoked nor expired.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn find_caller_by_token(
        &self,
        token: &Sha256Hex,
        now_ms: UnixMs,
    ) -> Result<Option<CallerRow>, StoreError> {
        let row = sqlx::query(select!(
            "WHERE token_hash = $1 AND revoked_at_ms IS NULL AND (expires_at_ms IS NULL OR expires_at_ms > $2)"
        ))
        .bind(token.as_str())
        .bind(to_sql_integer(now_ms))
        .fetch_optional(self.read_pool())
        .await;
        row.map_err(query_error("find a caller by token"))?.as_ref().map(decode).transpose()
    }

    /// The caller, if there is one, revoked or not.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn get_caller(&self, id: &CallerId) -> Result<Option<CallerRow>, StoreError> {
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_optional(self.read_pool()).await;
        row.map_err(query_error("read a caller"))?.as_ref().map(decode).transpose()
    }

    /// Operators and backends, including revoked ones, the newest first, at most `limit`. Viewers belong to sessions and are not
    /// listed.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_callers(&self, limit: u32) -> Result<Vec<CallerRow>, StoreError> {
        let rows = sqlx::query(select!("WHERE role <> 'viewer' ORDER BY id DESC LIMIT $1")).bind(i64::from(limit));
        let rows = rows.fetch_all(self.read_pool()).await.map_err(query_error("list callers"))?;
        rows.iter().map(decode).collect()
    }

    /// Revokes a caller. `false`: there is no such caller, or it was already revoked.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn revoke_caller(&self, id: &CallerId, at_ms: UnixMs) -> Result<bool, StoreError> {
        const OPERATION: &str = "revoke a caller";
        let mut transaction = self.begin_write(WriteKind::RevokeCaller, OPERATION).await?;
        let done = sqlx::query("UPDATE callers SET revoked_at_ms = $2 WHERE id = $1 AND revoked_at_ms IS NULL")
            .bind(id.as_str())
            .bind(to_sql_integer(at_ms))
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(done.rows_affected() == 1)
    }
}

fn decode(row: &AnyRow) -> Result<CallerRow, StoreError> {
    let reader = RowReader::new(row, "callers", "id");
    let role = match (reader.parsed("role")?, reader.parsed_or_null("session_id")?) {
        (RoleKind::Operator, None) => Role::Operator,
        (RoleKind::Backend, None) => Role::Backend,
        (RoleKind::Viewer, Some(session)) => Role::Viewer(session),
        (RoleKind::Operator | RoleKind::Backend, Some(_)) => return Err(reader.corrupt_row_error("bound to a session")),
        (RoleKind::Viewer, None) => return Err(reader.corrupt_row_error("a viewer without a session")),
    };
    Ok(CallerRow {
        id: reader.parsed("id")?,
        role,
        name: reader.text("name")?,
        created_at_ms: reader.number("created_at_ms")?,
        expires_at_ms: reader.number_or_null("expires_at_ms")?,
        revoked_at_ms: reader.number_or_null("revoked_at_ms")?,
    })
}
